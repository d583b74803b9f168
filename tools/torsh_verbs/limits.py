"""The limits of the compiler, read from the constants that enforce them."""

from __future__ import annotations

from dataclasses import dataclass

from lowering.program.entry import LARGEST_EXTENT
from torsh_dialect.types import MOST_ELEMENTS, MOST_RANK
from torsh_fx.importers.onnx import NEWEST, OLDEST, TRIES
from torsh_fx.importers.onnx_ops.node import MOST_AXES
from torsh_fx.importers.onnx_scope import KNOWN_LIMIT, MOST_INLINED


@dataclass(frozen=True)
class Limit:
    """A limit: of what, how much, and what happens beyond it."""

    of: str
    value: str
    beyond: str


def limits() -> list[Limit]:
    """All limits that users can meet."""
    return [
        Limit("extent of an axis that data decides", f"{LARGEST_EXTENT:,}", "an error of the call"),
        Limit("elements of a tensor", f"{MOST_ELEMENTS:,}", "an error of the import"),
        Limit("axes of a tensor", f"{MOST_RANK}", "an error of the import"),
        Limit("extents that one integer tensor holds", f"{MOST_AXES}", "an error of the import"),
        Limit("version of the ai.onnx operator set",
              f"{OLDEST} to {NEWEST}", "an error of the import"),
        Limit("elements of a value that the ONNX import computes", f"{KNOWN_LIMIT:,}",
              "it is computed when the model runs"),
        Limit("nodes of the functions of an ONNX model, where they are called",
              f"{MOST_INLINED:,}", "an error of the import"),
        Limit("readings of an ONNX model whose ranks are ambiguous", f"{TRIES}",
              "the error of the first reading"),
    ]  # fmt: skip
