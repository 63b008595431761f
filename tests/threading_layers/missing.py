"""A layer that can't be loaded: one warning, which says what to install, and the work is done, serially.

workqueue is part of Numba, and can't fail to load: in its place, a name that Numba doesn't know.
"""

import sys
import warnings

import numba
from work import regions, serial, work

asked = numba.config.THREADING_LAYER
if asked == "workqueue":
    asked = numba.config.THREADING_LAYER = "unknown"
sys.modules[f"numba.np.ufunc.{asked}pool"] = None  # to import it is an ImportError
with warnings.catch_warnings(record=True) as caught, regions() as entered:
    warnings.simplefilter("always")
    found = work()
    assert found == work() == serial()
    assert not entered
(warning,) = caught
assert warning.category is RuntimeWarning
assert repr(asked) in str(warning.message) and "pip install 'fastnorm[tbb]'" in str(warning.message)
