"""The errors of the compiler: one tree with `TorshError` as its root."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class TorshError(Exception):
    """Anything the compiler refuses: what is wrong, where, the value and limit, what to do.

    Args:
        message: What is wrong, with the value and the limit, and what to do about it.
        location: Where in the user's model (module path, file:line, ONNX node), if known.
    """

    def __init__(self, message: str, *, location: str | None = None):
        self.message = message
        self.location = location
        super().__init__(f"{location}: {message}" if location else message)

    def place(self, location: str) -> None:
        """Say where, if that is not known yet."""
        if self.location is None and location:
            self.location = location
            self.args = (f"{location}: {self.message}",)


class ShapeError(TorshError):
    """Extents, ranks or dtypes of operands do not fit the op that uses them."""


class DeviceError(TorshError):
    """An op has operands on different devices."""


class VerificationError(TorshError):
    """The IR breaks a rule of the dialect, or a stage's contract."""


@dataclass(frozen=True)
class Finding:
    """One thing of a model that the compiler refuses.

    Attributes:
        op: The source framework's name of the op, e.g. `aten.foo.default` or `ai.onnx::Foo-21`.
        node: The node's name in the source graph.
        reason: What is wrong.
        location: Module path or file:line in the user's model; empty if unknown.
        remedy: What the user can do.
        stub: Source of a converter to complete and register; empty where that is no remedy.
    """

    op: str
    node: str
    reason: str
    location: str = ""
    remedy: str = ""
    stub: str = ""

    def __str__(self) -> str:
        """The finding as one line."""
        where = f" at {self.location}" if self.location else ""
        remedy = f" -> {self.remedy}" if self.remedy else ""
        return f"{self.op} (node {self.node}{where}): {self.reason}{remedy}"


class UnsupportedError(TorshError):
    """A model uses something the compiler does not know; lists every finding at once.

    Args:
        message: All findings, one a line.
        location: Where in the user's model, if it is one place.
        findings: The same as data.
    """

    def __init__(
        self, message: str, *, location: str | None = None, findings: Sequence[Finding] = ()
    ):
        self.findings = tuple(findings)
        super().__init__(message, location=location)


class ImportModelError(TorshError):
    """A model file or object cannot be read: damaged, not of its format, or unsafe."""


class InvalidArgumentError(TorshError, ValueError):
    """An argument, option, name or input of a call cannot be used."""


class InputError(TorshError, ValueError):
    """A call's inputs break the compiled signature: name, dtype, rank, bound or equality."""


class CodegenError(TorshError):
    """LLVM refused or crashed in the worker process, or a limit of compilation was reached."""


class ExecutionError(TorshError):
    """The compiled program stopped: a runtime check failed or memory ran out."""


class CacheError(TorshError):
    """A cached object is damaged or not ours."""


class PassError(TorshError):
    """A pass could not do its work, or did not reach a fixpoint."""


class UnboundParameterError(InvalidArgumentError):
    """A call of a graph has parameters without weights.

    Args:
        names: Full names of the parameters, e.g. `node_0.weight`.
    """

    def __init__(self, *names: str):
        self.names = names
        super().__init__(
            f"the parameters {' and '.join(names)} have no weights; give them with "
            f"graph.bind({{{', '.join(f'{name!r}: ...' for name in names)}}})"
        )


class ValidationError(TorshError):
    """A conversion does not give the values of its source, or a graph is not sound."""


class UnsupportedFormatError(TorshError):
    """A file or framework of a format that is not known.

    Args:
        format: The name of the format.
        known: Those that are.
    """

    def __init__(self, format: str, known: tuple[str, ...] = ()):
        self.format = format
        listed = f"; known: {', '.join(known)}" if known else ""
        super().__init__(f"the format {format!r} is not supported{listed}")
