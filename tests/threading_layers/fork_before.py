"""A fork before the first call: the child and its parent give the same bits."""

from work import forked, serial, work

found = forked(work)
assert found == work() == serial() == forked(work)
