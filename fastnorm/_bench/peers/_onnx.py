"""The ONNX graph of a job, and the arrays to feed it: what the runtimes of ONNX models have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from ..cases import Job
from ..inputs import Array, Inputs, NotOffered

# Opset 23 has RMS norm; the sums with a residual are the runtimes' own.
_OPSETS = {"": 23, "com.microsoft": 1}
_IR_VERSION = 11  # that of opset 23, for runtimes older than the installed onnx
_EPSILON = {"epsilon": 1e-5}
_OPERATORS = {
    "layer_norm": "LayerNormalization",
    "rms_norm": "RMSNormalization",
    "batch_norm": "BatchNormalization",
    "instance_norm": "InstanceNormalization",
    "group_norm": "GroupNormalization",
}


@dataclass(frozen=True)
class Graph:
    """A model, and its inputs by name."""

    model: ModelProto
    feeds: dict[str, Array]


def build(job: Job, inputs: Inputs) -> Graph:
    """The job's graph, with the parameters as constants: a model at inference."""
    if job.backward or job.mode == "training":
        raise NotOffered(f"a runtime of models has no {job.mode}")
    if job.dtype == "bfloat16":
        raise NotOffered("bfloat16 arrays of NumPy are not taken")
    feeds = {"x": _rows(job, inputs.x)}
    if inputs.residual is not None:
        feeds["residual"] = _rows(job, inputs.residual)
    nodes, outputs = _nodes(job, feeds["x"].ndim)
    kind = helper.np_dtype_to_tensor_dtype(inputs.x.dtype)
    graph = helper.make_graph(
        nodes,
        job.norm,
        [helper.make_tensor_value_info(name, kind, array.shape) for name, array in feeds.items()],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        _constants(inputs),
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    return Graph(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION), feeds)


def results(job: Job, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """A graph's outputs in the layout of the inputs."""
    return tuple(array.reshape(job.stored_shape) for array in arrays)


def _rows(job: Job, array: Array) -> Array:
    return array.reshape(-1, job.channels) if _is_matrix(job) else array


def _is_matrix(job: Job) -> bool:
    """Whether the job is one on the rows of a matrix, so that no axis has to move."""
    return job.layout.endswith("C") and (job.along_axis or job.norm == "batch_norm")


def _constants(inputs: Inputs) -> list[TensorProto]:
    arrays = {"weight": inputs.weight, "bias": inputs.bias}
    arrays |= {"mean": inputs.running_mean, "var": inputs.running_var}
    dtype = inputs.x.dtype
    return [numpy_helper.from_array(a.astype(dtype), name) for name, a in arrays.items() if a is not None]


def _nodes(job: Job, axes: int) -> tuple[list[Any], list[str]]:
    """The norm, between transpositions where ONNX has another order of axes, and the names of the outputs."""
    order = list(range(axes)) if _is_matrix(job) else _order(job)
    moves = order != sorted(order)
    outputs = ["y", "total"] if job.adds else ["y"]
    inside = {name: f"{name}_moved" if moves else name for name in ("x", "residual", *outputs)}
    nodes = _norm(job, inside)
    if moves:
        sources = ["x", "residual"] if job.adds else ["x"]
        back = np.argsort(order).tolist()
        nodes = [
            *(helper.make_node("Transpose", [name], [inside[name]], perm=order) for name in sources),
            *nodes,
            *(helper.make_node("Transpose", [inside[name]], [name], perm=back) for name in outputs),
        ]
    return nodes, outputs


def _order(job: Job) -> list[int]:
    """ONNX's order of the axes: (N, C, …), or C last for layer and RMS norm."""
    spatial = [letter for letter in job.layout if letter not in "NC"]
    order = ["N", *spatial, "C"] if job.along_axis else ["N", "C", *spatial]
    return [job.layout.index(letter) for letter in order]


def _norm(job: Job, names: dict[str, str]) -> list[Any]:
    """The norm's node, and those of the sum before it or the activation after it."""
    x, y, parameters = names["x"], names["y"], ["weight", "bias"] if job.has_bias else ["weight"]
    if job.adds:
        return _sum(job, [x, names["residual"]], parameters, [y, names["total"]])
    if job.activation == "gelu":
        norm = _plain(job, [x, *parameters], "normalized")
        return [norm, helper.make_node("Gelu", ["normalized"], [y])]
    if job.activation:
        raise NotOffered(f"no graph with {job.activation} is written down here")
    return [_plain(job, [x, *parameters], y)]


def _sum(job: Job, terms: list[str], parameters: list[str], outputs: list[str]) -> list[Any]:
    """The runtimes' own fused node, or for the images that it does not take, one after the other."""
    y, total = outputs
    if len(job.shape) > 3 and not _is_matrix(job):
        return [helper.make_node("Add", terms, [total]), _plain(job, [total, *parameters], y)]
    operator = "SkipLayerNormalization" if job.has_bias else "SkipSimplifiedLayerNormalization"
    inputs, names = [*terms, *parameters], [y, "", "", total]
    return [helper.make_node(operator, inputs, names, domain="com.microsoft", **_EPSILON)]


def _plain(job: Job, inputs: list[str], output: str) -> Any:
    attributes: dict[str, Any] = _EPSILON | ({"num_groups": job.num_groups} if job.num_groups else {})
    if job.norm == "batch_norm":
        inputs = [*inputs, "mean", "var"]
    return helper.make_node(_OPERATORS[job.norm.removeprefix("add_")], inputs, [output], **attributes)
