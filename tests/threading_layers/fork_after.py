"""A fork after calls, from the main thread and from another; children fork and use threads themselves."""

from concurrent.futures import ThreadPoolExecutor

from work import forked, serial, work


def child():
    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(work, range(4))) == {expected}
    assert forked(work) == expected
    return work()


expected = serial()
assert work() == expected
assert forked(child) == expected
assert work() == expected
with ThreadPoolExecutor(1) as pool:
    assert pool.submit(work).result() == expected
    assert pool.submit(forked, child).result() == expected
assert work() == expected
