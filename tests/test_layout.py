"""One meaning in any memory: every layout and stride gives the result of the plain contiguous array."""

import itertools

import numpy as np
import pytest

import fastnorm
from fastnorm._layout import element_strides, plan
from fastnorm.functional._flow.roles import for_inference
from fastnorm.kernels.job import COUNTS, M0

from .checks import DTYPES, assert_exact, assert_like, assert_statistics
from .norms import NORMS, Norm, affine, one_of_each
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, ZOO, gradient_roundings, roundings, stride_zero


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_x_of_any_memory(norm, dtype, memory, rng):
    plain = rng.standard_normal(norm.shape).astype(dtype)
    x = ZOO[memory](plain)
    weight, bias = affine(norm, x.shape, rng, dtype)
    y, *statistics = norm(x, weight, bias)
    exact, *exact_statistics = norm.exact(plain, weight, bias)
    if memory != "byte-swapped":  # converted: the result may be in the machine's own order
        assert_like(y, x)
    assert y.dtype.newbyteorder("=") == dtype
    assert_exact(y.astype(dtype, copy=False), exact, dtype)
    assert_statistics(statistics, exact_statistics, dtype)
    assert np.array_equal(x, plain)


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_large_x_of_any_memory(norm, memory, rng):
    """Past the size below which a single thread and a single block do it."""
    plain = rng.standard_normal(norm.sized(6000)).astype(np.float32)
    weight, bias = affine(norm, plain.shape, rng, np.float32)
    y, *_ = norm(ZOO[memory](plain), weight, bias)
    assert_exact(y.astype(np.float32, copy=False), norm.exact(plain, weight, bias)[0], np.float32)


@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_broadcast_x(norm, rng):
    """One sample, row or value seen many times by stride 0; the result is an ordinary, writable array."""
    random = rng.standard_normal(norm.shape).astype(np.float32)
    for axis in range(random.ndim):
        x = stride_zero(random, axis)
        y, *statistics = norm(x)
        exact, *exact_statistics = norm.exact(np.ascontiguousarray(x))
        assert y.flags.writeable and y.strides == np.empty_like(x).strides
        assert_exact(y, exact, np.float32)
        assert_statistics(statistics, exact_statistics, np.float32)


@pytest.mark.parametrize("memory", [name for name in ZOO if name not in ("read-only", "byte-swapped")])
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_out_of_any_memory(norm, memory, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    out = ZOO[memory](np.zeros_like(x))
    surroundings = out.base.copy() if out.base is not None else None
    y, *_ = norm(x, out=out)
    assert y is out
    assert_exact(y, norm.exact(x)[0], np.float32)
    if surroundings is not None and surroundings.dtype == np.float32:
        gaps = np.isnan(surroundings)
        assert np.isnan(out.base[gaps]).all(), "wrote outside of out"


# -- The same numbers in another layout --------------------------------------------------------------------


@pytest.mark.parametrize("letters", ["NC", "NCL", "NCHW"])
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm"])
def test_every_order_of_the_letters(name, letters, rng):
    """A layout tells where an axis lies, not what it means: all permutations agree, forward and backward."""
    sizes = dict(zip(letters, (9, 16, 5, 3), strict=False))
    num_groups = 2 if name == "group_norm" else None
    base = Norm(name, tuple(sizes.values()), layout=letters, num_groups=num_groups)
    x, dy = rng.standard_normal((2, *base.shape)).astype(np.float32)
    weight, bias = affine(base, x.shape, rng, np.float32)
    exact, *exact_statistics = base.exact(x, weight, bias)
    exact_gradients = base.exact_backward(dy, x, weight, bias)
    for order in itertools.permutations(range(x.ndim)):
        layout = "".join(letters[axis] for axis in order)
        norm = Norm(name, tuple(x.shape[axis] for axis in order), layout=layout, num_groups=num_groups)
        for copy in (False, True):
            here, dy_here = (a.transpose(order).copy() if copy else a.transpose(order) for a in (x, dy))
            y, *statistics = norm(here, weight, bias)
            assert_like(y, here)
            assert_exact(y, exact.transpose(order), np.float32)
            assert_statistics(statistics, exact_statistics, np.float32)
            found = norm.backward(dy_here, here, statistics, weight, bias)
            if exact_gradients[0].any():
                wanted = exact_gradients[0].transpose(order)
                assert gradient_roundings(found.dx, wanted, np.float32) <= GRADIENT_ROUNDINGS
            for gradient, wanted in zip(found[1:], exact_gradients[1:], strict=True):
                assert np.abs(gradient - wanted).max() <= GRADIENT_ROUNDINGS * 1e-7 * max(
                    1, np.abs(wanted).max()
                )


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_every_choice_of_axes(name, rng):
    x, dy = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    for count in range(1, x.ndim + 1):
        for axes in itertools.combinations(range(x.ndim), count):
            norm = Norm(name, x.shape, axis=axes)
            weight, bias = affine(norm, x.shape, rng, np.float32)
            y, *statistics = norm(x, weight, bias)
            assert_exact(y, norm.exact(x, weight, bias)[0], np.float32)
            found = norm.backward(dy, x, statistics, weight, bias)
            for gradient, wanted in zip(found, norm.exact_backward(dy, x, weight, bias), strict=True):
                assert gradient_roundings(gradient, wanted, np.float32) <= GRADIENT_ROUNDINGS


@pytest.mark.parametrize("where", [0, 1, 2, 3])
@pytest.mark.parametrize("norm", NORMS, ids=str)
def test_axes_of_length_one(norm, where, rng):
    """An axis that is there in name only: any one of them may vanish from the problem."""
    if where >= len(norm.shape):
        pytest.skip("fewer axes")
    shape = tuple(1 if axis == where else length for axis, length in enumerate(norm.shape))
    if norm.num_groups == 3 and norm.layout.index("C") == where:
        pytest.skip("one channel does not make three groups")
    if norm.name == "batch_norm" and norm.layout == "NC" and where == 0:
        pytest.skip("batch norm in training is not defined on one value per channel")
    x = rng.standard_normal(shape).astype(np.float32)
    weight, bias = affine(norm, shape, rng, np.float32)
    y, *statistics = norm(x, weight, bias)
    exact, *exact_statistics = norm.exact(x, weight, bias)
    assert_exact(y, exact, np.float32)
    assert_statistics(statistics, exact_statistics, np.float32)


# -- Norms that are each other -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_norms_that_coincide(dtype, rng):
    x = rng.standard_normal((4, 6, 5, 7)).astype(dtype)
    nhwc = x.transpose(0, 2, 3, 1)
    pairs = {
        "instance norm is a group of each channel": (fastnorm.instance_norm(x), fastnorm.group_norm(x, 6)),
        "layer norm is a group of all": (fastnorm.layer_norm(x, axis=(1, 2, 3)), fastnorm.group_norm(x, 1)),
        "instance norm is layer norm of pixels": (
            fastnorm.instance_norm(x),
            fastnorm.layer_norm(x, axis=(2, 3)),
        ),
        "batch norm of one sample": (fastnorm.batch_norm(x[:1]), fastnorm.instance_norm(x[:1])),
        "batch norm is layer norm of the rest": (
            fastnorm.batch_norm(x),
            fastnorm.layer_norm(x, axis=(0, 2, 3)),
        ),
        "channels last": (
            fastnorm.batch_norm(nhwc, layout="NHWC"),
            fastnorm.batch_norm(x).transpose(0, 2, 3, 1),
        ),
        "RMS of the centred": (
            fastnorm.rms_norm(x - x.mean(-1, keepdims=True, dtype=np.longdouble).astype(dtype)),
            fastnorm.layer_norm(x),
        ),
    }
    for what, (one, other) in pairs.items():
        assert roundings(one, other, dtype) <= 2 * FORWARD_ROUNDINGS, what


@pytest.mark.parametrize("shape, layout, runs", [
    ((1, 6, 5, 7), "NCHW", 6),  # an image alone has a run per channel
    ((4, 6, 5, 7), "NCHW", 24),
    ((6, 5, 7, 4), "CHWN", 6),
    ((6, 1, 35), "CNL", 6),
])  # fmt: skip
def test_runs_of_inference(shape, layout, runs, rng):
    """As few as there can be: each asks for its coefficients."""
    x = rng.standard_normal(shape, dtype=np.float32)
    roles = for_inference(shape, element_strides(x), layout)
    found = plan(shape, (element_strides(x),) * 2, roles, (0, 0, 0))
    assert not found.columns
    assert np.prod(found.job[COUNTS:M0]) == runs
    assert found.length * runs == x.size
    mean, var = rng.standard_normal(6), rng.uniform(0.5, 2, 6)
    along = [-1 if letter == "C" else 1 for letter in layout]
    exact = (x - mean.reshape(along)) / np.sqrt(var.reshape(along) + 1e-5)
    y = fastnorm.batch_norm(x, mean.astype(np.float32), var.astype(np.float32), layout=layout)
    assert np.abs(y - exact).max() < 1e-5  # some roundings of statistics and results below 16, of 1e-6 each
