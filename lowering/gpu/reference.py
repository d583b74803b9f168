"""A region's kernel by the CPU's emitter: the bits that a GPU must give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lowering.cpu.emit import emit_function
from lowering.cpu.jit import aligned, compile_module
from lowering.cpu.text import Module
from lowering.kernel import Buffer
from lowering.passes.to_gpu import region_kernel
from torsh_dialect.attributes import str_of
from torsh_dialect.dims import evaluate_dim
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.target import TargetInfo
from torsh_dialect.types import dims_of, element_type

Array = np.ndarray[Any, np.dtype[Any]]


def on_the_cpu(op: FusedOp, arrays: Sequence[Array], target: TargetInfo) -> Array:
    """The first result of a region of known extents, for arrays in the order of its operands.

    Args:
        op: The region, from which `to-gpu` would make a kernel.
        arrays: Its operands.
        target: A CPU that this machine is; one with FMA rounds as GPUs do.
    """
    kernel, text = region_kernel(op), Module()
    emit_function(text, kernel.function, target)
    outputs = [
        aligned(tuple(evaluate_dim(d, {}) for d in dims_of(r)), dtype_of(element_type(r)).numpy)
        for r in op.results
    ]
    memory = [*map(np.ascontiguousarray, arrays), *outputs]
    words = [memory[a.position] if isinstance(a, Buffer) else 0 for a in kernel.arguments]
    name = str_of(kernel.function.sym_name)
    code = compile_module(text, target, [name])
    code.kernel(name)(words, 0, evaluate_dim(kernel.units, {}))
    return outputs[0]
