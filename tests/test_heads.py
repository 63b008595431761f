"""QK norm: every kind against its definition, on heads as attention has them; its layer and its state dict."""

import pickle

import ml_dtypes
import numpy as np
import pytest

from fastnorm.functional.heads import qk_norm, qk_norm_backward
from fastnorm.layers.heads import QKNorm
from fastnorm.reference import heads as reference

from .checks import DTYPES, assert_exact, assert_like, assert_sum
from .norms import widen
from .oracle import GRADIENT_ROUNDINGS, ZOO, gradient_roundings, roundings
from .slopes import assert_slopes

KINDS = ["rms", "layer", "l2"]
every_kind = pytest.mark.parametrize("kind", KINDS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)
NAMES = ("dq", "dk", "dq_weight", "dk_weight", "dscale")


def parameters(kind, dtype, rng):
    if kind == "l2":
        return {"kind": kind, "scale": np.array(5.3, dtype)}
    weights = rng.uniform(0.5, 2, (2, 16)).astype(dtype)
    return {"kind": kind, "q_weight": weights[0], "k_weight": weights[1]}


def wide(options):
    return {name: widen(value) if isinstance(value, np.ndarray) else value for name, value in options.items()}


def heads(arrangement, dtype, rng):
    """q and k, the latter with fewer heads, of (N, L, heads, head_dim), or cut from one projection and turned."""
    if arrangement == "(N, L, heads, head_dim)":
        return rng.standard_normal((2, 5, 4, 16)).astype(dtype), rng.standard_normal((2, 5, 2, 16)).astype(
            dtype
        )
    projection = rng.standard_normal((2, 5, 6, 16)).astype(dtype).transpose(0, 2, 1, 3)
    return projection[:, :4], projection[:, 4:]


def assert_equal(found, wanted, dtype):
    """All gradients but dscale, of which it is only said whether there is one."""
    for name, gradient, exact in zip(NAMES, found, wanted, strict=True):
        assert (gradient is None) == (exact is None), name
        if gradient is not None:
            assert gradient.dtype == dtype and gradient.shape == exact.shape, name
            if name != "dscale":
                assert gradient_roundings(gradient, exact, dtype) <= GRADIENT_ROUNDINGS, name


@every_dtype
@every_kind
@pytest.mark.parametrize("arrangement", ["(N, L, heads, head_dim)", "slices of (N, heads, L, head_dim)"])
def test_equals_the_definition(arrangement, kind, dtype, rng):
    q, k = heads(arrangement, dtype, rng)
    dq, dk = (rng.standard_normal(a.shape).astype(dtype) for a in (q, k))
    options = parameters(kind, dtype, rng)
    found = qk_norm(q, k, return_stats=True, **options)
    exact = reference.qk_norm(widen(q), widen(k), **wide(options))
    for y, x, wanted in zip(found[:2], (q, k), exact[:2], strict=True):
        assert_exact(y, wanted, dtype)
        assert_like(y, x)
    for stats, wanted in zip(found[2:], exact[2:], strict=True):
        assert [s.shape for s in stats] == [s.shape for s in wanted]
    for y, plain in zip(qk_norm(q, k, **options), found[:2], strict=True):
        assert np.array_equal(y, plain)
    wanted = reference.qk_norm_backward(*map(widen, (dq, dk, q, k)), *exact[2:], **wide(options))
    gradients = qk_norm_backward(dq, dk, q, k, *found[2:], **options)
    assert_equal(gradients, wanted, dtype)
    if kind == "l2":
        shares = np.sum(widen(dq) * exact[0], -1) / widen(options["scale"])
        assert_sum(gradients.dscale, shares, dtype)


@every_kind
def test_parameters_may_be_absent(kind, rng):
    q, k, dq, dk = rng.standard_normal((4, 3, 16)).astype(np.float32)
    choices = [{}] if kind == "l2" else [{}, {"k_weight": rng.uniform(0.5, 2, 16).astype(np.float32)}]
    for given in choices:
        *found, q_stats, k_stats = qk_norm(q, k, kind=kind, return_stats=True, **given)
        exact = reference.qk_norm(widen(q), widen(k), kind=kind, **wide(given))
        for y, wanted in zip(found, exact[:2], strict=True):
            assert_exact(y, wanted, np.float32)
        wanted = reference.qk_norm_backward(*map(widen, (dq, dk, q, k)), *exact[2:], kind=kind, **wide(given))
        found = qk_norm_backward(dq, dk, q, k, q_stats, k_stats, kind=kind, **given)
        assert_equal(found, wanted, np.float32)


@every_kind
def test_reference_gradients_against_central_differences(kind, rng):
    q, k, dq, dk = rng.standard_normal((4, 3, 16))
    options = parameters(kind, np.float64, rng)
    _, _, *stats = reference.qk_norm(q, k, **options)
    gradients = reference.qk_norm_backward(dq, dk, q, k, *stats, **options)
    names = [name for name in ("q_weight", "k_weight", "scale") if name in options]

    def forward(q, k, *values):
        return reference.qk_norm(q, k, **{**options, **dict(zip(names, values, strict=True))})[:2]

    given = [gradient for gradient in gradients if gradient is not None]
    assert_slopes(forward, [q, k, *(options[name] for name in names)], [dq, dk], given, rng)


@every_kind
def test_agrees_with_torch(kind, rng):
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    q, k, dq, dk = rng.standard_normal((4, 2, 3, 16))
    options = parameters(kind, np.float64, rng)
    names = [name for name in ("q_weight", "k_weight", "scale") if name in options]
    leaves = [torch.tensor(a, requires_grad=True) for a in (q, k, *(options[name] for name in names))]
    tq, tk, *given = leaves
    theirs = {
        "rms": lambda: [F.rms_norm(t, (16,), w, 1e-6) for t, w in ((tq, given[0]), (tk, given[-1]))],
        "layer": lambda: [
            F.layer_norm(t, (16,), w, None, 1e-6) for t, w in ((tq, given[0]), (tk, given[-1]))
        ],
        "l2": lambda: [given[0] * F.normalize(tq, dim=-1, eps=1e-6), F.normalize(tk, dim=-1, eps=1e-6)],
    }[kind]()
    torch.autograd.backward(theirs, [torch.tensor(dq), torch.tensor(dk)])
    *found, q_stats, k_stats = qk_norm(q, k, return_stats=True, **options)
    for y, other in zip(found, theirs, strict=True):
        np.testing.assert_allclose(y, other.detach().numpy(), rtol=1e-12, atol=1e-13)
    gradients = qk_norm_backward(dq, dk, q, k, q_stats, k_stats, **options)
    ours = [gradient for gradient in gradients if gradient is not None]
    for gradient, leaf in zip(ours, leaves, strict=True):
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("memory", ZOO)
@every_kind
def test_any_memory(kind, memory, rng):
    q, k = rng.standard_normal((2, 3, 4, 16)).astype(np.float32)
    options = parameters(kind, np.float32, rng)
    expected = qk_norm(q, k, **options)
    for found, plain in zip(qk_norm(ZOO[memory](q), ZOO[memory](k), **options), expected, strict=True):
        assert roundings(found, plain, np.float32) <= 2  # sums in another order


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@every_kind
def test_halves_are_rounded_once(kind, dtype, rng):
    half = (2.0**-10 if dtype == np.float16 else 2.0**-7) / 2
    q, k = heads("(N, L, heads, head_dim)", dtype, rng)
    options = parameters(kind, dtype, rng)
    exact = reference.qk_norm(widen(q), widen(k), **wide(options))
    for y, wanted in zip(qk_norm(q, k, **options), exact[:2], strict=True):
        assert y.dtype == dtype
        assert np.all(np.abs(widen(y) - wanted) <= (half + 2.0**-21) * np.maximum(1, np.abs(wanted)))


@every_kind
def test_nan_stays_in_its_head(kind, rng):
    q, k = rng.standard_normal((2, 3, 4, 16)).astype(np.float32)
    options = parameters(kind, np.float32, rng)
    before, _ = qk_norm(q, k, **options)
    q[1, 2, 3] = np.nan
    found, _ = qk_norm(q, k, **options)
    assert np.isnan(found[1, 2]).all()
    found[1, 2] = before[1, 2]
    assert np.array_equal(found, before)


@every_kind
def test_empty_batch(kind, rng):
    q, options = np.empty((0, 4, 16), np.float32), parameters(kind, np.float32, rng)
    q_hat, k_hat, *stats = qk_norm(q, q, return_stats=True, **options)
    assert q_hat.shape == k_hat.shape == (0, 4, 16)
    assert qk_norm_backward(q, q, q, q, *stats, **options).dq.shape == (0, 4, 16)


def test_wrong_arguments_name_themselves(rng):
    q = rng.standard_normal((2, 3, 16)).astype(np.float32)
    w, stats = np.ones(16, np.float32), ((np.ones((2, 3)),),) * 2
    for call, text in (
        (lambda: qk_norm(q, q, kind="batch"), "kind is 'batch', expected one of 'rms', 'layer', 'l2'"),
        (lambda: qk_norm(q, q[..., :15]), r"k has shape \(2, 3, 15\), expected a last axis like that of q"),
        (lambda: qk_norm(q, q.astype(np.float64)), "k has dtype float64, expected float32"),
        (lambda: qk_norm(q, q.tolist()), "k is a list"),
        (lambda: qk_norm(q, q, w, w[:15]), r"k_weight has shape \(15,\), expected \(16,\)"),
        (lambda: qk_norm(q, q, w, kind="l2"), "q_weight is given, expected None"),
        (lambda: qk_norm(q, q, scale=2.0), "scale is 2.0, expected None"),
        (lambda: qk_norm_backward(q, q[:1], q, q, *stats), "dk_hat has shape"),
        (lambda: qk_norm_backward(q, q, q, q, *stats, kind="layer"), "expected 2 of each"),
        (lambda: QKNorm(16, kind="no"), "kind is 'no'"),
        (lambda: QKNorm(16, scale=3.0), "scale is 3.0, expected None"),
    ):
        with pytest.raises((TypeError, ValueError), match=text):
            call()


@every_kind
def test_layer(kind, rng):
    q, k, dq, dk = rng.standard_normal((4, 2, 3, 16)).astype(np.float32)
    layer = QKNorm(16, kind=kind)
    keys = ["scale"] if kind == "l2" else ["q_norm.weight", "k_norm.weight"]
    assert list(layer.state_dict()) == list(layer.parameters()) == keys
    if kind == "l2":
        assert layer.scale == 4, "the logits at first are those of RMS norm"
    layer.load_state_dict({key: rng.uniform(0.5, 2, layer.parameters()[key].shape) for key in keys})
    options = {"kind": kind, "q_weight": layer.q_weight, "k_weight": layer.k_weight, "scale": layer.scale}
    *expected, q_stats, k_stats = qk_norm(q, k, return_stats=True, **options)
    for found, wanted in zip(layer(q, k), expected, strict=True):
        assert np.array_equal(found, wanted)
    gradients = qk_norm_backward(dq, dk, q, k, q_stats, k_stats, **options)
    for found, wanted in zip(layer.backward(dq, dk), gradients[:2], strict=True):
        assert np.array_equal(found, wanted)
    wanted = [gradient for gradient in gradients[2:] if gradient is not None]
    assert list(layer.grads) == keys
    assert all(np.array_equal(a, b) for a, b in zip(layer.grads.values(), wanted, strict=True))
    copy = pickle.loads(pickle.dumps(layer)).eval()
    assert all(np.array_equal(a, b) for a, b in zip(copy(q, k), expected, strict=True))
    with pytest.raises(RuntimeError, match="no call in training"):
        copy.backward(dq, dk)


def test_layer_without_weights(rng):
    q, k = rng.standard_normal((2, 3, 16)).astype(np.float32)
    layer = QKNorm(16, 1e-5, False, kind="layer")
    assert repr(layer) == "QKNorm(16, eps=1e-05, elementwise_affine=False, kind='layer')"
    layer(q, k)
    layer.backward(q, k)
    assert layer.grads == {}
    with pytest.raises(ValueError, match=r"q has shape \(3, 15\)"):
        layer(q[:, :15], k[:, :15])
