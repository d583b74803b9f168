"""Attributes outside of what their operators allow: refused with node, attribute and value.

The oracle is onnx's shape inference, or onnxruntime where that says nothing: they refuse the same.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from torsh_dialect.context import Context
from torsh_dialect.errors import UnsupportedError
from torsh_fx.importers.onnx import import_onnx

X = (1, 2, 8, 8)
W = np.ones((4, 2, 3, 3), np.float32)
V = np.ones((2, 4, 3, 3), np.float32)
LENGTH = np.array(0, np.int64)

POOLS = [
    (op, [X], {"kernel_shape": [2, 2], **bad}, says)
    for op in ("AveragePool", "MaxPool", "LpPool")
    for bad, says in [
        ({"kernel_shape": [0, 2]}, r"'kernel_shape' is \[0, 2\], expected 1 or more"),
        ({"kernel_shape": [2]}, r"'kernel_shape' is \[2\], 1 entries instead of 2"),
        ({"strides": [0, 1]}, r"'strides' is \[0, 1\], expected 1 or more"),
        ({"strides": [1]}, r"'strides' is \[1\], 1 entries instead of 2"),
        ({"dilations": [1, -1]}, r"'dilations' is \[1, -1\], expected 1 or more"),
        ({"pads": [-1, 0, 0, 0]}, r"'pads' is \[-1, 0, 0, 0\], expected 0 or more"),
    ]
]
CONVOLUTIONS = [
    (op, [X, w], bad, says)
    for op, w in (("Conv", W), ("ConvTranspose", V))
    for bad, says in [
        ({"group": -1}, "'group' is -1, expected 1 or more"),
        ({"kernel_shape": [2, 2]}, r"'kernel_shape' is \[2, 2\], the weights are \[\d, \d, 3, 3\]"),
        ({"dilations": [1]}, r"'dilations' is \[1\], 1 entries"),
        ({"pads": [0, 0, -2, 0]}, r"'pads' is \[0, 0, -2, 0\], expected 0"),
    ]
]
OTHERS = [
    ("ConvTranspose", [X, V], {"output_padding": [3, 0]}, r"is \[3, 0\], expected less .*\[1, 1\]"),
    ("ConvTranspose", [X, V], {"group": 3}, "3 groups do not divide 2 channels"),
    ("DepthToSpace", [X], {"blocksize": 0}, "'blocksize' is 0, expected 1"),
    ("MaxRoiPool", [X, np.zeros((1, 5), np.float32)], {"pooled_shape": [0, 1]}, r"is \[0, 1\]"),
    ("DFT", [(1, 8, 1), LENGTH], {}, "the length is 0, expected 1 or more"),
    ("STFT", [(1, 16, 1), LENGTH, np.ones(4, np.float32)], {}, "step of frames is 0, expected 1"),
    ("Attention", [(1, 3, 8)] * 3, {"q_num_heads": 0, "kv_num_heads": 2}, "'q_num_heads' is 0"),
    (
        "Resize", [X, np.zeros(0, np.float32), np.array([1, 1, 0, 2], np.float32)], {},
        r"the scales are \[1.0, 1.0, 0.0, 2.0\], expected more than 0",
    ),
]  # fmt: skip


def one_node(op: str, inputs: list[Any], attributes: dict[str, Any]) -> onnx.ModelProto:
    names = [f"x{i}" for i in range(len(inputs))]
    pairs = list(zip(names, inputs, strict=True))
    node = helper.make_node(op, names, ["y"], name="the_node", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(n, 1, x) for n, x in pairs if isinstance(x, tuple)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(x, n) for n, x in pairs if not isinstance(x, tuple)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def refused_elsewhere(model: onnx.ModelProto) -> bool:
    with suppress(onnx.shape_inference.InferenceError, Fail, RuntimeException, InvalidArgument):
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        rng = np.random.default_rng(0)
        session.run(None, {i.name: rng.random(i.shape, np.float32) for i in session.get_inputs()})
        return False
    return True


@pytest.mark.parametrize(("op", "inputs", "attributes", "says"), [*POOLS, *CONVOLUTIONS, *OTHERS])
def test_values_that_no_operator_allows(
    op: str, inputs: list[Any], attributes: dict[str, Any], says: str
):
    model = one_node(op, inputs, attributes)
    assert refused_elsewhere(model)
    with pytest.raises(UnsupportedError, match=rf"the_node\).*{says}"):
        import_onnx(model, Context())


def test_values_at_the_limit_are_taken():
    """The same attributes at the least value that they may have run, as onnxruntime does."""
    pool = one_node(
        "AveragePool", [X], {"kernel_shape": [1, 2], "strides": [1, 1], "pads": [0] * 4}
    )
    rotary = [(1, 2, 3, 4), np.ones((1, 3, 2), np.float32), np.ones((1, 3, 2), np.float32)]
    for model in (
        pool,
        one_node("ConvTranspose", [X, V], {"output_padding": [1, 0], "strides": [2, 1]}),
        one_node("RotaryEmbedding", rotary, {"num_heads": 0, "rotary_embedding_dim": 0}),
    ):
        assert not refused_elsewhere(model)
        import_onnx(model, Context())
