"""Masks and lengths given to a layer's call: it and its backward do what the functions do, and other layers refuse."""

import pickle
import weakref

import numpy as np
import pytest

import fastnorm
from fastnorm import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    RMSNorm,
    SimpleLayerNorm,
    SwitchableNorm,
    VarianceOnlyBatchNorm,
    VarianceOnlyLayerNorm,
)

LENGTHS = np.array([3, 11, 1, 7, 0])
SHAPE = (5, 11, 6)
# name -> the layer, what its function takes behind x, and whether it has an affine pair
LAYERS = {
    "batch_norm": (lambda **o: BatchNorm(6, **o), ("running_mean", "running_var"), {"training": True}),
    "instance_norm": (lambda **o: InstanceNorm(6, affine=True, **o), (), {}),
    "group_norm": (lambda **o: GroupNorm(3, 6, **o), (3,), {}),
    "layer_norm": (lambda **_: LayerNorm(6), (), {}),
    "switchable_norm": (lambda **o: SwitchableNorm(6, **o), ("mean_weight", "var_weight"), {"training": True}),
}  # fmt: skip
PADDING = {
    "mask": {"mask": np.arange(11) < LENGTHS[:, np.newaxis]},
    "lengths": {"lengths": LENGTHS},
    "kept": {"lengths": LENGTHS, "keep_padding": True},
}


def _padded(rng):
    """x and dy whose padding is NaN."""
    x, dy = (1 + rng.standard_normal((2, *SHAPE))).astype(np.float32)
    for array in (x, dy):
        array[np.arange(11) >= LENGTHS[:, np.newaxis]] = np.nan
    return x, dy


def _randomize(layer, rng):
    for parameter in layer.parameters().values():
        parameter[...] = rng.uniform(0.5, 2, parameter.shape)


@pytest.mark.parametrize("padding", PADDING.values(), ids=PADDING)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_does_what_the_function_does(name, padding, rng):
    build, behind, options = LAYERS[name]
    options = options | ({} if name == "layer_norm" else {"layout": "NLC"})
    layer, (x, dy) = build(layout="NLC"), _padded(rng)
    _randomize(layer, rng)
    extra = [getattr(layer, a).copy() if isinstance(a, str) else a for a in behind]
    pair = {"weight": layer.weight, "bias": layer.bias}
    function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
    expected, *statistics = function(x, *extra, **pair, **options, **padding, return_stats=True)
    assert np.array_equal(layer(x, **padding), expected, equal_nan=True)

    remembered = {key: value for key, value in padding.items() if key != "keep_padding"}
    if name == "switchable_norm":
        found = backward(dy, x, *statistics, *extra, **pair, **options, **remembered)
    else:
        groups = [a for a in extra if isinstance(a, int)]
        found = backward(dy, x, *groups, *statistics, **pair, **options, **remembered)
    assert np.array_equal(layer.backward(dy), found.dx)
    for parameter, gradient in layer.grads.items():
        assert np.array_equal(gradient, getattr(found, f"d{parameter}")), parameter
    # And the next call is without a mask again: the sample that had nothing valid is one like the others.
    x, dy = rng.standard_normal((2, *SHAPE)).astype(np.float32)
    assert layer(x)[4].any() and layer.backward(dy)[4].any()


def test_packed_sequences(rng):
    x, dy = rng.standard_normal((2, 20, 6)).astype(np.float32)
    offsets, layer = np.array([0, 4, 4, 15, 20]), InstanceNorm(6)
    y, *statistics = fastnorm.instance_norm(x, cu_seqlens=offsets, return_stats=True)
    assert np.array_equal(layer(x, cu_seqlens=offsets), y)
    found = fastnorm.instance_norm_backward(dy, x, *statistics, cu_seqlens=offsets)
    assert np.array_equal(layer.backward(dy), found.dx)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("build", [BatchNorm, SwitchableNorm])
def test_running_statistics_are_those_of_the_valid_part(build, momentum, rng):
    x, _ = _padded(rng)
    layer = build(6, momentum=momentum, layout="NLC")
    share = 1.0 if momentum is None else momentum
    layer(x, lengths=np.zeros(5, int))  # nothing: no share in the average either
    assert layer.num_batches_tracked == 0 and not layer.running_mean.any()
    layer(x, lengths=LENGTHS)
    assert layer.num_batches_tracked == 1
    valid = x[np.arange(11) < LENGTHS[:, np.newaxis]].astype(np.float64)
    np.testing.assert_allclose(layer.running_mean, share * valid.mean(0), rtol=1e-5)
    variance = (1 - share) + share * valid.var(0, ddof=1)
    np.testing.assert_allclose(layer.running_var, variance, rtol=1e-5)
    # In evaluation they are what is used, and padding is 0.
    y = layer.eval()(x, lengths=LENGTHS)
    assert np.all(np.isfinite(y)) and not y[4].any()
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize(
    ("layer", "argument"),
    [
        (RMSNorm(6), "mask"),
        (VarianceOnlyLayerNorm(6), "lengths"),
        (SimpleLayerNorm(6), "mask"),
        (VarianceOnlyBatchNorm(6, layout="NLC"), "keep_padding"),
        (fastnorm.GhostBatchNorm(6, 2, layout="NLC"), "mask"),
        (fastnorm.FilterResponseNorm(6, layout="NLC"), "lengths"),
        (LayerNorm(6), "cu_seqlens"),
        (BatchNorm(6, layout="NLC"), "activation"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_norm_without_masks_names_itself(layer, argument, rng):
    x = rng.standard_normal(SHAPE).astype(np.float32)
    before = layer.state_dict()
    with pytest.raises(TypeError, match=f"{type(layer).__name__} takes no {argument}: its call expects x"):
        layer(x, **{argument: LENGTHS})
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())


def test_a_failing_call_leaves_the_last_one_as_it_was(rng):
    x, dy = _padded(rng)
    layer = BatchNorm(6, layout="NLC")
    layer(x, lengths=LENGTHS)
    before, dx = layer.state_dict(), layer.backward(dy)
    with pytest.raises(ValueError, match="lengths has values from 12 to 12"):
        layer(x, lengths=np.full(5, 12))
    assert all(np.array_equal(value, before[name]) for name, value in layer.state_dict().items())
    assert np.array_equal(layer.backward(dy), dx)


def test_a_mask_is_kept_for_backward_alone(rng):
    x, _ = _padded(rng)
    layer, mask = LayerNorm(6), PADDING["mask"]["mask"].copy()
    kept = weakref.ref(mask)
    layer(x, mask=mask)
    del mask
    assert kept() is not None
    with pytest.raises(RuntimeError, match="no call in training"):
        pickle.loads(pickle.dumps(layer)).backward(x)
    layer.eval()(x)
    assert kept() is None
