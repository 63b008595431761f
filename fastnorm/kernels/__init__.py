"""Loops over pre-shaped arrays: no validation, no allocation of results, no Python objects.

The names below are public, for a user's own compiled code, and stay as they are; the modules are not.

>>> import numpy as np
>>> from numba import njit, prange
>>> from fastnorm.kernels import rms_norm_row
>>> @njit(parallel=True)
... def normalize(x, weight, y):
...     none = x[0, :0]
...     for i in prange(len(x)):
...         rms_norm_row(x[i], weight, none, 1e-5, y[i])
>>> x, y = np.arange(1, 7, dtype=np.float32).reshape(2, 3), np.empty((2, 3), np.float32)
>>> normalize(x, np.ones(3, np.float32), y)
>>> y.round(3)
array([[0.463, 0.926, 1.389],
       [0.79 , 0.987, 1.184]], dtype=float32)
"""

from .inside import layer_norm_row, moments, moments_of_columns, norm_columns, rms_norm_row

__all__ = ["layer_norm_row", "moments", "moments_of_columns", "norm_columns", "rms_norm_row"]
