"""Converting the nodes of a graph, function body or subgraph, in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from xdsl.ir import Attribute, SSAValue

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import dtype_of
from torsh_dialect.errors import ImportModelError, TorshError
from torsh_dialect.kinds import TensorOp
from torsh_dialect.types import element_type
from torsh_fx.importers.model import MALFORMED, Fate
from torsh_fx.importers.onnx_findings import NoConverter, UserCodeError, finding_of
from torsh_fx.importers.onnx_ops.node import CONVERTERS, MS, Converter, Node, NotSupported
from torsh_fx.importers.onnx_scope import (
    MOST_INLINED,
    Scope,
    Skipped,
    hint_of,
    named_location,
)
from torsh_fx.importers.onnx_signature import Signature, function_signature, signature

if TYPE_CHECKING:
    from onnx import AttributeProto, FunctionProto, GraphProto, NodeProto


NCHWC = "com.microsoft.nchwc"
ONE_MACHINE = (
    "onnxruntime made it for the blocked layout of the machine that saved the model",
    "save the model without optimisations, or with at most ORT_ENABLE_EXTENDED",
)


def normal_domain(domain: str) -> str:
    """The empty string stands for `ai.onnx`."""
    return "" if domain == "ai.onnx" else domain


def converters() -> dict[tuple[str, str], Converter]:
    """All converters: those of the families, and ops that are spelled one to one."""
    import torsh_fx.importers.onnx_ops  # noqa: F401  # pyright: ignore[reportUnusedImport]

    table = dict(CONVERTERS)
    for cls in OPS:
        if issubclass(cls, TensorOp):
            for name in cls.SPELLED.onnx:
                table.setdefault(("", name), _one_to_one(cls))
    return table


def _one_to_one(cls: type[TensorOp]) -> Converter:
    count = len(cls.get_irdl_definition().operands)

    def convert(n: Node) -> Sequence[SSAValue]:
        return n.all(cls, *n.operands(count))

    return convert


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs among a node's attributes."""
    from onnx import AttributeProto

    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def names_read(node: NodeProto) -> set[str]:
    """The names that a node needs, those of its subgraphs included."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        made = {v.name for v in graph.input} | {t.name for t in graph.initializer}
        made |= {t.values.name for t in graph.sparse_initializer}
        for inner in graph.node:
            names |= names_read(inner) - made
            made |= set(inner.output)
        names |= {v.name for v in graph.output} - made
    return names


def live_nodes(nodes: Sequence[NodeProto], wanted: Iterable[str]) -> set[int]:
    """The positions of nodes whose values are needed."""
    needed, live = set(wanted), set[int]()
    for position in reversed(range(len(nodes))):
        if needed & {name for name in nodes[position].output if name}:
            live.add(position)
            needed |= names_read(nodes[position])
    return live


def label(scope: Scope, node: NodeProto, position: int) -> str:
    """A node's name in reports: unique within the import."""
    base = scope.prefix + (node.name or f"{node.op_type}_{position}")
    fates, name, number = scope.importing.report.fates, base, 1
    while name in fates:
        number += 1
        name = f"{base}#{number}"
    return name


def convert_nodes(scope: Scope, nodes: Sequence[NodeProto], wanted: Iterable[str]) -> None:
    """Convert the nodes that `wanted` names need; record the fate of each."""
    live = live_nodes(nodes, wanted)
    for position, node in enumerate(nodes):
        name = label(scope, node, position)
        if position in live:
            convert_node(scope, node, name)
        else:
            scope.importing.report.fates[name] = Fate.DEAD


def convert_node(scope: Scope, node: NodeProto, name: str) -> None:
    """Convert one node; what it refuses becomes a finding."""
    report, importing = scope.importing.report, scope.importing
    domain = normal_domain(node.domain)
    report.fates[name] = Fate.MAPPED
    outputs: Sequence[SSAValue | None] = [None] * len(node.output)
    last = scope.builder.block.last_op
    try:
        location = named_location(name, node.op_type)
        scope.builder = replace(scope.builder, location=location)
        outputs = _converted(scope, node, domain, name)
        _require_outputs(node, outputs)
        if scope.builder.block.last_op is last:
            report.fates[name] = Fate.FOLDED
    except Skipped:
        report.fates[name] = Fate.REFUSED
    except (TorshError, *MALFORMED) as error:
        cause = error.__cause__ if isinstance(error, UserCodeError) else error
        finding = finding_of(error, node, name, importing.opsets.get(domain, 0))
        report.refuse(finding, cause if isinstance(cause, Exception) else None)
    for position, output in enumerate(node.output):
        if output:
            scope.set(output, outputs[position] if position < len(outputs) else None)


def _converted(scope: Scope, node: NodeProto, domain: str, name: str) -> Sequence[SSAValue | None]:
    importing = scope.importing
    function = importing.functions.get((domain, node.op_type, node.overload))
    if function is not None:
        _require_form(node, function_signature(function))
        return inline(scope, node, function, name)
    version = importing.opsets.get(domain, 0)
    convert = importing.converters.get((domain, node.op_type))
    if (domain, node.op_type) not in importing.custom:
        form = signature(domain, node.op_type, version)
        _require_form(node, form)
        _require_kinds(scope, node, form)
    if convert is None:
        return _by_definition(scope, node, domain, version, name)
    seen = Node(node, scope, version, name)
    if (domain, node.op_type) in importing.custom:
        return _by_user(convert, seen)
    values = convert(seen)
    if domain == MS and (unread := seen.unread()):
        raise NotSupported(f"the inputs {unread} of {node.op_type} are not supported")
    return [values] if isinstance(values, SSAValue) else list(values)


def _by_user(convert: Converter, node: Node) -> Sequence[SSAValue | None]:
    """What a converter gives that a user registered.

    Raises:
        UserCodeError: It raised an error that is none of ours; that is the cause.
    """
    try:
        values = convert(node)
    except (TorshError, Skipped):
        raise
    except Exception as error:  # whatever a user's function raises
        raise UserCodeError(error) from error
    return [values] if isinstance(values, SSAValue) else list(values)


def _require_form(node: NodeProto, form: Signature | None) -> None:
    if form is not None and (faults := list(form.faults(node))):
        raise NotSupported("; ".join(faults), "repair the model")


def _require_outputs(node: NodeProto, values: Sequence[SSAValue | None]) -> None:
    missing = [
        output
        for position, output in enumerate(node.output)
        if output and (position >= len(values) or values[position] is None)
    ]
    if missing:
        raise NotSupported(f"the outputs {', '.join(missing)} are not supported")


def _require_kinds(scope: Scope, node: NodeProto, form: Signature | None) -> None:
    if form is None or not form.kinds:
        return
    values = [(n, scope.find(name)) for n, name in enumerate(node.input) if name]
    found = [(n, kind) for n, value in values if value is not None and (kind := _kind(value.type))]
    if faults := list(form.mistyped(found)):
        raise NotSupported("; ".join(faults), "cast the input")


def _kind(type: Attribute) -> str:
    """The kind of a tensor's elements; empty for sequences and optional values."""
    return dtype_of(element_type(type)).kind if hasattr(type, "element_type") else ""


def _by_definition(
    scope: Scope, node: NodeProto, domain: str, version: int, name: str
) -> Sequence[SSAValue | None]:
    """Inline the function by which the operator set defines an operator."""
    from onnx import defs

    try:
        schema = defs.get_schema(node.op_type, version, domain)
    except defs.SchemaError:
        if domain == NCHWC:
            raise NotSupported(*ONE_MACHINE) from None
        raise NoConverter(
            f"operator {node.op_type} of domain {domain or 'ai.onnx'} is unknown"
        ) from None
    function = schema_function(scope, node, schema, version)
    if function is None:
        raise NoConverter(f"there is no converter for {node.op_type}")
    return inline(scope, node, function, name)


def schema_function(
    scope: Scope, node: NodeProto, schema: Any, version: int
) -> FunctionProto | None:
    """The body of an operator that is defined as a function, for the node's input types."""
    from onnx import FunctionProto

    body: bytes | None = None
    if schema.has_function:
        body = schema.get_function_with_opset_version(
            max(v for v in schema.function_opset_versions if v <= version)
        )
    elif schema.has_context_dependent_function:
        versions = [v for v in schema.context_dependent_function_opset_versions if v <= version]
        types = [_type_of(scope, i) for i in node.input]
        body = schema.get_context_dependent_function_with_opset_version(
            max(versions), node.SerializeToString(), types
        )
    if not body:
        return None
    function = FunctionProto()
    function.ParseFromString(body)
    given = {default.name for default in function.attribute_proto}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.name:
            function.attribute_proto.append(attribute.default_value)
    return function


def _type_of(scope: Scope, name: str) -> bytes:
    return scope.importing.type_proto(scope.get(name).type).SerializeToString() if name else b""


def inline(
    scope: Scope, node: NodeProto, function: FunctionProto, name: str
) -> Sequence[SSAValue | None]:
    """Convert a function's body in place of the node that calls it.

    Raises:
        NotSupported: Functions call each other in a circle, or so often that they are too long.
    """
    importing = scope.importing
    key = (function.domain, function.name)
    if key in importing.calling:
        raise NotSupported(f"the function {function.name} calls itself", "repair the model")
    importing.inlined += len(function.node)
    if importing.inlined > MOST_INLINED:
        raise NotSupported(
            "the bodies of functions, where they are called, "
            f"have more than {MOST_INLINED:,} nodes",
            "call fewer functions",
        )
    inner = Scope(importing, scope.builder, None, f"{name}/")
    for position, formal in enumerate(function.input):
        actual = node.input[position] if position < len(node.input) else ""
        if actual:
            inner.values[formal] = scope.get(actual)
    bound = {a.name: a for a in node.attribute}
    for default in function.attribute_proto:
        bound.setdefault(default.name, default)
    nodes = [_with_attributes(n, bound, set(inner.values), function) for n in function.node]
    pairs = zip_longest(function.output, node.output, fillvalue="")
    wanted = [formal for formal, actual in pairs if formal and actual]
    outer = importing.opsets
    importing.opsets = {
        **outer,
        **{normal_domain(o.domain): o.version for o in function.opset_import},
    }
    importing.calling.add(key)
    try:
        convert_nodes(inner, nodes, wanted)
    finally:
        importing.opsets = outer
        importing.calling.discard(key)
    return [inner.get(name) if name in wanted else None for name in function.output]


def _with_attributes(
    node: NodeProto, bound: Mapping[str, AttributeProto], present: set[str], function: FunctionProto
) -> NodeProto:
    """A copy of a body's node with references to the function's attributes resolved."""
    from onnx import NodeProto

    copy = NodeProto()
    copy.CopyFrom(node)
    _resolve(copy, bound)
    formal = set(function.input)
    for position, name in enumerate(copy.input):
        if name in formal and name not in present:
            copy.input[position] = ""
    return copy


def _resolve(node: NodeProto, bound: Mapping[str, AttributeProto]) -> None:
    from onnx import AttributeProto

    kept: list[AttributeProto] = []
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            actual = bound.get(attribute.ref_attr_name)
            if actual is None:
                continue
            named = AttributeProto()
            named.CopyFrom(actual)
            named.name = attribute.name
            attribute = named
        for graph in (attribute.g,) if attribute.type == AttributeProto.GRAPH else ():
            for inner in graph.node:
                _resolve(inner, bound)
        kept.append(attribute)
    del node.attribute[:]
    node.attribute.extend(kept)


def convert_graph(
    scope: Scope, graph: GraphProto, arguments: Sequence[SSAValue], builder: BlockBuilder, name: str
) -> list[SSAValue]:
    """Convert a subgraph in a scope of its own; returns its results.

    Raises:
        NotSupported: The number of arguments differs from the graph's inputs.
        Skipped: A result comes from a node that was refused.
    """
    if len(arguments) != len(graph.input):
        raise NotSupported(
            f"the subgraph {graph.name!r} has {len(graph.input)} inputs, expected {len(arguments)}"
        )
    inner = scope.inner(builder, f"{scope.prefix}{name}/")
    for formal, actual in zip(graph.input, arguments, strict=True):
        inner.values[formal.name] = actual
        if actual.name_hint is None:
            actual.name_hint = hint_of(formal.name)
    for proto in graph.initializer:
        inner.values[proto.name] = inner.importing.initializer(proto)
    for sparse in graph.sparse_initializer:
        inner.values[sparse.values.name] = inner.importing.sparse(sparse)
    outputs = [v.name for v in graph.output]
    convert_nodes(inner, graph.node, outputs)
    return [inner.get(output) for output in outputs]


def require_unique(names: Sequence[str], what: str) -> None:
    """Refuse names that are given twice.

    Raises:
        ImportModelError: One is.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ImportModelError(f"{what} {name!r} is defined twice; repair the model")
        seen.add(name)
