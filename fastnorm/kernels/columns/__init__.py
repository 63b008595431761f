"""Columns: the innermost run of memory is kept; what shares a statistic lies below each other. Forward and backward."""
