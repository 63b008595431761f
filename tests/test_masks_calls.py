"""Masks and lengths: `out` and kept padding, other dtypes and strides, nothing valid, and what is refused."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastnorm
from fastnorm.functional._ragged import padded as _padded
from fastnorm.functional._ragged import sequences as _sequences

from .padding import LENGTHS, OF_SAMPLES, padded

KEEPING = {
    "instance_norm": {"layout": "NLC"},
    "group_norm": {"num_groups": 3, "layout": "NLC"},
    "batch_norm": {"training": True, "layout": "NLC"},
    "batch_norm, inference": {"running_mean": np.ones(6), "running_var": np.ones(6), "layout": "NLC"},
    "switchable_norm": {"layout": "NLC"},
    "layer_norm": {},
}


@pytest.mark.parametrize("name", KEEPING)
def test_out_and_kept_padding(name, rng):
    x, *_ = padded("NLC", np.float32, rng)
    valid = (np.arange(11) < LENGTHS[:, np.newaxis])[..., np.newaxis]
    options = {**KEEPING[name], "lengths": LENGTHS}
    function = getattr(fastnorm, name.split(",")[0])
    plain, given = function(x, **options), x.copy()
    out = np.full_like(x, 5)
    y = function(x, **options, keep_padding=True, out=out)
    assert y is out and np.array_equal(y, np.where(valid, plain, 5))
    kept = function(x, **options, keep_padding=True)
    assert np.array_equal(kept, np.where(valid, plain, x), equal_nan=True)
    assert function(given, **options, keep_padding=True, out=given) is given
    assert np.array_equal(given, kept, equal_nan=True)
    assert function(x, **options, out=x) is x
    assert np.array_equal(x, plain)


def test_strided_and_16_bit_input(rng):
    x, *_ = padded("NLC", np.float16, rng)
    wide = fastnorm.instance_norm(x.astype(np.float32), layout="NLC", lengths=LENGTHS)
    store = np.zeros((14, 22, 6), np.float16)
    view = store[::2, ::2]
    view[...] = x
    assert np.array_equal(
        fastnorm.instance_norm(view, layout="NLC", lengths=LENGTHS), wide.astype(np.float16)
    )


TOLD = {
    "lengths": (LENGTHS, LENGTHS[::-1]),
    "mask": (np.arange(11) >= LENGTHS[:, np.newaxis], np.arange(11) < LENGTHS[:, np.newaxis]),
    "cu_seqlens": (np.array([0, 3, 3, 40, 77], np.int32), np.array([0, 0, 50, 60, 77], np.int32)),
}


@pytest.mark.parametrize("kind", TOLD)
def test_what_is_remembered_of_samples(kind, rng):
    """It changes no bit: with arrays of other strides and dtypes, and where what tells of samples is written to."""
    shape, layout = ((77, 6), "NC") if kind == "cu_seqlens" else ((7, 11, 6), "NLC")
    strided = rng.standard_normal((*shape[:-1], 12))[..., ::2]
    arrays = [strided, *(strided.astype(dtype) for dtype in (np.float64, np.float32, np.float16))]
    told = TOLD[kind][0].copy()

    def results(before):
        for value in TOLD[kind]:
            told[...] = value
            options = {"layout": layout, kind: told}
            for x in arrays:
                before()
                y, mean, rstd = fastnorm.instance_norm(x, **options, return_stats=True)
                before()
                yield from (y, mean, rstd, *fastnorm.instance_norm_backward(x, x, mean, rstd, **options))

    def forget():
        _padded._known_batch.cache_clear()
        _sequences._known_sequences.cache_clear()

    fresh = list(results(forget))
    for _ in range(2):
        for one, known in zip(fresh, results(lambda: None), strict=True):
            assert np.array_equal(one, known)


def test_nothing_valid(rng):
    x, dy, *_ = padded("NLC", np.float32, rng)
    none = np.zeros(7, int)
    running = np.zeros(6), np.ones(6)
    for y in (
        fastnorm.batch_norm(x, *running, training=True, layout="NLC", lengths=none),
        fastnorm.instance_norm(x, *running, layout="NLC", lengths=none),
        fastnorm.switchable_norm(
            x, None, None, None, None, *running, training=True, layout="NLC", lengths=none
        ),
        fastnorm.layer_norm(x, lengths=none),
    ):
        assert y.shape == x.shape and not y.any()
    assert not running[0].any() and np.all(running[1] == 1)
    found = fastnorm.switchable_norm_backward(
        dy, x, np.zeros((7, 6)), np.zeros((7, 6)), training=True, layout="NLC", lengths=none
    )
    assert not any(g.any() for g in found)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": np.ones((7, 11))}, TypeError, "mask has dtype float64, expected a boolean"),
        ({"mask": np.ones((7, 6), bool)}, ValueError, r"mask has shape \(7, 6\), expected one .* broadcast to \(7, 11\)"),
        ({"lengths": [1.0] * 7}, TypeError, "lengths has dtype float64, expected integers"),
        ({"lengths": [1] * 6}, ValueError, r"lengths has shape \(6,\), expected \(7,\)"),
        ({"lengths": [12] * 7}, ValueError, "lengths has values from 12 to 12, expected 0 to 11"),
        ({"lengths": [-1] * 7}, ValueError, "lengths has values from -1 to -1"),
        ({"lengths": [1] * 7, "mask": np.ones((7, 11), bool)}, ValueError, "mask and lengths are both given"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["batch_norm", "instance_norm", "group_norm", "switchable_norm"])
def test_errors(name, options, error, message, rng):
    x, _, weight, bias = padded("NLC", np.float32, rng)
    out = np.full_like(x, 5)
    with pytest.raises(error, match=message):
        getattr(fastnorm, name)(
            x, *OF_SAMPLES.get(name, ()), weight=weight, bias=bias, layout="NLC", out=out, **options
        )
    assert np.all(out == 5)


@pytest.mark.parametrize(
    "offsets",
    [[1, 20], [0, 19], [0, 12, 8, 20], []],
    ids=["not from 0", "not to the end", "falling", "empty"],
)
def test_offsets_that_are_none(offsets, rng):
    with pytest.raises(ValueError, match=r"cu_seqlens is .*, expected offsets that begin with 0"):
        fastnorm.instance_norm(np.ones((20, 6), np.float32), cu_seqlens=np.array(offsets, np.int32))


@st.composite
def memories(draw):
    """A layout, a length for each axis, many of them 1, and how x lies: the order of its axes, and a slice of each."""
    layout = "".join(draw(st.permutations("NC" + "LHW"[: draw(st.integers(0, 2))])))
    shape = [draw(st.sampled_from([1, 1, 2, 3, 5, 8])) for _ in layout]
    order = draw(st.permutations(range(len(shape))))
    # (elements around it, slice) of an axis of n: all of it, every other one, the first or the last of more, backwards.
    kinds = [
        lambda n: (n, slice(None)),
        lambda n: (2 * n, slice(None, None, 2)),
        lambda n: (n + 2, slice(0, n)),
        lambda n: (n + 2, slice(2, None)),
        lambda n: (n, slice(None, None, -1)),
    ]
    return layout, shape, order, [draw(st.sampled_from(kinds)) for _ in shape]


MASKED = {
    "instance": lambda x, **of: fastnorm.instance_norm(x, **of),
    "group": lambda x, **of: fastnorm.group_norm(x, 1, **of),
    "batch": lambda x, **of: fastnorm.batch_norm(x, training=True, **of),
    "layer": lambda x, layout, mask: fastnorm.layer_norm(x, axis=layout.index("C"), mask=mask),
    "switchable": lambda x, layout, mask: fastnorm.SwitchableNorm(x.shape[layout.index("C")], layout=layout)(
        x, mask=mask
    ),
}


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(memories(), st.sampled_from(sorted(MASKED)), st.integers(0, 2**32 - 1))
def test_memory_does_not_matter(memory, name, seed):
    """With as many axes as samples and channels alone, one channel or one position, in slices of larger arrays."""
    (layout, shape, order, kinds), rng = memory, np.random.default_rng(seed)
    axes = [kinds[axis](shape[axis]) for axis in order]
    whole = rng.standard_normal([n for n, _ in axes])
    x = whole[tuple(part for _, part in axes)].transpose(np.argsort(order))
    mask = rng.random([n for n, letter in zip(shape, layout, strict=True) if letter != "C"]) > 0.3
    if seed % 2:  # valid positions that touch, which are walked where they lie
        mask = np.sort(mask, axis=-1)
    if name == "batch" and mask.sum() < 2:
        return  # refused
    found, expected = (MASKED[name](a, layout=layout, mask=mask) for a in (x, x.copy()))
    # Each rounds its sums in its own order: few roundings of what is of the size of 1.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
