"""PyTorch's own sample inputs of the five norms: results and gradients agree with PyTorch in float64."""

import inspect
from typing import Any

import numpy as np
import pytest

import fastnorm

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest", reason="PyTorch's sample inputs need it")
operators = pytest.importorskip("torch.testing._internal.common_methods_invocations")


def _array(value: Any) -> Any:
    return value.detach().numpy().copy() if isinstance(value, torch.Tensor) else value


def _bound(function, sample):
    """The sample's arguments by name, as PyTorch's function sees them."""
    signature = inspect.signature(function)
    arguments = signature.bind(sample.input, *sample.args, **sample.kwargs)
    arguments.apply_defaults()
    return arguments.arguments


def _trailing(x, normalized_shape):
    return {"axis": tuple(range(x.ndim - len(normalized_shape), x.ndim))}


# PyTorch's arguments to fastnorm's (forward options, backward options, what comes after x).


def _layer(a):
    where = _trailing(a["input"], a["normalized_shape"])
    return where | {"eps": a["eps"]}, where, ()


def _batch(a):
    names = ("running_mean", "running_var", "training", "momentum", "eps")
    return {name: a[name] for name in names}, {"training": a["training"]}, ()


def _instance(a):
    names = ("running_mean", "running_var", "use_input_stats", "momentum", "eps")
    return {name: a[name] for name in names}, {}, ()


def _group(a):
    return {"eps": a["eps"]}, {}, (a["num_groups"],)


NORMS = {
    "layer_norm": _layer,
    "rms_norm": _layer,
    "batch_norm": _batch,
    "instance_norm": _instance,
    "group_norm": _group,
}


def _samples(name, dtype):
    name = f"nn.functional.{name}"
    (info,) = (op for op in operators.op_db if op.name == name and not op.variant_test_name)
    torch.manual_seed(0)
    yield from info.reference_inputs("cpu", dtype, requires_grad=True)


def _widen(value):
    if not isinstance(value, torch.Tensor):
        return value
    return value.detach().to(torch.float64, copy=True).requires_grad_(value.requires_grad)


def _assert_close(found, expected, dtype, what):
    expected = expected.detach().numpy() if isinstance(expected, torch.Tensor) else expected
    # The tolerances of torch.testing.assert_close.
    rtol, atol = (1.3e-6, 1e-5) if dtype == torch.float32 else (1e-7, 1e-7)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)
    assert np.shape(found) == expected.shape, what


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_samples(name, dtype):
    function = getattr(torch.nn.functional, name)
    count = 0
    for sample in _samples(name, dtype):
        count += 1
        given = _bound(function, sample)
        forward, backward, extras = NORMS[name]({key: _array(value) for key, value in given.items()})
        x, weight, bias = (_array(given.get(key)) for key in ("input", "weight", "bias"))
        what = f"{name}, sample {count}: {sample.summary()}"
        wide = {key: _widen(value) for key, value in given.items()}
        if name == "rms_norm" and given["eps"] is None:
            wide["eps"] = torch.finfo(dtype).eps
        expected = function(**wide)
        y, *statistics = getattr(fastnorm, name)(
            x, *extras, weight=weight, bias=bias, return_stats=True, **forward
        )
        _assert_close(y, expected, dtype, what)
        for key in ("running_mean", "running_var"):
            if wide.get(key) is not None:
                _assert_close(forward[key], wide[key], dtype, f"{what}: {key}")
        leaves = {key: wide.get(key) for key in ("input", "weight", "bias")}
        asked = {key: leaf for key, leaf in leaves.items() if leaf is not None and leaf.requires_grad}
        dy = torch.randn(expected.shape, dtype=dtype)
        autograd = torch.autograd.grad(expected, list(asked.values()), dy.double())
        gradients = {key: gradient.numpy() for key, gradient in zip(asked, autograd, strict=True)}
        found = getattr(fastnorm, f"{name}_backward")(
            dy.numpy(), x, *extras, *statistics, weight=weight, bias=bias, **backward
        )
        for key, gradient in zip(("input", "weight", "bias"), found, strict=True):
            if key in gradients:
                scale = max(1, np.abs(gradients[key]).max(initial=0))
                _assert_close(gradient / scale, gradients[key] / scale, dtype, f"{what}: gradient of {key}")
    assert count >= 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_native_layer_norm_samples(dtype):
    """Weight without bias, bias without weight, and the statistics."""
    (info,) = (op for op in operators.op_db if op.name == "native_layer_norm")
    torch.manual_seed(0)
    for sample in info.sample_inputs("cpu", dtype):
        normalized_shape, weight, bias, eps = (_array(value) for value in sample.args)
        x = _array(sample.input)
        expected = torch.native_layer_norm(*(_widen(value) for value in (sample.input, *sample.args)))
        where = _trailing(x, normalized_shape)
        found = fastnorm.layer_norm(x, weight, bias, eps=eps, return_stats=True, **where)
        for value, wanted in zip(found, expected, strict=True):
            _assert_close(value.reshape(wanted.shape), wanted, dtype, sample.summary())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_images_in_both_memory_formats(memory_format, rng):
    """A channels-last tensor of PyTorch is a strided NCHW view in NumPy, or an NHWC array."""
    x = rng.standard_normal((4, 6, 5, 7)).astype(np.float32)
    tensor = torch.from_numpy(x).contiguous(memory_format=memory_format)
    expected = torch.nn.functional.group_norm(tensor.double(), 3)
    view = tensor.numpy()
    _assert_close(fastnorm.group_norm(view, 3), expected, torch.float32, "NCHW")
    nhwc = fastnorm.group_norm(view.transpose(0, 2, 3, 1), 3, layout="NHWC")
    _assert_close(nhwc, expected.permute(0, 2, 3, 1), torch.float32, "NHWC")
