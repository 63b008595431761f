"""PyTorch's calls compiled by `torch.compile`, which writes C++ for the very shapes and needs its compiler."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch._functorch.config as autograd_config

from ..cases import Job
from ..inputs import Inputs, NotOffered
from .torch import prepare as prepare_eager
from .torch import results as results

# The backward pass is run again and again on what one forward pass has saved, so it must not write over it.
autograd_config.donated_buffer = False


def prepare(job: Job, inputs: Inputs) -> Callable[[], Any]:
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise NotOffered(f"torch.compile needs a C++ compiler, and there is no {compiler}")
    torch.compiler.reset()  # or the eighth shape would be left to eager mode
    return prepare_eager(job, inputs, _compiled)


def _compiled(call: partial[Any]) -> Callable[[], Any]:
    return partial(torch.compile(call.func), *call.args, **call.keywords)
