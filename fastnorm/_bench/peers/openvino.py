"""OpenVINO, compiling the same ONNX graph for the latency of one call."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import openvino

from ..._threads import get_num_threads
from ..cases import Job
from ..inputs import Array, Inputs, NotOffered
from . import _onnx


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    if job.dtype == "float64":
        raise NotOffered("OpenVINO computes in float32 at most")
    graph = _onnx.build(job, inputs)
    core = openvino.Core()
    model = core.read_model(graph.model.SerializeToString())
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",  # or it would take bfloat16 where the CPU has it
    }
    return partial(core.compile_model(model, "CPU", options), graph.feeds)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    return _onnx.results(job, list(returned.values()))
