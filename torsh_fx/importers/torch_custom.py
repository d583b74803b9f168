"""Custom operators of torch that are written in Python (`torch.library`): traced, then imported.

An operator without a converter is opaque to `torch.export`. Where it has a Python implementation,
that is called with fake tensors, as export does with a module; the aten ops that it runs are
imported in the operator's place, so that it is compiled like everything else. Values that it
changes in place are further results, as `auto_functionalized` has them.

A converter that is registered for an operator is used instead; it gives the operator's results,
then the new values of what the operator changes. An implementation that needs data (numpy,
`.item()`) cannot be traced; nor can one that decides something by a dynamic extent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch._ops import HigherOrderOperator, OpOverload
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from torsh_dialect.errors import UnsupportedError
from torsh_fx.importers.torch_ops import CONVERTERS, NodeBuilder
from torsh_fx.importers.torch_ops.base import Converter

CHANGED = ("auto_functionalized", "auto_functionalized_v2")
"""Higher-order ops that call an operator on copies of what it changes, and give the copies, too."""

KEYS = ("CPU", "CompositeExplicitAutograd", "CompositeImplicitAutograd")
"""Where an implementation of a CPU may be registered, in torch's order."""

ADVICE = "its implementation must be torch ops on tensors"


def operator_of(node: Node) -> OpOverload[..., Any] | None:
    """The operator that a node calls, itself or on copies of what it changes."""
    target: Any = node.target
    if isinstance(target, HigherOrderOperator) and str(target.name()) in CHANGED:
        target = node.args[0]
    return cast("OpOverload[..., Any]", target) if isinstance(target, OpOverload) else None


def python_key(operator: OpOverload[..., Any]) -> Any:
    """The dispatch key of the operator's Python implementation; None where it has none."""
    schema = operator._schema  # pyright: ignore[reportPrivateUsage]
    name = schema.name.replace("::", "/")
    if schema.overload_name:
        name = f"{name}.{schema.overload_name}"
    registered: set[str] = cast(Any, torch.library)._impls
    found = next((key for key in KEYS if f"{name}/{key}" in registered), None)
    return None if found is None else getattr(torch._C.DispatchKey, found)  # pyright: ignore[reportPrivateUsage]


def custom_converter(node: Node) -> Converter | None:
    """What imports a node that calls a custom operator; None where nothing is known of it."""
    operator = operator_of(node)
    if operator is None:
        return None
    registered = CONVERTERS.get(str(cast(Any, operator)))
    if registered is not None and operator is not node.target:
        return _on_copies(operator, registered)
    return _import_traced if python_key(operator) is not None else None


def _import_traced(c: NodeBuilder, *_: Any, **__: Any) -> Any:
    graph, arguments = traced(c.node)
    builder = cast(Any, c.b)  # of a block: a node is built in one
    return c.graph.nested(graph, builder, [c.graph.value(argument) for argument in arguments])


def _on_copies(operator: OpOverload[..., Any], convert: Converter) -> Converter:
    """The converter of an operator for a call on copies: gives results, then all the copies.

    Values are not changed in place here, so that the copies are the values themselves.
    """
    schema = operator._schema  # pyright: ignore[reportPrivateUsage]
    changed = [a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write]
    count = len(schema.returns)

    def whole(c: NodeBuilder, _: Any, _all_bases: Sequence[Any] = (), **kwargs: Any) -> list[Any]:
        bases, given = list(_all_bases), dict(kwargs)
        if c.node.target is not torch.ops.higher_order.auto_functionalized_v2:
            found = _flat(convert(c, **given))
            return found if count else [None, *found]
        places = {name: given.pop(f"_{name}_base_index") for name in changed}
        for name, place in places.items():
            given.pop(f"_{name}_alias", None)
            given[name] = None if place is None else bases[place]
        if views := [key for key in given if key.startswith("_")]:
            raise c.refuse(f"it changes a view ({views[0]}), and its converter does not know of it")
        found = _flat(convert(c, **given))
        for place, value in zip(places.values(), found[count:], strict=True):
            if place is not None:
                bases[place] = value
        return [*(found[:count] or [None]), *bases]

    return whole


def _flat(result: Any) -> list[Any]:
    return list(cast(Any, result)) if isinstance(result, tuple | list) else [result]


def traced(node: Node) -> tuple[GraphModule, list[Any]]:
    """The aten ops that the node's operator runs, and the node's arguments that it takes.

    Raises:
        UnsupportedError: The implementation cannot be traced.
    """
    operator = operator_of(node)
    assert operator is not None
    given, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    places = [n for n, value in enumerate(given) if _is_tensor(value)]
    fakes: list[Any] = [v.meta["val"] if isinstance(v, Node) else v for v in given]

    def run(*tensors: torch.Tensor) -> Any:
        flat = list(fakes)
        for place, tensor in zip(places, tensors, strict=True):
            flat[place] = tensor
        args, kwargs = pytree.tree_unflatten(flat, spec)
        return _called(node, operator, args, dict(kwargs))

    inputs = [fakes[place] for place in places]
    guards = _guard_count(inputs)
    try:
        plain = make_fx(run)(*inputs)
        table = dict(cast(Any, torch.export).default_decompositions())
        graph = make_fx(torch.func.functionalize(plain), decomposition_table=table)(*inputs)
    except Exception as error:  # whatever a user's function raises
        said = str(error).strip().partition("\n")[0]
        raise UnsupportedError(
            f"its Python implementation cannot be traced: {type(error).__name__}: {said}; {ADVICE}"
        ) from error
    if _guard_count(inputs) != guards:
        raise UnsupportedError(
            f"its Python implementation decides something by a dynamic extent; {ADVICE}"
        )
    return graph, [given[place] for place in places]


def untraceable(node: Node) -> str:
    """Why the node's operator cannot be traced; empty where it can, or where it has a converter."""
    operator = operator_of(node)
    if operator is None or str(cast(Any, operator)) in CONVERTERS or python_key(operator) is None:
        return ""
    try:
        traced(node)
    except UnsupportedError as error:
        return error.message
    return ""


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.Tensor)


def _guard_count(fakes: Sequence[Any]) -> int:
    """How many facts about dynamic extents tracing has taken for granted so far."""
    environments = {id(e): e for f in fakes if (e := getattr(f.fake_mode, "shape_env", None))}
    return sum(len(environment.guards) for environment in environments.values())


def _called(
    node: Node, operator: OpOverload[..., Any], args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """The results of the node's call, by the operator's Python implementation."""
    name = str(cast(Any, node.target).name()) if node.target is not operator else ""
    if not name:
        return _implementation(operator)(*args, **kwargs)
    new, changed = _copied(operator, name, kwargs)
    found = _implementation(operator)(**new)
    return (*found, *changed) if isinstance(found, tuple) else (found, *changed)  # pyright: ignore[reportUnknownVariableType]


def _implementation(operator: OpOverload[..., Any]) -> Callable[..., Any]:
    key = python_key(operator)

    def call(*args: Any, **kwargs: Any) -> Any:
        # else a mode of the tracer would call the operator by its name
        with torch._C.DisableTorchFunction():  # pyright: ignore[reportPrivateUsage]
            return cast(Any, operator)._op_dk(key, *args, **kwargs)

    return call


def _copied(
    operator: OpOverload[..., Any], name: str, kwargs: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Any]]:
    """The operator's arguments with copies of what it changes, and these copies."""
    from torch._higher_order_ops import auto_functionalize

    functions: Any = auto_functionalize
    if name == "auto_functionalized_v2":
        rest = {key: value for key, value in kwargs.items() if key != "_all_bases"}
        bases = [None if base is None else base.clone() for base in kwargs["_all_bases"]]
        return functions._generate_new_op_kwargs_from_bases(
            operator._schema,  # pyright: ignore[reportPrivateUsage]
            rest,
            bases,
            (),
            False,
        )
    names, _ = functions.get_mutable_args(operator)
    copies = {key: pytree.tree_map_only(torch.Tensor, torch.clone, kwargs[key]) for key in names}
    return {**kwargs, **copies}, list(copies.values())
