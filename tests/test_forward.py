"""Forward results of every norm in every layout, against the definition: values, statistics, memory order."""

import numpy as np
import pytest

import fastnorm
from fastnorm import reference

from .checks import ACTIVATIONS, DTYPES, assert_exact, assert_like, assert_statistics
from .norms import BY_AXIS, BY_LAYOUT, NORMS, Norm, affine, one_of_each, widen

# -- Every norm, every layout -------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", ["neither", "weight", "bias", "both"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_equals_the_definition(norm, dtype, parameters, rng):
    x = (3 + 2 * rng.standard_normal(norm.shape)).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    weight = weight if parameters in ("weight", "both") else None
    bias = bias if parameters in ("bias", "both") else None
    before = x.copy()
    y, *statistics = norm(x, weight, bias)
    exact, *exact_statistics = norm.exact(x, weight, bias)
    assert_like(y, x)
    assert_exact(y, exact, dtype)
    assert_statistics(statistics, exact_statistics, dtype)
    assert statistics[-1].shape == norm.statistics_shape(x.shape)
    assert np.array_equal(x, before)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_activation_of_the_result(norm, dtype, activation, rng):
    shape = norm.sized(40)
    x = rng.standard_normal(shape).astype(dtype)
    weight, bias = affine(norm, shape, rng, dtype)
    for w, b in ((None, None), (weight, None), (None, bias), (weight, bias)):
        y, *statistics = norm(x, w, b, activation=activation)
        exact, *exact_statistics = norm.exact(x, w, b, activation=activation)
        assert_exact(y, exact, dtype)
        assert_statistics(statistics, exact_statistics, dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_out(activation):
    """Where exponentials over- and underflow the activations still have their limits."""
    scale = np.float32([1e-30, 1e-3, 1, 20, 80, 100, 1e3, 1e30])
    x = np.float32([[-1, 1]]).repeat(len(scale), 0)
    y = fastnorm.layer_norm(x * scale[:, None], activation=activation, eps=0)
    z = fastnorm.layer_norm(np.float32([[-1, 1]]), eps=0, weight=np.float32([80, 80]), activation=activation)
    exact = reference.layer_norm(np.float64([[-1, 1]]), eps=0, activation=activation)[0]
    assert_exact(y, np.broadcast_to(exact, y.shape), np.float32)
    far = reference.layer_norm(np.float64([[-1, 1]]), [80, 80], eps=0, activation=activation)[0]
    assert_exact(z, far, np.float32)


# -- Shapes with a reason ----------------------------------------------------------------------------------

# (statistics, elements that share one)
SHAPES = {
    "one element": (1, 1),
    "one element each": (7, 1),
    "two elements": (1, 2),
    "primes": (13, 7),
    "tall": (5000, 8),
    "tall and odd": (3000, 3),
    "wide": (3, 5003),
    "below a vector": (5, 15),
    "a vector": (5, 16),
    "above a vector": (5, 17),
    "odd both ways": (17, 33),
    "below 1024": (3, 1023),
    "1024": (2, 1024),
    "above 1024": (3, 1025),
    "below 2048": (3, 2047),
    "2048": (2, 2048),
    "above 2048": (3, 2049),
    "below 4096": (17, 4095),
    "4096": (16, 4096),
    "above 4096": (15, 4097),
    "a chunk of three columns": (3, 5461),
    "above it": (3, 5462),
    "many columns of few": (4097, 5),
    "a slab of columns and one": (1025, 600),
    "halves of it and one": (1025, 130),
    "one long": (1, 300_000),
}
SLOW_SHAPES = {
    "one very long, odd": (1, 1_000_003),
    "two long": (2, 500_009),
    "many": (100_003, 7),
    "as many as long": (1021, 1031),
}
_MANY_BY_FEW = {
    "layer_norm by rows": (Norm("layer_norm", (1, 1), axis=-1), lambda k, r: (k, r)),
    "layer_norm by columns": (Norm("layer_norm", (1, 1), axis=0), lambda k, r: (r, k)),
    "rms_norm by rows": (Norm("rms_norm", (1, 1), axis=-1), lambda k, r: (k, r)),
    "rms_norm by columns": (Norm("rms_norm", (1, 1), axis=0), lambda k, r: (r, k)),
    "batch_norm by rows": (Norm("batch_norm", (1, 1, 1), layout="NCL"), lambda k, r: (1, k, r)),
    "batch_norm by columns": (Norm("batch_norm", (1, 1), layout="NC"), lambda k, r: (r, k)),
    "instance_norm by rows": (Norm("instance_norm", (1, 1, 1), layout="NCL"), lambda k, r: (k, 1, r)),
    "instance_norm by columns": (Norm("instance_norm", (1, 1, 1), layout="NLC"), lambda k, r: (1, r, k)),
    "group_norm of samples": (
        Norm("group_norm", (1, 1, 1), layout="NCL", num_groups=1),
        lambda k, r: (k, r, 1),
    ),
    "group_norm by columns": (
        Norm("group_norm", (1, 1, 1), layout="NLC", num_groups=1),
        lambda k, r: (k, r, 1),
    ),
}


def _check_shape(family, statistics, count, dtype, rng):
    norm, shape_of = _MANY_BY_FEW[family]
    if norm.name == "batch_norm" and count == 1:
        pytest.skip("batch norm in training is not defined on one value per channel")
    x = (1 + rng.standard_normal(shape_of(statistics, count))).astype(dtype)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *found = norm(x, weight, bias)
    exact, *exact_statistics = norm.exact(x, weight, bias)
    assert_exact(y, exact, dtype)
    assert_statistics(found, exact_statistics, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", _MANY_BY_FEW)
def test_shapes(family, shape, dtype, rng):
    _check_shape(family, *SHAPES[shape], dtype, rng)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SLOW_SHAPES)
@pytest.mark.parametrize("family", _MANY_BY_FEW)
def test_large_shapes(family, shape, dtype, rng):
    _check_shape(family, *SLOW_SHAPES[shape], dtype, rng)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_empty_batch_gives_an_empty_result(norm):
    """No sample, or for layer and RMS norm no row."""
    rows = [axis for axis in range(len(norm.shape)) if axis not in norm.axes]
    if not rows and not norm.layout:
        pytest.skip("one statistic for the whole array: it has no batch")
    empty = norm.layout.index("N") if norm.layout else rows[0]
    x = np.empty([0 if axis == empty else length for axis, length in enumerate(norm.shape)], np.float32)
    y, *statistics = norm(x)
    assert_like(y, x)
    assert all(s.shape == norm.statistics_shape(x.shape) for s in statistics)
    dx, dweight, dbias = norm.backward(x, x, statistics)
    assert_like(dx, x)
    for gradient in (dweight, dbias):
        assert gradient.shape == norm.affine_shape(x.shape)
        assert not gradient.any()


# -- Arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_eps(norm, rng):
    """An eps as large as the variance, one of zero, and none where it does not count."""
    x = rng.standard_normal(norm.sized(8)).astype(np.float32)
    for eps in (1.0, 0, 1e-12, np.float32(0.5)):
        y, *statistics = norm(x, eps=eps)
        exact, *exact_statistics = norm.exact(x, eps=float(eps))
        assert_exact(y, exact, np.float32)
        assert_statistics(statistics, exact_statistics, np.float32)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rms_norm_takes_the_epsilon_of_the_dtype(dtype, rng):
    x = (1e-4 * rng.standard_normal((5, 9))).astype(dtype)
    exact, _ = reference.rms_norm(widen(x), eps=float(np.finfo(dtype).eps))
    assert_exact(fastnorm.rms_norm(x, eps=None), exact, dtype)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_out(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    exact, *statistics = norm.exact(x, weight, bias)
    spread = np.zeros(tuple(2 * n for n in x.shape), np.float32)
    for out in (np.empty_like(x), np.empty_like(x, order="F"), spread[(slice(None, None, 2),) * x.ndim], x):
        y, *found = norm(x, weight, bias, out=out)
        assert y is out
        assert_exact(y, exact, np.float32)
        assert_statistics(found, statistics, np.float32)
    assert not spread[(slice(1, None, 2),) * x.ndim].any(), "wrote between the elements of out"


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_parameters_of_any_memory(norm, rng):
    """weight and bias strided, reversed, read-only or in the other precision mean their values."""
    x = rng.standard_normal(norm.shape).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    exact, *_ = norm.exact(x, weight, bias)
    doubled = np.repeat(weight, 2, axis=-1)[..., ::2]
    flipped = np.flip(np.flip(bias).copy())
    weight.flags.writeable = False
    for w, b in ((doubled, flipped), (weight, np.asfortranarray(bias)), (weight.astype(np.float64), bias)):
        y, *_ = norm(x, w, b)
        assert_exact(y, exact, np.float32)


@pytest.mark.parametrize("norm", BY_LAYOUT, ids=str)
def test_no_layout_means_channels_at_axis_1(norm, rng):
    if norm.layout not in ("NC", "NCL", "NCHW", "NCDHW"):
        pytest.skip("another layout")
    x = rng.standard_normal(norm.shape).astype(np.float32)
    function = getattr(fastnorm, norm.name)
    training = {"training": True} if norm.name == "batch_norm" else {}
    assert np.array_equal(function(x, *norm.groups, **training), norm(x)[0])


@pytest.mark.parametrize("norm", [norm for norm in BY_AXIS if isinstance(norm.axis, tuple)], ids=str)
def test_order_and_sign_of_axes_do_not_matter(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    weight, bias = affine(norm, x.shape, rng, np.float32)
    expected = norm(x, weight, bias)
    function = getattr(fastnorm, norm.name)
    for axis in (norm.axes, norm.axes[::-1], tuple(a - x.ndim for a in norm.axes)):
        found = function(x, weight, bias, axis=axis, return_stats=True)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_without_return_stats_only_the_result(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    function = getattr(fastnorm, norm.name)
    y = function(x, *norm.groups, **norm.forward_options({}))
    assert type(y) is np.ndarray
    assert np.array_equal(y, norm(x)[0])


def test_parameters_of_a_subclass():
    """Such as a masked array, which Numba does not take, whatever it holds."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    weight = np.ma.masked_array(np.float32([1, 2, 3]))
    for _ in range(2):
        assert np.array_equal(fastnorm.layer_norm(x, weight), fastnorm.layer_norm(x, weight.data))


def test_what_is_too_large_becomes_infinite_without_a_word():
    """Warnings are errors in these tests: casting weights, gradients and running statistics must not give any."""
    x = np.float32([[1, 2], [4, 3]])
    assert np.isinf(fastnorm.layer_norm(x, np.full(2, 1e300))).all()
    _, mean, rstd = fastnorm.layer_norm(x, return_stats=True)
    dy = np.full_like(x, 60000)
    assert np.isinf(fastnorm.layer_norm_backward(dy, x, mean, rstd, np.ones(2, np.float16)).dbias).all()
    running_mean, running_var = np.zeros(2, np.float32), np.ones(2, np.float32)
    fastnorm.batch_norm(1e30 * x.astype(np.float64), running_mean, running_var, training=True)
    assert np.isinf(running_var).all()
    fastnorm.batch_norm(x, running_mean, -running_var, eps=0, return_stats=True)
