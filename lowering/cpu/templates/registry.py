"""The templates by name, as `kern.template` calls them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lowering.cpu.templates import (
    attention,
    batched,
    conv,
    conv_int8,
    conv_transposed,
    depthwise,
    gemm,
    gemm_blocks,
    int8,
    int8_batched,
    norm,
    pool,
    softmax,
    transposed,
    winograd,
)
from lowering.cpu.templates.epilogue import IDENTITY, Hooks
from lowering.cpu.text import Module
from torsh_dialect.target import TargetInfo

Emit = Callable[[Module, str, Any, TargetInfo], None]
EmitWithHooks = Callable[[Module, str, Any, TargetInfo, Hooks], None]


def _with_epilogue(emit: Emit) -> EmitWithHooks:
    def run(module: Module, name: str, params: Any, target: TargetInfo, hooks: Hooks) -> None:
        emit(module, name, replace(params, epilogue=hooks.epilogue or IDENTITY), target)

    return run


def _with_hooks(emit: Emit) -> EmitWithHooks:
    def run(module: Module, name: str, params: Any, target: TargetInfo, hooks: Hooks) -> None:
        emit(module, name, replace(params, hooks=hooks), target)

    return run


def _alone(emit: Emit) -> EmitWithHooks:
    def run(module: Module, name: str, params: Any, target: TargetInfo, hooks: Hooks) -> None:
        assert hooks == Hooks(), "fuse puts nothing around this template"
        emit(module, name, params, target)

    return run


EMITTERS: dict[str, EmitWithHooks] = {
    "attention": _alone(attention.emit),
    "norm": _with_hooks(norm.emit),
    "softmax": _with_hooks(softmax.emit),
    "gemm": _with_epilogue(gemm.emit),
    "batched_gemm": _with_epilogue(batched.emit),
    "gemm_blocks": _with_epilogue(gemm_blocks.emit),
    "int8_gemm": _with_epilogue(int8.emit),
    "int8_batched": _with_epilogue(int8_batched.emit),
    "conv": _with_epilogue(conv.emit),
    "int8_conv": _with_epilogue(conv_int8.emit),
    "transpose": _alone(transposed.emit),
    "int8_conv_pack": _alone(conv_int8.emit_pack),
    "conv_transposed": _with_epilogue(conv_transposed.emit),
    "winograd": _with_epilogue(winograd.emit),
    "depthwise": _with_epilogue(depthwise.emit),
    "pool": _with_epilogue(pool.emit),
    "global_mean": _with_epilogue(pool.emit_global_mean),
    "conv_transposed_pack": _alone(conv_transposed.emit_pack),
    "winograd_pack": _alone(winograd.emit_pack),
}
"""What writes a kernel: (module, name, parameters, target, hooks)."""
