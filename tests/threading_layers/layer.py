"""The layer that is asked for is in use from the first call on, and nothing of it is loaded before."""

import os
import sys

import numba
from work import work

assert (
    not {"numba.np.ufunc.tbbpool", "numba.np.ufunc.omppool", "numba.np.ufunc.workqueue"} & sys.modules.keys()
)
before = dict(os.environ)
work()
assert numba.threading_layer() == os.environ["NUMBA_THREADING_LAYER"]
assert os.environ == before
