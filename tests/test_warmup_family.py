"""Warming up the less common norms: what they are called, and that a call after it neither compiles nor loads anything."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastnorm
from fastnorm import _warmup, family
from fastnorm._warmup_family import LAYERS

# name -> how it is called there and back, on arrays larger than warming up has: x, dy, w (of 12 channels), n (12,) and
# matrix; `f` is fastnorm, `place` where the channels lie, `axis` the same for what takes an axis
CALLS = {
    "batch_renorm": """
        y, *s = f.batch_renorm(x, w.copy(), w.copy(), w, w, training=True, return_stats=True, **place)
        f.batch_renorm_backward(dy, x, *s, w, w, **place)
        f.batch_renorm(x, w, w, **place)""",
    "ghost_batch_norm": """
        y, *s = f.ghost_batch_norm(x, 3, None, None, w, w, activation="silu", return_stats=True, **place)
        f.ghost_batch_norm_backward(dy, x, 3, *s, w, w, activation="silu", **place)
        f.ghost_batch_norm(x, 3, w, w, **place)""",
    "frozen_batch_norm": """
        f.frozen_batch_norm(x, w, w, w, w, **place)
        f.frozen_batch_norm_backward(dy, x, w, w, w, w, **place)""",
    "variance_only_batch_norm": """
        y, *s = f.variance_only_batch_norm(x, None, w, training=True, return_stats=True, **place)
        f.variance_only_batch_norm_backward(dy, x, *s, w, **place)
        f.variance_only_batch_norm(x, w, w, **place)""",
    "evo_norm_b0": """
        y, *s = f.evo_norm_b0(x, None, w, w, w, return_stats=True, **place)
        f.evo_norm_b0_backward(dy, x, *s, None, w, w, **place)
        f.evo_norm_b0(x, w, w, w, w, **place)""",
    "evo_norm_s0": """
        for v in (w, None):
            y, *s = f.evo_norm_s0(x, 4, w, w, v, return_stats=True, **place)
            f.evo_norm_s0_backward(dy, x, 4, *s, w, w, v, **place)""",
    "filter_response_norm": """
        for tau in (w, None):
            y, s = f.filter_response_norm(x, w, w, tau, return_stats=True, **place)
            f.filter_response_norm_backward(dy, x, s, w, w, tau, **place)""",
    "global_response_norm": """
        y, s = f.global_response_norm(x, w, w, return_norm=True, **place)
        f.global_response_norm_backward(dy, x, s, w, **place)""",
    "switchable_norm": """
        y, *s = f.switchable_norm(x, None, None, w, w, training=True, return_stats=True, **place)
        f.switchable_norm_backward(dy, x, *s, None, None, w, w, training=True, **place)
        f.switchable_norm(x, None, None, w, w, w, w, **place)""",
    "adaptive_instance_norm": """
        y, *s = f.adaptive_instance_norm(x, n, n, return_stats=True, **place)
        f.adaptive_instance_norm_backward(dy, x, *s, n, n, **place)""",
    "film": """
        f.film(x, n, n, activation="relu", **place)
        f.film_backward(dy, x, n, n, activation="relu", **place)""",
    "local_response_norm": """
        f.local_response_norm(x, 5, **place)
        f.local_response_norm_backward(dy, x, 5, **place)""",
    "decorrelated_batch_norm": """
        y, *s = f.decorrelated_batch_norm(x, 2, None, None, w, w, training=True, return_stats=True, **place)
        f.decorrelated_batch_norm_backward(dy, x, 2, *s, w, w, **place)""",
    "iter_norm": """
        y, *s = f.iter_norm(x, 2, None, None, w, w, training=True, return_stats=True, **place)
        f.iter_norm_backward(dy, x, 2, *s, w, w, **place)""",
    "variance_only_layer_norm": """
        y, *s = f.variance_only_layer_norm(x, w, w, return_stats=True, **axis)
        f.variance_only_layer_norm_backward(dy, x, *s, w, w, **axis)""",
    "simple_layer_norm": """
        y, *s = f.simple_layer_norm(x, activation="gelu", return_stats=True, **axis)
        f.simple_layer_norm_backward(dy, x, *s, activation="gelu", **axis)""",
    "adaptive_layer_norm": """
        y, *s = f.adaptive_layer_norm(x, n, n, return_stats=True, **axis)
        f.adaptive_layer_norm_backward(dy, x, *s, n, n, **axis)""",
    "deep_norm": """
        y, *s = f.deep_norm(x, dy, w, w, alpha=3, activation="gelu", return_stats=True, **axis)
        f.deep_norm_backward(dy, *s, w, w, alpha=3, activation="gelu", **axis)""",
    "dynamic_tanh": """
        f.dynamic_tanh(x, 0.3, w, w, **axis)
        f.dynamic_tanh_backward(dy, x, 0.3, w, **axis)""",
    "scale_norm": """
        y, s = f.scale_norm(x, 3.0, return_norm=True, **axis)
        f.scale_norm_backward(dy, x, s, 3.0, **axis)""",
    "normalize": """
        for p in (2, 1, 3.5, float("inf")):
            y, s = f.normalize(x, p, return_norm=True, **axis)
            f.normalize_backward(dy, x, s, p, **axis)""",
    "gated_rms_norm": """
        for before in (False, True):
            y, s = f.gated_rms_norm(matrix, matrix, w, norm_before_gate=before, return_stats=True)
            f.gated_rms_norm_backward(matrix, matrix, matrix, s, w, norm_before_gate=before)""",
    "qk_norm": """
        for kind in ("rms", "layer"):
            layer = f.QKNorm(12, kind=kind)
            layer.backward(*layer(x4, x4))""",
    "cosine_norm": """
        f.cosine_norm(matrix, matrix[:5])
        f.cosine_norm_backward(matrix[:, :5].copy(), matrix, matrix[:5])""",
    "weight_norm": """
        layer = f.WeightNorm(matrix)
        layer.backward(layer())""",
    "weight_standardization": """
        layer = f.WeightStandardization(x4)
        layer.backward(layer())""",
    "spectral_norm": """
        layer = f.SpectralNorm(matrix)
        layer.backward(layer())""",
}

PROGRAM = """
import sys, textwrap
sys.path.insert(0, {root!r})
import numpy as np, fastnorm as f
from fastnorm import _cache, _warmup
for part in _warmup.parts([{name!r}], [{dtype!r}], None):
    part.compile()

met = []
_cache.DiskCache.load_overload = lambda own, *what: met.append(own._name)
rng, dtype = np.random.default_rng(0), np.dtype({dtype!r})
w = rng.uniform(0.5, 1, 12).astype(np.float32 if dtype.itemsize < 4 else dtype)
matrix, x4 = rng.standard_normal((40, 12)).astype(dtype), rng.standard_normal((3, 7, 9, 12)).astype(dtype)
for layout, shape in {{"NCHW": (9, 12, 8, 7), "NHWC": (9, 8, 7, 12)}}.items():
    place, axis = {{"layout": layout}}, {{"axis": layout.index("C")}}
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    n = np.tile(w, (9, 1))
    try:
{calls}
    except BaseException as error:
        if not met:
            raise
print(met)
"""


def test_every_norm_of_the_family_has_a_name_to_be_warmed_up_by():
    backward = {name.removesuffix("_backward") for name in family.__all__ if name.endswith("_backward")}
    assert backward == set(LAYERS) == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_after_a_warmup_its_call_compiles_nothing_more(name):
    """In a process of its own, in which not even what the cache has may still be asked for."""
    calls = textwrap.indent(textwrap.dedent(CALLS[name]), " " * 8)
    program = PROGRAM.format(
        root=str(Path(fastnorm.__file__).parents[1]), name=name, dtype="float32", calls=calls
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("name", ["film", "dynamic_tanh"])
def test_of_other_dtypes(name, dtype):
    for part in _warmup.parts([name], [dtype], ["NHWC"]):
        part.compile()


def test_warmup_takes_it_with_others():
    kept = fastnorm.warmup(["rms_norm", "film"], layouts=["NCHW"])
    assert kept.files > 0


def test_only_what_is_asked_for():
    def chosen(*arguments):
        return [(str(part), part.layouts) for part in _warmup.parts(*arguments)]

    assert chosen(["film"], ["float64"], ["NHWC"]) == [("film float64", ("NHWC",))]
    assert chosen(["deep_norm"], ["float32"], ["NHWC"]) == [("deep_norm float32", ("NC", "NHWC"))]
    assert chosen(["film"], ["float32"], None) == [("film float32", ("NC", "NCHW", "NHWC"))]
    assert not [
        part for part in _warmup.parts(None, ["float32"], None) if isinstance(part, _warmup.FamilyPart)
    ]
    with pytest.raises(ValueError, match='layout is "HWC"'):
        chosen(["film"], ["float32"], ["HWC"])
