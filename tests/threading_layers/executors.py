"""`concurrent.futures`: a pool of threads, a pool of processes, and processes whose threads call."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from work import serial, work


def threads(_):
    with ThreadPoolExecutor(2) as pool:
        return set(pool.map(work, range(4)))


if __name__ == "__main__":
    expected = serial()
    assert work() == expected
    assert threads(None) == {expected}
    with ProcessPoolExecutor(2) as pool:
        assert set(pool.map(work, range(4))) == {expected}
        assert list(pool.map(threads, range(2))) == [{expected}] * 2
    assert work() == expected
