"""What an ONNX node must look like: its inputs, outputs and attributes against the operator's.

One place for all operators, so that converters find what they ask for: the schema of the operator
set's version, or for operators of onnxruntime the rows of `onnx_ops/signatures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, NodeProto

UNCHECKED = "__"
"""Attributes of such names are annotations, as onnx's own checker has it."""

LEAST: Mapping[str, int] = {
    "block_size": 0, "blocksize": 1, "dilations": 1, "group": 1, "head_size": 0, "hidden_size": 1,
    "kernel_shape": 1, "kv_num_heads": 1, "ngram_size": 1, "num_groups": 1, "num_heads": 1,
    "num_outputs": 1,
    "offset_group": 1, "output_height": 0, "output_padding": 0, "output_shape": 0,
    "output_width": 0, "p": 1, "pads": 0, "pooled_shape": 1, "q_num_heads": 1,
    "rotary_embedding_dim": 0, "sampling_ratio": 0, "size": 1, "strides": 1,
}  # fmt: skip
"""The least value of integer attributes (each of a list's), as the operators' texts say."""

ZERO_IS_NONE = frozenset({("RotaryEmbedding", "num_heads")})
"""Attributes whose 0 stands for a missing one."""

SIGNED = frozenset({("Pad", "pads")})
"""Attributes of a name in `LEAST` that mean something else: pads of `Pad` may crop."""


@dataclass(frozen=True)
class Signature:
    """The form of an operator.

    Attributes:
        inputs: Least and greatest number of inputs.
        outputs: Least and greatest number of outputs.
        attributes: Name to the number of its `AttributeProto.AttributeType`; 0 where any will do.
        needed: Attributes without a default.
        required: Positions of inputs that must be there, with their names.
        fixed: Attributes that may have one value only, as nothing honours another.
        kinds: For each input the kinds of elements (`torsh_dialect.dtypes.DType.kind`) that it may
            have; the last stands for all further ones, an empty set for any.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    attributes: Mapping[str, int] = field(default_factory=dict[str, int])
    needed: frozenset[str] = frozenset()
    required: tuple[tuple[int, str], ...] = ()
    fixed: Mapping[str, int | str] = field(default_factory=dict[str, "int | str"])
    kinds: tuple[frozenset[str], ...] = ()

    def faults(self, node: NodeProto) -> Iterator[str]:
        """Everything in a node that breaks the form."""
        yield from self._inputs(node.input)
        yield from _number("outputs", _present(node.output), self.outputs)
        given: set[str] = set()
        for attribute in node.attribute:
            if attribute.name in given:
                yield f"attribute {attribute.name!r} is given twice"
            given.add(attribute.name)
            yield from self._attribute(attribute)
            yield from _too_small(node.op_type, attribute)
        for name in sorted(self.needed - given):
            yield f"attribute {name!r} is missing"

    def mistyped(self, found: Sequence[tuple[int, str]]) -> Iterator[str]:
        """Inputs whose elements are of a kind that the operator does not take.

        Args:
            found: Position and kind of inputs.
        """
        for position, kind in found:
            known = self.kinds[min(position, len(self.kinds) - 1)] if self.kinds else ()
            if known and kind not in known:
                listed = " or ".join(sorted(known))
                yield f"input {position} holds elements of kind {kind}, expected {listed}"

    def _inputs(self, names: Sequence[str]) -> Iterator[str]:
        count = _present(names)
        missing = [(n, name) for n, name in self.required if n >= count or not names[n]]
        for position, name in missing:
            yield f"input {position} ({name}) is missing"
        if not missing or count > self.inputs[1]:
            # Optional inputs at the end may be written as empty names, as in Loop(M, "").
            written = max(count, min(len(names), self.inputs[0]))
            yield from _number("inputs", written, self.inputs)

    def _attribute(self, attribute: AttributeProto) -> Iterator[str]:
        from onnx import AttributeProto

        expected = self.attributes.get(attribute.name)
        if expected is None:
            if not attribute.name.startswith(UNCHECKED):
                yield f"it has no attribute {attribute.name!r}; {_listed(self.attributes)}"
        elif expected and attribute.type != expected:
            name = AttributeProto.AttributeType.Name
            given = name(attribute.type) if attribute.type in _kinds() else str(attribute.type)
            yield f"attribute {attribute.name!r} is of kind {given}, not {name(expected)}"
        elif attribute.name in self.fixed:
            wanted = self.fixed[attribute.name]
            value = attribute.i if isinstance(wanted, int) else attribute.s.decode()
            if value != wanted:
                yield f"attribute {attribute.name!r} is {value!r}; only {wanted!r} is supported"


def _too_small(operator: str, attribute: AttributeProto) -> Iterator[str]:
    from onnx import AttributeProto

    name = attribute.name
    if name not in LEAST or (operator, name) in SIGNED:
        return
    least = 0 if (operator, name) in ZERO_IS_NONE else LEAST[name]
    single = attribute.type == AttributeProto.INT
    values = [attribute.i] if single else list(attribute.ints)
    if min(values, default=least) < least:
        given = values[0] if single else values
        yield f"attribute {name!r} is {given}, expected {least} or more"


def _listed(names: Mapping[str, int]) -> str:
    return f"it has {', '.join(sorted(names))}" if names else "it has none"


@cache
def _kinds() -> frozenset[int]:
    from onnx import AttributeProto

    return frozenset(AttributeProto.AttributeType.values())


def _present(names: Sequence[str]) -> int:
    """How many there are, without missing ones at the end."""
    count = len(names)
    while count and not names[count - 1]:
        count -= 1
    return count


def _number(what: str, count: int, limits: tuple[int, int]) -> Iterator[str]:
    least, most = limits
    if least <= count <= most:
        return
    expected = str(least) if least == most else f"{least} to {most}"
    yield f"{count} {what}, expected {expected if most < MANY else f'at least {least}'}"


MANY = 2**31 - 1
"""What schemas say where there is no limit."""


@cache
def signature(domain: str, operator: str, version: int) -> Signature | None:
    """The form of an operator in a version of its operator set; None where nobody says it.

    Where the version is older than the operator, its first form counts: onnxruntime's optimiser
    puts newer operators into older models.
    """
    from torsh_fx.importers.onnx_ops.signatures import SIGNATURES

    if (domain, operator) in SIGNATURES:
        return SIGNATURES[domain, operator]
    known = _schemas().get((domain, operator), ())
    current = [s for s in known if s.since_version <= version] or list(known[:1])
    if not current or current[-1].deprecated:
        return None
    return _of_schema(current[-1])


@cache
def _schemas() -> Mapping[tuple[str, str], tuple[Any, ...]]:
    """All schemas of an operator, the oldest first."""
    from onnx import defs

    found: dict[tuple[str, str], list[Any]] = {}
    for schema in defs.get_all_schemas_with_history():
        found.setdefault((schema.domain, schema.name), []).append(schema)
    return {
        key: tuple(sorted(schemas, key=lambda s: s.since_version)) for key, schemas in found.items()
    }


def _of_schema(schema: Any) -> Signature:
    from onnx import defs

    single = defs.OpSchema.FormalParameterOption.Single
    return Signature(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        {name: attribute.type.value for name, attribute in schema.attributes.items()},
        frozenset(name for name, attribute in schema.attributes.items() if attribute.required),
        tuple((n, i.name) for n, i in enumerate(schema.inputs) if i.option == single),
        kinds=tuple(_kinds_of(i.types) for i in schema.inputs),
    )


def _kinds_of(types: Iterable[str]) -> frozenset[str]:
    """The kinds of elements in type strings of a schema, e.g. `tensor(float16)`."""
    names = [match[1] for text in types if (match := re.fullmatch(r"tensor\((\w+)\)", text))]
    return frozenset(KINDS.get(re.sub(r"\d.*", "", name), "float") for name in names)


KINDS = {
    "bool": "bool", "complex": "complex", "int": "int", "string": "string", "uint": "uint",
}  # fmt: skip
"""Kinds by what the names of element types begin with; those of all others are float."""


def function_signature(function: FunctionProto) -> Signature:
    """The form of a local function: inputs at the end may be left out."""
    declared = {a.name: a.type for a in function.attribute_proto}
    attributes = {name: 0 for name in function.attribute} | declared
    return Signature((0, len(function.input)), (0, len(function.output)), attributes)
