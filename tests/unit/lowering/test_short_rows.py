"""Rows of any length of programs with symbolic extents, against numpy.

Rows that fit one vector or two have code of their own, and so have rests of longer ones.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import torsh_fx.compiler as compiler

Array = np.ndarray[Any, Any]
COLUMNS = (0, 1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 47, 63, 64, 65, 97, 300)
ROWS = (0, 1, 3)


def program(
    op: str, dims: list[list[str | int]], constants: dict[str, Any], **attributes: Any
) -> Any:
    """A program of one node; its constants are operands behind the inputs."""
    names = [f"x{n}" for n in range(len(dims))]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(names, dims, strict=True)
    ]
    node = helper.make_node(op, [*names, *constants], ["y"], **attributes)
    stored = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph([node], "one", inputs, [onnx.ValueInfoProto(name="y")], stored)
    opset = [helper.make_opsetid("", 23)]
    graph = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset)).graph
    return compiler.compile(helper.make_model(graph, opset_imports=opset, ir_version=10), threads=1)


CASES: list[tuple[str, list[list[str | int]], dict[str, Any], dict[str, Any], Callable[..., Array]]]
CASES = [
    ("Concat", [["n", "a"], ["n", "b"]], {}, {"axis": 1}, lambda x, y: np.concatenate([x, y], 1)),
    ("Concat", [["n", "a", 1], ["n", 3, 1]], {}, {"axis": 1},
     lambda x, y: np.concatenate([x, y], 1)),
    ("Pad", [["n", "a"]], {"pads": np.int64([1, 2, 3, 4])}, {},
     lambda x: np.pad(x, [(1, 3), (2, 4)])),
    ("Pad", [["n", 2, "b", "a"]], {"pads": np.int64([0, 0, 1, 2, 0, 0, 2, 1]),
     "value": np.float32(1.5)}, {},
     lambda x: np.pad(x, [(0, 0), (0, 0), (1, 2), (2, 1)], constant_values=1.5)),
    ("Add", [["n", "a"], ["a"]], {}, {}, lambda x, y: x + y),
    ("Add", [["n", "b", "a"], ["b", 1]], {}, {}, lambda x, y: x + y),
    ("Add", [["n", "a"], ["n", 1]], {}, {}, lambda x, y: x + y),
    ("Tile", [["n", "a"]], {"repeats": np.int64([2, 3])}, {}, lambda x: np.tile(x, (2, 3))),
    ("Trilu", [["n", "a"]], {}, {"upper": 0}, lambda x: np.tril(x)),
    ("Transpose", [["n", 5, "a"]], {}, {"perm": [2, 1, 0]}, lambda x: x.transpose(2, 1, 0)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_rows_of_any_length(case: Any) -> None:
    op, dims, constants, attributes, expected = case
    run = program(op, dims, constants, **attributes)
    rng = np.random.default_rng(0)
    for n in ROWS:
        for a in COLUMNS:
            for b in (0, 1, 13) if any("b" in shape for shape in dims) else (0,):
                sizes = {"n": n, "a": a, "b": b}
                x = [
                    rng.standard_normal([sizes.get(d, d) for d in shape]).astype(np.float32)
                    for shape in dims
                ]
                (found,) = run.run(x)
                assert np.array_equal(found, expected(*x)), (sizes, op)
