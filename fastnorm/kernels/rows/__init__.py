"""Rows: the innermost run of memory is reduced, or a part of what is. Forward, backward, and how short runs share a trip."""
