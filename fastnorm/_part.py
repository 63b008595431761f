"""Parts of kernels: Numba leaves them in LLVM's language, to be optimised, and made machine code, in whole kernels only.

By itself it does both to each function, and again to whatever calls that: the two kernels of a layer norm and its backward
pass, of 150 functions each, took 14 and 13 s to compile so, and take 9 and 7.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from numba import njit
from numba._dynfunc import make_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Library(JITCodeLibrary):  # type: ignore[misc]
    """A function's code in LLVM's language, to be linked to others."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    """Numba's last step but for machine code."""

    _name = "lowering_of_a_part"

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        described, kept = lowered.fndesc, (state.library,)
        # Calls are told apart by what Python would call, if it might.
        name = described.qualname
        entry = make_function(described.lookup_module(), name, "a part of kernels", 0, lowered.env, kept)
        state.targetctx.insert_user_function(entry, described, kept)
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class _Compiler(CompilerBase):  # type: ignore[misc]
    """Numba's compiler, with that step in the place of its own."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        own = {NativeLowering: _Lowering}
        pipeline.passes = [(own.get(step, step), said) for step, said in pipeline.passes]
        return [pipeline]


class Part:
    """A function that only kernels call, with Numba's options for it.

    What compiles it, for Numba, is made when it first is: all 300 took 11 ms of an import, and as much of Python's time for
    garbage, and a kernel that is found on disk needs none.
    """

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.function, self._options = function, options

    @property
    def _numba_type_(self) -> Any:
        return self._dispatcher._numba_type_

    @cached_property
    def _dispatcher(self) -> Any:
        # What Python never calls needs no wrappers, each of which compiles a copy of what it wraps.
        no_wrappers = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        return njit(**self._options, **no_wrappers, pipeline_class=_Compiler)(self.function)
