"""`set_num_threads` and `with num_threads(n)` hold for the calling thread; Numba's own setting stays what it was."""

from concurrent.futures import ThreadPoolExecutor

import numba
from work import regions, serial, work

import fastnorm

most = fastnorm.get_num_threads()
expected = serial()
fastnorm.set_num_threads(1)
with ThreadPoolExecutor(1) as pool:
    assert pool.submit(fastnorm.get_num_threads).result() == most
    pool.submit(fastnorm.set_num_threads, 2).result()
    assert pool.submit(fastnorm.get_num_threads).result() == 2
    assert fastnorm.get_num_threads() == 1
    with regions() as entered:
        assert work() == expected
        assert not entered
for theirs in (1, 2):
    numba.set_num_threads(theirs)
    with fastnorm.num_threads(2), regions() as entered:
        assert work() == expected
        assert len(entered) == 2
    assert fastnorm.get_num_threads() == 1
    assert numba.get_num_threads() == theirs
