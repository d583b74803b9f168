"""A graph as something that can be compiled: types from example inputs, calls expanded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torsh_dialect.attributes import names_attribute
from torsh_dialect.driver import erase_dead
from torsh_dialect.errors import (
    InvalidArgumentError,
    UnboundParameterError,
    UnsupportedError,
    VerificationError,
)
from torsh_dialect.ops.call import CallOp
from torsh_dialect.passes.expand_calls import expand_calls
from torsh_dialect.passes.infer_types import set_type
from torsh_dialect.symbols import symbols_in
from torsh_dialect.types import is_typed
from torsh_dialect.vocabulary import LITERAL, NAME
from torsh_fx.graph.fuse import unfuse
from torsh_fx.graph.graph import FxGraph
from torsh_fx.graph.types import type_of_example
from torsh_fx.importers.model import Fate, ImportedModel, Report


def import_graph(
    graph: FxGraph, example_inputs: Sequence[Any] | Mapping[str, Any] | None = None
) -> ImportedModel:
    """A copy of the graph's module that the compiler takes.

    Args:
        graph: Stays as it is.
        example_inputs: Give inputs without a type theirs; in order, or by name.

    Raises:
        InvalidArgumentError: An input has no type and no example.
        UnboundParameterError: Parameters have no weights; names all of them.
        UnsupportedError: Operations that nobody knows; names all of them.
        VerificationError: Types do not fit; lists every node that does not.
    """
    work = graph.clone()
    _give_types(work, example_inputs)
    unknown = sorted(
        {
            op.operation.data
            for op in work.module.walk()
            if isinstance(op, CallOp) and not work.vocabulary.knows(op.operation.data)
        }
    )
    if unknown:
        raise UnsupportedError(
            f"nobody knows the operations {', '.join(unknown)}; give them a meaning with "
            "graph.register_operation"
        )
    if missing := work.unbound():
        raise UnboundParameterError(*missing)
    misfits = [str(m) for m in work.infer_types() if m.error is not None]
    if misfits:
        listed = "\n  ".join(misfits)
        raise VerificationError(f"{len(misfits)} node(s) do not fit:\n  {listed}")
    report = Report({work.name_of(index): Fate.MAPPED for index, _ in work.nodes()})
    inputs, outputs = tuple(work.inputs), _distinct(work.outputs)
    unfuse(work.module)
    expand_calls(work.module, work.vocabulary)
    for op in work.module.walk():
        op.attributes.pop(NAME, None)
        op.attributes.pop(LITERAL, None)
    erase_dead(work.module)
    work.verify()
    function = work.function
    function.attributes["arg_names"] = names_attribute(inputs)
    function.attributes["result_names"] = names_attribute(outputs)
    return ImportedModel(work.module, work.weights, inputs, outputs, symbols_in(function), report)


def _give_types(graph: FxGraph, examples: Sequence[Any] | Mapping[str, Any] | None) -> None:
    names = graph.inputs
    given = (
        examples
        if isinstance(examples, Mapping)
        else dict(zip(names, examples or (), strict=False))
    )
    arguments = graph.names.block.args
    for index, name in enumerate(names):
        if is_typed(arguments[index]):
            continue
        if name not in given:
            raise InvalidArgumentError(
                f"the input {name!r} has no type: give example inputs, or a type with "
                f"graph.set_input_type({name!r}, 'f32[...]')"
            )
        set_type(arguments[index], type_of_example(given[name]))


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        free, number = name, 1
        while free in found:
            number += 1
            free = f"{name}#{number}"
        found.append(free)
    return tuple(found)
