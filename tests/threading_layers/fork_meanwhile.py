"""Forks while another thread makes the first call, or many later ones: no child waits for a lock its parent held."""

import sys
from threading import Event, Thread

from work import forked, work


def calls():
    while not stop.is_set():
        found.append(work())


if sys.argv[1] == "later":
    work()
stop, found = Event(), []
thread = Thread(target=calls)
thread.start()
for _ in range(10):
    found.append(forked(work))
stop.set()
thread.join()
assert len(set(found)) == 1 and len(found) > 10
