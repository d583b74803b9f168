"""The vocabulary: what an operation of a graph means, by its name.

A name means a torsh op of that mnemonic (`relu`, `layer_norm`), with the op's properties as
options, unless the table of `torsh_dialect.operations` says otherwise: names that frameworks
use (`greater`, `conv2d`), options with defaults (`softmax` along the last axis) and operations
with parameters beside their arguments (`linear` of `x` has `weight` and `bias`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TypeAlias

import numpy as np
from xdsl.dialects.builtin import TensorType
from xdsl.ir import Attribute, OpResult, SSAValue
from xdsl.irdl import OptOperandDef, VarOperandDef, VarResultDef

from torsh_dialect.attributes import text
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import DType, dtype_of
from torsh_dialect.errors import InvalidArgumentError, UnboundParameterError, UnsupportedError
from torsh_dialect.kinds import Binary, Control, Operand, TensorOp
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.constant import ConstantOp, WeightOp
from torsh_dialect.ops.select import WhereOp
from torsh_dialect.plain import Value, plain_options
from torsh_dialect.types import element_type, rank_of

NAME = "torsh.name"
"""Attribute of an op: the name of its node in the graph."""

LITERAL = "torsh.literal_name"
"""Attribute of a constant that is written as a literal; its element type follows its user."""


@dataclass
class Call:
    """One call of an operation, while it is given its meaning.

    Attributes:
        operation: The operation's name.
        node: The name of the node, for parameters and messages.
        arguments: Its arguments; never empty for operations of the vocabulary.
        b: Where ops go.
        options: Its options as plain values.
        types: Types of the parameters that are bound, by name in the operation.
    """

    operation: str
    node: str
    arguments: Sequence[SSAValue]
    b: BlockBuilder
    options: Mapping[str, Value] = field(default_factory=dict[str, Value])
    types: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    _read: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        self.c = Compose(self.b)

    def argument(self, index: int) -> SSAValue:
        """An argument that must be there.

        Raises:
            InvalidArgumentError: There are fewer.
        """
        if index >= len(self.arguments):
            raise InvalidArgumentError(
                f"{self.operation} takes at least {index + 1} arguments, got {len(self.arguments)}"
            )
        return self.arguments[index]

    def option(self, *names: str, default: Value | None = None) -> Value | None:
        """The value of an option, which may be spelled in several ways.

        Raises:
            InvalidArgumentError: It is given twice.
        """
        self._read.update(names)
        given = [name for name in names if name in self.options]
        if len(given) > 1:
            raise InvalidArgumentError(f"{self.operation}: {' and '.join(given)} mean the same")
        return self.options[given[0]] if given else default

    def integer(self, *names: str, default: int) -> int:
        """An option that is an integer.

        Raises:
            InvalidArgumentError: It is something else.
        """
        value = self.option(*names, default=default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidArgumentError(f"{self.operation}: {names[0]} is {value!r}, not an integer")
        return value

    def real(self, *names: str, default: float) -> float:
        """An option that is a number.

        Raises:
            InvalidArgumentError: It is something else.
        """
        value = self.option(*names, default=default)
        if not isinstance(value, int | float):
            raise InvalidArgumentError(f"{self.operation}: {names[0]} is {value!r}, not a number")
        return float(value)

    def integers(self, *names: str, count: int, default: int | None = None) -> list[int]:
        """An option of `count` integers; one integer stands for all.

        Raises:
            InvalidArgumentError: It is something else, or missing without a default.
        """
        value = self.option(*names, default=default)
        if isinstance(value, int) and not isinstance(value, bool):
            return [value] * count
        whole = [v for v in value if isinstance(v, int)] if isinstance(value, list) else []
        if len(whole) != count:
            raise InvalidArgumentError(
                f"{self.operation}: {names[0]} is {value!r}, expected {count} integers"
            )
        return whole

    def parameter(self, name: str) -> SSAValue:
        """The weight `name` that the node has beside its arguments.

        Raises:
            UnboundParameterError: It is not bound.
        """
        if name not in self.types:
            raise UnboundParameterError(f"{self.node}.{name}")
        return self.b(WeightOp, id=f"{self.node}.{name}", type=self.types[name])

    def parameters(self, *names: str) -> list[SSAValue]:
        """Several parameters.

        Raises:
            UnboundParameterError: Some are not bound; names all of them.
        """
        missing = [f"{self.node}.{name}" for name in names if name not in self.types]
        if missing:
            raise UnboundParameterError(*missing)
        return [self.parameter(name) for name in names]

    def check_options(self) -> None:
        """Refuse options that nothing read.

        Raises:
            InvalidArgumentError: There are some.
        """
        if unknown := sorted(self.options.keys() - self._read):
            known = ", ".join(sorted(self._read)) or "none"
            raise InvalidArgumentError(
                f"{self.operation} has no options {', '.join(unknown)}; those it has: {known}"
            )


Meaning: TypeAlias = "Callable[[Call], SSAValue | Sequence[SSAValue]]"


@dataclass(frozen=True)
class Operation:
    """An operation of the vocabulary.

    Attributes:
        build: Builds the ops that the call means; returns its results.
        parameters: Names of the weights that a call of too few arguments has beside them.
        results: Number of results, from the options.
    """

    build: Meaning
    parameters: tuple[str, ...] = ()
    results: Callable[[Mapping[str, Value]], int] = lambda options: 1

    def wanted(self, options: Mapping[str, Value]) -> tuple[str, ...]:
        """The parameters of a call with these options: `bias` and `affine` leave some out."""
        if options.get("affine") is False:
            return ()
        without = {"bias"} if options.get("bias") is False else set[str]()
        return tuple(name for name in self.parameters if name not in without)


@dataclass(frozen=True)
class Vocabulary:
    """Operations by name. Immutable: `with_operation` makes a larger one."""

    table: Mapping[str, Operation]

    def find(self, name: str) -> Operation | None:
        """The operation `name`; None where nobody knows it."""
        return self.table.get(name) or _mnemonic(name)

    def knows(self, name: str) -> bool:
        """Whether the operation has a meaning."""
        return self.find(name) is not None

    def with_operation(self, name: str, operation: Operation | Meaning) -> Vocabulary:
        """A vocabulary with one operation more, or another meaning of one."""
        row = operation if isinstance(operation, Operation) else Operation(operation)
        return Vocabulary({**self.table, name: row})

    def build(self, call: Call) -> list[SSAValue]:
        """Build what `call` means.

        Raises:
            UnsupportedError: Nobody knows the operation.
            UnboundParameterError: A parameter has no weight.
            ShapeError: The arguments do not fit.
            InvalidArgumentError: An option does not fit.
        """
        operation = self.find(call.operation)
        if operation is None:
            raise UnsupportedError(
                f"{call.node}: nobody knows the operation {call.operation!r}; "
                "register it with graph.register_operation"
            )
        values = operation.build(call)
        call.check_options()
        return [values] if isinstance(values, SSAValue) else list(values)


def call_of(op: CallOp, b: BlockBuilder) -> Call:
    """The call that a `torsh.call` stands for, to be built with `b`."""
    parameters: dict[str, Attribute] = {} if op.parameters is None else dict(op.parameters.data)
    node = op.attributes.get(NAME, text(op.operation.data))
    name = getattr(node, "data", "")
    options = plain_options(op.options)
    return Call(op.operation.data, name, tuple(op.arguments), b, options, parameters)


# -- names that are mnemonics


@cache
def _classes() -> dict[str, type[TensorOp]]:
    import torsh_dialect.ops  # noqa: F401  # pyright: ignore[reportUnusedImport]

    hidden = (Control, CallOp, ConstantOp, WeightOp)
    found = {op.name.removeprefix("torsh."): op for op in OPS if issubclass(op, TensorOp)}
    return {
        name: op for name, op in found.items() if not issubclass(op, hidden) and name != "yield"
    }


@cache
def _mnemonic(name: str) -> Operation | None:
    cls = _classes().get(name)
    if cls is None:
        return None
    definition = cls.get_irdl_definition()
    variable = any(isinstance(d, VarResultDef) for _, d in definition.results)
    return Operation(
        lambda call: build_op(call, cls),
        results=lambda _: 1 if variable else len(definition.results),
    )


def build_op(call: Call, cls: type[TensorOp], **defaults: Value) -> Sequence[SSAValue]:
    """Build one op of `cls`: arguments in its order, options are its properties.

    Raises:
        InvalidArgumentError: Too few or too many arguments, or a property is missing.
        ShapeError: The arguments do not fit.
    """
    definition = cls.get_irdl_definition()
    hidden = ("operandSegmentSizes", "resultSegmentSizes")
    names = [name for name in definition.properties if name not in hidden]
    given = {name: call.option(name, default=defaults.get(name)) for name in names}
    call.check_options()
    required = [n for n in names if n not in _optional(cls) and given[n] is None]
    if required:
        raise InvalidArgumentError(f"{call.operation} needs the options {', '.join(required)}")
    arguments = call.arguments
    if issubclass(cls, Binary | WhereOp):
        arguments = with_literals(call, arguments, skip=1 if issubclass(cls, WhereOp) else 0)
    operands = _arranged(call, cls, arguments)
    values = {name: value for name, value in given.items() if value is not None}
    return call.b.all(cls, *operands, **values)  # pyright: ignore[reportArgumentType]


@cache
def _optional(cls: type[TensorOp]) -> frozenset[str]:
    from xdsl.irdl import OptPropertyDef

    definition = cls.get_irdl_definition()
    return frozenset(n for n, d in definition.properties.items() if isinstance(d, OptPropertyDef))


def _arranged(call: Call, cls: type[TensorOp], arguments: Sequence[SSAValue]) -> list[Operand]:
    definitions = cls.get_irdl_definition().operands
    least = sum(not isinstance(d, VarOperandDef) for _, d in definitions)
    most = len(definitions)
    variadic = [
        n
        for n, (_, d) in enumerate(definitions)
        if isinstance(d, VarOperandDef) and not isinstance(d, OptOperandDef)
    ]
    rest = list(arguments)
    if len(rest) < least or (len(rest) > most and not variadic):
        wanted = str(least) if least == most else f"{least} to {most}"
        raise InvalidArgumentError(f"{call.operation} takes {wanted} arguments, got {len(rest)}")
    if not variadic:
        return [*rest, *[None] * (most - len(rest))]
    before = variadic[0]
    behind = most - before - 1
    middle = rest[before : len(rest) - behind]
    return (
        [*rest[:before], middle, *rest[len(rest) - behind :]]
        if behind
        else [
            *rest[:before],
            middle,
        ]
    )


# -- literals


def is_literal(value: SSAValue) -> bool:
    """Whether a value is a number that the graph names, e.g. `0.5` or `zero`."""
    return isinstance(value, OpResult) and LITERAL in value.op.attributes


def with_literals(call: Call, values: Sequence[SSAValue], skip: int = 0) -> list[SSAValue]:
    """The values with literals in the element type of the others; the first `skip` stay.

    Raises:
        InvalidArgumentError: A literal has no exact value of that type.
    """
    others = [v for v in values[skip:] if not is_literal(v)]
    if not others or not isinstance(others[0].type, TensorType):
        return list(values)
    element = element_type(others[0])
    row = dtype_of(element)
    return [
        call.b.constant(literal_value(v, row), element) if n >= skip and is_literal(v) else v
        for n, v in enumerate(values)
    ]


def literal_value(value: SSAValue, row: DType) -> float | int | bool:
    """The number of a literal, which must exist in the element type.

    Raises:
        InvalidArgumentError: A fraction where integers are, or out of range.
    """
    assert isinstance(value, OpResult)
    assert isinstance(value.op, ConstantOp)
    number = value.op.value.data.array().reshape(()).item()
    if row.kind in ("int", "uint"):
        if float(number) != int(number) or np.asarray(int(number)).astype(row.numpy) != number:
            raise InvalidArgumentError(
                f"the literal {number} is no {row.name}; cast the other side"
            )
        return int(number)
    return number


def rank(call: Call) -> int:
    """The rank of the first argument."""
    return rank_of(call.argument(0))
