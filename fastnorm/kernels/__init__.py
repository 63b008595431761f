"""Loops over pre-shaped arrays: no validation, no allocation of results, no Python objects."""
