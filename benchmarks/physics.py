"""What a compiled program executes: the check that a timing is possible at all."""

from __future__ import annotations

import timeit
from math import prod

import torch

from lowering.cpu.host import host_target
from lowering.cpu.templates import winograd
from lowering.passes.schedule import window_axis
from torsh_dialect.attributes import extents_of, int_of, ints_of, str_of
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.packed import PackedConvOp, PackedConvTransposeOp, PackedLinearOp
from torsh_dialect.ops.strided_attention import StridedAttentionOp
from torsh_dialect.types import dims_of
from torsh_fx.compiled import CompiledModule


def executed(compiled: CompiledModule) -> tuple[float, float]:
    """Floating-point operations of products and convolutions as scheduled, and bytes they read.

    The bytes are those of packed weights, which every call reads whole. Winograd's products are
    counted as they are executed, not as a direct convolution. Ops in loops are counted once, so
    no count is too high.
    """
    flops = size = 0.0
    for op in compiled.optimised.walk():
        if isinstance(op, PackedLinearOp | PackedConvOp | PackedConvTransposeOp):
            size += 4.0 * prod(dims_of(op.w))
        if isinstance(op, PackedLinearOp):
            flops += 2.0 * prod(dims_of(op.y)) * dims_of(op.x)[-1]
        elif isinstance(op, MatMulOp):
            flops += 2.0 * prod(dims_of(op.y)) * dims_of(op.a)[-1]
        elif isinstance(op, StridedAttentionOp):
            batch, heads, _, rows, keys, depth, width = extents_of(op.extents)
            flops += 2.0 * batch * heads * rows * keys * (depth + width)
        elif isinstance(op, PackedConvOp):
            flops += _conv(op)
        elif isinstance(op, PackedConvTransposeOp):
            taps, groups = prod(ints_of(op.kernel)), dims_of(op.w)[0]
            flops += 2.0 * prod(dims_of(op.x)) * taps * int_of(op.filters) / groups
    return flops, size


def _conv(op: PackedConvOp) -> float:
    dims, y = dims_of(op.x), dims_of(op.y)
    groups = 1 if op.groups is None else int_of(op.groups)
    if str_of(op.algorithm) == "winograd":
        g = op.geometry()
        params = winograd.WinogradParams(
            dims[-1], int_of(op.filters), window_axis(g, 0), window_axis(g, 1)
        )
        return float(winograd.flops(params, *dims[:3]))
    return 2.0 * prod(y) * prod(ints_of(op.kernel)) * dims[-1] / groups


def read_seconds(size: float, threads: int) -> float:
    """The least time that `threads` cores take to read `size` bytes: the best of two sums."""
    x = torch.ones(int(size) // 4)
    torch.set_num_threads(threads)
    return min(
        min(timeit.repeat(lambda: x.sum(), number=1, repeat=12)),
        min(timeit.repeat(lambda: torch.dot(x, x), number=1, repeat=12)),
    )


def peak_flops() -> float:
    """Floating-point operations a second that one core reaches in registers."""
    from templates import measure_peak

    return measure_peak(host_target()) * 1e9
