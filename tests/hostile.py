"""Calls that nobody should make, from a source of choices: Hypothesis, a fuzzer, or a random generator."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnorm

# choose(n) is one of 0 … n - 1.
Choose = Callable[[int], int]

_CLASSIC = ("layer_norm", "rms_norm", "batch_norm", "instance_norm", "group_norm")
FUNCTIONS = sorted(
    {f"{name}{ending}" for name in _CLASSIC for ending in ("", "_backward", "_int8")} & set(fastnorm.__all__)
    | {"add_layer_norm", "add_rms_norm"}
)
_DTYPES = ("f4", "f8", "f2", ">f4", "i4", "c8", "?", "O", "U3")
_NUMBERS = (
    0,
    1,
    2,
    -1,
    1e-5,
    -1e-5,
    1e300,
    float("nan"),
    float("inf"),
    None,
    "1e-5",
    True,
    2**70,
    np.float32(1),
    1j,
)
_LETTERS = "NCHWLDnc1 "


def _one_of(choose: Choose, values: Any) -> Any:
    return values[choose(len(values))]


def _shape(choose: Choose) -> tuple[int, ...]:
    return tuple(_one_of(choose, (0, 1, 2, 3, 5, 17)) for _ in range(choose(5)))


def _array(choose: Choose, shape: tuple[int, ...]) -> Any:
    """An array of some shape, or nearly; or something else."""
    kind = choose(12)
    if kind == 0:
        return _one_of(choose, (None, 3.0, [[1.0, 2.0]], "x", object(), np.float32(2)))
    if kind == 1:
        shape = _shape(choose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # complex to real, and the like
        dtype = _DTYPES[0] if choose(3) else _one_of(choose, _DTYPES)
        array = (np.arange(int(np.prod(shape))) % 7).reshape(shape).astype(dtype)
    twist = choose(8)
    if twist == 0:
        array = array.T
    elif twist == 1:
        array = array[(slice(None, None, -1),) * array.ndim]
    elif twist == 2:
        array.flags.writeable = False
    elif twist == 3 and array.ndim:
        array = np.broadcast_to(array[:1], array.shape)
    elif twist == 4:
        array = np.ma.masked_array(array)
    elif twist == 5 and array.dtype.kind == "f":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        array = raw.view(array.dtype).reshape(array.shape)
    return array


def _axis(choose: Choose) -> Any:
    ints = tuple(choose(7) - 3 for _ in range(choose(4)))
    return _one_of(choose, (0, ints, list(ints), choose(9) - 4, None, 1.5, "C", (0, 0), np.int64(1), True))


def _layout(choose: Choose) -> Any:
    letters = "".join(_one_of(choose, _LETTERS) for _ in range(choose(6)))
    return _one_of(choose, (None, "NC", "NCL", "NCHW", "HWNC", letters, 3, b"NC", ("N", "C")))


def _mostly(choose: Choose, sane: Any, odd: Callable[[Choose], Any]) -> Any:
    return sane if choose(6) else odd(choose)


def attempt(choose: Choose) -> str | None:
    """One call: the name of the error it raised, if any. Another than these two is a fault, and so is what it wrote then."""
    name = _one_of(choose, FUNCTIONS)
    family = name.split("_")[0]
    shape = _shape(choose)
    channels = shape[-1:] or (2,)
    statistic = {"batch": channels, "instance": (*shape[:1], *channels), "group": (*shape[:1], 1)}.get(
        family, shape[:-1]
    )
    x = _array(choose, shape)
    positional: list[Any] = [x]
    options: dict[str, Any] = {}
    if name.endswith("_backward"):
        positional = [_array(choose, shape), x]
        options["needs"] = _mostly(
            choose, (True, True, False), lambda c: _one_of(c, (True, None, (), (1, 0)))
        )
    if family == "group":
        positional.append(_mostly(choose, 1, lambda c: _one_of(c, (2, 0, -1, 1.0, None, "2"))))
    if family == "add":
        positional.append(x if choose(4) == 0 else _array(choose, shape))
    if name.endswith("_backward"):
        positional += [_array(choose, statistic) for _ in range(1 if family == "rms" else 2)]
    elif family in ("batch", "instance"):
        positional += [_array(choose, channels), _array(choose, channels)] if choose(2) else [None, None]
        options["momentum"] = _mostly(choose, 0.1, lambda c: _one_of(c, _NUMBERS))
        options["training" if family == "batch" else "use_input_stats"] = bool(choose(2))
    for parameter in ("weight", "bias"):
        if choose(2):
            options[parameter] = _array(choose, channels)
    if family in ("layer", "rms", "add"):
        options["axis"] = _mostly(choose, -1, _axis)
    else:
        options["layout"] = _mostly(choose, {2: "NC", 3: "NLC", 4: "NHWC"}.get(len(shape)), _layout)
    if not name.endswith("_backward"):
        options["eps"] = _mostly(choose, 1e-5, lambda c: _one_of(c, _NUMBERS))
        if not name.endswith("int8") and choose(3) == 0:
            options["out"] = x if choose(2) else _array(choose, shape)
        if family != "add" and not name.endswith("int8"):
            options["return_stats"] = bool(choose(2))
    if family != "add" and not name.endswith("int8"):
        activations = "relu", "gelu", "GELU", 1, [], "tanh"
        options["activation"] = _mostly(choose, None, lambda c: _one_of(c, activations))
    if name.endswith("int8"):
        options["scale"] = _mostly(choose, None, lambda c: _one_of(c, _NUMBERS))
    return _call(name, positional, options)


def _call(name: str, positional: list[Any], options: dict[str, Any]) -> str | None:
    arrays = [a for a in (*positional, *options.values()) if isinstance(a, np.ndarray)]
    before = [a.tobytes() for a in arrays]
    try:
        getattr(fastnorm, name)(*positional, **options)
    except (TypeError, ValueError) as error:
        assert str(error), "an error without a word"
        assert [a.tobytes() for a in arrays] == before, f"{name} wrote before it raised {error!r}"
        return type(error).__name__
    return None
