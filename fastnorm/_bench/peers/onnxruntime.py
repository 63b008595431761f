"""ONNX Runtime: a session of a graph with the one norm, its parameters as constants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import onnxruntime

from ..._threads import get_num_threads
from ..cases import Job
from ..inputs import Array, Inputs, NotOffered
from . import _onnx

_FATAL = 4  # only what ends the process is worth a line: what is not offered is told by the race


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    graph = _onnx.build(job, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = get_num_threads()
    options.log_severity_level = _FATAL
    try:
        session = onnxruntime.InferenceSession(
            graph.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its own exceptions have no base of their own
        raise NotOffered(f"ONNX Runtime takes no such graph: {str(error).splitlines()[0]}") from None
    return partial(session.run, None, graph.feeds)


def results(job: Job, returned: Any) -> tuple[Array, ...]:
    return _onnx.results(job, returned)
