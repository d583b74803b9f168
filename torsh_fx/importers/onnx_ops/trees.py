"""Tree ensembles of ai.onnx.ml: every tree of every row descends at once, level by level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import Array
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.onnx_ops.ml import labelled, transformed
from torsh_fx.importers.onnx_ops.node import ML, Node, NotSupported, converter

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
MEMBER = 6
AVERAGE, SUM, MIN, MAX = range(4)
AGGREGATES = {"AVERAGE": AVERAGE, "SUM": SUM, "MIN": MIN, "MAX": MAX}


@dataclass(frozen=True)
class Trees:
    """The inner nodes and leaves of all trees. A step to leaf k is written as nodes + k.

    Attributes:
        features: The feature that each node tests.
        splits: What it is compared with.
        modes: How: a position in `MODES`, or `MEMBER`.
        true: The step where the test holds.
        false: The step where it does not.
        missing: Whether the test holds for NaN.
        members: The members that a node tests for, filled up with NaN: [nodes, most].
        roots: The first step of each tree.
        values: What each leaf gives each target: [leaves, targets].
        used: Whether it gives it anything.
    """

    features: Any
    splits: Any
    modes: Any
    true: Any
    false: Any
    missing: Any
    members: Any
    roots: Any
    values: Any
    used: Any

    @property
    def nodes(self) -> int:
        return len(self.features)

    def depth(self) -> int:
        """Steps from a root to the deepest leaf.

        Raises:
            NotSupported: There is a circle.
        """
        level, steps = {int(r) for r in self.roots}, 0
        while level := {node for node in level if node < self.nodes}:
            steps += 1
            if steps > self.nodes:
                raise NotSupported("the trees have a circle", "repair the model")
            level = {int(t[node]) for node in level for t in (self.true, self.false)}
        return steps


# -- the operator of opset 5


@converter("TreeEnsemble", domain=ML)
def tree_ensemble(n: Node) -> SSAValue:
    """Each leaf gives one target one weight."""
    if n.int("post_transform", 0):
        raise NotSupported("a transform of the sums", "apply it behind the trees")
    features = np.asarray(n.ints("nodes_featureids"))
    nodes = len(features)
    true, false = (
        np.asarray(n.ints(f"nodes_{side}nodeids"))
        + np.asarray(n.ints(f"nodes_{side}leafs")) * nodes
        for side in ("true", "false")
    )
    modes, splits = np.asarray(n.tensor("nodes_modes"), np.int64), n.tensor("nodes_splits")
    roots = np.asarray(n.ints("tree_roots"))
    missing = np.asarray(n.ints("nodes_missing_value_tracks_true", [0] * nodes)) != 0
    weights, targets = n.tensor("leaf_weights"), n.ints("leaf_targetids")
    values = np.zeros((len(targets), n.int("n_targets")), weights.dtype)
    values[np.arange(len(targets)), targets] = weights
    used = np.zeros(values.shape, np.bool_)
    used[np.arange(len(targets)), targets] = True
    members = _members(n, modes, _in_order(roots, true, false), splits)
    table = Trees(features, splits, modes, true, false, missing, members, roots, values, used)
    return _aggregated(n, n.input(0), table, n.int("aggregate_function", SUM))


def _members(n: Node, modes: Any, order: Sequence[int], splits: Array) -> Array:
    if not n.has("membership_values"):
        return np.full((len(modes), 1), np.nan, splits.dtype)
    sets: list[list[float]] = [[]]
    values: list[float] = n.tensor("membership_values").tolist()
    for value in values:
        if np.isnan(value):
            sets.append([])
        else:
            sets[-1].append(value)
    found = np.full((len(modes), max(map(len, sets))), np.nan, splits.dtype)
    given = iter(sets)
    for node in order:
        if modes[node] == MEMBER:
            mine = next(given)
            found[node, : len(mine)] = mine
    return found


def _in_order(roots: Any, true: Any, false: Any) -> list[int]:
    """Nodes as a walk meets them that goes down the true side first."""
    order, stack = list[int](), [int(r) for r in roots][::-1]
    while stack:
        node = stack.pop()
        if node < len(true) and node not in order:
            order.append(node)
            stack += [int(false[node]), int(true[node])]
    return order


# -- the operators of opset 1 and 3


def _listed(n: Node, kind: str, count: int) -> Trees:
    """Trees whose nodes and leaves have one list, with weights in lists of `kind`."""
    keys = list(zip(n.ints("nodes_treeids"), n.ints("nodes_nodeids"), strict=True))
    modes = n.strs("nodes_modes")
    inner = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    leaves = [i for i, mode in enumerate(modes) if mode == "LEAF"]
    if unknown := {m for m in modes if m not in MODES} - {"LEAF"}:
        raise NotSupported(f"nodes of modes {sorted(unknown)}", "repair the model")
    step = {keys[i]: place for place, i in enumerate([*inner, *leaves])}
    true, false = (
        np.asarray([step[keys[i][0], n.ints(f"nodes_{side}nodeids")[i]] for i in inner], np.int64)
        for side in ("true", "false")
    )
    below = {*true.tolist(), *false.tolist()}
    roots = np.asarray([place for place in step.values() if place not in below])
    values = np.zeros((len(leaves), count), np.float32)
    used = np.zeros(values.shape, np.bool_)
    rows = (n.ints(f"{kind}_{part}ids") for part in ("tree", "node", ""))
    for tree, node, target, weight in zip(*rows, n.floats(f"{kind}_weights"), strict=True):
        leaf = step[tree, node] - len(inner)
        values[leaf, target] += weight
        used[leaf, target] = True
    missing = n.ints("nodes_missing_value_tracks_true", [0] * len(keys))
    splits = np.asarray(n.floats("nodes_values"), np.float32)[inner]
    return Trees(
        features=np.asarray(n.ints("nodes_featureids"), np.int64)[inner],
        splits=splits,
        modes=np.asarray([MODES.index(modes[i]) for i in inner], np.int64),
        true=true,
        false=false,
        missing=np.asarray(missing, np.bool_)[inner],
        members=np.full((len(inner), 1), np.nan, np.float32),
        roots=roots,
        values=values,
        used=used,
    )


def _based(n: Node, y: SSAValue) -> SSAValue:
    base = n.floats("base_values", [])
    return n.c.add(y, n.c.constant(np.asarray(base), element_type(y))) if base else y


def _as_floats(n: Node) -> SSAValue:
    x = n.input(0)
    return x if n.kind() == "float" else n.c.cast(x, dtypes.f32)


@converter("TreeEnsembleRegressor", domain=ML)
def regressor(n: Node) -> SSAValue:
    table = _listed(n, "target", n.int("n_targets", 1))
    how = AGGREGATES[n.str("aggregate_function", "SUM")]
    return transformed(n, _based(n, _aggregated(n, _as_floats(n), table, how)))


@converter("TreeEnsembleClassifier", domain=ML)
def classifier(n: Node) -> Sequence[SSAValue]:
    """One class alone with weights stands for two: its score, and what is left to 1.

    Where weights are negative the score is no share of 1: the other's is its opposite.
    """
    names = n.strs("classlabels_strings", [])
    labels = np.asarray(n.ints("classlabels_int64s", list(range(len(names)))))
    table = _listed(n, "class", len(labels))
    scores = _aggregated(n, _as_floats(n), table, SUM)
    if len(set(n.ints("class_ids"))) == 1 and len(labels) == 2:
        (place,) = set(n.ints("class_ids"))
        base = n.floats("base_values", [])
        one = n.c.slice(scores, 1, place, 1)
        one = n.c.add(one, base[-1]) if base else one
        share = n.str("post_transform", "NONE") == "NONE" and min(n.floats("class_weights")) >= 0
        other = n.c.sub(n.c.like(1.0, one), one) if share else n.c.neg(one)
        scores = n.c.concat([other, one], 1)
    else:
        scores = _based(n, scores)
    return [labelled(n, scores, labels, names), transformed(n, scores)]


# -- all of them


def _aggregated(n: Node, x: SSAValue, table: Trees, how: int) -> SSAValue:
    """What the leaves give, summed (or averaged, ...) for each target: [rows, targets]."""
    c, element, trees = n.c, element_type(x), len(table.roots)
    leaf = _reached(n, x, table)
    values = c.take(c.constant(table.values, element), leaf, 0)
    if how in (MIN, MAX):
        limits = np.finfo(np.float64 if element == dtypes.f64 else np.float32)
        neutral = float(limits.max if how == MIN else limits.min)
        used = c.take(n.constant(table.used), leaf, 0)
        values = c.where(used, values, c.like(neutral, values))
        return c.min(values, [1]) if how == MIN else c.max(values, [1])
    total = c.sum(values, [1])
    return total if how == SUM else c.div(total, float(trees))


def _reached(n: Node, x: SSAValue, table: Trees) -> SSAValue:
    """The leaf that each row reaches in each tree: [rows, trees]."""
    c, trees = n.c, len(table.roots)
    place = c.reshape(n.constant(table.roots), (1, trees))
    place = c.broadcast(place, (dims_of(x)[0], trees))
    for _ in range(table.depth()):
        inner = c.inside(place, table.nodes)
        value = c.take_along(x, c.take(n.constant(table.features), inner, 0), 1)
        holds = _compared(n, table, value, inner)
        down = [c.take(n.constant(t), inner, 0) for t in (table.true, table.false)]
        below = c.where(holds, *down)
        place = c.where(c.lt(place, table.nodes), below, place)
    return c.inside(c.sub(place, table.nodes), len(table.values))


def _compared(n: Node, table: Trees, value: SSAValue, node: SSAValue) -> SSAValue:
    """Whether the tests of the nodes hold for the values."""
    c = n.c
    split = c.take(c.constant(table.splits, element_type(value)), node, 0)
    mode = c.take(n.constant(table.modes), node, 0)
    members = c.take(c.constant(table.members, element_type(value)), node, 0)
    one = c.reshape(value, (*dims_of(value), 1))
    tests = [
        lambda: c.le(value, split),
        lambda: c.lt(value, split),
        lambda: c.ge(value, split),
        lambda: c.gt(value, split),
        lambda: c.eq(value, split),
        lambda: c.eq(c.eq(value, split), n.constant(False)),
        lambda: n(AnyOp, c.eq(one, members), axes=[2]),
    ]
    present = [number for number in range(len(tests)) if number in table.modes]
    holds = tests[present[0] if present else 0]()
    for number in present[1:]:
        holds = c.where(c.eq(mode, number), tests[number](), holds)
    if table.missing.any():
        absent = c.eq(c.eq(value, value), n.constant(False))
        holds = c.either(holds, c.both(absent, c.take(n.constant(table.missing), node, 0)))
    return holds
