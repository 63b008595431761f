"""Batch renormalization, ghost and frozen batch norm: what they take and give; their errors; their layers."""

import copy
import pickle

import numpy as np
import pytest

import fastnorm
from fastnorm.functional.frozen import frozen_batch_norm, frozen_batch_norm_backward
from fastnorm.functional.ghost import ghost_batch_norm, ghost_batch_norm_backward
from fastnorm.functional.renorm import batch_renorm, batch_renorm_backward
from fastnorm.layers.frozen import FrozenBatchNorm
from fastnorm.layers.ghost import GhostBatchNorm
from fastnorm.layers.renorm import BatchRenorm

from .batches import C, normals, parameters
from .checks import assert_like
from .oracle import FORWARD_ROUNDINGS, ZOO, roundings


def _renorm(x, rng, **options):
    weight, bias, mean, std = parameters(rng, np.float64)
    pair = weight.astype(np.float32), bias.astype(np.float32)
    return batch_renorm(x, mean, std, *pair, training=True, **options)


def _ghosts(x, rng, **options):
    weight, bias, mean, var = parameters(rng, np.float64)
    pair = weight.astype(np.float32), bias.astype(np.float32)
    return ghost_batch_norm(x, 3, mean, var, *pair, training=True, **options)


def _frozen(x, rng, **options):
    weight, bias, mean, var = parameters(rng, np.float64)
    return frozen_batch_norm(x, mean, var, weight, bias, **options)


ALL = [_renorm, _ghosts, _frozen]


@pytest.fixture
def again(rng):
    """A function that gives the same generator whenever it is asked."""
    return lambda: copy.deepcopy(rng)


@pytest.mark.parametrize("layout", ["NCL", "NHWC"])
@pytest.mark.parametrize("norm", ALL)
def test_any_memory(norm, layout, rng, again):
    (x,) = normals(layout, rng, np.float32)
    expected = norm(x, again(), layout=layout)
    for name, view in ZOO.items():
        y = norm(view(x), again(), layout=layout)
        assert_like(y, view(x).astype(np.float32, copy=False))
        # Another order of memory may be added up in another order.
        assert roundings(y, expected, np.float32) <= FORWARD_ROUNDINGS, name


@pytest.mark.parametrize("norm", ALL)
def test_out(norm, rng, again):
    (x,) = normals("NCL", rng, np.float32)
    expected = norm(x, again(), activation="tanh")
    for out in (np.empty_like(x), np.empty_like(x.transpose(0, 2, 1)).transpose(0, 2, 1)):
        assert norm(x, again(), activation="tanh", out=out) is out
        assert roundings(out, expected, np.float32) <= FORWARD_ROUNDINGS
    store = np.empty((9, C, 11), np.float32)
    for first, second in ((store[:8], store[1:]), (store[1:], store[:8]), (store[:8], store[:8])):
        first[...] = x
        assert norm(first, again(), activation="tanh", out=second) is second
        assert np.array_equal(second, expected)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
@pytest.mark.parametrize("norm", ALL)
def test_16_bits_are_the_rounded_result_of_32(norm, dtype, rng, again):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = normals("NHWC", rng, np.float32)[0].astype(dtype)
    expected = norm(x.astype(np.float32), again(), layout="NHWC").astype(dtype)
    y = norm(x, again(), layout="NHWC")
    assert y.dtype == dtype and np.array_equal(y, expected)


@pytest.mark.parametrize("norm", ALL)
def test_an_empty_batch(norm, again):
    x = np.empty((0, C, 3), np.float32)
    assert norm(x, again()).shape == x.shape
    out = np.empty_like(x)
    assert norm(x, again(), out=out) is out


def test_backward_of_an_empty_batch():
    x, statistics = np.empty((0, C, 3), np.float32), np.ones((4, C))
    for dx, dweight, dbias in (
        batch_renorm_backward(x, x, *statistics),
        ghost_batch_norm_backward(x, x, 4, np.empty((0, C)), np.empty((0, C))),
    ):
        assert dx.shape == x.shape and np.array_equal([dweight, dbias], np.zeros((2, C)))
    assert frozen_batch_norm_backward(x, x, *statistics[:2]).shape == x.shape


def test_needs(rng):
    x, dy = normals("NCL", rng, np.float32, 2)
    weight, bias, mean, std = parameters(rng, np.float32)
    _, *of_renorm = batch_renorm(x, mean, std, training=True, return_stats=True)
    _, *of_ghosts = ghost_batch_norm(x, 3, return_stats=True)

    def renorm(**options):
        return batch_renorm_backward(dy, x, *of_renorm, weight, bias, **options)

    def ghosts(**options):
        return ghost_batch_norm_backward(dy, x, 3, *of_ghosts, weight, bias, **options)

    for backward in (renorm, ghosts):
        everything = backward()
        for needs in np.ndindex(2, 2, 2):
            found = backward(needs=tuple(map(bool, needs)))
            for need, gradient, wanted in zip(needs, found, everything, strict=True):
                assert (gradient is not None) == bool(need)
                assert gradient is None or np.array_equal(gradient, wanted)


# Errors ----------------------------------------------------------------------------------------------------

X = np.ones((4, C, 3), np.float32)
ONE = np.ones((4, C), np.float32)


def zeros():
    return np.zeros(C, np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, v: batch_renorm(X, m, v, training=True, r_max=0.5), ValueError, "r_max is 0.5, expected at least 1"),
        (lambda m, v: batch_renorm(X, m, v, training=True, d_max=-1), ValueError, "d_max is -1, expected at least 0"),
        (lambda m, v: batch_renorm(X, m, v, d_max=np.nan), ValueError, "d_max is nan, expected at least 0"),
        (lambda m, v: batch_renorm(X, m, v, r_max="3x"), TypeError, "r_max is '3x', expected a number of at least 1"),
        (lambda m, v: batch_renorm(X, m, None), ValueError, "running_std is None but running_mean is not"),
        (lambda m, v: batch_renorm(X, None, None), TypeError, "running_mean is a NoneType, expected a NumPy array"),
        (lambda m, v: batch_renorm(X, m, v[:3]), ValueError, r"running_std has shape \(3,\), expected \(6,\)"),
        (lambda m, v: batch_renorm(X, m, m, training=True), ValueError, "running_mean and running_std share memory"),
        (lambda m, v: batch_renorm(X, m, v, training=True, momentum=None), TypeError, "momentum is None"),
        (lambda m, v: batch_renorm(X, m, v, training=True, activation="elu"), ValueError, "activation is 'elu'"),
        (lambda m, v: batch_renorm(X, m, v, training=True, weight=zeros()[:3]), ValueError, "weight has shape"),
        (lambda m, v: batch_renorm(ONE[:1], m, v, training=True), ValueError, "x has one value per channel"),
        (lambda m, v: ghost_batch_norm(X, 0, m, v, training=True), ValueError, "ghost_batch_size is 0, expected at"),
        (lambda m, v: ghost_batch_norm(X, 2.0, m, v, training=True), TypeError, "ghost_batch_size is 2.0, expected an"),
        (lambda m, v: ghost_batch_norm(X, True, m, v, training=True), TypeError, "ghost_batch_size is True"),
        (lambda m, v: ghost_batch_norm(ONE, 3, m, v, training=True), ValueError,
         r"one value per channel in the last ghost batch \(shape \(4, 6\), 4 samples in ghost batches of 3\)"),
        (lambda m, v: ghost_batch_norm(ONE, 1, m, v, training=True), ValueError, "x has one value per channel"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, zeros()[:3], training=True), ValueError,
         r"weight has shape \(3,\), expected \(6,\): x has 6 channels at axis 1"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, training=True, eps="no"), TypeError, "eps is 'no'"),
        (lambda m, v: ghost_batch_norm(X, 3, m, v, training=True, out=X[:2]), ValueError, "out has shape"),
        (lambda m, v: ghost_batch_norm(X, 3, m, m, training=True), ValueError, "running_mean and running_var share"),
        (lambda m, v: ghost_batch_norm(X.tolist(), 3, m, v, training=True), TypeError, "x is a list"),
        (lambda m, v: frozen_batch_norm(X, None, None), TypeError, "running_mean is a NoneType, expected a NumPy"),
        (lambda m, v: frozen_batch_norm(X, m, v[:3]), ValueError, r"running_var has shape \(3,\), expected \(6,\)"),
        (lambda m, v: frozen_batch_norm_backward(X, None, m, v, activation="relu"), TypeError, "x is a NoneType"),
        (lambda m, v: frozen_batch_norm_backward(X[:2], X, m, v), ValueError, "dy has shape"),
        (lambda m, v: frozen_batch_norm_backward(1, None, m, v), TypeError, "dy is a int, expected a NumPy array"),
        (lambda m, v: ghost_batch_norm_backward(X, X, 3, np.ones((3, C)), np.ones((2, C))), ValueError,
         r"mean has shape \(3, 6\), expected \(2, 6\)"),
        (lambda m, v: batch_renorm_backward(X, X, *np.ones((3, C)), np.ones(3)), ValueError, r"d has shape \(3,\)"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong_and_change_nothing(call, error, message):
    running, before = (zeros(), zeros() + 1), X.copy()
    with pytest.raises(error, match=message):
        call(*running)
    assert np.array_equal(running, [np.zeros(C), np.ones(C)]) and np.array_equal(X, before)


# Layers ----------------------------------------------------------------------------------------------------

LAYERS = [
    BatchRenorm(C, momentum=0.2, layout="NHWC"),
    BatchRenorm(C, affine=False),
    GhostBatchNorm(C, 3, bias=False),
    GhostBatchNorm(C, 4, track_running_stats=False, layout="NHWC", dtype=np.float64),
    FrozenBatchNorm(C, layout="NHWC"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
def test_state_of_layers(layer, rng):
    layer, layout = copy.deepcopy(layer), layer.layout or "NCHW"
    x, dy = normals(layout, rng, np.float32, 2)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)
    y = layer(x)
    assert layer.backward(dy).shape == x.shape
    assert layer.grads.keys() == layer.parameters().keys()
    again = pickle.loads(pickle.dumps(layer))
    fresh = eval(repr(layer), {**globals(), "float64": np.float64})
    assert fresh.load_state_dict(layer.state_dict()) == ([], [])
    evaluated = layer.eval()(x)
    for other in (again, fresh):
        assert np.array_equal(other.eval()(x), evaluated)
    with pytest.raises(RuntimeError, match="no call in training"):
        layer.backward(dy)
    if isinstance(layer, FrozenBatchNorm):
        assert np.array_equal(y, evaluated)
    with pytest.raises(ValueError, match="expected"):
        layer.train()(x.T)


def test_layers_are_their_functions(rng):
    x, dy = normals("NHWC", rng, np.float32, 2)
    weight, bias, mean, second = parameters(rng, np.float32)
    renorm, ghosts = BatchRenorm(C, layout="NHWC"), GhostBatchNorm(C, 3, layout="NHWC")
    for layer, buffer in ((renorm, "running_std"), (ghosts, "running_var")):
        layer.weight[:], layer.bias[:], layer.running_mean[:] = weight, bias, mean
        getattr(layer, buffer)[:] = second
    pair, options = (weight, bias), {"training": True, "layout": "NHWC", "return_stats": True}

    running = mean.copy(), second.copy()
    y, *statistics = batch_renorm(x, *running, *pair, **options)
    assert np.array_equal(renorm(x), y)
    dx, dweight, dbias = batch_renorm_backward(dy, x, *statistics, weight, layout="NHWC")
    assert np.array_equal(renorm.backward(dy), dx)
    assert np.array_equal([renorm.grads["weight"], renorm.grads["bias"]], [dweight, dbias])
    assert np.array_equal([renorm.running_mean, renorm.running_std], running)
    assert renorm.num_batches_tracked == 1

    running = mean.copy(), second.copy()
    y, *statistics = ghost_batch_norm(x, 3, *running, *pair, **options)
    assert np.array_equal(ghosts(x), y)
    dx, dweight, dbias = ghost_batch_norm_backward(dy, x, 3, *statistics, weight, layout="NHWC")
    assert np.array_equal(ghosts.backward(dy), dx)
    assert np.array_equal([ghosts.grads["weight"], ghosts.grads["bias"]], [dweight, dbias])
    assert np.array_equal([ghosts.running_mean, ghosts.running_var], running)
    assert ghosts.num_batches_tracked == 3


def test_the_limits_of_renorm_may_be_moved_while_it_trains(rng):
    (x,) = normals("NCL", rng, np.float32)
    layer, plain = BatchRenorm(C, r_max=1, d_max=0, momentum=0), fastnorm.BatchNorm(C)
    assert np.array_equal(layer(x), plain(x))
    layer.r_max, layer.d_max = 3, 5
    assert roundings(layer(x), layer.eval()(x), np.float32) <= 2 * FORWARD_ROUNDINGS
    layer.r_max = 0
    before = layer.state_dict()
    with pytest.raises(ValueError, match="r_max is 0, expected at least 1"):
        layer.train()(x)
    assert all(np.array_equal(layer.state_dict()[name], before[name]) for name in before)


def test_frozen_takes_what_batch_norm_has_learned(rng):
    """The keys are those of torchvision's FrozenBatchNorm2d, which passes over num_batches_tracked as well."""
    (x,) = normals("NCHW", rng, np.float32)
    trained = fastnorm.BatchNorm(C)
    trained.weight[:], trained.bias[:], *_ = parameters(rng, np.float32)
    trained(x)
    frozen = FrozenBatchNorm(C)
    assert list(frozen.state_dict()) == ["weight", "bias", "running_mean", "running_var"]
    assert frozen.parameters() == {}
    assert frozen.load_state_dict(trained.state_dict()) == ([], [])
    assert np.array_equal(frozen(x), trained.eval()(x))
    assert repr(frozen) == "FrozenBatchNorm(6, eps=1e-05)"
    with pytest.raises(ValueError, match=r'Missing key\(s\) in state_dict: "running_var"'):
        frozen.load_state_dict({"weight": 1, "bias": 1, "running_mean": 1})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: BatchRenorm(0), ValueError, "num_features is 0, expected at least 1"),
        (lambda: BatchRenorm(4, r_max=0.9), ValueError, "r_max is 0.9, expected at least 1"),
        (lambda: BatchRenorm(4, momentum=None), TypeError, "momentum is None, expected a number"),
        (lambda: GhostBatchNorm(4, 0), ValueError, "ghost_batch_size is 0, expected at least 1"),
        (lambda: GhostBatchNorm(4, 2, momentum=None), TypeError, "momentum is None, expected a number"),
        (lambda: FrozenBatchNorm(4, eps="x"), TypeError, "eps is 'x', expected a number"),
    ],
)
def test_wrong_arguments_of_layers(build, error, message):
    with pytest.raises(error, match=message):
        build()
