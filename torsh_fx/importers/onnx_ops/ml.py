"""Operators of ai.onnx.ml: encoders, scalers, linear models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect import dtypes
from torsh_dialect.attributes import dims_attribute, literal
from torsh_dialect.dims import product
from torsh_dialect.dtypes import f32, i64
from torsh_dialect.ops.compose import Compose
from torsh_dialect.ops.contract import MatMulOp
from torsh_dialect.ops.gather import GatherOp
from torsh_dialect.ops.reduce import AnyOp
from torsh_dialect.ops.rounding import IsNanOp
from torsh_dialect.ops.sequence import ZipMapOp
from torsh_dialect.ops.softmax import SoftmaxOp
from torsh_dialect.ops.string import LookupOp, StringConstantOp
from torsh_dialect.types import dims_of, element_type, rank_of
from torsh_fx.importers.onnx_ops.node import ML, Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.string import string_array


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
    if n.version < 2:
        names = n.strs("classes_strings")
        return _mapped(n, names, list(range(len(names))))
    x, c, keys, values = n.input(0), n.c, _table(n, "keys"), _table(n, "values")
    default = _default(n, values)
    if isinstance(keys, Strings) or isinstance(values, Strings):
        spelled = string_array(keys.data) if isinstance(keys, Strings) else literal(keys)
        if isinstance(values, Strings):
            return n(LookupOp, x, keys=spelled, values=string_array([*values.data, str(default)]))
        whole = np.append(values, np.asarray(default, values.dtype))
        return n(LookupOp, x, keys=spelled, values=literal(whole))
    hit = c.eq(c.reshape(x, (*dims_of(x), 1)), n.constant(keys))
    place = c.reshape(c.argmax(c.cast(hit, dtypes.i32), rank_of(hit) - 1), dims_of(x))
    found = c.take(n.constant(values), place, 0)
    known = n(AnyOp, hit, axes=[rank_of(hit) - 1])
    return c.where(known, found, n.constant(np.asarray(default, values.dtype)))


@converter("CategoryMapper", domain=ML)
def category_mapper(n: Node) -> SSAValue:
    """Strings as integers, or integers as strings, by one table read in either direction."""
    return _mapped(n, n.strs("cats_strings"), n.ints("cats_int64s"))


def _mapped(n: Node, names: Sequence[str], numbers: Sequence[int]) -> SSAValue:
    if n.kind() == "string":
        values = np.asarray([*numbers, n.int("default_int64", -1)])
        return n(LookupOp, n.input(0), keys=string_array(names), values=literal(values))
    values = string_array([*names, n.str("default_string", "_Unused")])
    return n(LookupOp, n.input(0), keys=literal(np.asarray(numbers)), values=values)


@converter("ZipMap", domain=ML)
def zip_map(n: Node) -> SSAValue:
    """What skl2onnx puts behind every classifier: probabilities by class."""
    if n.has("classlabels_strings") == n.has("classlabels_int64s"):
        raise NotSupported("one of classlabels_strings and classlabels_int64s is needed")
    if n.has("classlabels_strings"):
        return n(ZipMapOp, n.input(0), keys=string_array(n.strs("classlabels_strings")))
    labels = np.asarray(n.ints("classlabels_int64s"), np.int64)
    return n(ZipMapOp, n.input(0), keys=literal(labels))


def as_floats(n: Node, x: SSAValue) -> SSAValue:
    return x if n.kind() == "float" else n.c.cast(x, f32)


@converter("Scaler", domain=ML)
def scaler(n: Node) -> SSAValue:
    c, x = n.c, as_floats(n, n.input(0))
    offset, scale = n.floats("offset", [0.0]), n.floats("scale", [1.0])
    moved = c.sub(x, c.constant(np.asarray(offset), element_type(x)))
    return c.cast(c.mul(moved, c.constant(np.asarray(scale), element_type(x))), f32)


@converter("Normalizer", domain=ML)
def normalizer(n: Node) -> SSAValue:
    """Each row divided by its largest magnitude, sum of magnitudes or length; 0 stays."""
    c, x = n.c, as_floats(n, n.input(0))
    axis = [rank_of(x) - 1]
    match n.str("norm", "MAX"):
        case "MAX":
            size = c.max(x, axis, keep=True)
        case "L1":
            size = c.sum(c.abs(x), axis, keep=True)
        case "L2":
            size = c.sqrt(c.sum(c.mul(x, x), axis, keep=True))
        case other:
            raise NotSupported(f"norm {other!r}", "use MAX, L1 or L2")
    return c.cast(c.div(x, c.where(c.eq(size, 0.0), c.like(1.0, size), size)), f32)


@converter("Imputer", domain=ML)
def imputer(n: Node) -> SSAValue:
    c, x = n.c, n.input(0)
    if n.has("imputed_value_floats"):
        values = np.asarray(n.floats("imputed_value_floats"))
        replaced = n.float("replaced_value_float", 0.0)
    else:
        values = np.asarray(n.ints("imputed_value_int64s"))
        replaced = n.int("replaced_value_int64", 0)
    hit = n(IsNanOp, x) if np.isnan(replaced) else c.eq(x, replaced)
    return c.where(hit, c.constant(values, element_type(x)), x)


@converter("FeatureVectorizer", domain=ML)
def feature_vectorizer(n: Node) -> SSAValue:
    """The inputs, as floats, side by side."""
    parts = [n.c.cast(v, f32) for v in n.inputs]
    parts = [v if rank_of(v) == 2 else n.c.reshape(v, (dims_of(v)[0], 1)) for v in parts]
    return n.c.concat(parts, 1)


@converter("OneHotEncoder", domain=ML)
def one_hot_encoder(n: Node) -> SSAValue:
    c, x = n.c, n.input(0)
    if n.has("cats_strings"):
        names = n.strs("cats_strings")
        numbers = literal(np.asarray([*range(len(names)), -1]))
        x = n(LookupOp, x, keys=string_array(names), values=numbers)
        categories = c.iota(len(names))
    else:
        categories = n.constant(np.asarray(n.ints("cats_int64s")))
    hit = c.eq(c.reshape(c.cast(x, i64), (*dims_of(x), 1)), categories)
    return c.cast(hit, f32)


# -- linear models


def transformed(n: Node, y: SSAValue) -> SSAValue:
    """Scores after `post_transform`; they are f32, whatever the operator computes in."""
    match n.str("post_transform", "NONE"):
        case "NONE":
            found = y
        case "SOFTMAX":
            found = n(SoftmaxOp, y, axis=1)
        case "LOGISTIC":
            found = n.c.sigmoid(y)
        case "SOFTMAX_ZERO":
            found = _softmax_zero(n.c, y)
        case "PROBIT":
            found = _probit(n.c, y)
        case other:
            raise NotSupported(f"the transform {other}", "repair the model")
    return n.c.cast(found, f32)


TINY = 1e-7
"""Scores of at most this magnitude are zeros to SOFTMAX_ZERO."""


def _softmax_zero(c: Compose, y: SSAValue) -> SSAValue:
    """A softmax in which zeros stay zeros."""
    top = c.max(y, [1], keep=True)
    live = c.gt(c.abs(y), TINY)
    e = c.where(live, c.exp(c.sub(y, top)), c.mul(y, c.exp(c.neg(top))))
    total = c.sum(e, [1], keep=True)
    return c.div(e, c.where(c.eq(total, 0.0), c.like(1.0, total), total))


def _probit(c: Compose, y: SSAValue) -> SSAValue:
    """sqrt(2) * erfinv(2 y - 1), with Winitzki's erfinv (a = 0.147).

    Onnxruntime and the reference evaluator both have this approximation, of 2e-3.
    """
    x = c.sub(c.mul(y, 2.0), 1.0)
    log = c.log(c.mul(c.sub(c.like(1.0, x), x), c.add(x, 1.0)))
    v = c.add(c.mul(log, 0.5), 2 / (3.14159 * 0.147))
    root = c.sqrt(c.sub(c.sqrt(c.sub(c.mul(v, v), c.mul(log, 1 / 0.147))), v))
    return c.mul(c.where(c.lt(x, 0.0), c.neg(root), root), 1.41421356)


def _scores(n: Node, classes: int) -> SSAValue:
    c, x = n.c, as_floats(n, n.input(0))
    weights = np.asarray(n.floats("coefficients")).reshape(classes, -1).T
    y = n(MatMulOp, x, c.constant(weights, element_type(x)))
    given = n.floats("intercepts", [])
    return c.add(y, c.constant(np.asarray(given), element_type(y))) if given else y


@converter("LinearRegressor", domain=ML)
def linear_regressor(n: Node) -> SSAValue:
    return transformed(n, _scores(n, n.int("targets", 1)))


@converter("LinearClassifier", domain=ML)
def linear_classifier(n: Node) -> Sequence[SSAValue]:
    """The label of the best score, and all scores.

    One row of weights for two classes is that of the second; the first has the opposite score.
    """
    names = n.strs("classlabels_strings", [])
    labels = np.asarray(n.ints("classlabels_ints", list(range(len(names)))))
    rows = len(n.floats("intercepts", [])) or len(labels)
    scores = _scores(n, rows)
    if rows == 1 and len(labels) == 2:
        scores = n.c.concat([n.c.neg(scores), scores], 1)
    return [labelled(n, scores, labels, names), transformed(n, scores)]


def labelled(n: Node, scores: SSAValue, labels: Any, names: Sequence[str]) -> SSAValue:
    """The label of the best score of each row."""
    best = n.c.reshape(n.c.argmax(scores, 1), (dims_of(scores)[0],))
    if names:
        table = n(StringConstantOp, values=list(names), target=dims_attribute([len(names)]))
        return n.c.take(table, best, 0)
    return n.c.take(n.constant(labels), best, 0)
