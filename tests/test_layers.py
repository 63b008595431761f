"""The layers against PyTorch's, forward, backward and in their state dicts; and the state that they keep."""

import copy
import inspect
import pickle
import re
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from fastnorm import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm
from tests.oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, Array, gradient_roundings, roundings

C = 6
SIZES = {"N": 5, "C": C, "D": 2, "H": 3, "W": 4, "L": 7}

# name -> (our class, PyTorch's, arguments of both); PyTorch has a class for each number of axes, here a {}
CHANNEL_LAYERS: dict[str, tuple[type, str, tuple[Any, ...], dict[str, Any]]] = {
    "batch": (BatchNorm, "BatchNorm{}d", (C,), {}),
    "batch, cumulative": (BatchNorm, "BatchNorm{}d", (C, 1e-3, None), {}),
    "batch, not affine": (BatchNorm, "BatchNorm{}d", (C,), {"affine": False}),
    "batch, not tracking": (BatchNorm, "BatchNorm{}d", (C, 1e-5, 0.1, True, False), {}),
    "batch, without bias": (BatchNorm, "BatchNorm{}d", (C,), {"bias": False}),
    "instance": (InstanceNorm, "InstanceNorm{}d", (C,), {}),
    "instance, all": (InstanceNorm, "InstanceNorm{}d", (C, 1e-5, 0.2, True, True), {}),
    "group": (GroupNorm, "GroupNorm", (2, C), {}),
    "group, not affine": (GroupNorm, "GroupNorm", (3, C, 0.1, False), {}),
}
# name -> (our class, PyTorch's, arguments of both)
ELEMENT_LAYERS: dict[str, tuple[type, str, tuple[Any, ...], dict[str, Any]]] = {
    "layer": (LayerNorm, "LayerNorm", (24,), {}),
    "layer, two axes": (LayerNorm, "LayerNorm", ((3, 8),), {}),
    "layer, without bias": (LayerNorm, "LayerNorm", ((3, 8),), {"bias": False}),
    "layer, not affine": (LayerNorm, "LayerNorm", (24, 0.1, False), {}),
    "rms": (RMSNorm, "RMSNorm", (24,), {}),
    "rms, two axes": (RMSNorm, "RMSNorm", ([3, 8], 1e-3), {}),
    "rms, not affine": (RMSNorm, "RMSNorm", (24, None, False), {}),
}
LAYERS = CHANNEL_LAYERS | ELEMENT_LAYERS


def pair(name: str, ndim: int = 4, **placement: str) -> tuple[Any, Any]:
    """Our layer of that name and PyTorch's, which is for x of `ndim` axes."""
    ours, theirs, args, kwargs = LAYERS[name]
    module = getattr(pytest.importorskip("torch").nn, theirs.format(max(ndim - 2, 1)))
    return ours(*args, **kwargs, **placement), module(*args, **kwargs)


def normal(shape: Any, rng: Generator) -> Array:
    return rng.standard_normal(shape, np.float32)


def in_layout(layout: str, rng: Generator) -> Array:
    return 3 + normal([SIZES[letter] for letter in layout], rng)


def channels_first(x: Array, layout: str) -> Array:
    return np.moveaxis(x, (layout.index("N"), layout.index("C")), (0, 1))


def randomize(layer: Any, rng: Generator) -> None:
    """Parameters of a layer in the midst of its training."""
    for parameter in layer.parameters().values():
        parameter[...] = rng.uniform(0.5, 1.5, parameter.shape)


def same(a: dict[str, Array], b: dict[str, Array]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# Against PyTorch in float64 ---------------------------------------------------------------------------------


def compare(layer: Any, module: Any, x: Array, dy: Array, view: Callable[[Array], Array]) -> None:
    """Forward and backward, against a module in float64 of the same parameters, given `view` of x and dy."""
    import torch

    module = module.double()
    module.load_state_dict({name: torch.tensor(value) for name, value in layer.state_dict().items()})
    # Contiguous, because PyTorch's instance norm gives a wrong dx for a transposed x.
    x64, dy64 = (torch.tensor(np.ascontiguousarray(view(a)), dtype=torch.float64) for a in (x, dy))
    y64 = module(x64.requires_grad_())
    y64.backward(dy64)

    y = layer(x)
    dx = layer.backward(dy)
    assert y.dtype == dx.dtype == np.float32
    assert roundings(view(y), y64.detach(), np.float32) <= FORWARD_ROUNDINGS
    assert gradient_roundings(view(dx), x64.grad, np.float32) <= GRADIENT_ROUNDINGS
    assert layer.grads.keys() == dict(module.named_parameters()).keys()
    for name, parameter in module.named_parameters():
        assert gradient_roundings(layer.grads[name], parameter.grad, np.float32) <= GRADIENT_ROUNDINGS, name


@pytest.mark.parametrize("layout", ["NC", "NCL", "NLC", "NCHW", "NHWC", "HWNC", "NCDHW", "NDHWC"])
@pytest.mark.parametrize("name", CHANNEL_LAYERS)
def test_channel_layers_equal_torch(name: str, layout: str, rng: Generator) -> None:
    if name.startswith("instance") and layout == "NC":
        pytest.skip("a sample has one value per channel")
    layer, module = pair(name, len(layout), layout=layout)
    randomize(layer, rng)
    x, dy = in_layout(layout, rng), in_layout(layout, rng)
    compare(layer, module, x, dy, lambda array: channels_first(array, layout))


@pytest.mark.parametrize("name", ELEMENT_LAYERS)
def test_element_layers_equal_torch(name: str, rng: Generator) -> None:
    layer, module = pair(name)
    randomize(layer, rng)
    if module.eps is None:
        module.eps = float(np.finfo(np.float32).eps)  # of x's dtype, which the module sees as float64
    shape = (2, 5, *layer.normalized_shape)
    compare(layer, module, normal(shape, rng), normal(shape, rng), lambda array: array)


def test_layer_norm_over_channels_of_nchw_equals_torch(rng: Generator) -> None:
    layer, module = LayerNorm(C, axis=1), pytest.importorskip("torch").nn.LayerNorm(C)
    randomize(layer, rng)
    x, dy = in_layout("NCHW", rng), in_layout("NCHW", rng)
    compare(layer, module, x, dy, lambda array: np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("momentum", [0.1, 0.5, None])
def test_running_statistics_of_batch_norm(momentum: float | None, layout: str, rng: Generator) -> None:
    torch = pytest.importorskip("torch")
    layer = BatchNorm(C, momentum=momentum, layout=layout)
    module = torch.nn.BatchNorm2d(C, momentum=momentum).double()
    for batch in range(1, 5):
        x = batch * in_layout(layout, rng)
        layer(x)
        module(torch.tensor(channels_first(x, layout), dtype=torch.float64))
        np.testing.assert_allclose(layer.running_mean, module.running_mean, rtol=1e-6)
        np.testing.assert_allclose(layer.running_var, module.running_var, rtol=1e-6)
        assert layer.num_batches_tracked == module.num_batches_tracked == batch
    x = in_layout(layout, rng)
    before = layer.state_dict()
    y = module.eval()(torch.tensor(channels_first(x, layout), dtype=torch.float64))
    assert roundings(channels_first(layer.eval()(x), layout), y.detach(), np.float32) <= FORWARD_ROUNDINGS
    assert same(layer.state_dict(), before)


def test_running_statistics_of_instance_norm(rng: Generator) -> None:
    torch = pytest.importorskip("torch")
    layer = InstanceNorm(C, momentum=0.3, affine=True, track_running_stats=True)
    module = torch.nn.InstanceNorm2d(C, momentum=0.3, affine=True, track_running_stats=True).double()
    for _ in range(3):
        x = in_layout("NCHW", rng)
        layer(x)
        module(torch.tensor(x, dtype=torch.float64))
    assert layer.state_dict().keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        np.testing.assert_allclose(layer.state_dict()[name], value, rtol=1e-6)
    y = module.eval()(torch.tensor(x, dtype=torch.float64))
    assert roundings(layer.eval()(x), y.detach(), np.float32) <= FORWARD_ROUNDINGS


@pytest.mark.parametrize("name", LAYERS)
def test_state_dict_goes_to_torch_and_back(name: str, rng: Generator) -> None:
    torch = pytest.importorskip("torch")
    layer, module = pair(name)
    assert repr(layer) == re.sub(r"\dd\(", "(", repr(module))
    state = {key: np.full_like(value, rng.integers(9)) for key, value in layer.state_dict().items()}
    assert list(state) == list(module.state_dict())
    module.load_state_dict({key: torch.tensor(value) for key, value in state.items()})
    assert layer.load_state_dict(module.state_dict()) == ([], [])
    assert same(layer.state_dict(), state)


@pytest.mark.parametrize("name", ["batch", "instance", "group", "layer", "rms"])
def test_arguments_and_defaults_are_those_of_torch(name: str) -> None:
    layer, module = pair(name)
    ours = inspect.signature(type(layer)).parameters
    for argument, theirs in inspect.signature(type(module)).parameters.items():
        if argument not in ("device", "dtype"):
            assert ours[argument].default == theirs.default, argument


# The state a layer keeps ------------------------------------------------------------------------------------


def test_repr_shows_what_torch_does_not_have() -> None:
    assert repr(GroupNorm(2, 4, layout="NHWC", dtype=np.float64)) == (
        "GroupNorm(2, 4, eps=1e-05, affine=True, bias=True, layout='NHWC', dtype=float64)"
    )
    assert repr(RMSNorm(8, axis=1)) == "RMSNorm((8,), eps=None, elementwise_affine=True, axis=1)"


def test_batch_norm_forgets_nothing_in_between_the_modes(rng: Generator) -> None:
    layer = BatchNorm(C, eps=0.0, layout="NC")
    x = in_layout("NC", rng)
    assert layer.training
    trained = layer(x)
    assert layer.eval() is layer
    assert not layer.training
    evaluated = layer(x)
    assert layer.train() is layer
    assert layer.training
    assert not layer.train(False).training
    np.testing.assert_allclose(trained, (x - x.mean(0)) / x.std(0), rtol=1e-4, atol=1e-5)
    x_hat = (x - layer.running_mean) / np.sqrt(layer.running_var)
    np.testing.assert_allclose(evaluated, x_hat, rtol=1e-5, atol=1e-6)


def test_without_running_statistics_evaluation_uses_those_of_the_batch(rng: Generator) -> None:
    x = in_layout("NCHW", rng)
    for layer in (BatchNorm(C, track_running_stats=False), InstanceNorm(C)):
        np.testing.assert_array_equal(layer.train()(x), layer.eval()(x))


@pytest.mark.parametrize("layer", [BatchNorm(C), GroupNorm(2, C), RMSNorm(4)], ids=repr)
def test_backward_needs_a_call_in_training(layer: Any, rng: Generator) -> None:
    x = in_layout("NCHW", rng)
    with pytest.raises(RuntimeError, match=r"call layer\.train\(\) and y = layer\(x\) before"):
        layer.backward(x)
    layer.train()(x)
    layer.backward(x)
    layer.eval()(x)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(x)


def test_gradients_are_overwritten_and_parameters_are_the_layers_own(rng: Generator) -> None:
    layer = BatchNorm(C)
    x, dy = in_layout("NCHW", rng), in_layout("NCHW", rng)
    layer(x)
    layer.backward(dy)
    first = layer.grads
    layer.backward(dy)
    assert same(layer.grads, first)
    assert layer.grads["weight"] is not first["weight"]
    assert layer.parameters()["weight"] is layer.weight
    layer.parameters()["bias"] += 1
    np.testing.assert_array_equal(layer.bias, np.ones(C))


def test_evaluation_lets_go_of_what_training_kept(rng: Generator) -> None:
    layer, x = LayerNorm(4), in_layout("NCHW", rng)
    kept = weakref.ref(x)
    layer(x)
    del x
    assert kept() is not None
    layer.eval()(in_layout("NCHW", rng))
    assert kept() is None


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("layer", [BatchNorm(C, momentum=None), GroupNorm(2, C, layout="NCHW")], ids=repr)
def test_duplicates_are_independent_and_without_saved_state(
    layer: Any, duplicate: Callable[[Any], Any], rng: Generator
) -> None:
    x = in_layout("NCHW", rng)
    layer(x)
    other = duplicate(layer)
    assert repr(other) == repr(layer)
    assert same(other.state_dict(), layer.state_dict())
    with pytest.raises(RuntimeError, match="no call in training"):
        other.backward(x)
    assert layer.backward(x).shape == x.shape
    np.testing.assert_array_equal(other(x), layer(x))
    assert same(other.state_dict(), layer.state_dict())
    other.weight += 1
    assert not same(other.state_dict(), layer.state_dict())


def test_state_dict_is_a_copy() -> None:
    layer = BatchNorm(C)
    state = layer.state_dict()
    layer.weight += 1
    layer.num_batches_tracked += 1
    np.testing.assert_array_equal(state["weight"], np.ones(C))
    assert state["num_batches_tracked"] == 0
    assert state["num_batches_tracked"].dtype == np.int64
    assert state["num_batches_tracked"].shape == ()


def test_loading_writes_into_the_arrays_the_layer_has() -> None:
    layer = BatchNorm(2)
    weight = layer.weight
    state = {**layer.state_dict(), "weight": [3, 4], "num_batches_tracked": 7}
    layer.load_state_dict(state)
    assert layer.weight is weight
    np.testing.assert_array_equal(weight, [3, 4])
    assert layer.num_batches_tracked == 7


def test_loading_reports_everything_that_does_not_fit_and_writes_nothing() -> None:
    layer = BatchNorm(2)
    before = layer.state_dict()
    state = {"weight": np.zeros(3), "bias": np.ones(2), "running_mean": np.ones(2, complex), "scale": 1}
    with pytest.raises(ValueError) as caught:
        layer.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "Error(s) in loading state_dict for BatchNorm:",
        '\tMissing key(s) in state_dict: "running_var", "num_batches_tracked".',
        '\tUnexpected key(s) in state_dict: "scale".',
        "\tsize mismatch for weight: copying a param with shape (3,) from checkpoint, "
        "the shape in current model is (2,).",
        "\tdtype mismatch for running_mean: complex128 from checkpoint, float32 in current model.",
    ]
    assert same(layer.state_dict(), before)

    with pytest.raises(ValueError, match="size mismatch for weight"):
        layer.load_state_dict({"weight": np.zeros(3), "bias": np.ones(2)}, strict=False)
    assert same(layer.state_dict(), before)


def test_loading_that_is_not_strict_tells_what_it_passed_over() -> None:
    layer = LayerNorm(2)
    keys = layer.load_state_dict({"weight": [2, 2], "scale": [3, 3]}, strict=False)
    assert keys.missing_keys == ["bias"]
    assert keys.unexpected_keys == ["scale"]
    np.testing.assert_array_equal(layer.weight, [2, 2])


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.ones((4, C + 1, 3), np.float32), ValueError),
        (np.ones((1, C, 1), np.float32), ValueError),
        (np.ones((4, C, 3), np.int64), TypeError),
        (np.ones(C, np.float32), ValueError),
    ],
    ids=["channels", "one value per channel", "integers", "one axis"],
)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_failing_call_changes_nothing(
    momentum: float | None, x: Array, error: type[Exception], rng: Generator
) -> None:
    layer = BatchNorm(C, momentum=momentum)
    layer(normal((4, C, 3), rng))
    before = layer.state_dict()
    with pytest.raises(error):
        layer(x)
    assert same(layer.state_dict(), before)


def test_an_empty_batch_has_no_share_in_a_cumulative_average(rng: Generator) -> None:
    layer, x = BatchNorm(C, momentum=None), normal((4, C, 3), rng)
    assert layer(x[:0]).shape == (0, C, 3)
    layer(x)
    np.testing.assert_allclose(layer.running_mean, x.mean((0, 2)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (BatchNorm(C, affine=False, track_running_stats=False, layout="NHWC"), (2, C, 3, C + 1)),
        (InstanceNorm(C), (2, C + 1, 3)),
        (GroupNorm(2, C, affine=False), (2, 2 * C, 3)),
        (LayerNorm((2, 3), elementwise_affine=False), (4, 3, 2)),
        (RMSNorm((2, 3), elementwise_affine=False, axis=(-1, 0)), (3, 4, 2)),
        (LayerNorm(C), (2, C + 1)),
    ],
    ids=repr,
)
def test_layers_hold_x_to_their_sizes_with_and_without_parameters(layer: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        layer(np.ones(shape, np.float32))


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: BatchNorm("64"), TypeError, "num_features is '64', expected an int"),
        (lambda: BatchNorm(0), ValueError, "num_features is 0, expected at least 1"),
        (lambda: BatchNorm(4, eps=None), TypeError, "eps is None, expected a number"),
        (lambda: BatchNorm(4, eps=float("nan")), ValueError, "eps is nan, expected"),
        (lambda: BatchNorm(4, momentum="no"), TypeError, "momentum is 'no', expected a number"),
        (
            lambda: InstanceNorm(4, momentum=float("inf")),
            ValueError,
            "momentum is inf, expected a finite number",
        ),
        (lambda: InstanceNorm(4, momentum=None), TypeError, "momentum is None, expected a number"),
        (lambda: BatchNorm(4, layout="HWC"), ValueError, 'layout is "HWC", expected'),
        (lambda: GroupNorm(2, 4, layout=4), TypeError, "layout is 4, expected a string"),
        (lambda: GroupNorm(3, 4), ValueError, r"num_channels \(4\) must be divisible by num_groups \(3\)"),
        (lambda: LayerNorm(2.5), TypeError, "normalized_shape is 2.5, expected an int or a tuple"),
        (lambda: LayerNorm((2, 0)), ValueError, r"normalized_shape is \(2, 0\), expected sizes"),
        (lambda: LayerNorm(()), ValueError, r"normalized_shape is \(\), expected sizes"),
        (lambda: RMSNorm((2, 3), axis=1), ValueError, r"axis is 1, expected 2 axes, one for each"),
        (lambda: RMSNorm(2, axis="C"), TypeError, "axis is 'C', expected an int"),
        (lambda: LayerNorm(2, dtype=np.int64), TypeError, "dtype is int64, expected float32, float64"),
    ],
)
def test_wrong_arguments_are_named(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
