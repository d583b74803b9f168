"""PTX of a `gpu.module`: targets, code generation in a worker, and what must not be in it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from xdsl.dialects import gpu
from xdsl.dialects.builtin import ModuleOp

from lowering.codegen import CodeGenerator, CodegenUnit
from lowering.gpu.emit import llvm_text
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TargetInfo


def _nvidia(cpu: str, features: str) -> TargetInfo:
    return TargetInfo(cpu, "nvptx64-nvidia-cuda", cpu, features, 4, 255, True)


GPU_TARGETS: Mapping[str, TargetInfo] = {
    "sm_80": _nvidia("sm_80", "+ptx75"),
    "sm_90": _nvidia("sm_90", "+ptx80"),
}
"""GPU targets by name; PTX for one runs on every newer card too."""

CALL = re.compile(r"\.extern\s+\.func.*?(\S+)\s*\(|\bcall(?:\.uni)?\b.*", re.DOTALL)
"""Signs of a function that nobody defines: LLVM takes unknown `llvm.nvvm` names for those."""

CONTRACTIBLE = re.compile(r"^\s*(?:add|sub|mul)\.(?:ftz\.)?f(?:32|64)\b.*", re.MULTILINE)
"""Arithmetic without `.rn`, which the assembler may fuse, so that bits would change."""


def gpu_module(module: ModuleOp) -> gpu.ModuleOp:
    """The module of kernels that the pass `to-gpu` has made.

    Raises:
        CodegenError: There is none.
    """
    for op in module.ops:
        if isinstance(op, gpu.ModuleOp):
            return op
    raise CodegenError("the module has no gpu.module; run the pass to-gpu before")


def ptx_unit(module: ModuleOp, target: TargetInfo) -> CodegenUnit:
    """The kernels of a module as a request for PTX."""
    text = llvm_text(gpu_module(module), target)
    return CodegenUnit("kernels", text, target, passes=2, codegen=3, emit="asm")


def ptx_of(module: ModuleOp, target: TargetInfo, generator: CodeGenerator) -> str:
    """The PTX of a module's kernels.

    Raises:
        CodegenError: LLVM refused the text, or the PTX would need a library or give other bits.
    """
    (product,) = generator.compile([ptx_unit(module, target)])
    text = product.decode()
    check_ptx(text)
    return text


def check_ptx(text: str) -> None:
    """Refuse PTX that calls something or leaves rounding to the assembler.

    Raises:
        CodegenError: With the offending line.
    """
    if (found := CALL.search(text) or CONTRACTIBLE.search(text)) is not None:
        line = found.group(0).splitlines()[0].strip()
        raise CodegenError(f"the PTX has {line!r}, which is not self-contained, exact code")
