"""The templates by name, as `kern.template` calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lowering.cpu.templates import (
    batched,
    conv,
    conv_int8,
    conv_transposed,
    depthwise,
    gemm,
    int8,
    pool,
    winograd,
)
from lowering.cpu.templates.epilogue import Epilogue
from lowering.cpu.text import Module
from torsh_dialect.target import TargetInfo

Emit = Callable[[Module, str, Any, TargetInfo], None]
EmitWithEpilogue = Callable[[Module, str, Any, TargetInfo, Epilogue], None]


def _with_epilogue(emit: Emit) -> EmitWithEpilogue:
    def run(module: Module, name: str, params: Any, target: TargetInfo, epilogue: Epilogue) -> None:
        emit(module, name, replace(params, epilogue=epilogue), target)

    return run


EMITTERS: dict[str, EmitWithEpilogue] = {
    "gemm": _with_epilogue(gemm.emit),
    "batched_gemm": _with_epilogue(batched.emit),
    "int8_gemm": _with_epilogue(int8.emit),
    "conv": _with_epilogue(conv.emit),
    "int8_conv": _with_epilogue(conv_int8.emit),
    "int8_conv_pack": lambda module, name, params, target, _: conv_int8.emit_pack(
        module, name, params, target
    ),
    "conv_transposed": _with_epilogue(conv_transposed.emit),
    "winograd": _with_epilogue(winograd.emit),
    "depthwise": _with_epilogue(depthwise.emit),
    "pool": _with_epilogue(pool.emit),
    "global_mean": _with_epilogue(pool.emit_global_mean),
    "conv_transposed_pack": lambda module, name, params, target, _: conv_transposed.emit_pack(
        module, name, params, target
    ),
    "winograd_pack": lambda module, name, params, target, _: winograd.emit_pack(
        module, name, params, target
    ),
}
"""What writes a kernel: (module, name, parameters, target, epilogue)."""
