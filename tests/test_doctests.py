"""The examples in the docstrings of every module but those of the kernels."""

import doctest
import importlib
import pkgutil

import pytest

import fastnorm

_SILENT = (
    "fastnorm.kernels.",
    "fastnorm._bench",
    "fastnorm._cli",
    "fastnorm.__main__",
)  # no public functions
MODULES = [
    module.name
    for module in pkgutil.walk_packages(fastnorm.__path__, "fastnorm.")
    if not module.name.startswith(_SILENT)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    if name == "fastnorm.standardizer":
        pytest.importorskip("sklearn")
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert failures == 0
