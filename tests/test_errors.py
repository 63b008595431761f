"""Wrong arguments: an error that names the argument, what it was and what would do, and nothing written."""

import re

import numpy as np
import pytest

import fastnorm

from .norms import BY_LAYOUT, NORMS, Norm, affine, one_of_each

f32 = np.float32
ROWS = np.ones((4, 6), f32)
IMAGES = np.arange(4 * 6 * 5 * 7, dtype=f32).reshape(4, 6, 5, 7)
WRONG = (TypeError, ValueError)


def _read_only(array):
    array.flags.writeable = False
    return array


def ones(*shape, dtype=f32):
    return np.ones(shape, dtype)


# What was wrong: (the call, what its message has to say, in any order).
CASES = {
    # x
    "x: a list": (lambda f: f.layer_norm([1.0, 2.0]), ["x", "list", "array"]),
    "x: a number": (lambda f: f.rms_norm(1.0), ["x", "float", "array"]),
    "x: None": (lambda f: f.batch_norm(None), ["x", "None", "array"]),
    "x: integers": (lambda f: f.layer_norm(ROWS.astype(np.int64)), ["x", "int64", "float32"]),
    "x: booleans": (lambda f: f.rms_norm(ROWS > 0), ["x", "bool", "float32"]),
    "x: complex": (lambda f: f.instance_norm(IMAGES.astype(np.complex64)), ["x", "complex64", "float32"]),
    "x: objects": (lambda f: f.group_norm(IMAGES.astype(object), 2), ["x", "object", "float32"]),
    "x: strings": (lambda f: f.batch_norm(np.array([["a", "b"]])), ["x", "float32"]),
    "x: no axis": (lambda f: f.layer_norm(np.array(1, f32)), ["x", r"0-d|\(\)"]),
    "x: no axis to be a channel": (lambda f: f.batch_norm(np.array(1, f32)), ["x", r"0-d|0 axes|\(\)"]),
    "x: no channel axis": (lambda f: f.group_norm(ones(6), 2), ["x", r"\(6,\)|1-d|1 dim|1 ax"]),
    "x: nothing to normalize": (lambda f: f.layer_norm(ones(3, 0)), ["x", r"\(3, 0\)"]),
    "x: nothing to normalize in pixels": (lambda f: f.instance_norm(ones(2, 3, 0)), ["x", r"\(2, 3, 0\)"]),
    "x: one value per channel": (
        lambda f: f.batch_norm(ones(1, 6), training=True),
        ["x|value", r"\(1, 6\)|\b1\b"],
    ),
    # axis
    "axis: out of range": (lambda f: f.layer_norm(ROWS, axis=2), ["axis", r"\b2\b"]),
    "axis: out of range below": (lambda f: f.rms_norm(ROWS, axis=-3), ["axis", "-3"]),
    "axis: out of range in a tuple": (lambda f: f.layer_norm(ROWS, axis=(0, 5)), ["axis", r"\b5\b"]),
    "axis: twice": (lambda f: f.layer_norm(IMAGES, axis=(1, 1)), ["axis", r"\(1, 1\)"]),
    "axis: twice by two names": (lambda f: f.rms_norm(IMAGES, axis=(3, -1)), ["axis", r"\(3, -1\)"]),
    "axis: none": (lambda f: f.layer_norm(ROWS, axis=()), ["axis", r"\(\)"]),
    "axis: not whole": (lambda f: f.layer_norm(ROWS, axis=1.0), ["axis", r"1\.0"]),
    "axis: a string": (lambda f: f.layer_norm(ROWS, axis="1"), ["axis", "'1'"]),
    # layout
    "layout: too short": (lambda f: f.batch_norm(IMAGES, layout="NHW"), ["layout", "NHW"]),
    "layout: too few letters": (lambda f: f.batch_norm(IMAGES, layout="NCH"), ["layout", "NCH", r"\b4\b"]),
    "layout: too many letters": (lambda f: f.batch_norm(ROWS, layout="NCHW"), ["layout", "NCHW", r"\b2\b"]),
    "layout: C twice": (lambda f: f.instance_norm(IMAGES, layout="NCCH"), ["layout", "NCCH", r"\bC\b"]),
    "layout: N twice": (lambda f: f.instance_norm(IMAGES, layout="NNCH"), ["layout", "NNCH", r"\bN\b"]),
    "layout: H twice": (lambda f: f.instance_norm(IMAGES, layout="NCHH"), ["layout", "NCHH"]),
    "layout: no N": (lambda f: f.group_norm(IMAGES, 2, layout="HCWD"), ["layout", "HCWD", r"\bN\b"]),
    "layout: lower case": (lambda f: f.batch_norm(IMAGES, layout="nchw"), ["layout", "nchw"]),
    "layout: no letters": (lambda f: f.batch_norm(IMAGES, layout="NC12"), ["layout", "NC12"]),
    "layout: empty": (lambda f: f.batch_norm(IMAGES, layout=""), ["layout"]),
    "layout: a number": (lambda f: f.batch_norm(IMAGES, layout=1), ["layout", r"\b1\b"]),
    "layout: a list": (
        lambda f: f.instance_norm(IMAGES, layout=["N", "C", "H", "W"]),
        ["layout", "'N', 'C'"],
    ),
    "layout: an array": (lambda f: f.instance_norm(IMAGES, layout=ones(6)), ["layout", r"shape \(6,\)"]),
    # num_groups
    "num_groups: does not divide": (lambda f: f.group_norm(IMAGES, 4), ["num_groups", r"\b4\b", r"\b6\b"]),
    "num_groups: an array": (lambda f: f.group_norm(IMAGES, ones(4, 6)), ["num_groups", r"shape \(4, 6\)"]),
    "num_groups: zero": (lambda f: f.group_norm(IMAGES, 0), ["num_groups", r"\b0\b"]),
    "num_groups: negative": (lambda f: f.group_norm(IMAGES, -2), ["num_groups", "-2"]),
    "num_groups: too many": (lambda f: f.group_norm(IMAGES, 12), ["num_groups", r"\b12\b", r"\b6\b"]),
    "num_groups: not whole": (lambda f: f.group_norm(IMAGES, 2.0), ["num_groups", r"2\.0"]),
    "num_groups: None": (lambda f: f.group_norm(IMAGES, None), ["num_groups", "None"]),
    # weight and bias
    "weight: of a row": (lambda f: f.layer_norm(ROWS, ones(5)), ["weight", r"\(5,\)", r"\(6,\)"]),
    "weight: of x": (lambda f: f.layer_norm(ROWS, ones(4, 6)), ["weight", r"\(4, 6\)", r"\(6,\)"]),
    "weight: flat for two axes": (
        lambda f: f.layer_norm(IMAGES, ones(35), axis=(2, 3)),
        ["weight", r"\(35,\)", r"\(5, 7\)"],
    ),
    "weight: axes the other way": (
        lambda f: f.rms_norm(IMAGES, ones(7, 5), axis=(3, 2)),
        ["weight", r"\(7, 5\)", r"\(5, 7\)"],
    ),
    "weight: of a channel": (
        lambda f: f.batch_norm(IMAGES, weight=ones(3), layout="NCHW"),
        ["weight", r"\(3,\)", r"\(6,\)", "axis 1", "NCHW"],
    ),
    "weight: of the last channel": (
        lambda f: f.instance_norm(IMAGES, weight=ones(6), layout="NHWC"),
        ["weight", r"\(6,\)", r"\(7,\)", "axis 3", "NHWC"],
    ),
    "weight: of a group": (lambda f: f.group_norm(IMAGES, 2, ones(2)), ["weight", r"\(2,\)", r"\(6,\)"]),
    "weight: a number": (lambda f: f.layer_norm(ROWS, 2.0), ["weight", "float", "array"]),
    "weight: a list": (lambda f: f.layer_norm(ROWS, [1.0] * 6), ["weight", "list", "array"]),
    "weight: integers": (lambda f: f.layer_norm(ROWS, ones(6, dtype=int)), ["weight", "int"]),
    "weight: complex": (lambda f: f.layer_norm(ROWS, ones(6, dtype=complex)), ["weight", "complex"]),
    "bias: of a row": (lambda f: f.layer_norm(ROWS, bias=ones(5)), ["bias", r"\(5,\)", r"\(6,\)"]),
    "bias: of a channel": (lambda f: f.batch_norm(IMAGES, bias=ones(1)), ["bias", r"\(1,\)", r"\(6,\)"]),
    "bias: integers": (lambda f: f.rms_norm(ROWS, bias=ones(6, dtype=int)), ["bias", "int"]),
    # numbers
    "eps: NaN": (lambda f: f.layer_norm(ROWS, eps=np.nan), ["eps", "nan"]),
    "eps: a string": (lambda f: f.layer_norm(ROWS, eps="small"), ["eps", "'small'"]),
    "eps: None": (lambda f: f.layer_norm(ROWS, eps=None), ["eps", "None"]),
    "eps: complex": (lambda f: f.rms_norm(ROWS, eps=1j), ["eps", "1j"]),
    "momentum: NaN": (
        lambda f: f.batch_norm(IMAGES, ones(6), ones(6), training=True, momentum=np.nan),
        ["momentum", "nan"],
    ),
    "momentum: None": (
        lambda f: f.batch_norm(IMAGES, ones(6), ones(6), training=True, momentum=None),
        ["momentum", "None"],
    ),
    "activation: unknown": (
        lambda f: f.layer_norm(ROWS, activation="swish"),
        ["activation", "swish", "relu", "gelu", "gelu_tanh", "silu", "sigmoid", "tanh"],
    ),
    "activation: a function": (
        lambda f: f.batch_norm(IMAGES, activation=np.tanh),
        ["activation", "tanh", "relu"],
    ),
    # running statistics
    "running_var: missing": (
        lambda f: f.batch_norm(IMAGES, ones(6), training=True),
        ["running_mean", "running_var", "None|without|both"],
    ),
    "running_mean: missing": (
        lambda f: f.instance_norm(IMAGES, None, ones(6)),
        ["running_mean", "running_var", "None|without|both"],
    ),
    "running_mean: shape": (
        lambda f: f.batch_norm(IMAGES, ones(5), ones(6)),
        ["running_mean", r"\(5,\)", r"\(6,\)"],
    ),
    "running_var: shape": (
        lambda f: f.batch_norm(IMAGES, ones(6), ones(1, 6)),
        ["running_var", r"\(1, 6\)", r"\(6,\)"],
    ),
    "running_mean: integers": (
        lambda f: f.batch_norm(IMAGES, ones(6, dtype=int), ones(6), training=True),
        ["running_mean", "int", "float"],
    ),
    "running_var: complex": (
        lambda f: f.instance_norm(IMAGES, ones(6), ones(6, dtype=complex)),
        ["running_var", "complex", "float"],
    ),
    "running_mean: a list": (
        lambda f: f.batch_norm(IMAGES, [0.0] * 6, ones(6), training=True),
        ["running_mean", "list", "array"],
    ),
    "running_mean: read-only": (
        lambda f: f.batch_norm(IMAGES, _read_only(ones(6)), ones(6), training=True),
        ["running_mean", "read-only|writ"],
    ),
    "running_var: read-only": (
        lambda f: f.instance_norm(IMAGES, ones(6), _read_only(ones(6))),
        ["running_var", "read-only|writ"],
    ),
    "use_input_stats: nothing else there": (
        lambda f: f.instance_norm(IMAGES, use_input_stats=False),
        ["use_input_stats", "running_mean"],
    ),
    # out
    "out: shape": (lambda f: f.layer_norm(ROWS, out=ones(6, 4)), ["out", r"\(6, 4\)", r"\(4, 6\)"]),
    "out: dtype": (lambda f: f.rms_norm(ROWS, out=ones(4, 6, dtype=float)), ["out", "float64", "float32"]),
    "out: read-only": (lambda f: f.batch_norm(ROWS, out=_read_only(ones(4, 6))), ["out", "read-only|writ"]),
    "out: a list": (lambda f: f.layer_norm(ROWS, out=[]), ["out", "list", "array"]),
    "out: elements on top of each other": (
        lambda f: f.layer_norm(ROWS, out=np.lib.stride_tricks.as_strided(ones(6), (4, 6), (0, 4))),
        ["out", "overlap|stride|share|itself"],
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_message(what):
    call, words = CASES[what]
    with pytest.raises(WRONG) as error:
        call(fastnorm)
    message = str(error.value)
    assert type(error.value).__module__ != "numba.core.errors"
    for word in words:
        assert re.search(rf"(?<![a-z_]){word}" if word[0].isalpha() else word, message), (
            f"{word!r} is not in {message!r}"
        )


BACKWARD = {
    "dy: shape": (dict(dy=ones(4, 5)), ["dy", r"\(4, 5\)", r"\(4, 6\)"]),
    "dy: integers": (dict(dy=ones(4, 6, dtype=int)), ["dy", "int", "float32"]),
    "dy: a list": (dict(dy=[1.0]), ["dy", "list", "array"]),
    "x: integers": (dict(x=ones(4, 6, dtype=int)), ["x", "int", "float32"]),
    "mean: shape": (dict(mean=ones(6, dtype=float)), ["mean", r"\(6,\)", r"\(4,\)"]),
    "rstd: shape": (dict(rstd=ones(4, 1, dtype=float)), ["rstd", r"\(4, 1\)", r"\(4,\)"]),
    "rstd: missing": (dict(rstd=None), ["rstd", "None"]),
    "weight: shape": (dict(weight=ones(4)), ["weight", r"\(4,\)", r"\(6,\)"]),
    "bias: shape": (dict(bias=ones(4)), ["bias", r"\(4,\)", r"\(6,\)"]),
    "activation: unknown": (dict(activation="swish"), ["activation", "swish", "relu"]),
    "needs: two": (dict(needs=(True, True)), ["needs", r"\(True, True\)"]),
    "axis: out of range": (dict(axis=3), ["axis", r"\b3\b"]),
}


@pytest.mark.parametrize("what", BACKWARD)
def test_message_of_a_backward(what):
    changed, words = BACKWARD[what]
    right = dict(dy=ROWS, x=ROWS, mean=ones(4, dtype=float), rstd=ones(4, dtype=float))
    fastnorm.layer_norm_backward(**right)
    with pytest.raises(WRONG) as error:
        fastnorm.layer_norm_backward(**right | changed)
    for word in words:
        assert re.search(word, str(error.value)), f"{word!r} is not in {str(error.value)!r}"


def test_the_message_of_the_contract():
    x = np.ones((2, 64, 5, 5), f32)
    with pytest.raises(ValueError) as error:
        fastnorm.batch_norm(x, weight=ones(3), layout="NCHW")
    expected = 'weight has shape (3,), expected (64,): x has 64 channels at axis 1 (layout "NCHW")'
    assert str(error.value) == expected


# -- Before anything is written ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_norm", "instance_norm"])
@pytest.mark.parametrize(
    "wrong",
    [
        dict(weight=ones(5)),
        dict(bias=ones(5)),
        dict(out=ones(6, 4)),
        dict(out=ones(4, 6, 5, 7, dtype=float)),
        dict(activation="swish"),
        dict(layout="NCH"),
        dict(running_var=ones(5)),
        dict(running_var=_read_only(ones(6))),
        dict(eps="small"),
        dict(momentum=np.nan),
        dict(x=IMAGES.astype(int)),
        dict(x=IMAGES[:1, :, :1, :1], layout="NCHW"),
    ],
    ids=lambda wrong: ", ".join(wrong),
)
def test_nothing_is_updated_by_a_failed_call(name, wrong):
    if name == "instance_norm" and "x" in wrong and wrong["x"].dtype == f32:
        pytest.skip("one value per channel is not refused")
    mean, var, out = np.full(6, 3, f32), np.full(6, 4, f32), np.full_like(IMAGES, 5)
    arguments = dict(x=IMAGES, running_mean=mean, running_var=var, out=out) | wrong
    if "x" in wrong:
        del arguments["out"]
    if name == "batch_norm":
        arguments["training"] = True
    with pytest.raises(WRONG):
        getattr(fastnorm, name)(arguments.pop("x"), **arguments)
    assert (mean == 3).all() and (var == 4).all() and (out == 5).all()


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_out_is_not_touched_by_a_failed_call(norm):
    x, out = np.ones(norm.shape, f32), np.full(norm.shape, 5, f32)
    for wrong in (dict(weight=np.ones((1, 1, 1), f32)), dict(activation="swish"), dict(eps="small")):
        with pytest.raises(WRONG):
            norm(x, out=out, **wrong)
        assert (out == 5).all()


# -- Overlap -----------------------------------------------------------------------------------------------


def _handled_or_refused(name, store, call, expected):
    """Whichever: a right result, or an error that names the argument and leaves all as it was."""
    before = store.copy()
    try:
        y, *_ = call()
    except ValueError as error:
        assert re.search(name, str(error))
        assert np.array_equal(store, before)
    else:
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("step", [-1, 1, 3])
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_out_shifted_against_x(norm, step, rng):
    size = int(np.prod(norm.shape))
    store = rng.standard_normal(size + 3).astype(f32)
    start, end = (0, step) if step > 0 else (-step, 0)
    x, out = (store[at : at + size].reshape(norm.shape) for at in (start, end))
    expected = norm.exact(x.copy())[0]
    _handled_or_refused("out", store, lambda: norm(x, out=out), expected)


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_out_is_x_the_other_way_round(norm, rng):
    store = rng.standard_normal(norm.shape).astype(f32)
    expected = norm.exact(store.copy())[0]
    _handled_or_refused("out", store, lambda: norm(store, out=np.flip(store)), expected)


@pytest.mark.parametrize("parameter", ["weight", "bias"])
@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_out_over_a_parameter(norm, parameter, rng):
    x = rng.standard_normal(norm.shape).astype(f32)
    store = rng.standard_normal(norm.shape).astype(f32)
    shape = norm.affine_shape(norm.shape)
    array = store.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    expected = norm.exact(x, **{parameter: array.copy()})[0]
    _handled_or_refused("out", store, lambda: norm(x, out=store, **{parameter: array}), expected)


@pytest.mark.parametrize("which", ["running_mean", "running_var"])
def test_running_statistics_inside_x_or_out(which, rng):
    norm = Norm("batch_norm", (5, 6), layout="NC")
    for inside in ("x", "out"):
        x, out = rng.standard_normal((2, 5, 6)).astype(f32)
        store = x if inside == "x" else out
        running = {"running_mean": ones(6), "running_var": ones(6)} | {which: store[2]}
        expected = norm.exact(x.copy())[0]
        _handled_or_refused(
            f"{which}|out", store, lambda x=x, out=out, r=running: norm(x, out=out, **r), expected
        )


# -- What is allowed though it looks wrong -----------------------------------------------------------------


@pytest.mark.parametrize("norm", one_of_each(NORMS), ids=str)
def test_a_negative_eps_follows_the_formula(norm, rng):
    """As in PyTorch, whose samples contain it: a number as long as var + eps is positive, else NaN."""
    x = (3 * rng.standard_normal(norm.sized(50))).astype(f32)
    y, *statistics = norm(x, eps=-0.5)
    exact, *exact_statistics = norm.exact(x, eps=-0.5)
    np.testing.assert_allclose(y, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(statistics[-1], exact_statistics[-1], rtol=1e-5)
    assert np.isnan(norm(x, eps=-1e9)[0]).all()


@pytest.mark.parametrize("momentum", [-1.2, 1.5])
def test_a_momentum_outside_0_to_1_follows_the_formula(momentum, rng):
    """As in PyTorch, whose samples contain it."""
    x = rng.standard_normal((8, 6)).astype(f32)
    running_mean, running_var = np.zeros(6, f32), np.zeros(6, f32)
    fastnorm.batch_norm(x, running_mean, running_var, training=True, momentum=momentum)
    np.testing.assert_allclose(running_mean, momentum * x.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(running_var, momentum * x.var(0, ddof=1), rtol=1e-5)


@pytest.mark.parametrize("norm", [norm for norm in BY_LAYOUT if norm.layout == "NCHW"], ids=str)
def test_numpy_scalars_for_numbers(norm, rng):
    x = rng.standard_normal(norm.shape).astype(f32)
    weight, bias = affine(norm, x.shape, rng, f32)
    expected = norm(x, weight, bias, eps=1e-3)
    for eps in (np.float64(1e-3), np.array(1e-3)):
        assert np.array_equal(norm(x, weight, bias, eps=eps)[0], expected[0])
    if norm.num_groups:
        assert np.array_equal(fastnorm.group_norm(x, np.int64(norm.num_groups)), norm(x)[0])
