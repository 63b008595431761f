"""A fuzz target for the argument checks: `python tests/fuzz_arguments.py -max_total_time=60`, with atheris installed."""

import sys
import warnings
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))

with atheris.instrument_imports(include=["fastnorm._checks", "fastnorm._layout", "fastnorm.functional"]):
    from hostile import attempt

    import fastnorm  # noqa: F401


def one_input(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attempt(lambda n: provider.ConsumeIntInRange(0, n - 1))


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
