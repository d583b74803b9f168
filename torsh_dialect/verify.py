"""Verifying a module so that the error shows the op, not the whole module."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.utils.exceptions import DiagnosticException

from torsh_dialect.errors import TorshError, VerificationError
from torsh_dialect.types import tensor_type, verify_tensor

UNKNOWN = "loc(unknown)"


def _verify_signature(function: FuncOp) -> None:
    """Check the types of arguments, which no op implies."""
    for value in function.args:
        if isinstance(value.type, TensorType):  # pyright: ignore[reportUnknownMemberType]
            verify_tensor(tensor_type(value))


def verify_module(module: ModuleOp) -> None:
    """Verify op by op.

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
            where = str(op.location)
            raise VerificationError(
                f"{reason}\n  in: {str(op).splitlines()[0].strip()}",
                location=op.name if where == UNKNOWN else f"{where}: {op.name}",
            ) from error
