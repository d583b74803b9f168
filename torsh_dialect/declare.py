"""How an op is declared: `@op` on an IRDL class. The list of ops is the dialect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from xdsl.ir import Operation
from xdsl.irdl import IRDLOperation, irdl_op_definition

OPS: list[type[Operation]] = []
"""Every torsh op, in order of declaration."""

OpT = TypeVar("OpT", bound=IRDLOperation)


def op(cls: type[OpT]) -> type[OpT]:
    """Define `cls` as a torsh op and add it to the dialect.

    Raises:
        TypeError: The class has no docstring.
    """
    if not (cls.__doc__ or "").strip():
        raise TypeError(f"{cls.name}: an op needs a docstring that says what it computes")
    defined = irdl_op_definition(cls)
    OPS.append(defined)
    return defined


@dataclass(frozen=True)
class Spelled:
    """The names under which other frameworks know an op that converts one to one.

    Plain data: nothing of those frameworks is imported here. An op whose arguments need
    rearranging is left out and gets a converter in `torsh_fx.importers`.
    """

    torch: tuple[str, ...] = ()
    onnx: tuple[str, ...] = ()
    tensorflow: tuple[str, ...] = ()
    torchscript: tuple[str, ...] = ()
