"""Mergeable statistics: of parts as of the whole, in any layout and under any mask; merged, compared and serialized."""

import copy
import io
import pickle

import numpy as np
import pytest

from fastnorm import reference
from fastnorm.functional import _states
from fastnorm.moments import Moments

from .checks import DTYPES, assert_statistics
from .norms import BY_LAYOUT, widen
from .oracle import INPUTS, ZOO

LAYOUTS = [norm for norm in BY_LAYOUT if norm.name == "batch_norm"]


def exact(x, axes):
    """Mean and standard deviation in at least twice the precision of x."""
    pivot = widen(x.mean(axes, keepdims=True).astype(x.dtype))
    mean, var = reference.moments(widen(x) - pivot, axes)
    return mean + pivot.squeeze(axes), np.sqrt(var)


def assert_moments(found, x, axes):
    mean, std = exact(x, axes)
    assert found.count == x.size // mean.size
    assert_statistics((found.mean, 1 / found.std()), (mean, 1 / std), x.dtype)


def some(rng, channels=3):
    return Moments().update(rng.standard_normal((7, channels)))


# Of parts as of the whole ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 37])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_in_thousands_of_parts(dtype, rows, rng, tmp_path):
    """With a plain sum of M2, float64's deviation is 5 to 8 roundings off; without the tails of the means, 140 to 6000."""
    x = np.memmap(tmp_path / "x", dtype, "w+", shape=(3000 * rows, 4))
    x[:] = 1e5 + rng.standard_normal(x.shape)
    parts = (x[first : first + rows] for first in range(0, len(x), rows))
    assert_moments(Moments.of(parts), np.asarray(x), 0)
    assert_moments(Moments.of(np.memmap(tmp_path / "x", dtype, "r", shape=x.shape)), np.asarray(x), 0)


@pytest.mark.parametrize("rows", [1, 7, 256, 5000])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in INPUTS if "constant" not in name])
def test_accuracy(name, dtype, rows, rng):
    x = INPUTS[name]((2000, 3), (0,), rng, dtype)
    parts = [x[first : first + rows] for first in range(0, len(x), rows)]
    assert_moments(Moments.of(parts), x, 0)
    assert_moments(sum(map(Moments.of, parts[::-1])), x, 0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_constants_have_no_variance_at_all(dtype, rng):
    values = (rng.standard_normal(50) * 10.0 ** rng.integers(-18, 18, 50)).astype(dtype)
    found = Moments.of(np.tile(values, (rows, 1)) for rows in (1, 3, 1000, 77))
    assert np.array_equal(found.mean, values.astype(np.float64))
    assert not found.var().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", LAYOUTS, ids=str)
def test_every_layout_in_any_memory(norm, dtype, rng):
    x = (3 + rng.standard_normal(norm.shape)).astype(dtype)
    for view in ZOO.values():
        found = Moments().update(view(x), norm.layout)
        assert_moments(found, x, norm.axes)
        assert_moments(found.update(view(x), norm.layout), np.concatenate([x, x], norm.axes[0]), norm.axes)


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16"])
def test_16_bits_count_as_the_numbers_they_are(dtype, rng):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    x = (3 + rng.standard_normal((40, 3, 5))).astype(dtype)
    assert Moments().update(x) == Moments().update(x.astype(np.float32))


@pytest.mark.parametrize("norm", LAYOUTS, ids=str)
def test_blocks_of_samples(norm, rng, monkeypatch):
    """What has to be copied is so in parts, which end where they should."""
    x = rng.standard_normal(norm.shape)
    mask = rng.random(_without_channels(norm)) < 0.7
    for size in (1, 2 * x.nbytes // 4 + 1):
        monkeypatch.setattr(_states, "_BLOCK", size)
        assert_moments(Moments().update(x.astype(">f8"), norm.layout), x, norm.axes)
        found = Moments().update(x, norm.layout, mask)
        assert_moments(found, _packed(x, norm, mask), 0)


def test_of_an_empty_batch(rng):
    found = some(rng)
    before = copy.copy(found)
    assert found.update(np.empty((0, 3, 5))) == before
    assert Moments().update(np.empty((0, 3))).num_channels == 3
    assert Moments().update(np.empty((0, 3))) == Moments(3)


def test_what_is_not_finite_stays_in_its_channel(rng):
    x = rng.standard_normal((3, 40, 4))
    clean = Moments.of(x, "LNC")
    x[1, 7, 1], x[2, 3, 2] = np.nan, np.inf
    found = Moments.of(x, "LNC") + Moments(4)
    assert np.isnan(found.mean[1]) and not np.isfinite(found.mean[2])
    assert np.isnan(found.var()[[1, 2]]).all()
    assert np.array_equal(found.mean[[0, 3]], clean.mean[[0, 3]])
    assert np.array_equal(found.var()[[0, 3]], clean.var()[[0, 3]])
    assert found == copy.copy(found)


# Masks -----------------------------------------------------------------------------------------------------


def _without_channels(norm):
    return [length for length, letter in zip(norm.shape, norm.layout, strict=True) if letter != "C"]


def _packed(x, norm, mask):
    return np.moveaxis(x, norm.layout.index("C"), -1)[np.broadcast_to(mask, _without_channels(norm))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("norm", LAYOUTS, ids=str)
def test_what_a_mask_leaves_out_is_not_read(norm, dtype, rng):
    """To the bit the moments of the rest, packed, whatever lies between."""
    x = (100 + rng.standard_normal(norm.shape)).astype(dtype)
    channel = norm.layout.index("C")
    for shape in (_without_channels(norm), [1, *_without_channels(norm)[1:]], _without_channels(norm)[-1:]):
        mask = rng.random(shape) < 0.6
        mask.flat[0] = True
        holes = ~np.broadcast_to(mask, _without_channels(norm))
        spoilt = np.where(np.expand_dims(holes, channel), np.nan, x).astype(dtype)
        expected = Moments().update(_packed(x, norm, mask))
        assert Moments().update(spoilt, norm.layout, mask) == expected
        assert Moments().update(spoilt, norm.layout, np.expand_dims(~holes, channel)) == expected


@pytest.mark.parametrize("layout", ["NC", "CN", "NCL", "LCN"])
def test_a_mask_of_each_value(layout, rng):
    x = rng.standard_normal([{"C": 4, "N": 6, "L": 5}[letter] for letter in layout])
    mask = rng.random(x.shape) < 0.5
    columns, keep = (np.moveaxis(a, layout.index("C"), 0).reshape(4, -1) for a in (x, mask))
    keep[3] = False
    mask = np.moveaxis(keep.reshape(np.moveaxis(x, layout.index("C"), 0).shape), 0, layout.index("C"))
    found = Moments().update(np.where(mask, x, np.nan), layout, mask)
    assert np.array_equal(found.count, keep.sum(1))
    for c in range(3):
        assert np.isclose(found.mean[c], columns[c][keep[c]].mean(), rtol=1e-14)
        assert np.isclose(found.var(1)[c], columns[c][keep[c]].var(ddof=1), rtol=1e-13)
    assert np.isnan(found.mean[3]) and np.isnan(found.var()[3])
    assert np.array_equal((found + Moments().update(x, layout)).mean[3], Moments().update(x, layout).mean[3])


def test_a_mask_that_leaves_nothing_changes_nothing(rng):
    found, x = some(rng), np.full((5, 3, 2), np.nan)
    before = copy.copy(found)
    assert found.update(x, mask=np.zeros((5, 2), bool)) == before
    assert found.update(x, mask=np.zeros(x.shape, bool)) == before


# Merging ---------------------------------------------------------------------------------------------------


def test_the_empty_one_changes_nothing(rng):
    found = Moments().update(np.array([[1.0, np.inf, np.nan], [3.0, 2.0, 1.0]]))
    before = copy.copy(found)
    for empty in (Moments(), Moments(3)):
        assert found + empty == empty + found == before
        assert found.merge(empty) is found and found == before
        assert copy.copy(empty).merge(found) == before
    assert sum([]) == 0 and sum([found]) == found and sum([found]) is not found


def test_a_sum_leaves_its_terms(rng):
    a, b = some(rng), some(rng)
    before = copy.copy(a), copy.copy(b)
    total = a + b
    assert (a, b) == before and total.count == 14
    assert total != a and copy.copy(a).merge(b) == total
    a += b
    assert a == total


def test_any_order_of_merging(rng):
    x = 1e3 + rng.standard_normal((700, 3))
    parts = [Moments.of(part) for part in np.split(x, [3, 4, 250, 600])]
    tree = (parts[0] + parts[1]) + (parts[2] + (parts[3] + parts[4]))
    for found in (tree, sum(parts), sum(parts[::-1])):
        assert_moments(found, x, 0)


def test_what_does_not_merge(rng):
    found = some(rng)
    before = copy.copy(found)
    with pytest.raises(ValueError, match="other has 4 channels, expected 3"):
        found.merge(Moments(4))
    with pytest.raises(ValueError, match="other has 4 channels, expected 3"):
        found + some(rng, 4)
    with pytest.raises(TypeError, match="other is a ndarray, expected a Moments"):
        found.merge(np.ones(3))
    for other in (1, 0.0, "a", None):
        with pytest.raises(TypeError):
            other + found
    assert found == before


# What they say ---------------------------------------------------------------------------------------------


def test_few_values():
    found = Moments(2)
    assert found.count == 0 and np.isnan(found.mean).all() and np.isnan(found.var()).all()
    found.update(np.array([[1.0, 5.0]]))
    assert np.array_equal(found.mean, [1, 5]) and np.array_equal(found.var(), [0, 0])
    assert np.isnan(found.std(ddof=1)).all()
    found.update(np.array([[3.0, 5.0]]))
    assert np.array_equal(found.var(1), [2, 0]) and np.array_equal(found.std(), [1, 0])
    assert repr(found) == "Moments(num_channels=2, count=2)"
    found.update(np.array([[3.0, 5.0]]), mask=np.array([[True, False]]))
    assert repr(found) == "Moments(num_channels=2, count=2 to 3)"
    assert Moments().num_channels is None and Moments().count == 0


def test_equality(rng):
    a = some(rng)
    assert a == copy.deepcopy(a) and a != copy.copy(a).update(rng.standard_normal((1, 3)))
    assert Moments() != Moments(3) and Moments() == Moments() and a != 3
    with pytest.raises(TypeError, match="unhashable"):
        hash(a)


# Errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([[1.0, 2.0, 3.0]],), TypeError, "x is a list, expected a NumPy array"),
        ((np.ones((2, 3), int),), TypeError, "x has dtype int64, expected float32"),
        ((np.ones(3),), ValueError, "x has 1 axes, expected at least 2"),
        ((np.ones((2, 4)),), ValueError, r"x has 4 channels at axis 1 \(shape \(2, 4\)\), expected 3"),
        ((np.ones((2, 3)), "NHWC"), ValueError, "expected 4 letters|names an axis|x has 2 axes"),
        ((np.ones((2, 3)), None, [True, False]), TypeError, "mask is a list, expected a boolean array"),
        ((np.ones((2, 3)), None, np.ones(2)), TypeError, "mask has dtype float64, expected a boolean"),
        ((np.ones((2, 3)), None, np.ones(3, bool)), ValueError, r"mask has shape \(3,\), expected \(2,\)"),
        ((np.ones((2, 3)), None, np.ones((2, 2), bool)), ValueError, r"mask has shape \(2, 2\)"),
        ((np.ones((2, 3)), None, np.ones((1, 2, 3), bool)), ValueError, r"mask has shape \(1, 2, 3\)"),
    ],
)
def test_wrong_arguments_change_nothing(arguments, error, message, rng):
    found = some(rng)
    before = copy.copy(found)
    with pytest.raises(error, match=message):
        found.update(*arguments)
    assert found == before


def test_wrong_numbers_of_channels():
    with pytest.raises(ValueError, match="num_channels is 0, expected at least 1"):
        Moments(0)
    with pytest.raises(TypeError, match="num_channels is 'C', expected an int"):
        Moments("C")


# Serialized ------------------------------------------------------------------------------------------------


def _cases(rng):
    yield Moments()
    yield Moments(5)
    yield some(rng) + some(rng) + some(rng)
    yield Moments().update(np.array([[np.nan, -0.0, 1e300], [1, 2, 3]]), mask=np.eye(2, 3, dtype=bool))


def test_everything_comes_back(rng, tmp_path):
    for found in _cases(rng):
        data = found.to_bytes()
        assert len(data) == found.nbytes == 16 + 40 * (found.num_channels or 0)
        found.save(tmp_path / "found.npz")
        file = io.BytesIO()
        found.save(file)
        file.seek(0)
        for again in (
            Moments.from_bytes(data),
            Moments.from_bytes(memoryview(bytearray(data))),
            Moments.load(tmp_path / "found.npz"),
            Moments.load(file),
            pickle.loads(pickle.dumps(found)),
            copy.deepcopy(found),
        ):
            assert again == found and again.to_bytes() == data
        x = rng.standard_normal((4, found.num_channels or 2))
        assert again.update(x) == found.update(x)


def test_bytes_are_the_same_everywhere():
    data = Moments().update(np.array([[1.0], [4.0]])).to_bytes()
    numbers = np.array([2], "<i8").tobytes() + np.array([2.5, 0, 4.5, 0], "<f8").tobytes()
    assert data == b"FNMM" + b"\1\0\0\0" + b"\1\0\0\0\0\0\0\0" + numbers


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda data: "text", TypeError, "data is a str, expected bytes"),
        (lambda data: b"", ValueError, r"data begins with b'' \(0 bytes\), expected b'FNMM'"),
        (lambda data: b"PK" + data[2:], ValueError, "data begins with b'PKMM'"),
        (lambda data: data[:-1], ValueError, "data has 135 bytes, expected 136 for 3 channels"),
        (lambda data: data + b"\0", ValueError, "data has 137 bytes, expected 136 for 3 channels"),
        (lambda data: data[:8] + b"\xff" * 8 + data[16:], ValueError, "data has 136 bytes, expected"),
        (lambda data: data[:4] + b"\2" + data[5:], ValueError, "data is of version 2, expected 1"),
        (lambda data: data[:23] + b"\x80" + data[24:], ValueError, "data has a count of -"),
    ],
)
def test_other_bytes(change, error, message, rng):
    with pytest.raises(error, match=message):
        Moments.from_bytes(change(some(rng).to_bytes()))


def test_other_files(rng, tmp_path):
    file, arrays = tmp_path / "found.npz", some(rng)._state._asdict()
    np.save(tmp_path / "x.npy", np.ones(3))
    with pytest.raises(ValueError, match="file has the arrays None, expected"):
        Moments.load(tmp_path / "x.npy")
    for message, changed in {
        r"file has the arrays \['x'\], expected": {"x": 1},
        "file is of version 2": {"version": 2, **arrays},
        r"not all of one shape": {"version": 1, **arrays, "mean": np.ones(4)},
        "file has counts as float64, expected int64": {"version": 1, **arrays, "counts": np.ones(3)},
    }.items():
        np.savez(file, **changed)
        with pytest.raises(ValueError, match=message):
            Moments.load(file)
