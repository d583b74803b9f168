"""Many shapes, one program: nothing is compiled again, and memory is that of the largest shape.

Each figure is the resident memory of a fresh process (`/proc/self/status`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from onnx import TensorProto, helper
from robust_models import convnet, model_of, normal, succeed

from lowering.cpu.host import host_target
from torsh_fx.ahead import write_program
from torsh_fx.compiler import compile as compile_model

make = helper.make_node

CALLS = """
import json, sys
import numpy as np
from lowering.runtime.executable import Executable, RunOptions
from lowering.runtime.load import load_program

def resident():
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) << 10 for row in file if row.startswith("VmHWM"))

program, largest, count = load_program(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3])
run = Executable(program, options=RunOptions(threads=1))
inputs = np.random.default_rng(0).standard_normal(largest).astype(np.float32)
run.run([inputs])
numbers = np.random.default_rng(1)
low, high = json.loads(sys.argv[4]), largest
different, last = 0, None
for _ in range(count):
    shape = tuple(int(numbers.integers(a, b + 1)) for a, b in zip(low, high))
    different, last = different + (shape != last), shape
    part = inputs.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    run.run([part])
compilers = [name for name in ("xdsl", "lowering.codegen", "torsh_fx") if name in sys.modules]
print(json.dumps({
    "peak": resident(), "changes": different, "contexts": len(run._idle), "compilers": compilers,
}))
"""


def perceptron():
    """x: f32[n, m, 64] through two products; the arena is 16 bytes an element."""
    weights = {"w": normal(64, 256, seed=1), "v": normal(256, 64, seed=2)}
    nodes = [
        make("MatMul", ["x", "w"], ["a"]),
        make("Relu", ["a"], ["b"]),
        make("MatMul", ["b", "v"], ["c"]),
        make("Softmax", ["c"], ["y"], axis=1),
    ]
    return model_of(nodes, {"x": ["n", "m", 64]}, weights=weights)


def selection():
    """The positive elements of x: f32[n, m], whose number is data, squared and sorted."""
    nodes = [
        make("NonZero", ["x"], ["places"]),
        make("Transpose", ["places"], ["rows"], perm=[1, 0]),
        make("GatherND", ["x", "rows"], ["found"]),
        make("Mul", ["found", "found"], ["squares"]),
        make("Shape", ["squares"], ["count"]),
        make("TopK", ["squares", "count"], ["y", "order"]),
    ]
    return model_of(nodes, {"x": ["n", "m"]}, ("y", "order"), dtypes={"order": TensorProto.INT64})


def images():
    model = convnet()
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "nchw", strict=True):
        if name != "c":
            dim.dim_param = name
    return model


CASES = {
    "perceptron": (perceptron, [0, 1, 64], [48, 96, 64]),
    "images": (images, [1, 3, 12, 12], [4, 3, 224, 224]),
    "data-dependent": (selection, [0, 0], [320, 320]),
}


@pytest.mark.parametrize("case", CASES)
def test_memory_after_thousands_of_shapes_is_that_of_the_largest(case: str, tmp_path: Path):
    build, low, high = CASES[case]
    compiled = compile_model(build())
    write_program(compiled, tmp_path / "program", host_target())

    def peak(count: int, least: list[int]) -> dict[str, int]:
        arguments = (tmp_path / "program", json.dumps(high), count, json.dumps(least))
        return json.loads(succeed(CALLS, *arguments))

    # Both run the same code, so that what Python and numpy load on the way is in both.
    alone, many = peak(20, high), peak(COUNTS[case], low)
    assert many["changes"] > 0.9 * COUNTS[case]
    assert many["contexts"] == 1, "a context of its own for a shape"
    assert many["compilers"] == [], "code that could compile again"
    assert many["peak"] <= 1.01 * alone["peak"], (many, alone)


COUNTS = {"perceptron": 10_000, "images": 10_000, "data-dependent": 1_000}
"""Calls of each case: the 10,000 that the claim names, fewer of those that sort."""
