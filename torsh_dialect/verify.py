"""Verifying a module so that the error shows the op, not the whole module."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, Region, SSAValue
from xdsl.utils.exceptions import DiagnosticException

from torsh_dialect.errors import TorshError, VerificationError
from torsh_dialect.symbols import symbols_in
from torsh_dialect.types import tensor_type, verify_tensor

UNKNOWN = "loc(unknown)"


def _verify_signature(function: FuncOp) -> None:
    """Check what no op implies: the types of arguments, and the bounds of symbols."""
    symbols_in(function)
    for value in function.args:
        if isinstance(value.type, TensorType):  # pyright: ignore[reportUnknownMemberType]
            verify_tensor(tensor_type(value))


def verify_module(module: ModuleOp) -> None:
    """Verify op by op, and that values are defined before they are used.

    Raises:
        VerificationError: An op breaks a rule; the location is the op's, if it has one.
    """
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
            if isinstance(op, FuncOp) and not op.is_declaration:
                _verify_signature(op)
        except DiagnosticException as error:
            cause = error.__cause__
            said = cause.message if isinstance(cause, TorshError) else str(cause or error)
            reason = said.strip()
            reason = reason.removeprefix("Operation does not verify: ").removeprefix(f"{op.name}: ")
            raise _refused(op, reason) from error
    for region in module.regions:
        _verify_order(region, set())


def _verify_order(region: Region, seen: set[SSAValue]) -> None:
    """Check that ops use values of `seen` and of ops before them: no cycle can be run.

    Raises:
        VerificationError: The text defines a value after its use, which xDSL's parser allows.
    """
    mine: list[SSAValue] = []
    for block in region.blocks:
        mine.extend(block.args)
        seen.update(block.args)
        for op in block.ops:
            for number, value in enumerate(op.operands):
                if value not in seen:
                    raise _refused(op, f"operand {number} is used before it is defined")
            for inner in op.regions:
                _verify_order(inner, seen)
            mine.extend(op.results)
            seen.update(op.results)
    seen.difference_update(mine)


def _refused(op: Operation, reason: str) -> VerificationError:
    where = str(op.location)
    return VerificationError(
        f"{reason}\n  in: {str(op).splitlines()[0].strip()}",
        location=op.name if where == UNKNOWN else f"{where}: {op.name}",
    )
