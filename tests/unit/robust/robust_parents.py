"""The models that mutation starts from: small ones of ours, and cases of the ONNX backend tests."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from robust_models import F, attention, convnet, mlp, model_of, movement, normal

FREE = 3
"""What symbolic extents are when a model runs."""

make = helper.make_node


def value(name: str, dtype: int, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def control() -> onnx.ModelProto:
    """If on data around a Loop that carries and collects values, and a Scan; x: f32[4, 3]."""
    then = helper.make_graph(
        [make("Mul", ["x", "two"], ["t0"]), make("Relu", ["t0"], ["t"])], "then", [],
        [value("t", F, [4, 3])],
    )  # fmt: skip
    other = helper.make_graph([make("Neg", ["x"], ["e"])], "else", [], [value("e", F, [4, 3])])
    body = helper.make_graph(
        [
            make("Identity", ["go_in"], ["go_out"]),
            make("Add", ["s_in", "two"], ["s_out"]),
            make("ReduceSum", ["s_out"], ["sum"], keepdims=0),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go_in", TensorProto.BOOL, []),
         value("s_in", F, [4, 3])],
        [value("go_out", TensorProto.BOOL, []), value("s_out", F, [4, 3]), value("sum", F, [])],
    )  # fmt: skip
    step = helper.make_graph(
        [make("Add", ["h_in", "row"], ["h_out"]), make("Tanh", ["h_out"], ["out"])],
        "step",
        [value("h_in", F, [3]), value("row", F, [3])],
        [value("h_out", F, [3]), value("out", F, [3])],
    )
    arrays = {
        "two": np.array(2, np.float32),
        "trips": np.array(3),
        "go": np.array(True),
        "h0": np.zeros(3, np.float32),
    }
    nodes = [
        make("ReduceSum", ["x"], ["all"], keepdims=0, name="total"),
        make("Greater", ["all", "two"], ["big"], name="greater"),
        make("If", ["big"], ["c"], then_branch=then, else_branch=other, name="if"),
        make("Loop", ["trips", "go", "c"], ["last", "sums"], body=body, name="loop"),
        make("Scan", ["h0", "last"], ["h", "y"], body=step, num_scan_inputs=1, name="scan"),
    ]
    return model_of(nodes, {"x": [4, 3]}, ("y", "sums", "h"), arrays)


def recurrent() -> onnx.ModelProto:
    """An LSTM both ways, a GRU on its output; x: f32[n, 2, 4]."""
    arrays = {
        "w": normal(2, 12, 4, seed=1),
        "r": normal(2, 12, 3, seed=2),
        "b": normal(2, 24, seed=3),
        "gw": normal(1, 9, 6, seed=4),
        "gr": normal(1, 9, 3, seed=5),
        "joined": np.array([0, 0, -1]),
    }
    nodes = [
        make("LSTM", ["x", "w", "r", "b"], ["l", "h", "c"], hidden_size=3,
             direction="bidirectional", name="lstm"),
        make("Transpose", ["l"], ["l1"], perm=[0, 2, 1, 3], name="turn"),
        make("Reshape", ["l1", "joined"], ["l2"], name="join"),
        make("GRU", ["l2", "gw", "gr"], ["y", "k"], hidden_size=3, linear_before_reset=1,
             name="gru"),
    ]  # fmt: skip
    return model_of(nodes, {"x": ["n", 2, 4]}, ("y", "k", "h", "c"), arrays)


def quantised() -> onnx.ModelProto:
    """Quantise, integer product, dequantise, and a convolution between both; x: f32[1, 3, 6, 6]."""
    rng = np.random.default_rng(0)
    arrays = {
        "xs": np.array(0.05, np.float32),
        "xz": np.array(120, np.uint8),
        "w": rng.integers(-100, 100, (4, 3, 3, 3)).astype(np.int8),
        "ws": np.linspace(0.01, 0.02, 4).astype(np.float32),
        "wz": np.zeros(4, np.int8),
        "ys": np.array(0.1, np.float32),
        "v": rng.integers(0, 255, (16, 5)).astype(np.uint8),
        "vs": np.array(0.02, np.float32),
        "flat": np.array([4, 16]),
    }
    nodes = [
        make("QuantizeLinear", ["x", "xs", "xz"], ["q"], name="quantize"),
        make("QLinearConv", ["q", "xs", "xz", "w", "ws", "wz", "ys", "xz"], ["c"], name="conv"),
        make("Reshape", ["c", "flat"], ["c1"], name="flat_"),
        make("QLinearMatMul", ["c1", "ys", "xz", "v", "vs", "xz", "ys", "xz"], ["m"], name="mul"),
        make("DequantizeLinear", ["m", "ys", "xz"], ["y"], name="dequantize"),
        make("DynamicQuantizeLinear", ["y"], ["d", "ds", "dz"], name="dynamic"),
        make("MatMulInteger", ["c1", "v"], ["k"], name="integer"),
    ]
    kinds = {"d": TensorProto.UINT8, "k": TensorProto.INT32}
    return model_of(nodes, {"x": [1, 3, 6, 6]}, ("y", "d", "k"), arrays, kinds)


def integers() -> onnx.ModelProto:
    """Shapes, integer arithmetic, casts and data-dependent extents; x: f32[n, 5], k: i64[4]."""
    arrays = {
        "three": np.array(3),
        "zero": np.array(0),
        "one": np.array(1),
        "axis": np.array([0]),
        "minus": np.array([-1]),
        "top": np.array([2]),
    }
    nodes = [
        make("Shape", ["x"], ["s"], name="shape"),
        make("Gather", ["s", "zero"], ["n0"], axis=0, name="extent"),
        make("Range", ["zero", "n0", "one"], ["r"], name="range"),
        make("Mod", ["k", "three"], ["m"], name="mod"),
        make("Div", ["k", "three"], ["d"], name="div"),
        make("Cast", ["d"], ["df"], to=TensorProto.FLOAT, name="cast"),
        make("OneHot", ["m", "three", "pair"], ["o"], name="onehot"),
        make("NonZero", ["x"], ["z"], name="nonzero"),
        make("TopK", ["x", "top"], ["tv", "ti"], axis=1, name="topk"),
        make("ScatterElements", ["k", "where", "k"], ["e"], axis=0, name="scatter"),
        make("Unsqueeze", ["df", "axis"], ["y"], name="unsqueeze"),
    ]
    arrays |= {"pair": np.array([0, 1], np.float32), "where": np.array([3, 1, 0, 2])}
    outputs = ("y", "r", "m", "o", "z", "tv", "ti", "e")
    kinds = dict.fromkeys(("k", "r", "m", "z", "ti", "e"), TensorProto.INT64)
    return model_of(nodes, {"x": ["n", 5], "k": [4]}, outputs, arrays, kinds)


def functions() -> onnx.ModelProto:
    """A local function with an attribute that refers to the call's; x: f32[2, 3]."""
    inner = make("LeakyRelu", ["a"], ["b"])
    inner.attribute.append(
        onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    )
    body = [inner, make("Mul", ["b", "w"], ["c"])]
    opset = [helper.make_opsetid("", 18)]
    function = helper.make_function("our", "Bent", ["a", "w"], ["c"], body, opset, ["slope"])
    nodes = [
        make("Bent", ["x", "w"], ["h"], domain="our", slope=0.2, name="first"),
        make("Bent", ["h", "w"], ["y"], domain="our", slope=0.5, name="second"),
    ]
    model = model_of(nodes, {"x": [2, 3]}, weights={"w": normal(3)})
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("our", 1))
    return model


OWN: Mapping[str, Callable[[], onnx.ModelProto]] = {
    made.__name__: made
    for made in (
        mlp, convnet, attention, movement, control, recurrent, quantised, integers, functions
    )
}  # fmt: skip

OUTSIDE_OPS = ("ImageDecoder", "Gradient", "Adam", "Adagrad", "Momentum")
"""Known gaps: cases of them say nothing about mutation."""


@dataclass(frozen=True)
class Parent:
    """A model to mutate, and inputs that it runs on.

    Attributes:
        model: A copy that may be changed.
        inputs: By name; empty where they are drawn by the declared types.
    """

    model: onnx.ModelProto
    inputs: Mapping[str, Any]


def parent(name: str, corpus: Path | None) -> Parent:
    """The parent of a name: one of ours, or the file of a backend test case."""
    if name in OWN:
        return Parent(OWN[name](), {})
    assert corpus is not None
    with (corpus / name).open("rb") as file:
        case = pickle.load(file)  # written by run_onnx_backend.py here
    model = onnx.ModelProto()
    model.ParseFromString(case["model"])
    stored = {t.name for t in model.graph.initializer}
    names = [v.name for v in model.graph.input if v.name not in stored]
    given = case["data"][0][0] if case["data"] else []
    return Parent(model, dict(zip(names, given, strict=False)))


def corpus_names(corpus: Path) -> list[str]:
    """Backend test cases of operators that the compiler claims, small enough to run often."""
    import json

    index = json.loads((corpus / "index.json").read_text())
    return [
        case["file"]
        for case in index["cases"]
        if not set(case["ops"]) & set(OUTSIDE_OPS) and "training" not in case["tags"]
    ]


def inputs_of(model: onnx.ModelProto, given: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
    """Inputs by the model's declared types: those given where they fit, others random.

    Returns:
        None where a type cannot be drawn (sequences, optional values, unknown types).
    """
    rng = np.random.default_rng(seed)
    stored = {t.name for t in model.graph.initializer}
    found: dict[str, Any] = {}
    for declared in model.graph.input:
        if declared.name in stored:
            continue
        drawn = _drawn(declared, given.get(declared.name), rng)
        if drawn is None:
            return None
        found[declared.name] = drawn
    return found


def _drawn(declared: onnx.ValueInfoProto, given: Any, rng: np.random.Generator) -> Any:
    if not declared.type.HasField("tensor_type"):
        return given
    type = declared.type.tensor_type
    try:
        dtype = helper.tensor_dtype_to_np_dtype(type.elem_type)
    except KeyError:
        return None
    shape = [d.dim_value if d.HasField("dim_value") else None for d in type.shape.dim]
    if isinstance(given, np.ndarray) and _fits(given, dtype, shape):
        return given
    known = [FREE if extent is None else max(extent, 0) for extent in shape]
    if np.prod(known, dtype=object) > 1 << 24:
        known = [min(extent, 2) for extent in known]
    values = rng.normal(size=known) * 2
    if type.elem_type == TensorProto.STRING:
        return np.asarray(np.vectorize(str, otypes=[object])(values), object).reshape(known)
    return (np.abs(values) if dtype.kind == "u" else values).astype(dtype)


def _fits(array: np.ndarray, dtype: np.dtype, shape: list[int | None]) -> bool:
    kinds = array.dtype == dtype or (dtype.kind == "O" and array.dtype.kind in "OUS")
    alike = len(shape) == array.ndim and all(
        n in (None, m) for n, m in zip(shape, array.shape, strict=True)
    )
    return kinds and alike


def constant_of(array: np.ndarray, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)
