"""Elementwise norms against their definitions, and the definitions against central differences."""

import ml_dtypes
import numpy as np
import pytest

import fastnorm
from fastnorm import _broadcast, _layout
from fastnorm.functional._flow import map as _map
from fastnorm.functional._flow import recall as _recall
from fastnorm.functional._flow import results as _results

from .checks import DTYPES, assert_exact, assert_like
from .elementwise import NORMS, one_of_each
from .norms import widen
from .oracle import FORWARD_ROUNDINGS, GRADIENT_ROUNDINGS, INPUTS, ZOO, gradient_roundings, roundings

every_norm = pytest.mark.parametrize("norm", NORMS, ids=str)
a_few_norms = pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
HALVES = {np.float16: 2.0**-10, ml_dtypes.bfloat16: 2.0**-7}


def assert_gradients(found, exact, given, dtype):
    assert found.keys() == exact.keys()
    for name, gradient in found.items():
        if exact[name] is None:  # a parameter that is missing, and has no substitute
            assert gradient is None, name
            continue
        assert gradient.shape == exact[name].shape, name
        bound = GRADIENT_ROUNDINGS
        if name == "dalpha":
            # One sum of terms of either sign, which may cancel by chance: it is measured by their norm.
            terms = exact["dx"] / widen(given["alpha"]) * widen(given["x"])
            bound *= max(1, np.linalg.norm(terms) / np.abs(exact[name]).max())
        assert gradient_roundings(gradient, exact[name], dtype) <= bound, name


def without(arguments, names):
    return {name: value for name, value in arguments.items() if name not in names}


@every_dtype
@every_norm
def test_equals_its_definition(norm, dtype, rng):
    given = norm.arguments(rng, dtype)
    dy = rng.standard_normal(norm.shape).astype(dtype)
    y, statistics = norm.forward(given)
    exact, exact_statistics = norm.exact(given)
    assert_exact(y, exact, dtype)
    assert_like(y, given["x"])
    for name, statistic in statistics.items():
        assert statistic.dtype == np.float64 and statistic.shape == exact_statistics[name].shape, name
    found = norm.backward(dy, given, statistics)
    assert tuple(found) == norm.gradients
    assert_gradients(found, norm.exact_backward(dy, given), given, dtype)
    assert_like(found["dx"], given["x"])
    for name in norm.parameters:
        assert found[f"d{name}"].dtype == dtype


@a_few_norms
def test_parameters_may_be_missing(norm, rng):
    given = norm.arguments(rng, np.float32)
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    for name in set(norm.parameters) - {"alpha"}:
        some = without(given, [name])
        y, statistics = norm.forward(some)
        assert_exact(y, norm.exact(some)[0], np.float32)
        assert_gradients(norm.backward(dy, some, statistics), norm.exact_backward(dy, some), some, np.float32)


@pytest.mark.parametrize("memory", ZOO)
@a_few_norms
def test_in_any_memory(norm, memory, rng):
    given = norm.arguments(rng, np.float32)
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    exact, exact_gradients = norm.exact(given)[0], norm.exact_backward(dy, given)
    for names in ({"x", *norm.beside}, {"x"}, set(norm.parameters)):
        stored = given | {name: ZOO[memory](given[name]) for name in names}
        y, statistics = norm.forward(stored)
        assert_exact(y.astype(np.float32, copy=False), exact, np.float32)
        native = stored["x"].astype(np.float32, copy=False)
        assert_like(y, native)
        for some_dy in (ZOO[memory](dy), dy):
            found = norm.backward(some_dy, stored, statistics)
            assert_gradients(found, exact_gradients, given, np.float32)
            assert_like(found["dx"], native)
    out = ZOO[memory](np.zeros_like(dy))
    if out.flags.writeable:
        assert norm.forward(given, out=out)[0] is out
        assert_exact(out.astype(np.float32), exact, np.float32)


@a_few_norms
def test_out_may_be_an_input_or_overlap_one(norm, rng):
    given = norm.arguments(rng, np.float32)
    expected = norm.forward(given)[0]
    for name in ("x", *norm.beside):
        own = given | {name: given[name].copy()}
        assert norm.forward(own, out=own[name])[0] is own[name]
        assert np.array_equal(own[name], expected)
        store = np.zeros((norm.shape[0] + 1, *norm.shape[1:]), np.float32)
        store[:-1] = given[name]
        norm.forward(given | {name: store[:-1]}, out=store[1:])
        assert np.array_equal(store[1:], expected)


@a_few_norms
def test_of_many_elements(norm, rng):
    """Past the cache, by several threads, to the same bits on one."""
    grown = norm.of_shape(tuple(5 * n for n in norm.shape))
    given = grown.arguments(rng, np.float32)
    dy = rng.standard_normal(grown.shape).astype(np.float32)
    y, statistics = grown.forward(given)
    found = grown.backward(dy, given, statistics)
    assert_exact(y, grown.exact(given)[0], np.float32)
    assert_gradients(found, grown.exact_backward(dy, given), given, np.float32)
    with fastnorm.num_threads(1):
        alone, of_one = grown.forward(given)
        assert np.array_equal(alone, y)
        for name, gradient in grown.backward(dy, given, of_one).items():
            assert np.array_equal(gradient, found[name]), name
    for plan in (_layout.plan, _broadcast.plan):
        plan.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("norm", [n for n in one_of_each(NORMS) if n.family != "dynamic_tanh"], ids=str)
def test_of_what_breaks_careless_statistics(norm, name, dtype, rng):
    layout = norm.options.get("layout")
    shape = tuple(40 if letter in "HW" else n for letter, n in zip(layout or "", norm.shape, strict=False))
    grown = norm.of_shape(shape or norm.shape)
    given = grown.arguments(rng, dtype)
    axes = -1 if layout is None else [i for i, letter in enumerate(layout) if letter not in "NC"]
    given["x"] = INPUTS[name](grown.shape, axes, rng, dtype)
    assert_exact(grown.forward(given)[0], grown.exact(given)[0], dtype)


@pytest.mark.parametrize(
    "norm", [n for n in one_of_each(NORMS) if n.family != "evo_b0" and len(n.shape) > 1], ids=str
)
def test_a_sample_has_the_same_bits_alone_and_in_a_batch(norm, rng):
    grown = norm.of_shape(tuple(7 * n for n in norm.shape))
    given, axis = grown.arguments(rng, np.float32), norm.options.get("layout", "N").index("N")
    dy = rng.standard_normal(grown.shape).astype(np.float32)
    y, statistics = grown.forward(given)
    dx = grown.backward(dy, given, statistics)["dx"]
    for at in (0, 5):

        def alone(array):
            return np.ascontiguousarray(array.take([at], axis))  # noqa: B023

        own = given | {name: alone(given[name]) for name in ("x", *norm.beside)}
        one, statistics = grown.forward(own)
        assert np.array_equal(one, alone(y))
        assert np.array_equal(grown.backward(alone(dy), own, statistics)["dx"], alone(dx))


@pytest.mark.parametrize("long", [0, 256])
@a_few_norms
def test_stored_past_the_cache(norm, long, monkeypatch, rng):
    """As in calls on more than 16 MiB, in runs of any length, and in whole lines: the same bits."""
    given = norm.arguments(rng, np.float32)
    dy = rng.standard_normal(norm.shape).astype(np.float32)
    y, statistics = norm.forward(given)
    found = norm.backward(dy, given, statistics)
    monkeypatch.setattr(_results, "_ALIGNED", 0)
    for limit in ("_TWO_INPUTS", "_ONE", "_ONE_READ_ONCE"):
        monkeypatch.setattr(_results, limit, 0)
    monkeypatch.setattr(_layout, "_LONG", long)
    for plan in (_layout.plan, _broadcast.plan):
        plan.cache_clear()
    for module in (_map, _recall):
        monkeypatch.setattr(module, "_calls", {})
    for _ in range(2):  # a call that is recalled has results that begin on a line
        streamed, statistics = norm.forward(given)
        assert np.array_equal(streamed, y)
        for name, gradient in norm.backward(dy, given, statistics).items():
            assert np.array_equal(gradient, found[name]), name


@pytest.mark.parametrize("dtype", HALVES)
@a_few_norms
def test_of_16_bits_is_that_of_32_rounded(norm, dtype, rng):
    given = norm.arguments(rng, dtype)
    dy = rng.standard_normal(norm.shape).astype(dtype)
    y, statistics = norm.forward(given)
    found = norm.backward(dy, given, statistics)
    single = {name: a.astype(np.float32) for name, a in given.items()}
    expected, of_single = norm.forward(single)
    wanted = norm.backward(dy.astype(np.float32), single, of_single)
    for gradient, exact in ((y, expected), *((found[name], wanted[name]) for name in found)):
        assert gradient.dtype == dtype
        assert np.array_equal(gradient.view(np.int16), exact.astype(dtype).view(np.int16))


@a_few_norms
def test_nan_and_infinity_stay_where_they_are(norm, rng):
    given = norm.arguments(rng, np.float32)
    clean, _ = norm.forward(given)
    for value in (np.nan, np.inf):
        dirty = given | {"x": given["x"].copy()}
        dirty["x"][(-1,) * len(norm.shape)] = value
        y, _ = norm.forward(dirty)
        with np.errstate(all="ignore"):
            exact, _ = norm.exact(dirty)
        fine = np.isfinite(exact)
        assert np.array_equal(np.isnan(y), np.isnan(exact))
        assert roundings(y[fine], exact[fine], np.float32) <= FORWARD_ROUNDINGS
        untouched = exact == norm.exact(given)[0]
        assert np.array_equal(y[untouched], clean[untouched])


@every_norm
def test_the_definitions_gradients_are_its_slopes(norm, rng):
    """Along a random direction through all arguments, in float64: independent of the algebra that made them."""
    given = norm.arguments(rng, np.float64)
    dy = rng.standard_normal(norm.shape)
    direction = {name: rng.standard_normal(a.shape) for name, a in given.items()}
    gradients = norm.exact_backward(dy, given)
    slope = sum((gradients[f"d{name}"] * direction[name]).sum() for name in given)
    step = 1e-5
    ends = ({name: a + sign * step * direction[name] for name, a in given.items()} for sign in (1, -1))
    above, below = ((dy * norm.exact(end)[0]).sum() for end in ends)
    # The error of the difference is some step² of the third derivative, and eps/step of its own rounding.
    assert abs((above - below) / (2 * step) - slope) <= 1e-6 * max(1, abs(slope))


@a_few_norms
def test_an_empty_batch(norm, rng):
    axis = norm.options["layout"].index("N") if "layout" in norm.options else 0
    if len(norm.shape) == 1:
        pytest.skip("no batch")
    shape = tuple(0 if i == axis else n for i, n in enumerate(norm.shape))
    given = norm.arguments(rng, np.float32, shape)
    y, statistics = norm.forward(given)
    assert y.shape == shape
    found = norm.backward(y.copy(), given, statistics)
    assert found["dx"].shape == shape
    for name in norm.parameters:
        assert not found[f"d{name}"].any()


@a_few_norms
def test_wrong_arguments_name_themselves(norm, rng):
    given = norm.arguments(rng, np.float32)
    wrong = {"x": given["x"].astype(int), "out": np.empty(norm.shape, np.float64)}
    wrong |= {name: np.ones(9, np.float32) for name in norm.parameters}
    wrong |= {name: given["x"][:1] for name in norm.beside}
    for name, value in wrong.items():
        arguments, before = given | {name: value}, given["x"].copy()
        with pytest.raises((TypeError, ValueError), match=f"^{name} "):
            norm.forward(arguments)
        assert np.array_equal(given["x"], before)
    _, statistics = norm.forward(given)
    with pytest.raises(ValueError, match="dy has shape"):
        norm.backward(given["x"][:1], given, statistics)
    for name in statistics:
        with pytest.raises((TypeError, ValueError), match=f"^{name} "):
            norm.backward(given["x"], given, statistics | {name: np.ones(99)})
