"""What an emitter of `kern` code knows at a place, and the table of emitters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from xdsl.ir import Block, Operation, SSAValue

from lowering.cpu.text import Text, Value
from lowering.cpu.values import Val, register_type
from lowering.kern import dialect as kern
from torsh_dialect.errors import CodegenError
from torsh_dialect.target import TargetInfo

Emit = Callable[["Emitter", Operation], None]
EMITTERS: dict[type[Operation], Emit] = {}
"""How each op is emitted; `lowering.cpu.emit` imports the files that fill it."""

E = TypeVar("E", bound=Emit)


def emits(kind: type[Operation]) -> Callable[[E], E]:
    """Registers how ops of a class are emitted."""

    def register(emit: E) -> E:
        EMITTERS[kind] = emit
        return emit

    return register


@dataclass
class Emitter:
    """Emits one function body.

    Attributes:
        text: The LLVM function being written.
        lanes: Width of the lanes loop around the current place; 1 outside.
        mask: Which lanes take part, where not all do.
        values: What `kern` values have become.
        filled: Loads that give the constant which is selected where they load nothing.
        quotients: Of an index by a number, where it is the same for all lanes (`periods`).
        known: Comparisons that have one result in this part of a loop (`borders`).
    """

    text: Text
    target: TargetInfo
    lanes: int = 1
    mask: Value | None = None
    values: dict[SSAValue, Val] = field(default_factory=dict[SSAValue, Val])
    filled: set[Operation] = field(default_factory=set[Operation])
    quotients: dict[tuple[SSAValue, SSAValue], Value] = field(
        default_factory=dict[tuple[SSAValue, SSAValue], Value]
    )
    known: dict[SSAValue, bool] = field(default_factory=dict[SSAValue, bool])

    # -- access to values

    def get(self, value: SSAValue) -> Val:
        """What a `kern` value has become."""
        return self.values[value]

    def scalar(self, value: SSAValue) -> Value:
        """A uniform value.

        Raises:
            CodegenError: It varies over the lanes.
        """
        val = self.values[value]
        if val.lanes != 1:
            raise CodegenError(f"a value of {value.owner} varies over lanes where it may not")
        return val.text

    def operands(self, values: Sequence[SSAValue]) -> tuple[list[Value], int]:
        """Operands of one width: scalars if all are uniform, else vectors."""
        vals = [self.values[v] for v in values]
        lanes = max(v.lanes for v in vals)
        return [v.vector(self.text, lanes) for v in vals], lanes

    def set(self, result: SSAValue, text: Value, lanes: int) -> None:
        """Record a result."""
        self.values[result] = Val(text, register_type(result.type), lanes)

    # -- blocks

    def block(self, block: Block) -> list[SSAValue]:
        """Emit the ops of a block; returns what its terminator yields."""
        for op in block.ops:
            if isinstance(op, kern.YieldOp | kern.ReturnOp):
                return list(op.operands)
            EMITTERS[type(op)](self, op)
        return []

    def inner(self, lanes: int, mask: Value | None) -> Emitter:
        """An emitter for code nested in other lanes; sees all values of this one."""
        return Emitter(
            self.text, self.target, lanes, mask, self.values, self.filled, self.quotients,
            self.known,
        )  # fmt: skip
