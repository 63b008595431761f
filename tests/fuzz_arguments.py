"""A fuzz target for the argument checks: `python tests/fuzz_arguments.py -max_total_time=60`, with atheris installed."""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import atheris

_HERE = Path(__file__).parent
_PACKAGE = Path(find_spec("fastnorm").origin).parent
# What Numba compiles must stay as it is written.
_COMPILED = [
    ".".join(file.relative_to(_PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in (_PACKAGE / "kernels").rglob("*.py")
]

sys.path.insert(0, str(_HERE))
with atheris.instrument_imports(include=["fastnorm"], exclude=_COMPILED):
    from hostile import attempt


def one_input(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attempt(lambda n: provider.ConsumeIntInRange(0, n - 1))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
