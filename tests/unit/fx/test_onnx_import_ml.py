"""Operators of ai.onnx.ml against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.errors import UnsupportedError
from torsh_dialect.evaluate import evaluate
from torsh_fx.importers.onnx import import_onnx

RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 3)).astype(np.float32)
X[1, 0] = np.nan
FINITE = np.nan_to_num(X)

# Two trees: the first tests features 0 and 2, the second feature 1.
TREES: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 0, 0, 1, 1, 1],
    "nodes_nodeids": [0, 1, 2, 3, 4, 0, 1, 2],
    "nodes_featureids": [0, 0, 2, 0, 0, 1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_GT", "LEAF", "LEAF", "BRANCH_LT", "LEAF", "LEAF"],
    "nodes_values": [0.1, 0.0, -0.3, 0.0, 0.0, 0.2, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 3, 0, 0, 1, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0, 2, 0, 0],
    "nodes_missing_value_tracks_true": [1, 0, 0, 0, 0, 0, 0, 0],
}


def leaves(kind: str, ids: list[int]) -> dict[str, Any]:
    return {
        f"{kind}_treeids": [0, 0, 0, 1, 1],
        f"{kind}_nodeids": [1, 3, 4, 1, 2],
        f"{kind}_ids": ids,
        f"{kind}_weights": [0.5, -0.25, 1.5, 0.125, 0.75],
    }


VECTORS = np.round(RNG.standard_normal((7, 3)), 3)


def machine(classes: int, kernel: str, **more: Any) -> dict[str, Any]:
    """A classifier of seven stored vectors."""
    pairs = classes * (classes - 1) // 2
    counts = {2: [3, 4], 3: [2, 3, 2]}[classes]
    weights = np.round(RNG.standard_normal(((classes - 1) * 7,)), 3)
    return {
        "kernel_type": kernel,
        "kernel_params": [0.4, 0.3, 2.0],
        "support_vectors": VECTORS.reshape(-1).tolist(),
        "vectors_per_class": counts,
        "coefficients": weights.tolist(),
        "rho": np.round(RNG.standard_normal(pairs), 3).tolist(),
        "classlabels_ints": [7, 3, 5][:classes],
        **more,
    }


def regression(kernel: str, **more: Any) -> dict[str, Any]:
    return {
        "kernel_type": kernel,
        "kernel_params": [0.4, 0.3, 2.0],
        "support_vectors": VECTORS.reshape(-1).tolist(),
        "n_supports": 7,
        "coefficients": np.round(RNG.standard_normal(7), 3).tolist(),
        "rho": [0.25],
        **more,
    }


LINEAR: dict[str, Any] = {"kernel_type": "LINEAR", "kernel_params": [0.0, 0.0, 0.0]}
KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")

CASES: list[tuple[str, np.ndarray, int, int, dict[str, Any]]] = [
    *(("SVMRegressor", FINITE, 1, 1, regression(kernel)) for kernel in KERNELS),
    ("SVMRegressor", FINITE, 1, 1, regression("RBF", one_class=1)),
    ("SVMRegressor", FINITE, 1, 1, {"coefficients": [1.0, -2.0, 0.5], "rho": [0.1], **LINEAR}),
    *(("SVMClassifier", FINITE, 2, 1, machine(3, kernel)) for kernel in KERNELS),
    *(("SVMClassifier", FINITE, 2, 1, machine(2, kernel)) for kernel in KERNELS),
    ("SVMClassifier", FINITE, 2, 1, machine(3, "RBF", post_transform="SOFTMAX")),
    ("SVMClassifier", FINITE, 2, 1, machine(2, "RBF", post_transform="LOGISTIC")),
    ("SVMClassifier", FINITE, 2, 1, machine(2, "RBF", coefficients=[0.5] * 7)),
    ("SVMClassifier", FINITE, 2, 1, machine(2, "RBF", prob_a=[-1.25], prob_b=[0.3])),
    ("SVMClassifier", FINITE, 2, 1,
     machine(3, "RBF", prob_a=[-1.25, -0.5, -30.0], prob_b=[0.3, -0.2, 2.0])),
    ("SVMClassifier", FINITE, 2, 1,
     machine(3, "LINEAR", prob_a=[-1.0, -2.0, -3.0], prob_b=[0.5, 0.0, 0.1],
             post_transform="SOFTMAX")),
    ("SVMClassifier", FINITE, 2, 1,
     {"coefficients": [1.0, 2.0, 3.0, 4.0, 5.0, -6.0, 0.5, 0.1, -2.0], "rho": [0.5],
      "classlabels_ints": [10, 20, 30], **LINEAR}),
    ("Binarizer", FINITE, 1, 1, {"threshold": 0.2}),
    ("Scaler", FINITE, 1, 1, {"offset": [1.0, 2.0, 3.0], "scale": [0.5, 2.0, 1.0]}),
    ("Normalizer", FINITE, 1, 1, {"norm": "L2"}),
    ("Normalizer", FINITE, 1, 1, {"norm": "L1"}),
    ("Normalizer", FINITE, 1, 1, {"norm": "MAX"}),
    ("Imputer", X, 1, 1, {"imputed_value_floats": [9.0, 8.0, 7.0], "replaced_value_float": np.nan}),
    ("LinearRegressor", FINITE, 1, 1,
     {"coefficients": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "intercepts": [0.5, -0.5], "targets": 2}),
    ("LinearClassifier", FINITE, 2, 1,
     {"coefficients": [1.0, 2.0, 3.0, 4.0, 5.0, -6.0, 0.5, 0.1, -2.0],
      "intercepts": [0.5, -0.5, 0.1], "classlabels_ints": [10, 20, 30],
      "post_transform": "SOFTMAX"}),
    ("LabelEncoder", np.array([3, 7, 1, 9]), 1, 2,
     {"keys_int64s": [1, 3, 7], "values_floats": [0.1, 0.3, 0.7], "default_float": -2.0}),
    ("TreeEnsembleRegressor", X, 1, 3,
     {**TREES, **leaves("target", [0] * 5), "n_targets": 1, "base_values": [0.5]}),
    ("TreeEnsembleRegressor", X, 1, 3,
     {**TREES, **leaves("target", [0, 1, 0, 1, 0]), "n_targets": 2}),
    ("TreeEnsembleRegressor", X, 1, 3,
     {**TREES, **leaves("target", [0] * 5), "n_targets": 1, "aggregate_function": "MAX"}),
    ("TreeEnsembleRegressor", X, 1, 3,
     {**TREES, **leaves("target", [0] * 5), "n_targets": 1, "aggregate_function": "AVERAGE"}),
    ("TreeEnsembleClassifier", X, 2, 3,
     {**TREES, **leaves("class", [0, 1, 2, 1, 0]), "classlabels_int64s": [5, 6, 7],
      "post_transform": "SOFTMAX"}),
    ("TreeEnsembleClassifier", X, 2, 3,
     {**TREES, **leaves("class", [0] * 5), "classlabels_int64s": [0, 1]}),
    ("TreeEnsembleClassifier", X, 2, 3,
     {**TREES, **leaves("class", [0] * 5), "classlabels_int64s": [0, 1],
      "class_weights": [0.1, 0.2, 0.3, 0.25, 0.4]}),
]  # fmt: skip


def model_of(op: str, x: np.ndarray, results: int, version: int, attributes: dict[str, Any]):
    """A model of one operator, of any number of rows like those of x."""
    outputs = [f"y{i}" for i in range(results)]
    node = helper.make_node(op, ["x"], outputs, domain="ai.onnx.ml", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    dims = ["n", *x.shape[1:]]
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", kind, dims)],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", version)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.mark.parametrize(
    ("op", "x", "results", "version", "attributes"), CASES,
    ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)],
)  # fmt: skip
def test_operator(op: str, x: np.ndarray, results: int, version: int, attributes: dict[str, Any]):
    model = model_of(op, x, results, version, attributes)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    context = Context()
    ours = import_onnx(model, context)
    ours.module.verify()
    for rows in (x, x[:1]):
        expected = session.run(None, {"x": rows})
        actual = evaluate(ours.module, [rows], context.weights)
        for a, e in zip(actual, expected, strict=True):
            assert (a.shape, a.dtype) == (e.shape, e.dtype)
            np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-6)


def test_probabilities_of_many_classes_are_computed_natively():
    """Of rows that need different numbers of rounds, and of one row alone."""
    rng = np.random.default_rng(0)
    classes, pairs, vectors = 5, 10, 15
    attributes: dict[str, Any] = {
        "kernel_type": "RBF",
        "kernel_params": [0.2, 0.0, 0.0],
        "support_vectors": rng.standard_normal(vectors * 3).tolist(),
        "vectors_per_class": [3] * classes,
        "coefficients": rng.standard_normal((classes - 1) * vectors).tolist(),
        "rho": rng.standard_normal(pairs).tolist(),
        "prob_a": (-rng.uniform(0.5, 4, pairs)).tolist(),
        "prob_b": rng.standard_normal(pairs).tolist(),
        "classlabels_ints": [4, 2, 7, 1, 0],
    }
    x = (rng.standard_normal((40, 3)) * 3).astype(np.float32)
    model = model_of("SVMClassifier", x, 2, 1, attributes)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = torsh_fx.compile(model, dynamic_shapes={"n": (1, 64)}, threads=1)
    for rows in (x, x[7:8]):
        label, p = compiled(x=rows)
        expected_label, expected = session.run(None, {"x": rows})
        np.testing.assert_array_equal(label, expected_label)
        np.testing.assert_allclose(p, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(p.sum(1), 1, atol=1e-6)


def test_probabilities_need_two_numbers_for_each_pair():
    attributes = machine(3, "RBF", prob_a=[-1.0, -2.0, -3.0], prob_b=[0.1, 0.2])
    with pytest.raises(UnsupportedError, match="prob_b has 2 elements, expected 3"):
        import_onnx(model_of("SVMClassifier", FINITE, 2, 1, attributes), Context())


@pytest.mark.parametrize(
    "labels", [{"classlabels_strings": ["a", "b", "c"]}, {"classlabels_int64s": [3, 1, 2]}]
)
def test_probabilities_by_class(labels: dict[str, Any]):
    """As skl2onnx ends every classifier by default: a sequence with a dict for each row."""
    model = model_of("ZipMap", FINITE, 1, 1, labels)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    compiled = torsh_fx.compile(model)
    for rows in (FINITE, FINITE[:1], FINITE[:0]):
        expected = session.run(None, {"x": rows})
        assert compiled.run([rows]) == expected


def test_maps_need_a_key_for_each_column():
    model = model_of("ZipMap", FINITE, 1, 1, {"classlabels_int64s": [3, 1]})
    with pytest.raises(UnsupportedError, match="3 columns for 2 keys"):
        import_onnx(model, Context())
    both = {"classlabels_int64s": [3, 1, 2], "classlabels_strings": ["a", "b", "c"]}
    with pytest.raises(UnsupportedError, match="one of classlabels_strings"):
        import_onnx(model_of("ZipMap", FINITE, 1, 1, both), Context())
