"""Small ONNX models for the tests of this folder, and how to run scripts in fresh processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
F = TensorProto.FLOAT
Shape = Sequence["int | str"]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str] = ("y",),
    weights: Mapping[str, np.ndarray] | None = None,
    dtypes: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model of opset 18; inputs are float32 unless `dtypes` says otherwise."""
    kinds = dtypes or {}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info(k, kinds.get(k, F), list(v)) for k, v in inputs.items()],
        [helper.make_tensor_value_info(name, kinds.get(name, F), None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Float32 normal numbers, scaled so that a layer keeps its input's size."""
    fan_in = max(1, int(np.prod(shape[1:])))
    values = np.random.default_rng(seed).normal(size=shape) / np.sqrt(fan_in)
    return values.astype(np.float32)


def mlp(width: int = 8, hidden: int = 16) -> onnx.ModelProto:
    """relu(x @ w + b) @ v, x: f32[n, width]."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="act"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    arrays = {"w": normal(width, hidden), "b": normal(hidden), "v": normal(hidden, width)}
    return model_of(nodes, {"x": ["n", width]}, weights=arrays)


def convnet(size: int = 16) -> onnx.ModelProto:
    """Convolution, batch norm, relu, pool, depthwise, pool to 1x1, linear; x: f32[1, 3, s, s]."""
    arrays = {
        "w1": normal(8, 3, 3, 3, seed=1),
        "b1": normal(8, seed=2),
        "scale": np.linspace(0.5, 1.5, 8, dtype=np.float32),
        "shift": normal(8, seed=3),
        "mean": normal(8, seed=4),
        "var": np.linspace(0.5, 1.5, 8, dtype=np.float32),
        "w2": normal(8, 1, 3, 3, seed=5),
        "w3": normal(8, 10, seed=6),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[1, 1], name="conv"),
        make("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"], name="norm"),
        make("Relu", ["n1"], ["r1"], name="relu"),
        make("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2], name="pool"),
        make("Conv", ["p1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8, name="depthwise"),
        make("GlobalAveragePool", ["c2"], ["g"], name="mean"),
        make("Flatten", ["g"], ["f"], axis=1, name="flat"),
        make("MatMul", ["f", "w3"], ["y"], name="head"),
    ]
    return model_of(nodes, {"x": [1, 3, size, size]}, weights=arrays)


def attention() -> onnx.ModelProto:
    """Softmax attention with split heads, residual and layer norm; x: f32[n, 6, 8]."""
    make = helper.make_node
    arrays = {
        "wq": normal(8, 8, seed=1),
        "wk": normal(8, 8, seed=2),
        "wv": normal(8, 8, seed=3),
        "heads": np.array([0, 6, 2, 4]),
        "joined": np.array([0, 6, 8]),
        "half": np.array(0.5, np.float32),
        "gain": np.ones(8, np.float32),
    }
    nodes = [make("MatMul", ["x", f"w{c}"], [f"{c}0"], name=f"{c}_product") for c in "qkv"]
    for c in "qkv":
        nodes.append(make("Reshape", [f"{c}0", "heads"], [f"{c}1"], name=f"{c}_split"))
        perm = [0, 2, 3, 1] if c == "k" else [0, 2, 1, 3]
        nodes.append(make("Transpose", [f"{c}1"], [c], perm=perm, name=f"{c}_turn"))
    nodes += [
        make("MatMul", ["q", "k"], ["s"], name="scores"),
        make("Mul", ["s", "half"], ["t"], name="scale"),
        make("Softmax", ["t"], ["p"], axis=-1, name="softmax"),
        make("MatMul", ["p", "v"], ["o"], name="mix"),
        make("Transpose", ["o"], ["o1"], perm=[0, 2, 1, 3], name="turn_back"),
        make("Reshape", ["o1", "joined"], ["o2"], name="join"),
        make("Add", ["o2", "x"], ["z"], name="residual"),
        make("LayerNormalization", ["z", "gain"], ["y"], axis=-1, name="norm"),
    ]
    return model_of(nodes, {"x": ["n", 6, 8]}, weights=arrays)


def movement() -> onnx.ModelProto:
    """Slices, gather, concat, pad, reductions and a comparison; x: f32[4, n]."""
    make = helper.make_node
    arrays = {
        "starts": np.array([1]),
        "ends": np.array([4]),
        "axes": np.array([0]),
        "rows": np.array([2, 0, -1]),
        "pads": np.array([0, 1, 0, 2]),
        "last": np.array([1]),
    }
    nodes = [
        make("Slice", ["x", "starts", "ends", "axes"], ["a"], name="slice"),
        make("Gather", ["x", "rows"], ["b"], axis=0, name="gather"),
        make("Concat", ["a", "b"], ["c"], axis=1, name="concat"),
        make("Pad", ["c", "pads"], ["d"], mode="constant", name="pad"),
        make("ReduceMean", ["d", "last"], ["m"], keepdims=1, name="mean"),
        make("Sub", ["d", "m"], ["e"], name="centre"),
        make("Greater", ["e", "m"], ["g"], name="greater"),
        make("Where", ["g", "e", "d"], ["y"], name="where"),
        make("ArgMax", ["e"], ["k"], axis=1, keepdims=0, name="argmax"),
    ]
    return model_of(nodes, {"x": [4, "n"]}, ("y", "k"), arrays, {"k": TensorProto.INT64})


def outer(*, whole: bool = False) -> onnx.ModelProto:
    """softmax(x * x.T) @ x, or x * x.T if `whole`; x: f32[n, 1], so n * n are computed."""
    make = helper.make_node
    nodes = [
        make("Transpose", ["x"], ["t"], perm=[1, 0]),
        make("Mul", ["x", "t"], ["y" if whole else "z"]),
    ]
    if not whole:
        nodes.append(make("Softmax", ["z"], ["p"], axis=-1))
        nodes.append(make("MatMul", ["p", "x"], ["y"]))
    return model_of(nodes, {"x": ["n", 1]})


def in_process(
    script: str,
    *arguments: object,
    prefix: Sequence[str] = (),
    timeout: float = 120,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh process; it can import ours and the helpers of the runtime's tests.

    Args:
        script: Python source.
        arguments: Its `sys.argv[1:]`.
        prefix: A command that the interpreter is started by, e.g. `taskset`.
        timeout: Seconds after which the test fails.
        environ: Environment variables.
    """
    path = os.pathsep.join(map(str, (ROOT, HERE, HERE.parent / "runtime")))
    full = {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", **environ}
    command = [*prefix, sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, env=full
    )


def succeed(script: str, *arguments: object, **environ: str) -> str:
    """The standard output of a script that must end well."""
    done = in_process(script, *arguments, **environ)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
