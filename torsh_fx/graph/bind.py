"""Parameters that nodes have beside their arguments: `linear` of `x` has a weight and a bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xdsl.dialects.builtin import DictionaryAttr, ModuleOp
from xdsl.ir import Attribute

from torsh_dialect.attributes import Array
from torsh_dialect.errors import InvalidArgumentError
from torsh_dialect.ops.call import CallOp
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.plain import plain_options
from torsh_dialect.vocabulary import NAME, Vocabulary
from torsh_dialect.weights import WeightStore


def _calls(module: ModuleOp) -> Iterator[tuple[str, CallOp]]:
    for op in module.walk():
        if isinstance(op, CallOp):
            yield getattr(op.attributes.get(NAME), "data", ""), op


def bind_parameters(
    module: ModuleOp, weights: Mapping[str, Array], *, all_used: bool = True
) -> None:
    """Record the types of parameters that get a weight.

    Args:
        module: Is changed.
        weights: Arrays by the full names of parameters.
        all_used: Refuse names that nothing in the module has.

    Raises:
        InvalidArgumentError: No node has the name in front of the last dot, and no weight of the
            module is called so.
    """
    store = WeightStore(dict(weights))
    calls = dict(_calls(module))
    known = {op.id.data for op in module.walk() if isinstance(op, WeightOp)}
    for name in store:
        node, _, parameter = name.rpartition(".")
        if node in calls:
            op = calls[node]
            before: dict[str, Attribute] = {} if op.parameters is None else dict(op.parameters.data)
            op.properties["parameters"] = DictionaryAttr({**before, parameter: store.type_of(name)})
        elif all_used and name not in known:
            raise InvalidArgumentError(
                f"no node has the parameter {name!r}; nodes are {', '.join(calls)}"
            )


def unbound_parameters(
    module: ModuleOp, vocabulary: Vocabulary, weights: Mapping[str, Array]
) -> list[str]:
    """Full names of parameters without a weight, in order of their nodes."""
    missing: list[str] = []
    for node, op in _calls(module):
        known = vocabulary.find(op.operation.data)
        if known is None or len(op.operands) > 1:
            continue
        names = [f"{node}.{name}" for name in known.wanted(plain_options(op.options))]
        missing.extend(name for name in names if name not in weights)
    missing.extend(
        op.id.data for op in module.walk() if isinstance(op, WeightOp) and op.id.data not in weights
    )
    return missing
