"""Operators of com.microsoft against onnxruntime, which defines them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from torsh_dialect.context import Context
from torsh_dialect.evaluate import evaluate
from torsh_fx.importers.onnx import import_onnx

RNG = np.random.default_rng(11)
U8, S8 = np.uint8, np.int8


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def whole(low: int, high: int, *shape: int, dtype: Any = U8) -> np.ndarray:
    return RNG.integers(low, high, shape).astype(dtype)


def one(value: float, dtype: Any = np.float32) -> np.ndarray:
    return np.asarray(value, dtype)


CASES: list[tuple[str, list[Any], int, dict[str, Any]]] = [
    ("FastGelu", [real(2, 4), real(4)], 1, {}),
    ("BiasGelu", [real(2, 4), real(4)], 1, {}),
    ("QuickGelu", [real(2, 4)], 1, {"alpha": 1.5}),
    ("FusedMatMul", [real(3, 2, 4), real(3, 5, 4)], 1, {"transB": 1, "alpha": 0.5}),
    ("FusedConv", [real(1, 2, 5, 5), real(3, 2, 3, 3), real(3)], 1, {"activation": "Relu"}),
    ("FusedGemm", [real(2, 3), real(3, 4), real(4)], 1,
     {"activation": "LeakyRelu", "activation_alpha": 0.2}),
    ("SkipLayerNormalization", [real(2, 3, 4), real(2, 3, 4), real(4), real(4), real(4)], 1,
     {"epsilon": 1e-5}),
    ("SkipSimplifiedLayerNormalization", [real(2, 3, 4), real(2, 3, 4), real(4)], 1,
     {"epsilon": 1e-5}),
    ("EmbedLayerNormalization",
     [whole(0, 5, 2, 3, dtype=np.int32), whole(0, 2, 2, 3, dtype=np.int32), real(5, 4),
      real(6, 4), real(2, 4), real(4), real(4), np.ones((2, 3), np.int32)], 2, {"epsilon": 1e-5}),
    ("QLinearAdd", [whole(0, 255, 2, 3), one(0.1), one(7, U8), whole(0, 255, 2, 3), one(0.2),
                    one(9, U8), one(0.3), one(100, U8)], 1, {}),
    ("QLinearMul", [whole(0, 255, 2, 3), one(0.1), one(7, U8), whole(0, 255, 2, 3), one(0.2),
                    one(9, U8), one(2.3), one(100, U8)], 1, {}),
    ("QLinearSigmoid", [whole(0, 255, 2, 3), one(0.05), one(128, U8), one(1 / 256), one(0, U8)],
     1, {}),
    ("QLinearLeakyRelu", [whole(0, 255, 2, 3), one(0.05), one(128, U8), one(0.05), one(128, U8)],
     1, {"alpha": 0.1}),
    ("QLinearGlobalAveragePool", [whole(0, 255, 1, 2, 4, 4), one(0.05), one(3, U8), one(0.04),
                                  one(5, U8)], 1, {"channels_last": 0}),
    ("QLinearConcat", [one(0.1), one(3, U8), whole(0, 255, 2, 3), one(0.05), one(9, U8),
                       whole(0, 255, 2, 2), one(0.07), one(0, U8)], 1, {"axis": 1}),
    ("QGemm", [whole(0, 255, 2, 3), one(0.1), one(7, U8), whole(-9, 9, 4, 3, dtype=S8),
               one(0.2), one(1, S8), whole(-50, 50, 4, dtype=np.int32)], 1, {"transB": 1}),
    ("DynamicQuantizeMatMul", [real(2, 8), whole(-90, 90, 8, 4, dtype=S8), one(0.02),
                               one(0, S8), real(4)], 1, {}),
    ("MatMulIntegerToFloat", [whole(0, 255, 2, 8), whole(-90, 90, 8, 4, dtype=S8), one(0.1),
                              one(0.02), one(7, U8), one(0, S8), real(4)], 1, {}),
    ("MatMulNBits", [real(2, 32), whole(0, 255, 4, 2, 8), np.abs(real(4 * 2))], 1,
     {"N": 4, "K": 32, "block_size": 16, "bits": 4}),
    ("MatMulNBits", [real(2, 32), whole(0, 255, 4, 2, 8), np.abs(real(4 * 2)), whole(0, 255, 4)],
     1, {"N": 4, "K": 32, "block_size": 16, "bits": 4}),
    ("MultiHeadAttention", [real(1, 3, 8), real(1, 5, 8), real(1, 5, 8), real(24)], 1,
     {"num_heads": 2}),
    ("Attention", [real(2, 3, 8), real(8, 24), real(24)], 1, {"num_heads": 2}),
    ("GroupQueryAttention", [real(1, 3, 16), real(1, 3, 8), real(1, 3, 8), None, None,
                             np.array([2], np.int32), np.array([3], np.int32)], 3,
     {"num_heads": 2, "kv_num_heads": 1}),
    ("RotaryEmbedding", [real(1, 2, 3, 8), np.arange(3).reshape(1, 3), real(10, 4), real(10, 4)],
     1, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "results", "attributes"),
    CASES,
    ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)],
)
def test_operator(op: str, inputs: list[Any], results: int, attributes: dict[str, Any]):
    names = ["" if array is None else f"x{i}" for i, array in enumerate(inputs)]
    outputs = [f"y{i}" for i in range(results)]
    node = helper.make_node(op, names, outputs, domain="com.microsoft", **attributes)
    kind = helper.np_dtype_to_tensor_dtype(inputs[0].dtype)
    values = [helper.make_tensor_value_info("x0", kind, inputs[0].shape)]
    pairs = zip(names[1:], inputs[1:], strict=True)
    stored = [numpy_helper.from_array(array, name) for name, array in pairs if name]
    declared = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph([node], "g", values[:1], declared, stored)
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x0": inputs[0]})
    context = Context()
    ours = import_onnx(model, context)
    ours.module.verify()
    for a, e in zip(evaluate(ours.module, inputs[:1], context.weights), expected, strict=True):
        assert (a.shape, a.dtype) == (e.shape, e.dtype)
        if e.dtype.kind in "iu":
            np.testing.assert_array_equal(a, e)
        else:
            np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5 * max(1, np.abs(e).max()))
