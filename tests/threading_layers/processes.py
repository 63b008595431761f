"""`multiprocessing`, by each way to start a process, after a call in the parent."""

import multiprocessing
import sys

from work import serial, work

if __name__ == "__main__":
    expected = serial()
    assert work() == expected
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        assert set(pool.map(work, range(4))) == {expected}
        pool.close()  # workers that are terminated leave semaphores of Numba's, of which Python warns
        pool.join()
    assert work() == expected
