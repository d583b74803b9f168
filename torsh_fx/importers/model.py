"""What every importer returns, and how it accounts for the nodes of its source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from xdsl.dialects.builtin import ArrayAttr, ModuleOp
from xdsl.dialects.func import FuncOp

from torsh_dialect.attributes import text
from torsh_dialect.dims import Bounds
from torsh_dialect.errors import Finding, TorshError, UnsupportedError
from torsh_dialect.weights import WeightStore
from torsh_fx.interface import Interface, State
from torsh_fx.places import Place


class Fate(Enum):
    """What became of a source node."""

    MAPPED = "mapped"
    """Stands in the module as one or more ops, inputs or weights."""

    FOLDED = "folded"
    """Its value was computed, or absorbed by another node, during import."""

    DEAD = "dead"
    """Nothing that is observable uses it."""

    REFUSED = "refused"
    """The compiler does not know it, or it depends on a node of which that is so."""


MALFORMED = (
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
    AttributeError,
    AssertionError,
)
"""What a converter raises when a node breaks the operator's rules in a way it does not expect."""


@dataclass
class Report:
    """Every source node and its fate.

    Attributes:
        fates: Node name to fate.
        findings: Details of refused nodes.
        cause: The first error that was not expected: shown with the report's traceback.
    """

    fates: dict[str, Fate] = field(default_factory=dict[str, Fate])
    findings: list[Finding] = field(default_factory=list[Finding])
    cause: Exception | None = None

    def refuse(self, finding: Finding, cause: Exception | None = None) -> None:
        """Record a node that the compiler does not know."""
        self.fates[finding.node] = Fate.REFUSED
        self.findings.append(finding)
        if self.cause is None and cause is not None and not isinstance(cause, TorshError):
            self.cause = cause

    def counts(self) -> dict[Fate, int]:
        """How many nodes had each fate."""
        counted = Counter(self.fates.values())
        return {fate: counted[fate] for fate in Fate}

    def copied(self) -> tuple[dict[str, Fate], list[Finding]]:
        """What is recorded so far, for `restore`."""
        return dict(self.fates), list(self.findings)

    def restore(self, saved: tuple[dict[str, Fate], list[Finding]]) -> None:
        """Forget what was recorded since `copied`."""
        self.fates, self.findings = dict(saved[0]), list(saved[1])

    def check(self, source: str) -> None:
        """Raise one error that lists all findings, and stubs of converters that they need.

        Raises:
            UnsupportedError: Anything was refused.
        """
        if not self.findings:
            return
        nodes = {finding.node for finding in self.findings}
        behind = self.counts()[Fate.REFUSED] - len(nodes & set(self.fates))
        also = f"; {behind} more depend on them" if behind else ""
        lines = "\n  ".join(map(str, self.findings))
        stubs = "\n\n".join(dict.fromkeys(f.stub for f in self.findings if f.stub))
        paste = (
            f"\n\nConverters to complete, and to run before compiling:\n\n{stubs}" if stubs else ""
        )
        raise UnsupportedError(
            f"{source}: {len(nodes)} node(s) not supported{also}:\n  {lines}{paste}",
            findings=self.findings,
        ) from self.cause


@dataclass(frozen=True)
class ImportedModel:
    """A model as a module of the torsh dialect, and what a caller needs to call it.

    Attributes:
        module: Holds `@main`, whose attributes are `arg_names`, `result_names` and
            `torsh.symbols` (see `torsh_dialect.symbols`).
        weights: Data of `torsh.weight` ops.
        inputs: Names of the arguments of `@main`, user inputs first, then state.
        outputs: Names of the results of `@main`, user outputs first, then state.
        symbols: Bounds of the symbolic extents.
        report: What became of each source node.
        state: Buffers that the model changes.
        written: User inputs that the model writes, each with the output that is its new value.
        in_spec: The source framework's description of how call arguments flatten to inputs.
        out_spec: Likewise for outputs.
        files: Files beside the model's own that were read.
        places: Where the data of weights lies, for those that are a part of a file as it is.
    """

    module: ModuleOp
    weights: WeightStore
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    symbols: Mapping[str, Bounds]
    report: Report
    state: tuple[State, ...] = ()
    written: tuple[tuple[int, int], ...] = ()
    in_spec: object | None = None
    out_spec: object | None = None
    files: tuple[Path, ...] = ()
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])

    @property
    def interface(self) -> Interface:
        """How the model is called."""
        return Interface(
            self.inputs, self.outputs, self.state, self.written, self.in_spec, self.out_spec
        )


def set_names(function: FuncOp, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Record the names of a function's arguments and results."""
    function.attributes["arg_names"] = ArrayAttr([text(name) for name in inputs])
    function.attributes["result_names"] = ArrayAttr([text(name) for name in outputs])
