"""Public names: found when they are asked for, and not imported before."""

import subprocess
import sys

import pytest

import fastnorm


def test_the_import_alone_reads_no_kernel():
    code = "import sys, fastnorm; assert not any(name.startswith('fastnorm.kernels') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_found_and_listed():
    missing = [name for name in fastnorm.__all__ if not hasattr(fastnorm, name)]
    assert missing == []
    assert set(fastnorm.__all__) <= set(dir(fastnorm))


@pytest.mark.parametrize("name", ["functional", "layers", "family", "moments"])
def test_a_module_is_found_as_an_attribute(name):
    code = f"import fastnorm; assert fastnorm.{name}.__name__ == 'fastnorm.{name}'"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["layernorm", "_layer_norm", "__wrapped__"])
def test_a_name_that_is_none_says_so(name):
    with pytest.raises(AttributeError, match=f"module 'fastnorm' has no attribute '{name}'"):
        getattr(fastnorm, name)
