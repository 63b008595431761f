"""ONNX's own node tests of the five norms, evaluated with fastnorm."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastnorm

onnx = pytest.importorskip("onnx")

_MODULES = (
    "batch_normalization",
    "instance_normalization",
    "groupnormalization",
    "layernormalization",
    "rmsnormalization",
)


def _batch(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0):
    """ONNX keeps `momentum` of the old statistics, not of the new, and its running variance is biased."""
    mean, var, old = mean.copy(), var.copy(), var
    mode = {"training": bool(training_mode), "momentum": 1 - momentum, "eps": epsilon}
    y = fastnorm.batch_norm(x, mean, var, scale, bias, **mode)
    if not training_mode:
        return (y,)
    count = x.size // scale.size
    unbiased = (var - momentum * old) / (1 - momentum)
    return y, mean, momentum * old + (1 - momentum) * unbiased * (count - 1) / count


def _instance(x, scale, bias, *, epsilon=1e-5):
    return (fastnorm.instance_norm(x, weight=scale, bias=bias, eps=epsilon),)


def _group(x, scale, bias, *, num_groups, epsilon=1e-5):
    return (fastnorm.group_norm(x, num_groups, scale, bias, eps=epsilon),)


def _layer(x, scale, bias=None, *, axis=-1, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    y, mean, rstd = fastnorm.layer_norm(x, scale, bias, axis=axes, eps=epsilon, return_stats=True)
    return y, np.expand_dims(mean, axes), np.expand_dims(rstd, axes)


def _rms(x, scale, *, axis=-1, epsilon=1e-5):
    return (fastnorm.rms_norm(x, scale, axis=tuple(range(axis % x.ndim, x.ndim)), eps=epsilon),)


_OPERATORS: dict[str, Callable[..., tuple[Any, ...]]] = {
    "BatchNormalization": _batch,
    "InstanceNormalization": _instance,
    "GroupNormalization": _group,
    "LayerNormalization": _layer,
    "RMSNormalization": _rms,
}


def _cases() -> Iterator[Any]:
    for module in _MODULES:
        importlib.import_module(f"onnx.backend.test.case.node.{module}")
    for case in importlib.import_module("onnx.backend.test.case.node")._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in _OPERATORS:  # no expansion into arithmetic
            yield pytest.param(case, id=case.name)


CASES = list(_cases())


@pytest.mark.parametrize("case", CASES)
def test_node(case):
    (node,) = case.model.graph.node
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    attributes.pop("stash_type", None)  # the precision statistics are computed in: always float64 here
    for inputs, outputs in case.data_sets:
        found = _OPERATORS[node.op_type](*inputs, **attributes)
        for value, expected in zip(found, outputs, strict=False):
            np.testing.assert_allclose(value, expected, rtol=case.rtol, atol=case.atol)
            np.testing.assert_allclose(
                value, expected, rtol=2e-5, atol=2e-6
            )  # what float32 on both sides allows
            assert value.shape == expected.shape


def test_every_operator_has_cases():
    assert {case.values[0].model.graph.node[0].op_type for case in CASES} == set(_OPERATORS)
    assert len(CASES) >= 40
