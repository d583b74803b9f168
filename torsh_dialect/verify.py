"""Verifying a module so that the error shows the op, not the whole module."""

from __future__ import annotations

from xdsl.dialects.builtin import ModuleOp
from xdsl.utils.exceptions import DiagnosticException

from torsh_dialect.errors import VerificationError

UNKNOWN = "loc(unknown)"


def verify_module(module: ModuleOp) -> None:
    """Verify op by op.

    Raises:
        VerificationError: An op breaks a rule; the location is the op's, if it has one.
    """
    for op in module.walk():
        try:
            op.verify(verify_nested_ops=False)
        except DiagnosticException as error:
            reason = str(error.__cause__ or error).strip()
            reason = reason.removeprefix("Operation does not verify: ").removeprefix(f"{op.name}: ")
            where = str(op.location)
            raise VerificationError(
                f"{reason}\n  in: {str(op).splitlines()[0].strip()}",
                location=op.name if where == UNKNOWN else f"{where}: {op.name}",
            ) from error
