"""The layers that `quantize` changes, and how their operands are quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, OpResult, SSAValue

from torsh_dialect.attributes import Array, str_of
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dtypes import dtype_of, f32, i4, ui8
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.evaluate import evaluate_op
from torsh_dialect.kinds import TensorOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.contract import LinearOp, MatMulOp
from torsh_dialect.ops.conv import ConvOp
from torsh_dialect.ops.quant import (
    DequantizeLinearOp,
    DynamicQuantizeLinearOp,
    QuantizeLinearOp,
)
from torsh_dialect.passes.roles import is_weight_only
from torsh_dialect.types import dims_of, element_type, is_static, rank_of
from torsh_dialect.weights import WeightStore

SHRINKS = np.linspace(1.0, 0.75, 11)
"""Parts of the largest magnitude that 4-bit scales are tried with."""


@dataclass(frozen=True)
class Layer:
    """A product or convolution of f32 by a weight.

    Attributes:
        name: The weight's name, and a number where it is used again.
        op: A `linear`, `matmul` or `conv`; operand 0 is the activation, operand 1 the weight.
    """

    name: str
    op: LinearOp | MatMulOp | ConvOp

    @property
    def kind(self) -> str:
        """`linear`, `matmul` or `conv`."""
        return self.op.name.removeprefix("torsh.")

    @property
    def output_axis(self) -> int:
        """The axis of the weight along which results lie."""
        return 1 if isinstance(self.op, MatMulOp) else 0


def main_of(module: ModuleOp) -> FuncOp:
    """`@main` of a module."""
    return next(op for op in module.ops if isinstance(op, FuncOp) and op.sym_name.data == "main")


def layers_of(module: ModuleOp) -> list[Layer]:
    """The layers in `@main`, outside of control flow, in order."""
    found: list[Layer] = []
    for op in main_of(module).body.block.ops:
        if isinstance(op, LinearOp | MatMulOp | ConvOp) and _is_layer(op):
            name, taken = _weight_name(op.operands[1]), {layer.name for layer in found}
            number = 1
            while name in taken:
                number += 1
                name = f"{name.partition('#')[0]}#{number}"
            found.append(Layer(name, op))
    return found


def _is_layer(op: LinearOp | MatMulOp | ConvOp) -> bool:
    x, w = op.operands[:2]
    if element_type(x) != f32 or element_type(w) != f32 or not is_static(w):
        return False
    plain = isinstance(op, ConvOp) or rank_of(w) == 2
    return plain and is_weight_only(w) and not is_weight_only(x)


def _weight_name(value: SSAValue) -> str:
    """The first weight that a value depends on."""
    work = [value]
    while work:
        owner = work.pop().owner
        if isinstance(owner, WeightOp):
            return str_of(owner.id)
        if isinstance(owner, Operation):
            work.extend(reversed(owner.operands))
    return "constant"


def array_of(value: SSAValue, weights: Mapping[str, Array]) -> Array:
    """What a value that depends on weights alone is."""
    assert isinstance(value, OpResult)
    assert isinstance(value.op, TensorOp)
    if isinstance(value.op, WeightOp):
        return weights[str_of(value.op.id)]
    operands = [array_of(operand, weights) for operand in value.op.operands]
    return evaluate_op(value.op, operands, {})[value.index]


@dataclass(frozen=True)
class Range:
    """The least and greatest value of an activation, 0 included."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """The step of 8 bits."""
        return np.float32((self.high - self.low) / 255 or 1 / 255)

    @property
    def zero(self) -> np.uint8:
        """The integer of 0."""
        return np.uint8(np.clip(np.rint(-self.low / float(self.scale)), 0, 255))


def range_of(arrays: Sequence[Array], percentile: float) -> Range:
    """The range of a layer's inputs over all calls.

    Args:
        arrays: The inputs.
        percentile: 100 takes the extremes; less leaves out outliers at both ends.

    Raises:
        InvalidArgumentError: An input holds NaN or infinity.
    """
    low = high = 0.0
    for array in arrays:
        if array.size:
            values: Any = array
            ends: Any = np.percentile(values, [100 - percentile, percentile])
            low, high = float(np.minimum(low, ends[0])), float(np.maximum(high, ends[1]))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InvalidArgumentError(f"calibration gave values from {low} to {high}; remove NaN")
    return Range(low, high)


@dataclass(frozen=True)
class QuantisedWeight:
    """Integers and their scales.

    Attributes:
        q: i8 or i4, of the weight's shape.
        scale: f32: one for each index of an axis, or one for each block of it.
        axis: The axis of the scale.
        block: Elements with one scale; 0 where an index has one.
    """

    q: Array
    scale: Array
    axis: int
    block: int = 0


def by_channel(w: Array, axis: int) -> QuantisedWeight:
    """Symmetric 8 bits with a scale for each index of `axis`."""
    others = tuple(n for n in range(w.ndim) if n != axis)
    scale = np.maximum(np.abs(w).max(axis=others), np.finfo(np.float32).tiny) / 127
    spread = scale.reshape([-1 if n == axis else 1 for n in range(w.ndim)]).astype(np.float32)
    q = np.clip(np.rint(w / spread), -127, 127)
    return QuantisedWeight(q.astype(np.int8), scale.astype(np.float32), axis)


def by_blocks(w: Array, axis: int, block: int, bits: int) -> QuantisedWeight:
    """Symmetric 8 or 4 bits with a scale for each `block` elements of `axis` of a matrix.

    4 bits take, of a few scales at and under the largest magnitude, the one of least squared
    error; clipping a block's largest weight often costs less than a coarser step for all.
    """
    moved: Any = np.moveaxis(w, axis, -1)
    blocks: Any = moved.reshape(moved.shape[0], -1, block).astype(np.float32)
    most = 2 ** (bits - 1) - 1
    best = _block_scales(blocks, most, SHRINKS if bits == 4 else SHRINKS[:1])
    q: Any = np.clip(np.rint(blocks / best), -most - 1, most).astype(np.int8)
    q = np.moveaxis(q.reshape(moved.shape), -1, axis)
    q = q.astype(dtype_of(i4).numpy) if bits == 4 else q
    return QuantisedWeight(
        np.ascontiguousarray(q), np.moveaxis(best[..., 0], -1, axis), axis, block
    )


def _block_scales(blocks: Any, most: int, parts: Any) -> Any:
    """Of `parts` of the scale that holds a block's largest magnitude, that of least error."""
    full = np.maximum(np.abs(blocks).max(-1, keepdims=True), np.finfo(np.float32).tiny) / most
    tried: list[Any] = [(full * part).astype(np.float32) for part in parts]
    errors: list[Any] = []
    for scale in tried:
        rounded = np.clip(np.rint(blocks / scale), -most - 1, most) * scale
        errors.append(((rounded - blocks) ** 2).sum(-1, keepdims=True))
    best: Any = np.argmin(np.stack(errors), axis=0)
    return np.take_along_axis(np.stack(tried), best[None], 0)[0]


def dequantised_weight(
    b: BlockBuilder, store: WeightStore, name: str, w: QuantisedWeight
) -> SSAValue:
    """The ops that give the weight back from its integers, which go into the store."""
    stored = store.add(f"{name}.quantised", w.q)
    q = b(WeightOp, id=stored, type=store.type_of(stored))
    scales = store.add(f"{name}.scale", np.ascontiguousarray(w.scale))
    scale = b(WeightOp, id=scales, type=store.type_of(scales))
    return b(DequantizeLinearOp, q, scale, None, axis=w.axis, block_size=w.block or None)


def quantised_activation(b: BlockBuilder, x: SSAValue, range_: Range | None) -> SSAValue:
    """An activation through 8 unsigned bits, with a fixed range or, for None, that of each call."""
    if range_ is None:
        q, scale, zero = b.all(DynamicQuantizeLinearOp, x)
        return b(DequantizeLinearOp, q, scale, zero)
    scale = b.constant(np.asarray(range_.scale), f32)
    zero = b.constant(np.asarray(range_.zero), ui8)
    q = b(QuantizeLinearOp, x, scale, zero, to=ui8)
    return b(DequantizeLinearOp, q, scale, zero)


def depth_of(layer: Layer) -> int:
    """Steps that a matrix product contracts; 0 for a convolution."""
    if isinstance(layer.op, ConvOp):
        return 0
    depth = dims_of(layer.op.operands[1])[1 - layer.output_axis]
    return depth if isinstance(depth, int) else 0
