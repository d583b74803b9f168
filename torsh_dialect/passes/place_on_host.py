"""Forget devices in a program for the CPU, and refuse values that must be on a GPU.

Before:

    %y = torsh.to_device %x {device = "cpu"}
        : (tensor<3xf32>) -> tensor<3xf32, #torsh.tensor<device = "cpu">>
    %z = torsh.relu %y : ...

After: `torsh.relu %x`, and no type names a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdsl.context import Context
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, Operation, SSAValue
from xdsl.passes import ModulePass
from xdsl.pattern_rewriter import PatternRewriter, RewritePattern, op_type_rewrite_pattern
from xdsl.rewriter import Rewriter

from torsh_dialect.driver import rewrite, words_of
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.ops.storage import ToDeviceOp
from torsh_dialect.types import device_of, is_stored, layout_of, with_storage


class DropToDevice(RewritePattern):
    """A value that stays on the CPU is itself."""

    @op_type_rewrite_pattern
    def match_and_rewrite(self, op: ToDeviceOp, rewriter: PatternRewriter):
        rewriter.replace(op, (), [op.x])


def values_in(module: ModuleOp) -> Iterator[SSAValue]:
    """Arguments of blocks and results of ops."""
    for op in module.walk():
        for region in op.regions:
            for block in region.blocks:
                yield from block.args
        yield from op.results


def _refuse(value: SSAValue, device: str) -> None:
    owner = value.owner
    name = f"%{value.name_hint}" if value.name_hint else "a value"
    made = f", the result of {owner.name}," if isinstance(owner, Operation) else ""
    place = words_of(owner.location) if isinstance(owner, Operation) else ""
    raise UnsupportedError(
        f"{name}{made} is on {device}, but the program is compiled for a CPU; compile it for a "
        "GPU (pass to-gpu), or move model and inputs to the CPU",
        location=place or None,
    )


def _anywhere(type: Attribute) -> Attribute:
    return with_storage(type, layout_of(type), None) if is_stored(type) else type


@dataclass(frozen=True)
class PlaceOnHostPass(ModulePass):
    """See the module docstring."""

    name = "place-on-host"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        placed = [v for v in values_in(op) if is_stored(v.type) and device_of(v) is not None]
        for value in placed:
            if (device := device_of(value)) not in (None, "cpu"):
                _refuse(value, device)
        if not placed:
            return
        for value in placed:
            if isinstance(value.owner, WeightOp):
                value.owner.properties["type"] = _anywhere(value.type)
            hint = value.name_hint
            Rewriter.replace_value_with_new_type(value, _anywhere(value.type)).name_hint = hint
        for function in op.ops:
            if isinstance(function, FuncOp):
                _, given = function.function_type.inputs, function.function_type.outputs
                inputs = [a.type for a in function.args]
                outputs = [_anywhere(type) for type in given]
                function.properties["function_type"] = FunctionType.from_lists(inputs, outputs)
        rewrite(op, DropToDevice())
