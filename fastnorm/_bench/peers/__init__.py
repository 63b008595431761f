"""The implementations that race: a file each, imported only in the process that runs it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, cast

from ..cases import Job
from ..inputs import Array, Inputs

# Module here -> title.
TITLES = {
    "fastnorm_out": "fastnorm out=",
    "numpy": "NumPy",
    "torch": "PyTorch",
    "torch_compile": "compiled PyTorch",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "jax": "JAX",
}
# The packages it needs, where they are not called as it is.
_PACKAGES = {
    "fastnorm_out": ["fastnorm"],
    "torch_compile": ["torch"],
    "onnxruntime": ["onnxruntime", "onnx"],
    "openvino": ["openvino", "onnx"],
}


class Implementation(Protocol):
    """What every file here defines."""

    def prepare(self, job: Job, inputs: Inputs) -> Callable[[], Any]:
        """The job as a call without arguments that allocates its results, or NotOffered."""

    def results(self, job: Job, returned: Any) -> tuple[Array, ...]:
        """What the call returned, as arrays in the layout of the inputs."""


def load(name: str) -> Implementation:
    """An implementation by its name: "fastnorm", "copy" (the yardstick), or a key of TITLES."""
    return cast(Implementation, import_module(f"{__name__}.{name}"))


def installed() -> list[str]:
    """The peers that this environment has."""
    return [name for name in TITLES if all(map(find_spec, _PACKAGES.get(name, [name])))]
