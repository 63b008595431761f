"""Decorrelated batch norm and IterNorm: results, gradients, running statistics, memory, dtypes, errors."""

import numpy as np
import pytest

import fastnorm
from fastnorm.functional._whitening import blocks as _blocks
from fastnorm.functional.whitening import (
    decorrelated_batch_norm,
    decorrelated_batch_norm_backward,
    iter_norm,
)
from fastnorm.reference import whitening as reference

from .checks import ACTIVATIONS, DTYPES, assert_like
from .oracle import INPUTS, ZOO
from .whitening import EVERY, NAMES, TWO, Whitening, assert_forward, assert_gradients, condition


def _parameters(norm, rng, dtype):
    size = norm.channels
    return rng.uniform(0.5, 2, size).astype(dtype), rng.uniform(-1, 1, size).astype(dtype)


# Results and gradients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", EVERY, ids=str)
def test_every_layout(norm, dtype, rng):
    x = (3 + rng.standard_normal(norm.shape)).astype(dtype)
    pair = _parameters(norm, rng, dtype)
    y, *statistics = norm(x, None, None, *pair)
    exact = norm.exact(x, None, None, *pair)
    assert_like(y, x)
    assert_forward(y, exact, dtype, norm.magnitude(x, exact[1:], *pair))
    dy = rng.standard_normal(norm.shape).astype(dtype)
    found = norm.backward(dy, x, statistics, *pair)
    assert_like(found.dx, x)
    assert_gradients(found, norm.exact_backward(dy, x, *pair), dtype, exact[1:])


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("norm", TWO, ids=str)
def test_inputs_that_break_careless_statistics(norm, name, rng):
    x = INPUTS[name](norm.shape, norm.others, rng)
    y, *statistics = norm(x)
    exact = norm.exact(x)
    assert_forward(y, exact, np.float32, norm.magnitude(x, exact[1:]))
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    assert_gradients(norm.backward(dy, x, statistics), norm.exact_backward(dy, x), np.float32, exact[1:])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", TWO, ids=str)
def test_fused_activation(norm, activation, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    pair = _parameters(norm, rng, np.float32)
    y, *statistics = norm(x, None, None, *pair, activation=activation)
    exact = norm.exact(x, None, None, *pair, activation=activation)
    assert_forward(y, exact, np.float32, norm.magnitude(x, exact[1:], *pair))
    found = norm.backward(dy, x, statistics, *pair, activation=activation)
    if activation == "relu":  # near 0 either side's slope is right: dx is as for the g that was found
        z, *_ = norm(x, None, None, *pair)
        dy, activation = np.where(z > 0, dy, 0), None
    wanted = norm.exact_backward(dy, x, *pair, activation=activation)
    assert_gradients(found, wanted, np.float32, exact[1:])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", NAMES)
def test_blocks_and_threads(name, layout, rng, monkeypatch):
    """Many blocks, merged; on several threads, which change no bit."""
    monkeypatch.setattr(_blocks, "_ELEMENTS", 1 << 16)
    monkeypatch.setattr(_blocks, "_THREADED", 0)
    norm = Whitening(name, layout, 4)
    shape = {"NCHW": (5, 64, 30, 31), "NHWC": (5, 30, 31, 64)}[layout]
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    x += np.float32(5) * rng.standard_normal(
        [n if letter == "N" else 1 for n, letter in zip(shape, layout, strict=True)]
    )
    results = []
    for threads in (1, fastnorm.get_num_threads()):
        with fastnorm.num_threads(threads):
            y, *statistics = norm(x)
            results.append([y, *statistics, *norm.backward(dy, x, statistics, activation="silu")])
    for one, more in zip(*results, strict=True):
        assert np.array_equal(one, more)
    exact = norm.exact(x)
    assert_forward(y, exact, np.float32, 4)
    wanted = norm.exact_backward(dy, x, activation="silu")
    assert_gradients(results[0][-3:], wanted, np.float32, exact[1:])


@pytest.mark.parametrize("name", NAMES)
def test_a_group_too_large_for_pieces(name, rng):
    norm = Whitening(name, "NC", 1)
    x = rng.standard_normal((1500, 160)).astype(np.float32)
    exact = norm.exact(x)
    assert_forward(norm(x)[0], exact, np.float32, 4)


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_y_is_white(norm, rng):
    """Whatever mixed the channels, if the mix is known to the precision of x; IterNorm comes as far as it goes."""
    mix = np.linalg.qr(rng.standard_normal((6, 6)))[0] * [1, 2, 5, 1, 3, 10]
    c = norm.layout.index("C")
    x = np.moveaxis(np.moveaxis(rng.standard_normal(norm.shape), c, -1) @ mix, -1, c).astype(np.float32)
    iterations = {"num_iterations": 25} if norm.name == "iter_norm" else {}
    y, *_ = norm(x, eps=0.0, **iterations)
    groups = np.moveaxis(y, c, 0).reshape(2, 3, -1).astype(np.float64)
    covariance = groups @ groups.swapaxes(1, 2) / groups.shape[2]
    assert np.allclose(covariance, np.eye(3), atol=1e-4)  # the condition number is at most 100 · 10


def test_iterations_approach_the_root(rng):
    x = rng.standard_normal((200, 8)).astype(np.float32)
    root = decorrelated_batch_norm(x, 2)
    errors = [np.abs(iter_norm(x, 2, num_iterations=n) - root).max() for n in (1, 3, 5, 10)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-5


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_constants_have_no_gradient(norm, rng):
    x = np.full(norm.shape, 1234, np.float32)
    _, bias = _parameters(norm, rng, np.float32)
    y, *_ = norm(x, None, None, None, bias)
    by_channel = [-1 if letter == "C" else 1 for letter in norm.layout]
    assert np.array_equal(y, np.broadcast_to(bias.reshape(by_channel), y.shape))
    x = rng.standard_normal(norm.shape).astype(np.float32)
    _, *statistics = norm(x)
    dx, dweight, dbias = norm.backward(np.full_like(x, 0.1), x, statistics)
    assert not dx.any() and not dweight.any()
    assert np.allclose(dbias, 0.1 * x.size / norm.channels)


def test_equal_eigenvalues_have_a_gradient():
    """Columns of a Hadamard matrix are white already: every two eigenvalues are equal, and a difference of them is 0."""
    signs = np.array([[1, 1], [1, -1]])
    x = np.kron(np.kron(signs, signs), signs)[:, 1:5] * 2.0
    _, *statistics = decorrelated_batch_norm(x, 1, eps=0, return_stats=True)
    assert np.array_equal(statistics[1][0], np.eye(4) / 2)
    dy = np.arange(32.0).reshape(8, 4)
    found = decorrelated_batch_norm_backward(dy, x, 1, *statistics)
    wanted = reference.decorrelated_batch_norm_backward(dy, x, 1, *statistics)
    assert_gradients(found, wanted, np.float64, statistics)


# The definitions themselves ------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("name", NAMES)
def test_reference_gradients_are_slopes(name, activation, rng):
    """Central differences along random directions: the square of the step 1e-5 is what they leave out."""
    function, backward = getattr(reference, name), getattr(reference, f"{name}_backward")
    x, dy = rng.standard_normal((2, 9, 6, 3))
    arrays = [x, *rng.uniform(0.5, 2, (2, 6))]

    def loss(x, weight, bias):
        return np.sum(dy * function(x, 2, None, None, weight, bias, activation=activation)[0])

    _, *statistics = function(x, 2)
    gradients = backward(dy, x, 2, *statistics, *arrays[1:], activation=activation)
    for i, gradient in enumerate(gradients):
        step = 1e-5 * rng.standard_normal(arrays[i].shape)
        ahead, behind = ([*arrays[:i], arrays[i] + s * step, *arrays[i + 1 :]] for s in (1, -1))
        assert np.isclose((loss(*ahead) - loss(*behind)) / 2, np.sum(gradient * step), rtol=1e-6, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_against_pytorch(name, rng):
    """Its operators and its autograd, in float64."""
    torch = pytest.importorskip("torch")
    x, dy = rng.standard_normal((2, 9, 6, 3))
    weight, bias = rng.uniform(0.5, 2, (2, 6))
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, bias)]
    groups = leaves[0].transpose(0, 1).reshape(2, 3, -1)
    centred = groups - groups.mean(-1, keepdim=True)
    covariance = centred @ centred.mT / groups.shape[-1] + 1e-5 * torch.eye(3)
    if name == "iter_norm":
        trace = covariance.diagonal(dim1=1, dim2=2).sum(-1)[:, None, None]
        root = torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
        for _ in range(5):
            root = 1.5 * root - 0.5 * root @ root @ root @ (covariance / trace)
        whitening = root / trace.sqrt()
    else:
        values, vectors = torch.linalg.eigh(covariance)
        whitening = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
    z = (whitening @ centred).reshape(6, 9, 3).transpose(0, 1)
    expected = torch.nn.functional.silu(z * leaves[1][:, None] + leaves[2][:, None])
    expected.backward(torch.tensor(dy))
    norm = Whitening(name, "NCL")
    y, *statistics = norm(x, None, None, weight, bias, activation="silu")
    assert np.allclose(y, expected.detach(), rtol=1e-10, atol=1e-10)
    for found, leaf in zip(
        norm.backward(dy, x, statistics, weight, bias, activation="silu"), leaves, strict=True
    ):
        assert np.allclose(found, leaf.grad, rtol=1e-10, atol=1e-10)


# Running statistics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_running_statistics(norm, rng):
    x, dy = 5 + rng.standard_normal((2, *norm.shape)).astype(np.float32)
    mean, whitening = rng.standard_normal(6).astype(np.float32), rng.standard_normal((2, 3, 3))
    kept = mean.copy(), whitening.copy()
    y, *batch = norm(x, mean, whitening, training=True, momentum=0.25)
    assert np.array_equal(y, norm(x)[0]), "training goes by the batch, whatever has been running"
    assert np.allclose(mean, 0.75 * kept[0] + 0.25 * batch[0], rtol=1e-6)
    assert np.allclose(whitening, 0.75 * kept[1] + 0.25 * batch[1], rtol=1e-14)
    kept, pair = (mean.copy(), whitening.copy()), _parameters(norm, rng, np.float32)
    y, *statistics = norm(x, mean, whitening, *pair, activation="tanh")
    assert np.array_equal(mean, kept[0]) and np.array_equal(whitening, kept[1])
    exact = norm.exact(x, None, None, *pair)
    near_zero = norm._near_zero(x)
    shift = (x.astype(np.float64) - near_zero).mean(norm.others)
    exact = norm.exact(x, mean - shift, whitening, *pair, activation="tanh")
    assert_forward(y, exact, np.float32, norm.magnitude(x, (mean - shift, whitening), *pair))
    found = norm.backward(dy, x, statistics, *pair, activation="tanh", training=False)
    function = getattr(reference, f"{norm.name}_backward")
    options = {"layout": norm.layout, "activation": "tanh", "training": False}
    wanted = function(dy, x, 2, *statistics, *pair, **options)
    assert_gradients(found, wanted, np.float32, statistics)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_moves_where_a_call_fails(name):
    norm = Whitening(name, "NC")
    mean, whitening = np.zeros(6), np.zeros((2, 3, 3))
    with pytest.raises(ValueError, match="activation"):
        norm(np.ones((9, 6)), mean, whitening, training=True, activation="none")
    norm(np.empty((0, 6)), mean, whitening, training=True)
    assert not mean.any() and not whitening.any()


# Memory, dtypes, values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ZOO)
@pytest.mark.parametrize(
    "norm", [Whitening("decorrelated_batch_norm", layout) for layout in ("NCHW", "NHWC")], ids=str
)
def test_any_memory(norm, memory, rng):
    plain, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    x = ZOO[memory](plain)
    exact = norm.exact(plain)
    y, *statistics = norm(x)
    assert_forward(y, exact, np.float32, norm.magnitude(plain, exact[1:]))
    assert_like(y, x.astype(np.float32))
    wanted = norm.exact_backward(dy, plain)
    for pair in ((ZOO[memory](dy), x), (dy, x), (ZOO[memory](dy), plain)):
        assert_gradients(norm.backward(*pair, statistics), wanted, np.float32, exact[1:])
    assert np.array_equal(x, plain)


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_out(norm, rng):
    x = rng.standard_normal(norm.shape).astype(np.float32)
    wanted, *_ = norm(x)
    other = np.empty(x.shape[::-1], np.float32).T
    assert norm(x, out=other)[0] is other and np.allclose(other, wanted, rtol=1e-5, atol=1e-6)
    assert norm(x, out=x)[0] is x and np.array_equal(x, wanted)


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_out_overlaps_x(norm, rng):
    """In several blocks, of which each would be written over what another has yet to read."""
    store = rng.standard_normal((1500, *norm.shape[1:])).astype(np.float32)
    wanted, *_ = norm(store[:-1].copy())
    assert norm(store[:-1], out=store[1:])[0].base is store
    assert np.array_equal(store[1:], wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("norm", TWO, ids=str)
def test_sixteen_bits_are_those_of_float32_rounded(norm, dtype, rng):
    dtype = np.dtype(dtype if dtype == "float16" else pytest.importorskip("ml_dtypes").bfloat16)
    x, dy = (3 + rng.standard_normal((2, *norm.shape))).astype(dtype)
    wide, pair = (x.astype(np.float32), dy.astype(np.float32)), _parameters(norm, rng, np.float32)
    for activation in (None, "silu"):
        y, *statistics = norm(x, None, None, *pair, activation=activation)
        assert np.array_equal(y, norm(wide[0], None, None, *pair, activation=activation)[0].astype(dtype))
        found = norm.backward(dy, x, statistics, *pair, activation=activation)
        wanted = norm.backward(*wide[::-1], statistics, *pair, activation=activation)
        assert np.array_equal(found.dx, wanted.dx.astype(dtype))
        assert np.array_equal(found.dweight, wanted.dweight) and np.array_equal(found.dbias, wanted.dbias)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("norm", TWO, ids=str)
def test_not_a_number_stays_in_its_group(norm, value, rng):
    x, dy = rng.standard_normal((2, *norm.shape)).astype(np.float32)
    wanted, *statistics = norm(x)
    gradients = norm.backward(dy, x, statistics)
    first = np.moveaxis(x, norm.layout.index("C"), 0)[:3]
    first[0].flat[5] = value
    y, *statistics = norm(x)
    found = norm.backward(dy, x, statistics)
    for now, before in ((y, wanted), (found.dx, gradients.dx)):
        now, before = (np.moveaxis(a, norm.layout.index("C"), 0) for a in (now, before))
        assert np.isnan(now[:3]).all() and np.array_equal(now[3:], before[3:])
    assert np.array_equal(found.dweight[3:], gradients.dweight[3:])


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_empty_batch(norm):
    x = np.empty([0 if letter == "N" else 6 for letter in norm.layout], np.float32)
    y, *statistics = norm(x)
    assert y.shape == x.shape and statistics[0].shape == (6,) and statistics[1].shape == (2, 3, 3)
    dx, dweight, dbias = norm.backward(x, x, statistics)
    assert dx.shape == x.shape and not dweight.any() and not dbias.any()


def test_needs(rng):
    norm = TWO[0]
    x = rng.standard_normal(norm.shape).astype(np.float32)
    _, *statistics = norm(x)
    everything = norm.backward(x, x, statistics)
    for i in range(3):
        needs = tuple(i == j for j in range(3))
        found = norm.backward(x, x, statistics, needs=needs)
        assert [g is not None for g in found] == list(needs)
        assert np.array_equal(found[i], everything[i])


# Errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_groups": 4}, "num_groups is 4, expected a divisor of 6"),
        ({"num_groups": 2.0}, "num_groups is 2.0, expected an integer"),
        ({"x": np.ones((6, 6))}, r"x has 6 values per channel .* groups of 6 channels by: .* 7, or num_groups .* 2"),
        ({"x": np.ones((1, 6))}, "x has 1 values per channel .* expected at least 7$"),
        ({"x": np.ones((9, 6), int)}, "x has dtype int64"),
        ({"running_mean": np.zeros(6)}, "running_whitening is None but running_mean is not"),
        ({"running_mean": np.zeros(6), "running_whitening": np.zeros((6, 6))}, r"running_whitening has shape \(6, 6\)"),
        ({"running_mean": np.zeros(5), "running_whitening": np.zeros((1, 6, 6))}, r"running_mean has shape \(5,\)"),
        ({"weight": np.ones(5)}, r"weight has shape \(5,\), expected \(6,\): x has 6 channels at axis 1, in 1 groups"),
        ({"eps": None}, "eps is None"),
        ({"momentum": None}, "momentum is None"),
        ({"layout": "NL"}, 'layout is "NL"'),
        ({"activation": "elu"}, "activation is 'elu'"),
        ({"out": np.ones((9, 6), np.float32)}, "out has dtype float32"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(name, options, message):
    function = {"decorrelated_batch_norm": decorrelated_batch_norm, "iter_norm": iter_norm}[name]
    options = {"x": np.ones((9, 6)), "num_groups": 1} | options
    with pytest.raises((TypeError, ValueError), match=message):
        function(**options)


@pytest.mark.parametrize("value", [0, 2.0, True])
def test_iterations_are_counted(value):
    with pytest.raises((TypeError, ValueError), match=f"num_iterations is {value}, expected"):
        iter_norm(np.ones((9, 6)), 1, num_iterations=value)


@pytest.mark.parametrize("norm", TWO, ids=str)
def test_backward_errors_name_the_argument(norm):
    x = np.ones(norm.shape)
    _, *statistics = norm(x)
    for i, statistic in enumerate(("mean", "whitening", "covariance")[: len(statistics)]):
        for wrong in (None, np.ones(5)):
            given = [wrong if i == j else s for j, s in enumerate(statistics)]
            with pytest.raises((TypeError, ValueError), match=f"{statistic} (is|has)"):
                norm.backward(x, x, given)
    with pytest.raises(ValueError, match="dy has shape"):
        norm.backward(x[:1], x, statistics)


def test_condition_is_that_of_the_covariance(rng):
    """What the bounds above hang on."""
    x = rng.standard_normal((50, 4)) * [1, 1, 1, 8]
    _, *statistics = reference.decorrelated_batch_norm(x, 1, eps=0)
    assert np.isclose(condition(statistics), np.linalg.cond(np.cov(x.T)), rtol=1e-8)
