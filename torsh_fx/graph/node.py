"""The kinds of node of a graph, as plain data.

match node:
    case Node.Call("relu", arguments):
        ...
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from torsh_dialect.plain import Value


class _Shown:
    """`Node.Call('relu', ['x'])`, without what is empty at the end."""

    def __repr__(self) -> str:
        values = [getattr(self, field.name) for field in fields(self)]  # pyright: ignore[reportArgumentType]
        while len(values) > 1 and values[-1] in ([], {}):
            values.pop()
        kind = type(self).__name__.removesuffix("Node")
        return f"Node.{kind}({', '.join(map(repr, values))})"


@dataclass(frozen=True, repr=False)
class InputNode(_Shown):
    """An input of the graph."""

    name: str


@dataclass(frozen=True, repr=False)
class OutputNode(_Shown):
    """A result of the graph: the value of that name."""

    name: str


@dataclass(frozen=True, repr=False)
class CallNode(_Shown):
    """An operation on values.

    Attributes:
        operation: Its name in the vocabulary, e.g. `relu`.
        arguments: Names of values, or literals: `0.5`, `zero`, `true`.
        attributes: Options of the operation as plain values.
    """

    operation: str
    arguments: Sequence[str] = ()
    attributes: Mapping[str, Value] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", list(self.arguments))
        object.__setattr__(self, "attributes", dict(self.attributes or {}))

    @property
    def options(self) -> dict[str, Value]:
        """The attributes; empty where there are none."""
        return dict(self.attributes or {})


@dataclass(frozen=True, repr=False)
class ConditionalNode(_Shown):
    """Values of one of two branches.

    Attributes:
        condition: The name of a bool.
        then: Names of the values where it holds; what only they need runs only then.
        otherwise: Names of as many values where it does not.
    """

    condition: str
    then: Sequence[str]
    otherwise: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "then", list(self.then))
        object.__setattr__(self, "otherwise", list(self.otherwise))


@dataclass(frozen=True, repr=False)
class LoopNode(_Shown):
    """Repeats while a condition holds, which is computed anew from the loop's values.

    Attributes:
        condition: The name of a bool that depends on `loop_vars`.
        body: Names of the next values, which depend on `loop_vars`, one for each.
        loop_vars: Names of the first values. The node's values are the last ones.
    """

    condition: str
    body: Sequence[str]
    loop_vars: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", list(self.body))
        object.__setattr__(self, "loop_vars", list(self.loop_vars))


@dataclass(frozen=True, repr=False)
class MergeNode(_Shown):
    """The value in which the branches of a conditional come together."""

    inputs: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", list(self.inputs))


@dataclass(frozen=True, repr=False)
class GetAttrNode(_Shown):
    """A weight of the model, by its name."""

    target: str


class Node(metaclass=abc.ABCMeta):  # noqa: B024  (kinds are registered, nothing is inherited)
    """Any node of a graph; its attributes are the kinds."""

    Input = InputNode
    Output = OutputNode
    Call = CallNode
    Conditional = ConditionalNode
    Loop = LoopNode
    Merge = MergeNode
    GetAttr = GetAttrNode


for _kind in (
    InputNode,
    OutputNode,
    CallNode,
    ConditionalNode,
    LoopNode,
    MergeNode,
    GetAttrNode,
):
    Node.register(_kind)

AnyNode = InputNode | OutputNode | CallNode | ConditionalNode | LoopNode | MergeNode | GetAttrNode
