"""Names of the values and nodes of a module, as a graph shows them.

A node's name is the attribute `torsh.name` of its op; ops without one (of imported models, or
inserted by passes) are called `node_0`, `node_1`, ... in order, and keep that name as long as
they exist. Weights are called as in the store. A node of several results has `node_0.0`,
`node_0.1`, ...; its own name is the first. In the body of a loop, the loop's values have the
names of the first values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, BlockArgument, Operation, OpResult, SSAValue

from torsh_dialect.attributes import names_attribute, strs_of, text
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.control import LoopOp, YieldOp
from torsh_dialect.ops.fused import FusedOp
from torsh_dialect.vocabulary import LITERAL, NAME

LITERALS: dict[str, float | bool] = {"zero": 0.0, "one": 1.0, "true": True, "false": False}
"""Names that stand for a number where no value is called so."""

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def literal_number(name: str) -> float | int | bool | None:
    """The number that a name stands for, e.g. `0.5` or `zero`; None if it stands for none."""
    if name in LITERALS:
        return LITERALS[name]
    if not _NUMBER.fullmatch(name):
        return None
    return float(name) if re.search(r"[.eE]", name) else int(name)


def node_ops(block: Block) -> Iterator[Operation]:
    """The ops of a block that are nodes, those in regions of control ops before their op."""
    for op in block.ops:
        if isinstance(op, ReturnOp | YieldOp) or LITERAL in op.attributes:
            continue
        if not isinstance(op, FusedOp):
            for region in op.regions:
                yield from node_ops(region.block)
        yield op


@dataclass
class Names:
    """Names of the nodes and values of one function.

    Attributes:
        function: Usually `@main`.
    """

    function: FuncOp
    _made: WeakKeyDictionary[Operation, str] = field(
        default_factory=WeakKeyDictionary[Operation, str]
    )
    _found: dict[str, Operation] = field(default_factory=dict[str, Operation])
    _count: int = 0

    @property
    def block(self) -> Block:
        """The function's block."""
        return self.function.body.block

    def inputs(self) -> list[str]:
        """Names of the function's arguments."""
        given = self.function.attributes.get("arg_names")
        names = list(strs_of(given)) if given is not None else []
        return [
            names[n] if n < len(names) else argument.name_hint or f"arg_{n}"
            for n, argument in enumerate(self.block.args)
        ]

    def outputs(self) -> list[str]:
        """Names of the function's results as callers know them."""
        given = self.function.attributes.get("result_names")
        names = list(strs_of(given)) if given is not None else []
        last = self.block.last_op
        count = len(last.operands) if last is not None else 0
        return [names[n] if n < len(names) else f"output_{n}" for n in range(count)]

    def set_inputs(self, names: list[str]) -> None:
        """Rename the arguments."""
        self.function.attributes["arg_names"] = names_attribute(names)

    def set_outputs(self, names: list[str]) -> None:
        """Rename the results."""
        self.function.attributes["result_names"] = names_attribute(names)

    def of(self, op: Operation) -> str:
        """The name of a node."""
        given = op.attributes.get(NAME)
        if given is not None:
            return getattr(given, "data", "")
        if op not in self._made:
            self._name_all()
        return self._made[op]

    def _name_all(self) -> None:
        """Name all ops that have no name yet, in order."""
        ops = list(node_ops(self.block))
        taken = {name for op in ops if (name := self._known(op)) is not None}
        taken |= set(self.inputs())
        for op in ops:
            if self._known(op) is not None:
                continue
            if isinstance(op, WeightOp) and op.id.data not in taken:
                name = op.id.data
            else:
                while (name := f"node_{self._count}") in taken:
                    self._count += 1
            taken.add(name)
            self._made[op] = name

    def _known(self, op: Operation) -> str | None:
        given = op.attributes.get(NAME)
        return getattr(given, "data", "") if given is not None else self._made.get(op)

    def keep(self, op: Operation, name: str) -> None:
        """Give a node a name that stays in the module."""
        op.attributes[NAME] = text(name)
        self._found[name] = op

    def remember(self, op: Operation, name: str) -> None:
        """Call a node `name` without writing that into the module."""
        self._made[op] = name

    def value(self, value: SSAValue) -> str:
        """The name of a value."""
        if isinstance(value, BlockArgument):
            return self._argument(value)
        assert isinstance(value, OpResult)
        if isinstance(value.op, ConstantOp) and LITERAL in value.op.attributes:
            return getattr(value.op.attributes[LITERAL], "data", "")
        name = self.of(value.op)
        return name if len(value.op.results) == 1 else f"{name}.{value.index}"

    def _argument(self, value: BlockArgument) -> str:
        parent = value.owner.parent_op()
        if parent is self.function:
            return self.inputs()[value.index]
        assert isinstance(parent, LoopOp)
        if value.index == 0:
            return f"{self.of(parent)}.step"
        return self.value(parent.carried[value.index - 1])

    # -- from names to values

    def find(self, name: str, at: Operation | None = None) -> SSAValue | None:
        """The value called `name` that an op at `at` (default: the end) can use; None if none is.

        Raises:
            InvalidArgumentError: The value exists, but not at that place.
        """
        for loop in _loops_around(at):
            for index, carried in enumerate(loop.carried):
                if self.value(carried) == name:
                    return loop.body.block.args[index + 1]
        if name in (inputs := self.inputs()):
            return self.block.args[inputs.index(name)]
        found = self._result(name) if literal_number(name) is None else None
        if found is not None and at is not None and not defined_before(found, at):
            raise InvalidArgumentError(f"{name!r} is not computed yet where it is used")
        return found

    def _result(self, name: str) -> SSAValue | None:
        op = self._op(name)
        if op is not None:
            return op.results[0] if op.results else None
        node, _, index = name.rpartition(".")
        op = self._op(node) if index.isdigit() else None
        return op.results[int(index)] if op is not None and int(index) < len(op.results) else None

    def _op(self, name: str) -> Operation | None:
        """The op of a node; remembers where it was found, and looks again if it has moved."""
        known = self._found.get(name)
        if known is not None and self._is_here(known) and self.of(known) == name:
            return known
        self._found = {self.of(op): op for op in node_ops(self.block)}
        return self._found.get(name)

    def _is_here(self, op: Operation) -> bool:
        current: Operation | None = op
        while current is not None and current is not self.function:
            current = current.parent_op()
        return current is self.function


def _loops_around(at: Operation | None) -> Iterator[LoopOp]:
    parent = at.parent_op() if at is not None else None
    while parent is not None:
        if isinstance(parent, LoopOp):
            yield parent
        parent = parent.parent_op()


def defined_before(value: SSAValue, at: Operation) -> bool:
    """Whether `value` exists where `at` stands."""
    block = value.owner if isinstance(value.owner, Block) else value.owner.parent
    current: Operation | None = at
    while current is not None and current.parent is not block:
        current = current.parent_op()
    if current is None:
        return False
    return isinstance(value.owner, Block) or value.owner.is_before_in_block(current)
