"""Support vector machines of ai.onnx.ml: kernels against stored vectors, votes of pairs of classes.

Source: the operators' specification, and what onnxruntime computes where it is silent (which class
a pair votes for).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from xdsl.ir import SSAValue

from torsh_dialect.dtypes import f32
from torsh_dialect.types import dims_of, element_type
from torsh_fx.importers.onnx_ops.ml import as_floats, labelled, transformed
from torsh_fx.importers.onnx_ops.node import ML, Node, NotSupported, converter
from torsh_fx.importers.onnx_ops.svm_probabilities import coupled, pair_probabilities


def _kernel(n: Node, x: SSAValue, vectors: Any, name: str) -> SSAValue:
    """The kernel of each row with each vector: [rows, vectors]."""
    c, element = n.c, element_type(x)
    gamma, coefficient, degree = n.floats("kernel_params", [0.0, 0.0, 0.0])
    stored = c.constant(np.ascontiguousarray(vectors.T), element)
    if name == "RBF":
        rows, size = dims_of(x)
        apart = c.sub(c.reshape(x, (rows, 1, size)), c.constant(vectors, element))
        return c.exp(c.mul(c.sum(c.mul(apart, apart), [2]), -gamma))
    product = c.matmul(x, stored)
    match name:
        case "LINEAR":
            return product
        case "POLY":
            return c.pow(c.add(c.mul(product, gamma), coefficient), degree)
        case "SIGMOID":
            return c.tanh(c.add(c.mul(product, gamma), coefficient))
        case other:
            raise NotSupported(f"the kernel {other!r}", "use LINEAR, POLY, RBF or SIGMOID")


def _array(n: Node, name: str, *dims: int) -> Any:
    """An attribute as an array of some extents.

    Raises:
        NotSupported: It has another number of elements.
    """
    values = np.asarray(n.floats(name, []))
    if np.prod(dims) not in (values.size, -values.size) and -1 not in dims:
        raise NotSupported(
            f"{name} has {values.size} elements, expected {np.prod(dims)}", "repair the model"
        )
    return values.reshape(dims)


def _features(n: Node, stored: str, rows: int) -> tuple[SSAValue, int]:
    """The input as floats, and how many features it has: as the `rows` of an attribute do."""
    x, values = as_floats(n, n.input(0)), len(n.floats(stored))
    size = dims_of(x)[1]
    if not isinstance(size, int):
        size = values // max(rows, 1)
    return n.fitted(x, (dims_of(x)[0], size)), size


@converter("SVMRegressor", domain=ML)
def svm_regressor(n: Node) -> SSAValue:
    """The weighted sum of kernels; a machine of one class says 1 or -1."""
    c, count = n.c, n.int("n_supports", 0)
    x, size = _features(n, "support_vectors" if count else "coefficients", count or 1)
    rho = n.floats("rho")[0]
    if count:
        kernels = _kernel(n, x, _array(n, "support_vectors", count, size), n.str("kernel_type"))
        weights = _array(n, "coefficients", count, 1)
    else:
        kernels, weights = x, _array(n, "coefficients", size, 1)
    y = c.add(c.matmul(kernels, c.constant(weights, element_type(x))), rho)
    if n.int("one_class", 0):
        return c.cast(c.where(c.gt(y, 0.0), c.like(1.0, y), c.like(-1.0, y)), f32)
    return transformed(n, y)


@converter("SVMClassifier", domain=ML)
def svm_classifier(n: Node) -> Sequence[SSAValue]:
    """The class that most pairs vote for, and the score of each pair (or class, if linear).

    With `prob_a` and `prob_b` the probability of each class stands for the scores; as in
    onnxruntime, the class is still the one of most votes.
    """
    names = n.strs("classlabels_strings", [])
    labels = np.asarray(n.ints("classlabels_ints", list(range(len(names)))))
    counts = n.ints("vectors_per_class", [])
    stored = ("support_vectors", sum(counts)) if counts else ("coefficients", len(labels))
    x, size = _features(n, *stored)
    if not counts:
        weights = _array(n, "coefficients", len(labels), size)
        c = n.c
        scores = c.matmul(x, c.constant(np.ascontiguousarray(weights.T), element_type(x)))
        scores = c.add(scores, n.floats("rho")[0])
        return [labelled(n, scores, labels, names), transformed(n, scores)]
    scores, votes = _pairs(n, x, counts, size)
    if n.has("prob_a"):
        pairs = len(counts) * (len(counts) - 1) // 2
        a, b = (_array(n, name, pairs) for name in ("prob_a", "prob_b"))
        scores = coupled(n.c, pair_probabilities(n.c, scores, a, b), len(counts))
    elif len(labels) == 2:
        scores = n.c.concat([n.c.neg(scores), scores], 1)
    return [labelled(n, votes, labels, names), transformed(n, scores)]


def _pairs(n: Node, x: SSAValue, counts: list[int], size: int) -> tuple[SSAValue, SSAValue]:
    """The score of each pair of classes, and how many pairs vote for each class."""
    c, classes, total = n.c, len(counts), sum(counts)
    starts = np.cumsum([0, *counts])
    kernels = _kernel(n, x, _array(n, "support_vectors", total, size), n.str("kernel_type"))
    given = _array(n, "coefficients", classes - 1, total)
    pairs = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    weights, first = np.zeros((total, len(pairs))), np.zeros((len(pairs), classes))
    second = np.zeros((len(pairs), classes))
    for number, (i, j) in enumerate(pairs):
        a, b = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[a, number], weights[b, number] = given[j - 1, a], given[i, b]
        first[number, i] = second[number, j] = 1
    element = element_type(x)
    scores = c.add(
        c.matmul(kernels, c.constant(weights, element)),
        c.constant(_array(n, "rho", len(pairs)), element),
    )
    won = c.cast(c.gt(scores, 0.0), element)
    lost = c.sub(c.like(1.0, won), won)
    votes = c.add(
        c.matmul(won, c.constant(first, element)), c.matmul(lost, c.constant(second, element))
    )
    return scores, votes
