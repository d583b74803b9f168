"""What goes into a model and comes out of it, as the command lines need and show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from xdsl.dialects.builtin import TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute

from lowering.runtime.spec import EntrySpec, SymbolSpec, TensorSpec
from torsh_dialect.dims import symbols_of
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.types import (
    MapType,
    OptionalType,
    SequenceType,
    dims_of,
    element_type,
    layout_of,
)
from torsh_fx.importers.model import ImportedModel

from ..tables import table


@dataclass(frozen=True)
class Named:
    """An input or output: its name, and its type in words."""

    name: str
    type: str


@dataclass(frozen=True)
class Signature:
    """The signature of a model.

    Attributes:
        inputs: Inputs in order.
        outputs: Outputs in order.
        symbols: Free extents and their bounds.
        arguments: Types of the inputs by name.
    """

    inputs: tuple[Named, ...]
    outputs: tuple[Named, ...]
    symbols: tuple[SymbolSpec, ...]
    arguments: Mapping[str, Attribute]

    @property
    def sequences(self) -> frozenset[str]:
        """The inputs that are sequences, or optional ones."""
        return frozenset(n for n, type in self.arguments.items() if _is_sequence(type))

    @property
    def entry(self) -> EntrySpec:
        """The tensors that inputs are, or consist of.

        Raises:
            UnsupportedError: An input is a map.
        """
        tensors = tuple(_tensor(name, type) for name, type in self.arguments.items())
        return EntrySpec(inputs=tensors, outputs=(), symbols=self.symbols)

    def rows(self) -> list[list[str]]:
        """Inputs, outputs and the bounds of symbols, for people."""
        rows = [["", "name", "type"]]
        rows += [["input", one.name, one.type] for one in self.inputs]
        rows += [["output", one.name, one.type] for one in self.outputs]
        rows += [["extent", one.name, _range(one)] for one in self.symbols]
        return rows

    def text(self) -> str:
        """`rows` as aligned text."""
        return table(self.rows())

    def as_dict(self) -> dict[str, Any]:
        """The signature for JSON; an extent without an upper bound has null there."""
        return {
            "inputs": [asdict(one) for one in self.inputs],
            "outputs": [asdict(one) for one in self.outputs],
            "extents": {s.name: [s.lower, s.upper] for s in self.symbols},
        }


def signature_of(imported: ImportedModel) -> Signature:
    """The signature of an imported model."""
    main = next(op for op in imported.module.ops if isinstance(op, FuncOp))
    arguments = {n: a.type for n, a in zip(imported.inputs, main.args, strict=True)}
    told = {s for type in arguments.values() for s in _symbols(type)}

    def output(name: str, type: Attribute) -> Named:
        late = "" if _symbols(type) <= told else "  (extents depend on data)"
        return Named(name, f"{type_words(type)}{late}")

    return Signature(
        tuple(Named(name, type_words(type)) for name, type in arguments.items()),
        tuple(map(output, imported.outputs, main.function_type.outputs.data)),
        tuple(SymbolSpec(n, *bounds) for n, bounds in imported.symbols.items()),
        arguments,
    )


def _symbols(type: Attribute) -> set[str]:
    if not isinstance(type, TensorType):
        return set()
    return {name for dim in dims_of(type) for name in symbols_of(dim)}  # pyright: ignore[reportUnknownArgumentType]


def type_words(type: Attribute) -> str:
    """A type in words: `f32[batch, 8]`, `sequence of f32[?, 3]`, `optional i64[n]`."""
    match type:
        case SequenceType():
            return f"sequence of {type_words(type.item)}"
        case OptionalType():
            return f"optional {type_words(type.item)}"
        case MapType():
            return f"map from {dtype_of(type.key).name} to {dtype_of(type.value).name}"
        case _:
            dims = ", ".join("?" if str(dim) == "any" else str(dim) for dim in dims_of(type))
            layout = layout_of(type)
            stored = f"  layout {list(layout)}" if layout else ""
            return f"{dtype_of(element_type(type)).name}[{dims}]{stored}"


def _is_sequence(type: Attribute) -> bool:
    return isinstance(type.item if isinstance(type, OptionalType) else type, SequenceType)


def _tensor(name: str, type: Attribute) -> TensorSpec:
    while isinstance(type, SequenceType | OptionalType):
        type = type.item
    if not isinstance(type, TensorType):
        raise UnsupportedError(f"the input {name} is a {type_words(type)}: maps cannot be given")
    dims = tuple(dim if isinstance(dim, int) else str(dim) for dim in dims_of(type))  # pyright: ignore[reportUnknownArgumentType]
    dtype = dtype_of(element_type(type)).name  # pyright: ignore[reportUnknownArgumentType]
    return TensorSpec(name, dtype, dims, layout=layout_of(type) or ())  # pyright: ignore[reportUnknownArgumentType]


def _range(symbol: SymbolSpec) -> str:
    return f"{symbol.lower}..{'' if symbol.upper is None else symbol.upper}"
