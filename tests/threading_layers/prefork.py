"""A server like gunicorn: a parent that has called forks workers, whose threads call; one is killed, and replaced."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

from work import serial, work

WORKERS = 3


def start():
    worker = os.fork()
    if worker == 0:
        right = False
        try:
            with ThreadPoolExecutor(2) as pool:
                right = set(pool.map(work, range(6))) == {expected}
        finally:
            os._exit(not right)
    return worker


expected = serial()
assert work() == expected
killed = start()
workers = [start() for _ in range(WORKERS)]
os.kill(killed, signal.SIGKILL)
os.waitpid(killed, 0)
workers.append(start())
assert work() == expected
assert [os.waitpid(worker, 0)[1] for worker in workers] == [0] * (WORKERS + 1)
