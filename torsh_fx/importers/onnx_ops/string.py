"""Strings, and the operators of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array, literal
from torsh_dialect.dims import product
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.ops.string import (
    LookupOp,
    RegexFullMatchOp,
    StringConcatOp,
    StringNormalizerOp,
    StringSplitOp,
    TfIdfOp,
)
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import ML, Node, NotSupported, converter


@converter("StringConcat")
def concat(n: Node) -> SSAValue:
    return n(StringConcatOp, n.input(0), n.input(1))


@converter("StringSplit")
def split(n: Node) -> Sequence[SSAValue]:
    most = n.int("maxsplit") if n.has("maxsplit") else None
    delimiter = n.str("delimiter", "")
    return n.all(StringSplitOp, n.input(0), delimiter=delimiter, most=most, count=n.fresh("u"))


@converter("RegexFullMatch")
def regex_full_match(n: Node) -> SSAValue:
    return n(RegexFullMatchOp, n.input(0), pattern=n.str("pattern"))


@converter("StringNormalizer")
def normalizer(n: Node) -> SSAValue:
    return n(
        StringNormalizerOp, n.input(0), case=n.str("case_change_action", "NONE"),
        case_sensitive=bool(n.int("is_case_sensitive", 0)) or None,
        stopwords=_strings(n.strs("stopwords", [])), count=n.fresh("u"),
    )  # fmt: skip


def _strings(values: Sequence[str]) -> Any:
    from xdsl.dialects.builtin import ArrayAttr, StringAttr

    return ArrayAttr([StringAttr(v) for v in values])


@converter("TfIdfVectorizer")
def tf_idf(n: Node) -> SSAValue:
    x = n.input(0)
    if n.has("pool_strings"):
        pool = _strings(n.strs("pool_strings"))
    else:
        pool, x = literal(np.asarray(n.ints("pool_int64s"))), n.c.cast(x, dtypes.i64)
    return n(
        TfIdfOp, x, pool=pool, starts=n.ints("ngram_counts"), places=n.ints("ngram_indexes"),
        shortest=n.int("min_gram_length"), longest=n.int("max_gram_length"),
        skips=n.int("max_skip_count"), mode=n.str("mode"),
        weights=n.floats("weights") if n.has("weights") else None,
    )  # fmt: skip


# -- ai.onnx.ml


@converter("Binarizer", domain=ML)
def binarizer(n: Node) -> SSAValue:
    x = n.input(0)
    return n.c.cast_like(n.c.gt(x, n.float("threshold", 0.0)), x)


@converter("ArrayFeatureExtractor", domain=ML)
def array_feature_extractor(n: Node) -> SSAValue:
    x, index = n.input(0), n.c.cast(n.input(1), dtypes.i64)
    index = n.c.reshape(index, (product(dims_of(index)),))
    y = n(GatherOp, x, index, axis=rank_of(x) - 1)
    return n.c.reshape(y, (1, *dims_of(y))) if rank_of(y) == 1 else y


@dataclass(frozen=True)
class Strings:
    """Keys or values that are strings."""

    data: tuple[str, ...]


def _table(n: Node, what: str) -> Any:
    """Keys or values of a label encoder."""
    if n.has(f"{what}_tensor"):
        array = n.tensor(f"{what}_tensor")
        return Strings(tuple(map(str, array.tolist()))) if array.dtype.kind == "O" else array
    if n.has(f"{what}_strings"):
        return Strings(tuple(n.strs(f"{what}_strings")))
    if n.has(f"{what}_floats"):
        return np.asarray(n.floats(f"{what}_floats"), np.float32)
    return np.asarray(n.ints(f"{what}_int64s"), np.int64)


def _default(n: Node, values: Any) -> Any:
    if n.has("default_tensor"):
        return n.tensor("default_tensor").reshape(-1)[0]
    if isinstance(values, Strings):
        return n.str("default_string", "_Unused")
    if values.dtype.kind == "f":
        return n.float("default_float", -0.0)
    return n.int("default_int64", -1)


@converter("LabelEncoder", domain=ML)
def label_encoder(n: Node) -> SSAValue:
    """Numbers by comparison with every key, strings by a host function."""
    x, c, keys, values = n.input(0), n.c, _table(n, "keys"), _table(n, "values")
    default = _default(n, values)
    if isinstance(keys, Strings) or isinstance(values, Strings):
        spelled = _strings(keys.data) if isinstance(keys, Strings) else literal(keys)
        if isinstance(values, Strings):
            return n(LookupOp, x, keys=spelled, values=_strings([*values.data, str(default)]))
        whole = np.append(values, np.asarray(default, values.dtype))
        return n(LookupOp, x, keys=spelled, values=literal(whole))
    hit = c.eq(c.reshape(x, (*dims_of(x), 1)), n.constant(keys))
    place = c.reshape(c.argmax(c.cast(hit, dtypes.i32), rank_of(hit) - 1), dims_of(x))
    found = c.take(n.constant(values), place, 0)
    known = n(AnyOp, hit, axes=[rank_of(hit) - 1])
    return c.where(known, found, n.constant(np.asarray(default, values.dtype)))


# -- trees


@converter("TreeEnsemble", domain=ML)
def tree_ensemble(n: Node) -> SSAValue:
    """All trees at once: from the roots, one step down for each level, then leaves are summed."""
    if n.int("post_transform", 0):
        raise NotSupported("a transform of the sums", "apply it behind the trees")
    x, c = n.input(0), n.c
    table = _Trees(n)
    place = n.constant(table.roots)
    place = c.broadcast(c.reshape(place, (1, len(table.roots))), (dims_of(x)[0], len(table.roots)))
    for _ in range(table.depth()):
        inner = c.inside(place, table.nodes)
        value = c.take_along(x, c.take(n.constant(table.features), inner, 0), 1)
        holds = _compared(n, table, value, inner)
        down = [c.take(n.constant(t), inner, 0) for t in (table.true, table.false)]
        below = c.where(holds, *down)
        place = c.where(c.lt(place, table.nodes), below, place)
    leaf = c.inside(c.sub(place, table.nodes), len(table.weights))
    weights = c.cast_like(c.take(n.constant(table.weights), leaf, 0), x)
    targets = c.take(n.constant(table.targets), leaf, 0)
    return _aggregated(n, weights, targets)


class _Trees:
    """A tree ensemble's nodes; a step to leaf k is written as the number of nodes plus k."""

    def __init__(self, n: Node):
        self.features = np.asarray(n.ints("nodes_featureids"))
        self.nodes = len(self.features)
        self.splits = n.tensor("nodes_splits")
        self.modes = np.asarray(n.tensor("nodes_modes"), np.int64)
        self.weights, self.targets = n.tensor("leaf_weights"), np.asarray(n.ints("leaf_targetids"))
        self.roots = np.asarray(n.ints("tree_roots"))
        self.true, self.false = (
            np.asarray(n.ints(f"nodes_{side}nodeids"))
            + np.asarray(n.ints(f"nodes_{side}leafs")) * self.nodes
            for side in ("true", "false")
        )
        self.missing = np.asarray(n.ints("nodes_missing_value_tracks_true", [0] * self.nodes)) != 0
        self.members = self._members(n)

    def _members(self, n: Node) -> Array:
        """The members that each node tests for, filled up with NaN: [nodes, most]."""
        if not n.has("membership_values"):
            return np.full((self.nodes, 1), np.nan, self.splits.dtype)
        sets: list[list[float]] = [[]]
        for value in n.tensor("membership_values").tolist():
            sets.append([]) if np.isnan(value) else sets[-1].append(value)
        found = np.full((self.nodes, max(map(len, sets))), np.nan, self.splits.dtype)
        given = iter(sets)
        for node in self._in_order():
            if self.modes[node] == 6:
                values = next(given)
                found[node, : len(values)] = values
        return found

    def _in_order(self) -> list[int]:
        order, stack = list[int](), list(map(int, self.roots))[::-1]
        while stack:
            node = stack.pop()
            if node < self.nodes and node not in order:
                order.append(node)
                stack += [int(self.false[node]), int(self.true[node])]
        return order

    def depth(self) -> int:
        """Steps from a root to the deepest leaf."""
        level, steps = {int(r) for r in self.roots}, 0
        while level := {node for node in level if node < self.nodes}:
            steps += 1
            if steps > self.nodes:
                raise NotSupported("the trees have a circle", "repair the model")
            level = {int(t[node]) for node in level for t in (self.true, self.false)}
        return steps


def _compared(n: Node, table: _Trees, value: SSAValue, node: SSAValue) -> SSAValue:
    c = n.c
    split = c.cast_like(c.take(n.constant(table.splits), node, 0), value)
    mode = c.take(n.constant(table.modes), node, 0)
    members = c.cast_like(c.take(n.constant(table.members), node, 0), value)
    one = c.reshape(value, (*dims_of(value), 1))
    equal = c.eq(value, split)
    tests = [
        c.le(value, split), c.lt(value, split), c.ge(value, split), c.gt(value, split), equal,
        c.eq(equal, n.constant(False)), n(AnyOp, c.eq(one, members), axes=[2]),
    ]  # fmt: skip
    holds = tests[0]
    for number in range(1, len(tests)):
        if number not in table.modes:
            continue
        holds = c.where(c.eq(mode, number), tests[number], holds)
    if table.missing.any():
        absent = c.eq(c.eq(value, value), n.constant(False))
        holds = c.either(holds, c.both(absent, c.take(n.constant(table.missing), node, 0)))
    return holds


def _aggregated(n: Node, weights: SSAValue, targets: SSAValue) -> SSAValue:
    """Leaf weights [rows, trees] summed (or averaged, ...) for each target."""
    c, count, how = n.c, n.int("n_targets"), n.int("aggregate_function", 1)
    rows, trees = dims_of(weights)
    mine = c.eq(c.reshape(targets, (rows, trees, 1)), n.constant(np.arange(count)))
    each = c.reshape(weights, (rows, trees, 1))
    limits = np.finfo(np.float64 if element_type(weights) == dtypes.f64 else np.float32)
    neutral = {2: float(limits.max), 3: float(limits.min)}.get(how, 0.0)
    each = c.where(mine, each, c.like(neutral, each))
    if how == 2:
        return c.min(each, [1])
    if how == 3:
        return c.max(each, [1])
    total = c.sum(each, [1])
    return total if how == 1 else c.div(total, float(str(trees)))
