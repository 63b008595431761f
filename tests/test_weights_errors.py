"""What weight norm, weight standardization and their layers refuse, and in which words."""

import re

import numpy as np
import pytest

from fastnorm.functional.weight import (
    weight_norm,
    weight_norm_backward,
    weight_standardization,
    weight_standardization_backward,
)
from fastnorm.layers.weight import WeightNorm

f32 = np.float32
V = np.ones((4, 6), f32)
NORM = np.ones((4, 1))
WRONG = {
    "v: a list": (lambda: weight_norm([1.0]), "v is a list"),
    "v: integers": (lambda: weight_norm(V.astype(int)), "v has dtype int64"),
    "v: nothing to take a norm of": (
        lambda: weight_norm(np.ones((4, 0), f32)),
        r"v has shape \(4, 0\), with no element",
    ),
    "g: flat": (lambda: weight_norm(V, np.ones(4, f32)), r"g has shape \(4,\), expected \(4, 1\)"),
    "g: of another dim": (lambda: weight_norm(V, NORM, 1), r"g has shape \(4, 1\), expected \(1, 6\)"),
    "g: a number": (lambda: weight_norm(V, 1.0, None), r"g is a float, expected a NumPy array of shape \(\)"),
    "dim: out of range": (lambda: weight_norm(V, dim=2), "dim is 2, expected from -2 to 1: v has 2 axes"),
    "dim: twice": (
        lambda: weight_norm(V, dim=(0, -2)),
        r"dim is \(0, -2\), which names an axis twice: v has",
    ),
    "dim: not whole": (lambda: weight_norm(V, dim=0.0), r"dim is 0\.0, expected an integer"),
    "out: shape": (
        lambda: weight_norm(V, out=V[:2]),
        r"out has shape \(2, 6\), expected \(4, 6\), the shape of v",
    ),
    "g: a list": (
        lambda: weight_norm_backward(V, V, [1.0], NORM),
        r"g is a list, expected a NumPy array of shape \(4, 1\)",
    ),
    "dw: shape": (
        lambda: weight_norm_backward(V[:2], V, None, NORM),
        r"dw has shape \(2, 6\).*the shape of v",
    ),
    "dw: dtype": (
        lambda: weight_norm_backward(NORM + V, V, None, NORM),
        "dw has dtype float64.*the dtype of v",
    ),
    "norm: shape": (
        lambda: weight_norm_backward(V, V, None, NORM[0]),
        r"norm has shape \(1,\), expected \(4, 1\)",
    ),
    "w: one axis": (lambda: weight_standardization(V[0]), r"w has shape \(6,\), expected at least two axes"),
    "w: integers": (lambda: weight_standardization(V.astype(int)), "w has dtype int64"),
    "axis: out of range": (
        lambda: weight_standardization(V, axis=2),
        "axis is 2, expected from -2 to 1: w has",
    ),
    "eps: no number": (lambda: weight_standardization(V, eps="small"), "eps is 'small', expected a number"),
    "out: dtype": (
        lambda: weight_standardization(V, out=V.astype(float)),
        "out has dtype float64.*the dtype of w",
    ),
    "dy: shape": (
        lambda: weight_standardization_backward(V[:2], V, np.ones(4), np.ones(4)),
        r"dy has shape \(2, 6\), expected \(4, 6\), the shape of w",
    ),
    "mean: shape": (
        lambda: weight_standardization_backward(V, V, NORM, np.ones(4)),
        r"mean has shape \(4, 1\)",
    ),
    "weight: a list": (lambda: WeightNorm([1.0]), "weight is a list"),
}


@pytest.mark.parametrize("what", WRONG)
def test_message(what):
    call, words = WRONG[what]
    before = V.copy()
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert re.search(words, str(error.value)), str(error.value)
    assert np.array_equal(V, before)
