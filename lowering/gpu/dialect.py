"""xDSL's `gpu` dialect with the ops that it lacks, under the same dialect name."""

from __future__ import annotations

from xdsl.dialects import gpu
from xdsl.dialects.builtin import I64, IntegerAttr, StringAttr, i1, i32
from xdsl.ir import Dialect
from xdsl.irdl import (
    IRDLOperation,
    irdl_op_definition,
    operand_def,
    prop_def,
    result_def,
)
from xdsl.utils.exceptions import VerifyException

from lowering.kern.dialect import BufferType

SHUFFLE_MODES = ("down", "idx")


@irdl_op_definition
class ShuffleOp(IRDLOperation):
    """The value that another lane of the subgroup has: lane + offset (`down`) or offset (`idx`).

    Upstream's `gpu.shuffle`, with its operands and results; `width` is the subgroup's, 32.
    """

    name = "gpu.shuffle"
    value = operand_def()
    offset = operand_def(i32)
    width = operand_def(i32)
    mode = prop_def(StringAttr)
    shuffle_result = result_def()
    valid = result_def(i1)

    def verify_(self) -> None:
        if self.mode.data not in SHUFFLE_MODES:
            raise VerifyException(f"mode is {self.mode.data!r}, but must be one of {SHUFFLE_MODES}")
        if self.shuffle_result.type != self.value.type:
            raise VerifyException("the result must have the value's type")


@irdl_op_definition
class WorkgroupMemoryOp(IRDLOperation):
    """Memory that the threads of a block share: `count` elements, undefined at first.

    Upstream writes it as a workgroup attribution of `gpu.func`, which xDSL's verifier refuses.
    """

    name = "gpu.workgroup_memory"
    count = prop_def(IntegerAttr[I64])
    buffer = result_def(BufferType)


GPU = Dialect("gpu", [*gpu.GPU.operations, ShuffleOp, WorkgroupMemoryOp], list(gpu.GPU.attributes))
"""The dialect, for a context."""
