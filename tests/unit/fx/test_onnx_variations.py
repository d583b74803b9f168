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
    """

    op: str
    version: int
    inputs: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: int = 1
    constant: Sequence[int] = ()
    symbols: bool = False
    oracle: str = "reference"

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
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            values.append(helper.make_tensor_value_info(f"x{i}", kind, dims))
        names = ["" if array is None else f"x{i}" for i, array in enumerate(self.inputs)]
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, **self.attributes)
        results = [helper.make_empty_tensor_value_info(name) for name in outputs]
        graph = helper.make_graph([node], "g", values, results, stored)
        imports = [helper.make_opsetid("", self.version)]
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


@pytest.mark.parametrize("case", CASES, ids=[f"{i}-{c.op}" for i, c in enumerate(CASES)])
def test_form(case: Case):
    compiled = torsh_fx.compile(case.model(symbols=case.symbols), threads=1)
    for ours, theirs in zip(
        compiled.run(list(case.feeds().values())), case.expected(), strict=True
    ):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if theirs.dtype.kind in "iu":
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
