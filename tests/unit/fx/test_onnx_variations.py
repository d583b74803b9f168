"""Forms of ONNX operators that the backend suite has no case of, against independent runtimes.

Dtypes, ranks, empty operands, operands that are data, extents that are symbols.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import torsh_fx

RNG = np.random.default_rng(5)
F32, I64 = np.float32, np.int64


def real(*shape: int, dtype: Any = F32) -> np.ndarray:
    return RNG.standard_normal(shape).astype(dtype)


def whole(low: int, high: int, *shape: int, dtype: Any = I64) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype)


@dataclass(frozen=True)
class Case:
    """A node.

    Attributes:
        op: Its operator.
        version: Of the operator set.
        inputs: None is left out.
        attributes: Of the node.
        outputs: How many are asked for.
        constant: Which inputs are initializers.
        symbols: Whether all extents of the inputs of rank 2 and more are symbols.
        oracle: The reference evaluator, or onnxruntime where the former has no such form.
        domain: Of the operator; `version` is then that of its operator set.
    """

    op: str
    version: int
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: int = 1
    constant: Sequence[int] = ()
    symbols: bool = False
    oracle: str = "reference"
    domain: str = ""

    def model(self, *, symbols: bool) -> ModelProto:
        values: list[Any] = []
        stored: list[Any] = []
        for i, array in enumerate(self.inputs):
            if array is None:
                continue
            if i in self.constant:
                stored.append(numpy_helper.from_array(array, f"x{i}"))
                continue
            named = symbols and array.ndim > 1
            dims = [f"d{i}_{a}" if named else extent for a, extent in enumerate(array.shape)]
            text = array.dtype.kind == "O"
            kind = 8 if text else helper.np_dtype_to_tensor_dtype(array.dtype)
            values.append(helper.make_tensor_value_info(f"x{i}", kind, dims))
        names = ["" if array is None else f"x{i}" for i, array in enumerate(self.inputs)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, domain=self.domain, **self.attributes)
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph([node], "g", values, results, stored)
        imports = [helper.make_opsetid(self.domain, self.version)]
        imports += [helper.make_opsetid("", 21)] if self.domain else []
        return helper.make_model(graph, opset_imports=imports, ir_version=11)

    def feeds(self) -> dict[str, Any]:
        given = enumerate(self.inputs)
        return {f"x{i}": a for i, a in given if a is not None and i not in self.constant}

    def expected(self) -> Sequence[Any]:
        model = self.model(symbols=False)
        if self.oracle == "reference":
            return ReferenceEvaluator(model).run(None, self.feeds())
        text, providers = model.SerializeToString(), ["CPUExecutionProvider"]
        return ort.InferenceSession(text, providers=providers).run(None, self.feeds())


HEADS = (real(2, 6, 3, 4), real(2, 2, 5, 4), real(2, 2, 5, 4))
ROWS = np.arange(6, dtype=F32).reshape(2, 3)
CASES = [
    Case("TopK", 11, [real(3, 11), np.array([0])], {"axis": -1}, 2, constant=[1]),
    Case("TopK", 11, [real(3, 11), np.array([0])], {"axis": -1}, 2),
    Case("Attention", 23, HEADS, symbols=True),
    Case("Attention", 23, [*HEADS, real(2, 6, 3, 5)], {"qk_matmul_output_mode": 3}, 4,
         symbols=True),
    Case("Attention", 23, [*HEADS, real(1, 1, 3, 5) > -1], symbols=True),
    Case("GroupNormalization", 18, [real(2, 6, 3), real(2), real(2)], {"num_groups": 2},
         symbols=True, oracle="onnxruntime"),
    Case("ReduceMean", 18, [whole(-9, 9, 3, 4), np.array([1])]),
    Case("ReduceL2", 18, [whole(-9, 9, 3, 4, dtype=np.int32), np.array([0])]),
    Case("ReduceLogSum", 18, [whole(1, 99, 3, 4), np.array([1])], oracle="onnxruntime"),
    Case("ReduceL1", 18, [real(4), np.array([0])], {"keepdims": 0}),
    Case("Squeeze", 13, [real(1), np.array([0])]),
    Case("Tile", 13, [np.array(3, F32), np.zeros(0, I64)]),
    Case("Expand", 13, [np.array(3, F32), np.zeros(0, I64)]),
    Case("ConstantOfShape", 20, [np.zeros(0, I64)]),
    Case("Resize", 19, [whole(0, 255, 4, 5, dtype=np.uint8), None, np.array([2, 1.5], F32)],
         {"mode": "linear"}, constant=[2]),
    Case("Resize", 19, [whole(-99, 99, 4, 5, dtype=np.int32), None, None, np.array([7, 9])],
         {"mode": "cubic", "axes": [0, 1]}, constant=[3]),
    Case("RoiAlign", 16, [real(2, 3, 6, 6), np.sort(RNG.random((4, 4)) * 6).astype(F32),
                          np.array([0, 1, 1, 0])], {"output_height": 2, "output_width": 3},
         symbols=True),
    Case("NonMaxSuppression", 11, [RNG.random((2, 7, 4)).astype(F32),
                                   RNG.random((2, 3, 7)).astype(F32), np.array([3])],
         symbols=True, oracle="onnxruntime"),
    Case("MaxUnpool", 22, [ROWS.reshape(1, 2, 3), np.array([9, 1, 4, 8, 0, 3]).reshape(1, 2, 3)],
         {"kernel_shape": [2], "strides": [2]}),
    Case("Erf", 9, [whole(-2, 3, 7, dtype=np.int32)]),
]  # fmt: skip


def ml(op: str, x: Any, outputs: int = 1, oracle: str = "reference", **attributes: Any) -> Case:
    return Case(op, 1, [x], attributes, outputs, oracle=oracle, domain="ai.onnx.ml")


NAMES = np.array(["b", "a", "c", "a", "?"], object)
LINEAR: dict[str, Any] = {
    "coefficients": [0.3, -0.2, 0.5],
    "intercepts": [0.1],
    "classlabels_ints": [5, 7],
}
ROWS_OF: dict[str, Any] = {
    "coefficients": [0.3, -0.2, 0.5, 0.1, 0.2, -0.4, 0.3, 0.3, 0.1],
    "intercepts": [0.1, 0.0, 0.4],
    "classlabels_strings": ["x", "y", "z"],
}
KERNEL: dict[str, Any] = {
    "kernel_type": "RBF",
    "kernel_params": [0.5, 0.3, 2.0],
    "n_supports": 2,
    "rho": [0.2],
    "support_vectors": [0.1, 0.5, -0.3, 0.7, 0.2, 0.9],
    "coefficients": [0.4, -0.6],
}
TREE: dict[str, Any] = {
    "nodes_treeids": [0] * 3,
    "nodes_nodeids": [0, 1, 2],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_featureids": [1, 0, 0],
    "nodes_values": [0.1, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "class_treeids": [0] * 4,
    "class_nodeids": [1, 1, 2, 2],
    "class_ids": [0, 1, 0, 1],
    "class_weights": [0.2, 0.8, 0.0, 0.4],
    "classlabels_int64s": [3, 4],
}
ML = [
    ml("OneHotEncoder", NAMES, cats_strings=["a", "b", "c"]),
    ml("CategoryMapper", NAMES, cats_strings=["a", "b"], cats_int64s=[1, 2], default_int64=-3,
       oracle="onnxruntime"),
    ml("CategoryMapper", np.array([2, 9]), cats_strings=["a", "b"], cats_int64s=[1, 2],
       oracle="onnxruntime"),
    ml("Scaler", real(4, 3, dtype=np.float64), scale=[0.5], offset=[1.0], oracle="onnxruntime"),
    ml("Normalizer", real(4, 3, dtype=np.float64), norm="L2", oracle="onnxruntime"),
    ml("LinearClassifier", real(4, 3), 2, **LINEAR),
    ml("LinearClassifier", real(4, 3), 2, post_transform="LOGISTIC", **LINEAR),
    ml("LinearClassifier", real(4, 3), 2, post_transform="SOFTMAX_ZERO", **ROWS_OF),
    ml("LinearClassifier", real(4, 3), 2, post_transform="PROBIT", oracle="onnxruntime",
       **ROWS_OF | {"coefficients": [0.0] * 9, "intercepts": [0.2, 0.7, 0.9]}),
    Case("SVMRegressor", 1, [real(4, 3)], KERNEL, symbols=True, domain="ai.onnx.ml"),
    ml("TreeEnsembleClassifier", real(4, 3, dtype=np.float64), 2, **TREE),
]  # fmt: skip


def fused(op: str, *inputs: Any, outputs: int = 1, **more: Any) -> Case:
    options = {name: more.pop(name) for name in ("constant", "symbols") if name in more}
    oracle, domain = "onnxruntime", "com.microsoft"
    return Case(op, 1, inputs, more, outputs, oracle=oracle, domain=domain, **options)


def scalar(value: float, dtype: Any = F32) -> np.ndarray:
    return np.array(value, dtype)


U8, S8, I32 = np.uint8, np.int8, np.int32
LONG = (real(2, 3, 8), real(8, 24), real(24))
PAST = real(2, 2, 2, 4, 4)
APART = (real(2, 3, 8), real(2, 5, 8), real(2, 5, 8))
POINT = (scalar(0.05), scalar(3, U8))
FUSED = [
    fused("Attention", *LONG, np.array([2, 3], I32), num_heads=2),
    fused("Attention", *LONG, np.array([2, 3, 0, 1], I32), num_heads=2, unidirectional=1),
    fused("Attention", *LONG, np.ones((2, 3, 3), I32), None, real(1, 2, 3, 3), num_heads=2),
    fused("Attention", *LONG, None, PAST, num_heads=2, unidirectional=1, outputs=2),
    fused("Attention", real(2, 3, 8), real(8, 22), real(22), num_heads=2,
          qkv_hidden_sizes=[8, 8, 6], symbols=True),
    fused("MultiHeadAttention", *APART, real(24), np.array([2, 4], I32), num_heads=2),
    fused("MultiHeadAttention", *APART, None, whole(0, 2, 2, 3, 5, dtype=I32), num_heads=2),
    fused("MultiHeadAttention", *APART[1:], APART[2], None, None, None, real(2, 2, 3, 4),
          real(2, 2, 3, 4), num_heads=2, unidirectional=1, outputs=3),
    fused("QAttention", whole(0, 255, 2, 3, 5, dtype=U8), whole(-99, 99, 5, 24, dtype=S8),
          real(24), scalar(0.02), scalar(0.01), np.array([2, 3], I32), scalar(4, U8),
          scalar(0, S8), PAST, num_heads=2, outputs=2, constant=[1]),
    fused("FusedMatMul", real(4, 2, 3), real(5, 2, 3), transBatchA=1, transBatchB=1, transB=1),
    fused("FusedMatMul", real(3, 2, 4), real(2, 3, 5), transBatchA=1, transA=1),
    fused("FusedGemm", real(2, 3), real(3, 4), real(4), activation="HardSigmoid",
          activation_alpha=0.3, activation_beta=0.4),
    fused("FusedGemm", real(2, 3), real(3, 4), real(4), activation="Softsign"),
    fused("QLinearSoftmax", whole(0, 99, 2, 3, 4, dtype=U8), *POINT, scalar(1 / 256),
          scalar(0, U8), axis=1, opset=11),
    fused("QLinearWhere", whole(0, 2, 2, 3, dtype=np.bool_), whole(0, 99, 2, 3, dtype=U8), *POINT,
          whole(0, 99, 2, 3, dtype=U8), *POINT, scalar(0.07), scalar(9, U8)),
    fused("QLinearConv", whole(0, 99, 1, 6, 5, 2, dtype=U8), *POINT,
          whole(-99, 99, 3, 2, 3, 3, dtype=S8), scalar(0.02), scalar(0, S8), scalar(0.5),
          scalar(7, U8), channels_last=1, pads=[1, 1, 1, 1], constant=[3]),
    fused("NhwcMaxPool", whole(0, 99, 1, 6, 5, 2, dtype=U8), kernel_shape=[2, 3]),
    fused("MatMulNBits", real(3, 40), whole(0, 255, 5, 3, 4, dtype=U8), np.abs(real(15)),
          whole(0, 255, 5, dtype=U8), N=5, K=40, bits=2, block_size=16, constant=[1, 2, 3]),
    fused("MatMulNBits", real(3, 32), whole(0, 255, 5, 2, 8, dtype=U8), np.abs(real(10)), None,
          RNG.permutation(np.arange(32) // 16).astype(I32), N=5, K=32, bits=4, block_size=16,
          constant=[1, 2, 4]),
    fused("MatMulBnb4", real(2, 32), whole(0, 255, 64, dtype=U8), np.abs(real(8)), N=4, K=32,
          block_size=16, quant_type=1, constant=[1, 2]),
    fused("MatMulBnb4", real(2, 32), whole(0, 255, 64, dtype=U8), np.abs(real(8)), N=4, K=32,
          block_size=16, quant_type=0, constant=[1, 2]),
    fused("GatherBlockQuantized", whole(0, 255, 5, 16, dtype=U8), np.array([[1, 4, 0]]),
          np.abs(real(5, 2)), whole(0, 255, 5, 1, dtype=U8), block_size=16, constant=[0, 2, 3]),
    fused("Trilu", real(2, 3, 4), np.array(1), upper=0),
    fused("ExpandDims", real(2, 3), np.array(-2, I32), constant=[1]),
    fused("CDist", real(3, 4), real(5, 4), metric="euclidean"),
    fused("Unique", np.array([3, 1, 3, 2, 1], F32), outputs=3),
    fused("Pad", real(2, 3), np.array([0, 1, 1, 2]), scalar(2.0), mode="constant"),
]  # fmt: skip
ALL = [*CASES, *ML, *FUSED]


@pytest.mark.parametrize("case", ALL, ids=[f"{i}-{c.op}" for i, c in enumerate(ALL)])
def test_form(case: Case):
    compiled = torsh_fx.compile(case.model(symbols=case.symbols), threads=1)
    for ours, theirs in zip(
        compiled.run(list(case.feeds().values())), case.expected(), strict=True
    ):
        text = theirs.dtype.kind in "OU"
        dtype = np.dtype(object) if text else theirs.dtype
        assert (ours.shape, ours.dtype) == (theirs.shape, dtype)
        if theirs.dtype.kind in "iubOU":
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_packed_heads():
    """Onnxruntime's CPU kernel has no packed operands, so the same ones apart are its input."""
    q, k, v = real(2, 3, 2, 4), real(2, 3, 2, 4), real(2, 3, 2, 4)
    apart = [t.reshape(2, 3, 8) for t in (q, k, v)]
    (expected,) = fused("MultiHeadAttention", *apart, num_heads=2).expected()
    for inputs in ([np.stack([q, k, v], 3)], [apart[0], np.stack([k, v], 3)]):
        case = fused("MultiHeadAttention", *inputs, num_heads=2)
        compiled = torsh_fx.compile(case.model(symbols=False), threads=1)
        np.testing.assert_allclose(compiled.run(inputs)[0], expected, rtol=1e-4, atol=1e-5)
