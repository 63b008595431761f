"""Masks and ragged lengths: the bits of the unpadded data, padding never read, and what an empty sample gives."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnorm

from .checks import DTYPES
from .padding import LENGTHS, NCL, NLC, OF_SAMPLES, alone, as_mask, padded, positions


@pytest.mark.parametrize("kind", ["mask", "lengths"])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
@pytest.mark.parametrize("name", OF_SAMPLES)
def test_each_sample_as_if_it_were_alone(name, layout, dtype, activation, kind, rng):
    x, dy, weight, bias = padded(layout, dtype, rng)
    function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
    extra, options = OF_SAMPLES[name], {"layout": layout, "activation": activation}
    pair = {"weight": weight, "bias": bias}
    valid = as_mask(kind, layout)
    y, mean, rstd = function(x, *extra, **pair, **options, **valid, return_stats=True)
    found = backward(dy, x, *extra, mean, rstd, **pair, **options, **valid)
    sums = np.zeros((2, 6))
    for sample, length in enumerate(LENGTHS):
        assert not positions(y, layout, sample)[length:].any()
        assert not positions(found.dx, layout, sample)[length:].any()
        if length == 0:
            assert not mean[sample].any() and np.allclose(rstd[sample], 1 / np.sqrt(1e-5))
            continue
        own = function(alone(x, layout, sample), *extra, **pair, **options, return_stats=True)
        assert np.array_equal(alone(y, layout, sample), own[0])
        assert np.array_equal(mean[sample], own[1][0]) and np.array_equal(rstd[sample], own[2][0])
        arguments = alone(dy, layout, sample), alone(x, layout, sample), *extra, *own[1:]
        gradients = backward(*arguments, **pair, **options)
        assert np.array_equal(alone(found.dx, layout, sample), gradients.dx)
        sums += gradients.dweight, gradients.dbias
    for gradient, expected in zip(found[1:], sums, strict=True):
        assert gradient.dtype == dtype
        # Seven rounded sums of its own against one that was rounded once.
        np.testing.assert_allclose(
            gradient, expected, rtol=0, atol=8 * np.finfo(dtype).eps * np.abs(sums).max()
        )


@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_batch_norm_is_that_of_all_valid_positions(layout, dtype, activation, rng):
    x, dy, weight, bias = padded(layout, dtype, rng)
    kept = [i for i in range(7) if LENGTHS[i]]
    parts = [[positions(a, layout, i)[: LENGTHS[i]] for i in kept] for a in (x, dy)]
    flat, flat_dy = (np.ascontiguousarray(np.concatenate(p)) for p in parts)
    if layout == "NCL":
        flat, flat_dy = np.ascontiguousarray(flat.T).T, np.ascontiguousarray(flat_dy.T).T
    running, expected_running = [(np.zeros(6), np.ones(6)) for _ in range(2)]
    options = {"weight": weight, "bias": bias, "activation": activation}
    y, mean, rstd = fastnorm.batch_norm(
        x, *running, layout=layout, training=True, lengths=LENGTHS, return_stats=True, **options
    )
    expected, *statistics = fastnorm.batch_norm(
        flat, *expected_running, training=True, return_stats=True, **options
    )
    assert np.array_equal(mean, statistics[0]) and np.array_equal(rstd, statistics[1])
    assert np.array_equal(np.concatenate([positions(y, layout, i)[: LENGTHS[i]] for i in kept]), expected)
    assert all(np.array_equal(a, b) for a, b in zip(running, expected_running, strict=True))
    found = fastnorm.batch_norm_backward(dy, x, mean, rstd, layout=layout, lengths=LENGTHS, **options)
    gradients = fastnorm.batch_norm_backward(flat_dy, flat, *statistics, **options)
    assert np.array_equal(
        np.concatenate([positions(found.dx, layout, i)[: LENGTHS[i]] for i in kept]), gradients.dx
    )
    assert np.array_equal(found.dweight, gradients.dweight) and np.array_equal(found.dbias, gradients.dbias)
    assert np.count_nonzero(np.isnan(found.dx)) == np.count_nonzero(np.isnan(y)) == 0


@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_batch_norm_in_inference(layout, rng):
    x, _, weight, bias = padded(layout, np.float32, rng)
    running = rng.standard_normal(6), rng.uniform(0.5, 2, 6)
    options = {"weight": weight, "bias": bias, "layout": layout}
    plain = fastnorm.batch_norm(x, *running, **options)
    y = fastnorm.batch_norm(x, *running, **options, lengths=LENGTHS)
    assert np.array_equal(y, np.nan_to_num(plain))
    kept = fastnorm.batch_norm(x, *running, **options, lengths=LENGTHS, keep_padding=True)
    assert np.array_equal(kept, plain, equal_nan=True)  # NaN, as x has it there


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_switchable_norm(layout, training, dtype, rng):
    x, dy, weight, bias = padded(layout, dtype, rng)
    logits = rng.standard_normal((2, 3)).astype(dtype)
    running = (np.zeros(6), np.ones(6)) if not training else ()
    options = {"layout": layout, "training": training}
    y, mean, var = fastnorm.switchable_norm(
        x, *logits, weight, bias, *running, **options, lengths=LENGTHS, return_stats=True
    )
    # By hand, in the widest floats, from the valid positions of each sample.
    wide = [positions(x, layout, i)[:n].astype(np.longdouble) for i, n in enumerate(LENGTHS)]
    there = np.flatnonzero(LENGTHS)
    everything = np.concatenate(wide)
    batch = (everything.mean(0), everything.var(0)) if training else running
    shares = [np.exp(a.astype(np.longdouble)) / np.exp(a.astype(np.longdouble)).sum() for a in logits]
    for i in there:
        means = wide[i].mean(0), wide[i].mean(), batch[0]
        variances = wide[i].var(0), wide[i].var(), batch[1]
        centre = sum(s * m for s, m in zip(shares[0], means, strict=True))
        scale = np.sqrt(sum(s * v for s, v in zip(shares[1], variances, strict=True)) + 1e-5)
        exact = (wide[i] - centre) / scale * weight + bias
        error = np.abs(positions(y, layout, i)[: LENGTHS[i]] - exact) / np.maximum(1, np.abs(exact))
        assert error.max() <= 4 * np.finfo(dtype).eps
        assert not positions(y, layout, i)[LENGTHS[i] :].any()
    assert not mean[5].any() and not var[5].any()
    gradients = fastnorm.switchable_norm_backward(
        dy, x, mean, var, *logits, weight, bias, *running, **options, lengths=LENGTHS
    )
    if dtype == np.float64:
        _check_directions(x, dy, logits, weight, bias, running, options, gradients, rng)


def _check_directions(x, dy, logits, weight, bias, running, options, gradients, rng):
    """Central differences of the function itself, in float64: 1e-5 in a step, 1e-16/1e-5·|loss| in its rounding."""
    arguments = [np.nan_to_num(x), *logits, weight, bias]
    valid = np.nan_to_num(dy)

    def loss(*arguments):
        copies = [r.copy() for r in running]
        return float(
            (fastnorm.switchable_norm(*arguments, *copies, **options, lengths=LENGTHS) * valid).sum()
        )

    for i, gradient in enumerate(gradients):
        direction = rng.standard_normal(arguments[i].shape)
        ends = [
            loss(*(a + step * direction if j == i else a for j, a in enumerate(arguments)))
            for step in (1e-5, -1e-5)
        ]
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs(slope - (gradient * direction).sum()) <= 1e-6 * max(1, np.abs(gradient * direction).sum())


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_norm_leaves_masked_rows_out(axis, rng):
    shape = NLC if axis == -1 else NCL
    x, dy = rng.standard_normal((2, *shape)).astype(np.float32)
    valid = rng.random((7, 11)) < 0.6
    weight, bias = rng.uniform(0.5, 2, (2, 6)).astype(np.float32)
    rows, rows_dy = (np.moveaxis(a, axis, -1)[valid] for a in (x, dy))
    for array in (x, dy):
        np.moveaxis(array, axis, -1)[~valid] = np.nan
    y, mean, rstd = fastnorm.layer_norm(x, weight, bias, axis=axis, mask=valid, return_stats=True)
    expected, *statistics = fastnorm.layer_norm(rows, weight, bias, return_stats=True)
    found, tolerance = np.moveaxis(y, axis, -1), {"rtol": 0, "atol": 0 if axis == -1 else 1e-6}
    assert not found[~valid].any()
    np.testing.assert_allclose(found[valid], expected, **tolerance)  # to the bit where rows are rows
    gradients = fastnorm.layer_norm_backward(dy, x, mean, rstd, weight, bias, axis=axis, mask=valid)
    wanted = fastnorm.layer_norm_backward(rows_dy, rows, *statistics, weight, bias)
    np.testing.assert_allclose(np.moveaxis(gradients.dx, axis, -1)[valid], wanted.dx, **tolerance)
    np.testing.assert_allclose(gradients.dweight, wanted.dweight, rtol=1e-5)
    assert not np.moveaxis(gradients.dx, axis, -1)[~valid].any()


def test_lengths_of_layer_norm_are_a_mask(rng):
    x = rng.standard_normal(NLC).astype(np.float32)
    by_lengths = fastnorm.layer_norm(x, lengths=LENGTHS)
    assert np.array_equal(by_lengths, fastnorm.layer_norm(x, mask=np.arange(11) < LENGTHS[:, np.newaxis]))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "HWNC", "CHWN", "WNHC"])
def test_a_mask_of_images(layout, rng):
    # Padding at two sides, which no slice of positions describes; and one mask for all samples.
    sizes = {"N": 3, "C": 4, "H": 5, "W": 6}
    x = rng.standard_normal([sizes[letter] for letter in layout]).astype(np.float32)
    spatial = "".join(letter for letter in layout if letter != "C")
    shape = [sizes[letter] if letter in "HW" else 1 for letter in spatial]
    valid = np.zeros(shape, bool)
    valid[tuple(slice(0, {"H": 3, "W": 4}.get(letter)) for letter in spatial)] = True
    inside = tuple(slice(0, {"H": 3, "W": 4}.get(letter)) for letter in layout)
    spoiled = np.full_like(x, np.nan)
    spoiled[inside] = x[inside]
    y = fastnorm.instance_norm(spoiled, layout=layout, mask=valid)
    expected = fastnorm.instance_norm(x[inside].copy(), layout=layout)
    # Positions are packed in the order of the axes; sums are in another order where memory has another one.
    np.testing.assert_allclose(y[inside], expected, rtol=0, atol=1e-6)
    assert np.count_nonzero(y) == expected.size
    batch = fastnorm.batch_norm(spoiled, training=True, layout=layout, mask=valid)
    expected = fastnorm.batch_norm(x[inside].copy(), training=True, layout=layout)
    np.testing.assert_allclose(batch[inside], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("channels_last", [True, False])
def test_packed_sequences(channels_last, rng):
    offsets = np.array([0, 4, 4, 15, 19, 20], np.int32)
    x, dy = rng.standard_normal((2, 20, 6)).astype(np.float32)
    weight, bias = rng.uniform(0.5, 2, (2, 6)).astype(np.float32)
    layout, laid = ("NC", lambda a: a) if channels_last else ("CN", lambda a: np.ascontiguousarray(a.T))
    options = {"layout": layout, "cu_seqlens": offsets}
    y, mean, rstd = fastnorm.instance_norm(laid(x), None, None, weight, bias, **options, return_stats=True)
    found = fastnorm.instance_norm_backward(laid(dy), laid(x), mean, rstd, weight, bias, **options)
    assert mean.shape == rstd.shape == (5, 6)
    for i, (first, last) in enumerate(itertools.pairwise(offsets)):
        if first == last:
            continue
        own_layout = "NLC" if channels_last else "NCL"
        one = [
            a[np.newaxis, first:last] if channels_last else a.T[np.newaxis, :, first:last].copy()
            for a in (x, dy)
        ]
        expected, *statistics = fastnorm.instance_norm(
            one[0], None, None, weight, bias, layout=own_layout, return_stats=True
        )
        mine, mine_dx = (a[first:last] if channels_last else a[:, first:last] for a in (y, found.dx))
        assert np.array_equal(mine, expected[0]) and np.array_equal(mean[i], statistics[0][0])
        gradients = fastnorm.instance_norm_backward(
            one[1], one[0], *statistics, weight, bias, layout=own_layout
        )
        assert np.array_equal(mine_dx, gradients.dx[0])


@pytest.mark.parametrize("layout", ["NC", "CN"])
@pytest.mark.parametrize("backwards", [False, True])
def test_samples_of_one_position(layout, backwards, rng):
    """What is packed then may have the axes, and the strides, of what it is packed from; x may lie backwards in memory."""
    x, dy = rng.standard_normal((2, 6, 8)).astype(np.float32)[:, :: -1 if backwards else 1]
    mask = np.array([1, 0, 1, 1, 0, 1], bool)
    options = {"layout": layout, "mask": mask}

    def turned(array):
        return array if layout == "NC" else array.T

    y, mean, rstd = fastnorm.batch_norm(turned(x), training=True, return_stats=True, **options)
    found = fastnorm.batch_norm_backward(turned(dy), turned(x), mean, rstd, **options)
    expected = fastnorm.batch_norm(x[mask], training=True)
    gradients = fastnorm.batch_norm_backward(dy[mask], x[mask], mean, rstd)
    in_groups = fastnorm.group_norm(turned(x), 2, **options)
    pairs = (y, expected), (found.dx, gradients.dx), (in_groups, fastnorm.group_norm(x[mask], 2))
    for result, of_valid in pairs:
        assert np.array_equal(turned(result)[mask], of_valid)
        assert not turned(result)[~mask].any()


_RAGGED = {"layout": "NLC", "lengths": np.array([9, 1, 0, 4])}
ONE_CHANNEL = {
    "instance": lambda x: fastnorm.instance_norm(x, **_RAGGED),
    "group": lambda x: fastnorm.group_norm(x, 1, **_RAGGED),
    "batch": lambda x: fastnorm.batch_norm(x, training=True, **_RAGGED),
    "switchable": lambda x: fastnorm.SwitchableNorm(1, layout="NLC")(x, lengths=_RAGGED["lengths"]),
    "packed": lambda x: fastnorm.instance_norm(x.reshape(36, 1), cu_seqlens=np.array([0, 5, 36])),
}


@pytest.mark.parametrize("name", ONE_CHANNEL)
def test_one_channel_of_several(name, rng):
    """Its neighbours in memory are other channels, though its own stride is 1."""
    x = rng.standard_normal((4, 9, 3)).astype(np.float32)[..., :1]
    assert np.array_equal(ONE_CHANNEL[name](x), ONE_CHANNEL[name](x.copy()))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_strides(data):
    """Samples that are walked where they lie and samples that are packed give what each gives alone."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    name = data.draw(st.sampled_from(["instance_norm", "group_norm"]))
    dtype = data.draw(st.sampled_from(DTYPES))
    sizes = {"N": data.draw(st.integers(1, 4)), "C": 6, "L": data.draw(st.integers(1, 9))}
    layout = "".join(data.draw(st.permutations("NCL")))
    memory, steps = (
        data.draw(st.permutations("NCL")),
        data.draw(st.tuples(*[st.sampled_from([1, 2, -1])] * 3)),
    )

    def laid_out():
        """An array of this layout, whose axes lie in the order `memory`, some with gaps or the other way round."""
        whole = rng.standard_normal(
            [abs(step) * sizes[axis] for axis, step in zip(memory, steps, strict=True)]
        )
        strided = whole.astype(dtype)[tuple(slice(None, None, step) for step in steps)]
        return strided.transpose([memory.index(axis) for axis in layout])

    x, dy = laid_out(), laid_out()
    lengths = rng.integers(0, sizes["L"] + 1, sizes["N"])
    function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
    extra, options = OF_SAMPLES[name], {"layout": layout}
    x_of, dy_of = (a.transpose([layout.index(axis) for axis in "NLC"]) for a in (x, dy))
    out = data.draw(st.sampled_from([None, laid_out(), x.copy(order="K")]))
    y, *statistics = function(x, *extra, **options, lengths=lengths, return_stats=True, out=out)
    found = backward(dy, x, *extra, *statistics, **options, lengths=lengths)
    assert out is None or y is out
    in_place = x.copy(order="K")
    assert np.array_equal(function(in_place, *extra, **options, lengths=lengths, out=in_place), y)
    sums = np.zeros((2, 6))
    for n, length in enumerate(lengths):
        for result in (y, found.dx):
            assert not result.transpose([layout.index(axis) for axis in "NLC"])[n, length:].any()
        if length:
            alone = x_of[n : n + 1, :length].copy(), dy_of[n : n + 1, :length].copy()
            expected, *own = function(alone[0], *extra, layout="NLC", return_stats=True)
            gradients = backward(alone[1], alone[0], *extra, *own, layout="NLC")
            # dx is rstd times a difference of numbers like dy, each with roundings of its own.
            terms = own[1].max() * np.abs(dy).max()
            for result, one, scale in ((y, expected, expected), (found.dx, gradients.dx, terms)):
                of_sample = result.transpose([layout.index(axis) for axis in "NLC"])[n, :length]
                np.testing.assert_allclose(of_sample, one[0], rtol=0, atol=_bound(dtype, scale))
            sums += gradients.dweight, gradients.dbias
    for gradient, expected in zip(found[1:], sums, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=_bound(dtype, sums))


def _bound(dtype, expected):
    return 16 * np.finfo(dtype).eps * max(1, np.abs(expected).max(initial=0))


@pytest.mark.parametrize("name", OF_SAMPLES)
@pytest.mark.parametrize("layout", ["NCL", "NLC"])
def test_a_long_sample_among_short_ones(layout, name, rng):
    """It takes all threads by itself, the others a thread each; which one is which changes no bit."""
    lengths = np.array([700, 9001, 0, 1, 5000, 64])
    shape = (6, 6, 9001) if layout == "NCL" else (6, 9001, 6)
    x, dy = rng.standard_normal((2, *shape), np.float32)
    function, backward = getattr(fastnorm, name), getattr(fastnorm, f"{name}_backward")
    extra, options = OF_SAMPLES[name], {"layout": layout}
    found = []
    for threads in (1, min(2, fastnorm.get_num_threads())):
        with fastnorm.num_threads(threads):
            y, *statistics = function(x, *extra, **options, lengths=lengths, return_stats=True)
            gradients = backward(dy, x, *extra, *statistics, **options, lengths=lengths)
            found.append((y, *statistics, *gradients))
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))
    for sample in (1, 3, 5):
        length = lengths[sample]
        own = np.ascontiguousarray(positions(x, layout, sample)[:length].T)[np.newaxis]
        if layout == "NLC":
            own = np.ascontiguousarray(own.swapaxes(1, 2))
        expected = function(own, *extra, **options)
        assert np.array_equal(positions(y, layout, sample)[:length], positions(expected, layout, 0))


def test_running_statistics_of_instances(rng):
    x, *_ = padded("NLC", np.float64, rng)
    running = np.zeros(6), np.ones(6)
    fastnorm.instance_norm(x, *running, layout="NLC", lengths=LENGTHS, momentum=0.3)
    means = np.mean([x[i, :n].mean(0) for i, n in enumerate(LENGTHS) if n], 0)
    unbiased = [x[i, :n].var(0) * n / max(n - 1, 1) for i, n in enumerate(LENGTHS) if n]
    np.testing.assert_allclose(running[0], 0.3 * means, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(running[1], 0.7 + 0.3 * np.mean(unbiased, 0), rtol=1e-12)
