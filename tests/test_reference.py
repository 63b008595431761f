"""The definitions, against values worked by hand, central differences, exact fractions and PyTorch."""

from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

from fastnorm import reference
from tests.oracle import INPUTS, ZOO, stride_zero

TABLE = [[4, 3, 2], [3, 3, 2], [2, 2, 2]]
IMAGES = np.reshape([[[1, 4, 7], [0, 2, 4]], [[1, 3, 6], [2, 3, 1]]], (2, 1, 2, 3))

ACTIVATIONS = ["relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"]


# Worked by hand. With eps = 0 the values are the roots in the comments; eps = 1e-5 moves the fifth decimal.


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (
            lambda x: reference.batch_norm(x, training=True),
            [[1.22474, 0.70709, 0], [0, 0.70709, 0], [-1.22474, -1.41418, 0]],
        ),
        (reference.layer_norm, [[1.22474, 0, -1.22474], [0.70709, 0.70709, -1.41418], [0, 0, 0]]),
    ],
    ids=["batch", "layer"],
)
def test_norms_of_the_table(norm, expected):
    # 4, 3, 2 -> √(3/2), 0, -√(3/2); 3, 3, 2 -> 1/√2, 1/√2, -√2; 2, 2, 2 -> 0, 0, 0
    y, mean, rstd = norm(TABLE)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mean, [3, 8 / 3, 2], rtol=1e-15)
    np.testing.assert_allclose(rstd**-2, [2 / 3 + 1e-5, 2 / 9 + 1e-5, 1e-5], rtol=1e-14)


def test_batch_norm_of_the_images():
    y, mean, rstd = reference.batch_norm(IMAGES, training=True)
    # one channel: mean 17/6, variance 149/36, so (6x - 17) / √149
    expected = [
        [[[-0.90115, 0.57346, 2.04808], [-1.39269, -0.40962, 0.57346]]],
        [[[-0.90115, 0.08192, 1.55654], [-0.40962, 0.08192, -0.90115]]],
    ]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mean, [17 / 6], rtol=1e-15)
    np.testing.assert_allclose(rstd**-2, [149 / 36 + 1e-5], rtol=1e-15)
    without_eps = reference.batch_norm(IMAGES, training=True, eps=0)[0]
    np.testing.assert_allclose(without_eps, (6 * IMAGES - 17) / np.sqrt(149), rtol=1e-14)


@pytest.mark.parametrize(
    "norm",
    [
        lambda x: reference.layer_norm(x, axis=(2, 3)),
        lambda x: reference.layer_norm(x, axis=(1, 2, 3)),
        lambda x: reference.instance_norm(x),
        lambda x: reference.group_norm(x, 1),
    ],
    ids=["layer", "layer with channel", "instance", "group"],
)
def test_norms_of_each_image_alone(norm):
    y, mean, rstd = norm(IMAGES)
    # means 3 and 8/3, variances 16/3 and 26/9
    expected = [
        [[[-0.86602, 0.43301, 1.73205], [-1.29904, -0.43301, 0.43301]]],  # (x - 3) √3/4
        [[[-0.98058, 0.19612, 1.96116], [-0.39223, 0.19612, -0.98058]]],  # (3x - 8) / √26
    ]
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mean.ravel(), [3, 8 / 3], rtol=1e-15)
    np.testing.assert_allclose(rstd.ravel() ** -2, [16 / 3 + 1e-5, 26 / 9 + 1e-5], rtol=1e-15)


def test_rms_norm_by_hand():
    # second moment (9 + 16) / 2, its root 5/√2
    y, rstd = reference.rms_norm([[3, 4]], eps=0)
    np.testing.assert_allclose(y, [[0.6 * 2**0.5, 0.8 * 2**0.5]], rtol=1e-15)
    np.testing.assert_allclose(rstd, [2**0.5 / 5], rtol=1e-15)


def test_batch_norm_in_inference_by_hand():
    x = [[4.0, 3.0], [2.0, 2.0]]
    y, mean, rstd = reference.batch_norm(x, [1, 2], [4, 0.25], [3, 1], [0, 5], eps=0)
    np.testing.assert_array_equal(y, [[4.5, 7], [1.5, 5]])
    np.testing.assert_array_equal(mean, [1, 2])
    np.testing.assert_array_equal(rstd, [0.5, 2])
    dy = [[1, 2], [3, 4]]
    dx, dweight, dbias = reference.batch_norm_backward(dy, x, mean, rstd, [3, 1], training=False)
    np.testing.assert_array_equal(dx, [[1.5, 4], [4.5, 8]])
    np.testing.assert_array_equal(dweight, [1 * 1.5 + 3 * 0.5, 2 * 2 + 4 * 0])
    np.testing.assert_array_equal(dbias, [4, 6])


def test_backward_by_hand():
    # Of y_0 with x = (4, 3, 2), x_hat = (a, 0, -a) and a² = 3/2: dx = a (1 - 1/3 - a²/3, -1/3, -1/3 + a²/3).
    _, mean, rstd = reference.layer_norm([4, 3, 2], eps=0)
    dx, dweight, dbias = reference.layer_norm_backward([1, 0, 0], [4, 3, 2], mean, rstd)
    np.testing.assert_allclose(dx, np.sqrt(1.5) * np.array([1, -2, 1]) / 6, rtol=1e-14)
    np.testing.assert_allclose(dweight, [np.sqrt(1.5), 0, 0], rtol=1e-15)
    np.testing.assert_array_equal(dbias, [1, 0, 0])
    # Of y_0 with x = (3, 4), x_hat = (0.6, 0.8) √2: dx = √2/5 (1 - 0.36, -0.48).
    _, rstd = reference.rms_norm([3, 4], eps=0)
    dx, _, _ = reference.rms_norm_backward([1, 0], [3, 4], rstd)
    np.testing.assert_allclose(dx, np.sqrt(2) / 5 * np.array([0.64, -0.48]), rtol=1e-14)


def test_running_statistics_by_hand():
    # batches (4, 3, 2) and (2, 2, 2): means 3 and 2, unbiased variances 1 and 0
    mean, var = reference.moments([[4, 2], [3, 2], [2, 2]], 0)
    running_mean, running_var = reference.update_running([0, 0], [1, 1], mean, var, count=3, momentum=0.1)
    np.testing.assert_allclose(running_mean, [0.3, 0.2], rtol=1e-15)
    np.testing.assert_allclose(running_var, [1, 0.9], rtol=1e-15)


def _value_and_slope(activation: str, z: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """The activation at z, through a batch norm that changes nothing."""
    x, options = np.reshape(z, (-1, 1)), {"activation": activation}
    y, mean, rstd = reference.batch_norm(x, [0], [1], eps=0, **options)
    dx, _, _ = reference.batch_norm_backward(np.ones_like(x), x, mean, rstd, training=False, **options)
    return y.ravel(), dx.ravel()


@pytest.mark.parametrize(
    ("activation", "values", "slope_at_0"),
    [  # at -1, 0, 1
        ("relu", [0, 0, 1], 0),
        ("gelu", [-0.158655254, 0, 0.841344746], 0.5),  # the standard normal distribution at ±1
        ("gelu_tanh", [-0.158808009, 0, 0.841191991], 0.5),
        ("silu", [-0.268941421, 0, 0.731058579], 0.5),
        ("sigmoid", [0.268941421, 0.5, 0.731058579], 0.25),
        ("tanh", [-0.761594156, 0, 0.761594156], 1),
    ],
)
def test_activations_by_hand(activation, values, slope_at_0):
    y, slope = _value_and_slope(activation, [-1, 0, 1])
    np.testing.assert_allclose(y, values, rtol=0, atol=1e-9)
    assert slope[1] == slope_at_0


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_reach_their_limits_without_overflow(activation):
    y, slope = _value_and_slope(activation, [-1e4, 1e4])
    bounded = activation in ("sigmoid", "tanh")
    np.testing.assert_array_equal(y, [-1.0 if activation == "tanh" else 0, 1.0 if bounded else 1e4])
    np.testing.assert_array_equal(slope, [0, 0 if bounded else 1])


# Every norm, by rows and in several layouts, against central differences and against PyTorch.


class Case(NamedTuple):
    """A norm of an array of this shape, with the arguments that it and its backward take."""

    name: str
    shape: tuple[int, ...]
    where: dict[str, Any]  # axis or layout
    groups: tuple[int, ...] = ()
    options: Mapping[str, Any] = MappingProxyType({})  # of the forward alone
    of_x: bool = True  # whether the statistics are those of x

    def forward(self, x, weight, bias, **options):
        """(y, *statistics)."""
        options = {**self.where, **self.options, **options}
        return getattr(reference, self.name)(x, *self.groups, weight=weight, bias=bias, **options)

    def backward(self, dy, x, weight, bias, *, eps=1e-5, **options):
        """(dx, dweight, dbias)."""
        _, *statistics = self.forward(x, None, None, eps=eps)
        options = {**self.where, **({} if self.of_x else {"training": False}), **options}
        backward = getattr(reference, f"{self.name}_backward")
        return backward(dy, x, *self.groups, *statistics, weight, bias, **options)

    def axes(self):
        """The normalized axes of a norm by rows; the axes of N and C in a layout."""
        if "layout" in self.where:
            return tuple(self.where["layout"].index(letter) for letter in "NC")
        axis = self.where["axis"]
        return tuple(sorted(a % len(self.shape) for a in ([axis] if isinstance(axis, int) else axis)))

    def data(self, rng):
        """dy, x, weight and bias, of scales and means apart, so that no factor can be lost."""
        dy, x = rng.standard_normal(self.shape), 3 + 2 * rng.standard_normal(self.shape)
        size = [self.shape[a] for a in (self.axes()[1:] if "layout" in self.where else self.axes())]
        return dy, x, rng.uniform(0.5, 2, size), rng.uniform(-1, 1, size)


TRAINING = {"training": True}
RUNNING = {"running_mean": [1, 2, 3, 4, 5, 6], "running_var": [1, 4, 9, 2, 3, 5]}
CASES = {
    "layer last": Case("layer_norm", (5, 7), {"axis": -1}),
    "layer trailing": Case("layer_norm", (2, 3, 4), {"axis": (-1, -2)}),
    "layer channels first": Case("layer_norm", (2, 6, 3, 4), {"axis": 1}),
    "layer whole": Case("layer_norm", (3, 4), {"axis": (0, 1)}),
    "rms last": Case("rms_norm", (5, 7), {"axis": -1}),
    "rms apart": Case("rms_norm", (2, 3, 4, 5), {"axis": (1, 3)}),
    "batch NC": Case("batch_norm", (5, 6), {"layout": "NC"}, options=TRAINING),
    "batch NCHW": Case("batch_norm", (2, 6, 3, 4), {"layout": "NCHW"}, options=TRAINING),
    "batch HWCN": Case("batch_norm", (3, 4, 6, 2), {"layout": "HWCN"}, options=TRAINING),
    "batch NLC inference": Case("batch_norm", (2, 5, 6), {"layout": "NLC"}, (), RUNNING, False),
    "instance NCL": Case("instance_norm", (2, 6, 5), {"layout": "NCL"}),
    "instance NDHWC": Case("instance_norm", (2, 2, 3, 2, 6), {"layout": "NDHWC"}),
    "group NC": Case("group_norm", (4, 6), {"layout": "NC"}, (2,)),
    "group NCHW": Case("group_norm", (2, 6, 3, 4), {"layout": "NCHW"}, (3,)),
    "group LNC": Case("group_norm", (5, 2, 6), {"layout": "LNC"}, (3,)),
}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
every_activation = pytest.mark.parametrize("activation", [None, *ACTIVATIONS])


def _slope_along(function: Callable[[np.ndarray], Any], at: np.ndarray, direction: np.ndarray) -> Any:
    """d function(at + t * direction) / dt at 0, by the four-point formula, whose error is of order h**4."""
    h = 1e-5
    values = {k: function(at + k * h * direction.astype(np.longdouble)) for k in (-2, -1, 1, 2)}
    return (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * h)


@every_activation
@every_case
def test_gradients_against_central_differences(case, activation, rng):
    dy, *arguments = case.data(rng)
    gradients = case.backward(dy, *arguments, activation=activation)
    for position, gradient in enumerate(gradients):
        direction = rng.standard_normal(arguments[position].shape)

        def projected(value, position=position):
            changed = [*arguments[:position], value, *arguments[position + 1 :]]
            return np.sum(dy * case.forward(*changed, activation=activation)[0])

        expected = _slope_along(projected, arguments[position], direction)
        scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(np.sum(gradient * direction) - expected) <= 1e-9 * scale


@every_activation
@every_case
def test_agrees_with_torch(case, activation, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    norms = {
        "layer_norm": lambda x, w, b: F.layer_norm(x, w.shape, w, b),
        "rms_norm": lambda x, w, b: F.rms_norm(x, w.shape, w, eps=1e-5) + b,
        "batch_norm": lambda x, w, b: F.batch_norm(x, *running, w, b, training=case.of_x),
        "instance_norm": lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
        "group_norm": lambda x, w, b: F.group_norm(x, *case.groups, w, b),
    }
    activations = {
        None: lambda z: z,
        "gelu_tanh": lambda z: F.gelu(z, approximate="tanh"),
        **{name: getattr(F, name) for name in ("relu", "gelu", "silu", "sigmoid", "tanh")},
    }
    running = [None if case.of_x else torch.tensor(values).double() for values in RUNNING.values()]
    axes = case.axes()
    torch_axes = (0, 1) if "layout" in case.where else tuple(range(-len(axes), 0))

    dy, *arguments = case.data(rng)
    x, weight, bias = (torch.tensor(a, requires_grad=True) for a in arguments)
    normalized = norms[case.name](x.movedim(axes, torch_axes), weight, bias).movedim(torch_axes, axes)
    y = activations[activation](normalized)
    y.backward(torch.tensor(dy))

    ours = case.forward(*arguments, activation=activation)[0]
    gradients = case.backward(dy, *arguments, activation=activation)
    for mine, theirs in zip((ours, *gradients), (y.detach(), x.grad, weight.grad, bias.grad), strict=True):
        np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
def test_running_statistics_agree_with_torch(name, rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((4, 3, 5))
    running = [rng.standard_normal(3), rng.uniform(0.5, 2, 3)]
    theirs = [torch.tensor(r) for r in running]
    training = {"training": True} if name == "batch_norm" else {"use_input_stats": True}
    getattr(torch.nn.functional, name)(torch.tensor(x), *theirs, momentum=0.3, **training)
    axes = (0, 2) if name == "batch_norm" else 2
    count = 20 if name == "batch_norm" else 5
    ours = reference.update_running(*running, *reference.moments(x, axes), count=count, momentum=0.3)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other.numpy(), rtol=1e-13)


# Properties.


@pytest.mark.parametrize("name", INPUTS)
def test_moments_against_exact_fractions(name, rng):
    """Within a thousandth of a float32 rounding of the standard deviation: exact, to whoever compares."""
    tolerance = 1e-3 * float(np.finfo(np.float32).eps)
    x = INPUTS[name]((101, 2), 0, rng)
    for column, mean, var in zip(x.T, *reference.moments(x, 0), strict=True):
        values = [Fraction(float(v)) for v in column]
        exact_mean = sum(values) / len(values)
        exact_var = sum((v - exact_mean) ** 2 for v in values) / len(values)
        assert abs(Fraction(mean) - exact_mean) <= tolerance * float(exact_var) ** 0.5
        assert abs(Fraction(var) - exact_var) <= tolerance * float(exact_var)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items() if case.of_x])
def test_gradient_is_orthogonal_to_what_the_norm_removes(case, rng):
    """Moving x along x_hat or, where a mean is subtracted, along ones, changes nothing when eps is 0."""
    dy, x, weight, bias = case.data(rng)
    x_hat = case.forward(x, None, None, eps=0)[0]
    dx = case.backward(dy, x, weight, bias, eps=0)[0]
    np.testing.assert_allclose(np.sum(dx * x_hat), 0, atol=1e-13 * np.abs(dx).sum())
    if case.name != "rms_norm":
        np.testing.assert_allclose(np.sum(dx), 0, atol=1e-13 * np.abs(dx).sum())


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer trailing", (2,)),
        ("layer channels first", (2, 3, 4)),
        ("layer whole", ()),
        ("rms apart", (2, 4)),
        ("batch HWCN", (6,)),
        ("batch NLC inference", (6,)),
        ("instance NDHWC", (2, 6)),
        ("group LNC", (2, 3)),
    ],
)
def test_statistics_have_the_shape_of_what_is_kept(name, shape, rng):
    _, x, weight, bias = CASES[name].data(rng)
    _, *statistics = CASES[name].forward(x, weight, bias)
    assert {s.shape for s in statistics} == {shape}


@pytest.mark.parametrize("memory", ZOO)
@every_case
def test_memory_order_changes_nothing_and_no_argument_is_changed(case, memory, rng):
    dy, x, weight, bias = case.data(rng)
    arguments = [ZOO[memory](a) for a in (dy, x, weight, bias)]
    before = [a.copy() for a in arguments]
    results = (case.forward(*arguments[1:]), case.backward(*arguments))
    expected = (case.forward(x, weight, bias), case.backward(dy, x, weight, bias))
    for mine, plain in zip(sum(results, ()), sum(expected, ()), strict=True):
        assert mine.dtype == np.float64
        np.testing.assert_allclose(mine, plain, rtol=1e-12, atol=1e-13)
    for argument, original in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(argument, original)


def test_broadcast_input(rng):
    x = stride_zero(rng.standard_normal((2, 6, 5)), 1)
    expected = reference.group_norm(x.copy(), 2)[0]
    np.testing.assert_allclose(reference.group_norm(x, 2)[0], expected, rtol=1e-13)


def test_norms_that_are_one_another(rng):
    x = rng.standard_normal((4, 6, 5))
    given = np.arange(6), np.arange(1, 7)
    instance = reference.instance_norm(x)
    for one, other in (
        (reference.group_norm(x, 1), reference.layer_norm(x, axis=(1, 2))),
        (reference.group_norm(x, 6), instance),
        (reference.layer_norm(x), instance),
        (reference.rms_norm(x - x.mean(-1, keepdims=True)), instance),
        (reference.batch_norm(x[:1], training=True), [instance[0][:1]]),
        (reference.batch_norm(x, *given), reference.instance_norm(x, *given, use_input_stats=False)),
    ):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("norm", "alone"), [("add_layer_norm", "layer_norm"), ("add_rms_norm", "rms_norm")])
def test_residual_is_added_in_the_dtype_of_x(norm, alone, rng):
    x, residual = (1e5 + rng.standard_normal((2, 3, 8)).astype(np.float32) for _ in range(2))
    weight, bias = rng.standard_normal((2, 3))
    y, total = getattr(reference, norm)(x, residual, weight, bias, axis=1)
    assert total.dtype == np.float32
    np.testing.assert_array_equal(total, x + residual)
    np.testing.assert_array_equal(y, getattr(reference, alone)(x + residual, weight, bias, axis=1)[0])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rms_eps_none_is_the_epsilon_of_the_dtype(dtype, rng):
    x = rng.standard_normal((3, 5)).astype(dtype)
    expected = reference.rms_norm(x, eps=float(np.finfo(dtype).eps))
    for mine, written_out in zip(reference.rms_norm(x, eps=None), expected, strict=True):
        np.testing.assert_array_equal(mine, written_out)


def test_longdouble_stays_longdouble(rng):
    x = rng.standard_normal((3, 5)).astype(np.longdouble)
    y, mean, rstd = reference.layer_norm(x, activation="gelu")
    results = (y, mean, rstd, *reference.layer_norm_backward(x, x, mean, rstd, activation="gelu"))
    assert {r.dtype for r in results} == {np.dtype(np.longdouble)}


def test_nan_and_infinity_stay_in_their_row(rng):
    x = rng.standard_normal((3, 5))
    x[0, 2], x[1, 3] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        y = reference.layer_norm(x)[0]
    assert np.isnan(y[0]).all()
    assert np.isnan(y[1, 3])
    np.testing.assert_array_equal(y[2], reference.layer_norm(x[2])[0])


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm", "instance_norm"])
def test_empty_batch(name):
    y, *statistics = getattr(reference, name)(np.empty((0, 3, 4), np.float32))
    assert y.shape == (0, 3, 4)
    assert {s.shape for s in statistics} == {(0, 3)}
