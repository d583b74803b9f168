"""The one-op models of `dynamic_ops.py`: every kind of op with symbolic axes, and its sizes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Sizes = dict[str, int]
Shape = tuple[int | str, ...]

DOMAIN = ""
OPSET = 23


@dataclass(frozen=True)
class Tensor:
    """An input or a weight: `dims` may hold names of symbols; `low` and `high` bound
    integers, `scale` is the deviation of floats.
    """

    dims: Shape
    dtype: str = "float32"
    low: int = -100
    high: int = 100
    scale: float = 1.0

    def array(self, sizes: Mapping[str, int], seed: str) -> np.ndarray[Any, Any]:
        """Random contents, the same for the same seed and shape."""
        shape = self.shape(sizes)
        rng = np.random.default_rng(zlib.crc32(f"{seed}{shape}".encode()))
        if self.dtype.startswith("float"):
            return (self.scale * rng.standard_normal(shape)).astype(self.dtype)
        low = 0 if self.dtype.startswith("u") else self.low
        return rng.integers(low, self.high, shape).astype(self.dtype)

    def shape(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The extents at a size."""
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.dims)


@dataclass(frozen=True)
class Case:
    """A model of one node.

    Attributes:
        name: Names the row.
        op: Type of the node.
        tensors: Inputs by name, in the node's order; a missing one is None.
        weights: Those of `tensors` that are initializers.
        attributes: Attributes of the node.
        sizes: Values of the symbols.
        outputs: Names of results.
        data_dependent: Whether extents of results depend on data.
    """

    name: str
    op: str
    tensors: dict[str, Tensor | np.ndarray[Any, Any] | None]
    sizes: tuple[Sizes, ...]
    weights: tuple[str, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    outputs: tuple[str, ...] = ("y",)
    data_dependent: bool = False

    def inputs(self, sizes: Mapping[str, int]) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays of the inputs at a size."""
        return {
            name: tensor.array(sizes, name)
            for name, tensor in self.tensors.items()
            if isinstance(tensor, Tensor) and name not in self.weights
        }

    def model(self, sizes: Mapping[str, int] | None = None) -> onnx.ModelProto:
        """The model, for a size or with symbolic axes."""
        node = helper.make_node(
            self.op,
            [name if tensor is not None else "" for name, tensor in self.tensors.items()],
            list(self.outputs),
            **self.attributes,
        )
        inputs: list[onnx.ValueInfoProto] = []
        constants: list[onnx.TensorProto] = []
        for name, tensor in self.tensors.items():
            if isinstance(tensor, np.ndarray):
                constants.append(numpy_helper.from_array(tensor, name))
            elif tensor is not None and name in self.weights:
                constants.append(numpy_helper.from_array(tensor.array({}, name), name))
            elif tensor is not None:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
                dims = tensor.dims if sizes is None else tensor.shape(sizes)
                inputs.append(helper.make_tensor_value_info(name, kind, dims))
        outputs = [onnx.ValueInfoProto(name=name) for name in self.outputs]
        graph = helper.make_graph([node], self.name.replace("/", "_"), inputs, outputs, constants)
        graph = onnx.shape_inference.infer_shapes(self._proto(graph)).graph
        return self._proto(graph)

    def _proto(self, graph: onnx.GraphProto) -> onnx.ModelProto:
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid(DOMAIN, OPSET)], ir_version=10
        )


def f32(*dims: int | str) -> Tensor:
    """A tensor of floats."""
    return Tensor(dims)


def i8(*dims: int | str) -> Tensor:
    """A tensor of signed bytes."""
    return Tensor(dims, "int8")


def u8(*dims: int | str) -> Tensor:
    """A tensor of unsigned bytes."""
    return Tensor(dims, "uint8")


def ints(values: Sequence[int]) -> np.ndarray[Any, Any]:
    """A constant vector of indices."""
    return np.asarray(values, np.int64)


def scalar(value: float, dtype: str = "float32") -> np.ndarray[Any, Any]:
    """A constant scalar."""
    return np.asarray(value, dtype)


def along(name: str, *values: int) -> tuple[Sizes, ...]:
    """Sizes of one symbol."""
    return tuple({name: value} for value in values)


def sizes(names: str, *rows: Sequence[int]) -> tuple[Sizes, ...]:
    """Sizes of several symbols, whose names are letters."""
    return tuple(dict(zip(names, row, strict=True)) for row in rows)


K = along("k", 0, 1, 7, 16, 61, 256, 1000)
ROWS = along("n", 0, 1, 3, 7, 64, 257)
IMAGE = sizes("nhw", (1, 56, 56), (2, 1, 1), (1, 13, 7), (3, 31, 30), (0, 8, 8))
BATCH = along("n", 0, 1, 3, 8)
LENGTH = along("n", 0, 1, 7, 61, 1000, 4099)
VOLUME = sizes("nmp", (1, 1, 1), (3, 5, 7), (17, 31, 13), (8, 64, 32))
PLANE = sizes("nm", (0, 5), (1, 1), (7, 13), (61, 67), (512, 300), (1, 4099), (4099, 1))


def _products() -> list[Case]:
    quant = {"as": scalar(0.02), "az": scalar(3, "uint8")}
    weight = {"bs": scalar(0.01), "bz": scalar(0, "int8")}
    out = {"ys": scalar(0.5), "yz": scalar(7, "uint8")}

    def qlinear(a: Tensor, b: Tensor) -> dict[str, Any]:
        return {"a": a, **quant, "b": b, **weight, **out}

    return [
        Case("matmul/k", "MatMul", {"a": f32(64, "k"), "b": f32("k", 96)}, K),
        Case("matmul/k-batch", "MatMul", {"a": f32(4, 33, "k"), "b": f32(4, "k", 40)}, K),
        Case("matmul/k-one-row", "MatMul", {"a": f32(1, "k"), "b": f32("k", 256)}, K),
        Case("matmul/k-f64", "MatMul", {"a": Tensor((32, "k"), "float64"),
             "b": Tensor(("k", 48), "float64")}, K),
        Case("matmul/mkn", "MatMul", {"a": f32("m", "k"), "b": f32("k", "n")},
             sizes("mkn", (0, 3, 4), (1, 1, 1), (1, 512, 512), (7, 5, 3), (61, 67, 71),
                   (256, 256, 256), (3, 1, 100), (100, 7, 1))),
        Case("matmul/batch-mkn", "MatMul", {"a": f32("b", "m", "k"), "b": f32("b", "k", "n")},
             sizes("bmkn", (0, 3, 4, 5), (12, 1, 1, 1), (1, 7, 5, 3), (5, 61, 67, 71),
                   (12, 128, 64, 128), (12, 1, 64, 37), (12, 1, 37, 64))),
        Case("matmul/broadcast", "MatMul", {"a": f32("b", "m", 64), "b": f32(64, "n")},
             sizes("bmn", (1, 1, 1), (3, 7, 61), (2, 128, 128))),
        Case("matmul/weight-k", "MatMul", {"a": f32(64, "k"), "b": f32("k", 96)}, K),
        Case("linear/rows", "Gemm", {"a": f32("n", 256), "b": f32(384, 256), "c": f32(384)},
             ROWS, ("b", "c"), {"transB": 1}),
        Case("linear/rows-narrow", "Gemm", {"a": f32("n", 64), "b": f32(10, 64), "c": f32(10)},
             ROWS, ("b", "c"), {"transB": 1}),
        Case("gemm/mkn-transposed", "Gemm", {"a": f32("k", "m"), "b": f32("n", "k")},
             sizes("mkn", (1, 1, 1), (7, 5, 3), (61, 67, 71), (200, 256, 128)), (),
             {"transA": 1, "transB": 1}),
        Case("einsum/bij-bkj", "Einsum", {"a": f32("b", "i", 32), "b": f32("b", "k", 32)},
             sizes("bik", (1, 1, 1), (3, 7, 13), (8, 64, 64)), (), {"equation": "bij,bkj->bik"}),
        Case("matmul-integer/k", "MatMulInteger", {"a": u8(64, "k"), "b": i8("k", 96)}, K),
        Case("matmul-integer/k-batch", "MatMulInteger",
             {"a": u8(4, 33, "k"), "b": i8(4, "k", 40)}, K),
        Case("matmul-integer/k-zeros", "MatMulInteger", {"a": u8(64, "k"), "b": u8("k", 96),
             "az": scalar(100, "uint8"), "bz": scalar(90, "uint8")}, K),
        Case("matmul-integer/mn", "MatMulInteger", {"a": u8("m", 64), "b": i8(64, "n")},
             sizes("mn", (0, 5), (1, 1), (7, 13), (61, 67), (256, 200))),
        Case("matmul-integer/rows", "MatMulInteger", {"a": u8("n", 256), "b": i8(256, 384)},
             ROWS, ("b",)),
        Case("qlinear-matmul/k", "QLinearMatMul", qlinear(u8(64, "k"), i8("k", 96)), K),
        Case("qlinear-matmul/mkn", "QLinearMatMul", qlinear(u8("m", "k"), i8("k", "n")),
             sizes("mkn", (1, 1, 1), (7, 5, 3), (61, 67, 71), (256, 256, 200))),
        Case("qlinear-matmul/rows", "QLinearMatMul", qlinear(u8("n", 256), i8(256, 384)),
             ROWS, ("b",)),
    ]  # fmt: skip


def _windows() -> list[Case]:
    x = f32("n", 32, "h", "w")
    pads = {"pads": [1, 1, 1, 1]}

    def conv(name: str, x: Tensor, w: Tensor, rows: tuple[Sizes, ...], **attributes: Any) -> Case:
        return Case(name, "Conv", {"x": x, "w": w}, rows, ("w",), attributes)

    wide = tuple(s for s in IMAGE if min(s["h"], s["w"]) > 5)
    byte = {"xs": scalar(0.02), "xz": scalar(3, "uint8")}
    filters = {"ws": scalar(0.01), "wz": scalar(0, "int8"), "ys": scalar(0.5),
               "yz": scalar(7, "uint8")}  # fmt: skip
    return [
        conv("conv3x3/nhw", x, f32(32, 32, 3, 3), IMAGE, **pads),
        conv("conv3x3/n", f32("n", 32, 28, 28), f32(48, 32, 3, 3), BATCH, **pads),
        conv("conv3x3/hw", f32(1, 32, "h", "w"), f32(48, 32, 3, 3), IMAGE[:2], **pads),
        conv("conv3x3-stride2/nhw", x, f32(48, 32, 3, 3), IMAGE, strides=[2, 2], **pads),
        conv("conv7x7-first/nhw", f32("n", 3, "h", "w"), f32(32, 3, 7, 7), IMAGE,
             strides=[2, 2], pads=[3, 3, 3, 3]),
        conv("conv1x1/nhw", x, f32(64, 32, 1, 1), IMAGE),
        conv("conv1x1/n", f32("n", 64, 14, 14), f32(64, 64, 1, 1), BATCH),
        conv("conv-groups/nhw", x, f32(32, 8, 3, 3), IMAGE, group=4, **pads),
        conv("depthwise/nhw", x, f32(32, 1, 3, 3), IMAGE, group=32, **pads),
        conv("depthwise/n", f32("n", 32, 28, 28), f32(32, 1, 5, 5), BATCH, group=32,
             pads=[2, 2, 2, 2]),
        conv("conv1d/nl", f32("n", 32, "m"), f32(48, 32, 3),
             sizes("nm", (1, 100), (3, 7), (1, 1), (0, 9), (2, 1009)), pads=[1, 1]),
        conv("conv3d/n", f32("n", 4, 6, 10, 10), f32(8, 4, 3, 3, 3), BATCH),
        Case("conv-transpose/nhw", "ConvTranspose", {"x": x, "w": f32(32, 16, 2, 2)}, IMAGE,
             ("w",), {"strides": [2, 2]}),
        Case("conv-weights-given/nhw", "Conv", {"x": x, "w": f32(16, 32, 3, 3)}, IMAGE[:3], (),
             pads),
        Case("conv-integer/nhw", "ConvInteger", {"x": u8("n", 32, "h", "w"),
             "w": i8(48, 32, 3, 3), "xz": scalar(9, "uint8")}, IMAGE, ("w",), pads),
        Case("qlinear-conv/nhw", "QLinearConv", {"x": u8("n", 32, "h", "w"), **byte,
             "w": i8(48, 32, 3, 3), **filters}, IMAGE, ("w",), pads),
        Case("max-pool/nhw", "MaxPool", {"x": x}, IMAGE, (),
             {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        Case("average-pool/nhw", "AveragePool", {"x": x}, IMAGE, (),
             {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
        Case("global-average/nhw", "GlobalAveragePool", {"x": x}, IMAGE),
        Case("max-pool/n", "MaxPool", {"x": f32("n", 32, 28, 28)}, BATCH, (),
             {"kernel_shape": [2, 2], "strides": [2, 2]}),
        Case("lrn/nhw", "LRN", {"x": f32("n", 16, "h", "w")}, wide, (), {"size": 5}),
        Case("resize-nearest/nhw", "Resize", {"x": x, "roi": None,
             "s": np.asarray([1, 1, 2, 2], np.float32)}, IMAGE, (), {"mode": "nearest"}),
        Case("resize-linear/nhw", "Resize", {"x": x, "roi": None,
             "s": np.asarray([1, 1, 2, 2], np.float32)}, IMAGE, (), {"mode": "linear"}),
        Case("depth-to-space/nhw", "DepthToSpace", {"x": x}, IMAGE, (), {"blocksize": 2}),
        Case("grid-sample/nhw", "GridSample", {"x": f32("n", 8, "h", "w"),
             "g": f32("n", 16, 16, 2)}, wide),
    ]  # fmt: skip


def _rows() -> list[Case]:
    x = f32("n", "m")
    fixed = sizes("n", (0,), (1,), (7,), (61,), (512,))
    return [
        Case("softmax/nm", "Softmax", {"x": x}, PLANE, (), {"axis": -1}),
        Case("softmax/n", "Softmax", {"x": f32("n", 300)}, fixed, (), {"axis": -1}),
        Case("softmax-inner/nm", "Softmax", {"x": f32("n", "m", 5)}, PLANE[:5], (), {"axis": 1}),
        Case("log-softmax/nm", "LogSoftmax", {"x": x}, PLANE, (), {"axis": -1}),
        Case("layer-norm/n", "LayerNormalization", {"x": f32("n", 256), "s": f32(256),
             "b": f32(256)}, fixed, ("s", "b"), {"axis": -1}),
        Case("layer-norm/nm", "LayerNormalization", {"x": x, "s": f32("m")}, PLANE, (),
             {"axis": -1}),
        Case("rms-norm/nm", "RMSNormalization", {"x": x, "s": f32("m")}, PLANE, (),
             {"axis": -1}),
        Case("group-norm/nhw", "GroupNormalization", {"x": f32("n", 32, "h", "w"),
             "s": f32(32), "b": f32(32)}, IMAGE, ("s", "b"), {"num_groups": 4}),
        Case("instance-norm/nhw", "InstanceNormalization", {"x": f32("n", 32, "h", "w"),
             "s": f32(32), "b": f32(32)}, IMAGE, ("s", "b")),
        Case("batch-norm/nhw", "BatchNormalization", {"x": f32("n", 32, "h", "w"),
             "s": f32(32), "b": f32(32), "m": f32(32),
             "v": np.linspace(0.5, 2, 32).astype(np.float32)}, IMAGE, ("s", "b", "m")),
        Case("reduce-sum-last/nm", "ReduceSum", {"x": x, "a": ints([1])}, PLANE),
        Case("reduce-sum-first/nm", "ReduceSum", {"x": x, "a": ints([0])}, PLANE),
        Case("reduce-sum-all/nm", "ReduceSum", {"x": x}, PLANE, (), {"keepdims": 0}),
        Case("reduce-mean-fixed/n", "ReduceMean", {"x": f32("n", 300), "a": ints([1])}, fixed),
        Case("reduce-mean-symbolic/n", "ReduceMean", {"x": f32("n", 300), "a": ints([0])}, fixed),
        Case("reduce-max-middle/nm", "ReduceMax", {"x": f32("n", "m", 8), "a": ints([1])},
             PLANE[1:5]),
        Case("reduce-int/nm", "ReduceSum", {"x": Tensor(("n", "m"), "int32"),
             "a": ints([1])}, PLANE),
        Case("argmax-last/nm", "ArgMax", {"x": x}, PLANE[1:], (), {"axis": 1}),
        Case("argmax-first/nm", "ArgMax", {"x": x}, PLANE[1:], (), {"axis": 0}),
        Case("reduce-l2/nm", "ReduceL2", {"x": x, "a": ints([1])}, PLANE),
        Case("log-sum-exp/nm", "ReduceLogSumExp", {"x": x, "a": ints([1])}, PLANE[1:]),
        Case("cumsum-last/nm", "CumSum", {"x": x, "a": scalar(1, "int64")}, PLANE),
        Case("cumsum-first/nm", "CumSum", {"x": x, "a": scalar(0, "int64")}, PLANE),
        Case("cumsum-middle/nm", "CumSum", {"x": f32("n", "m", 3), "a": scalar(1, "int64")},
             PLANE[:5], (), {"reverse": 1, "exclusive": 1}),
        Case("topk/nm", "TopK", {"x": x, "k": ints([1])}, PLANE[1:], (), {},
             ("y", "i")),
        Case("topk5/nm", "TopK", {"x": x, "k": ints([5])}, PLANE[2:6], (), {}, ("y", "i")),
    ]  # fmt: skip


def _elements() -> list[Case]:
    x = f32("n", "m")
    return [
        Case("add/nm", "Add", {"a": x, "b": x}, PLANE),
        Case("add-row/nm", "Add", {"a": x, "b": f32("m")}, PLANE),
        Case("add-column/nm", "Add", {"a": x, "b": f32("n", 1)}, PLANE),
        Case("add-fixed-row/n", "Add", {"a": f32("n", 300), "b": f32(300)}, LENGTH, ("b",)),
        Case("add-outer/nm", "Add", {"a": f32("n", 1), "b": f32(1, "m")}, PLANE),
        Case("add-maybe/nmpq", "Add", {"a": f32("n", "m"), "b": f32("p", "q")},
             sizes("nmpq", (61, 67, 61, 67), (61, 67, 1, 67), (61, 67, 61, 1), (1, 300, 512, 1),
                   (512, 300, 512, 300))),
        Case("add-middle-i64/nmp", "Add", {"a": Tensor(("n", "m", "p"), "int64"),
             "b": Tensor(("m", 1), "int64")}, VOLUME),
        Case("add-channels/nhw", "Add", {"a": f32("n", 32, "h", "w"), "b": f32(32, 1, 1)}, IMAGE,
             ("b",)),
        Case("exp/n", "Exp", {"x": f32("n")}, LENGTH),
        Case("erf/nm", "Erf", {"x": x}, PLANE),
        Case("gelu/nm", "Gelu", {"x": x}, PLANE),
        Case("where/nm", "Where", {"c": Tensor(("n", "m"), "bool"), "a": x, "b": x}, PLANE),
        Case("cast/nm", "Cast", {"x": x}, PLANE, (), {"to": onnx.TensorProto.FLOAT16}),
        Case("cast-i8/nm", "Cast", {"x": Tensor(("n", "m"), "int8")}, PLANE, (),
             {"to": onnx.TensorProto.FLOAT}),
        Case("quantize/nm", "QuantizeLinear", {"x": x, "s": scalar(0.1),
             "z": scalar(3, "uint8")}, PLANE),
        Case("dequantize/nm", "DequantizeLinear", {"x": u8("n", "m"), "s": scalar(0.1),
             "z": scalar(3, "uint8")}, PLANE),
        Case("dynamic-quantize/nm", "DynamicQuantizeLinear", {"x": x}, PLANE[1:], (), {},
             ("y", "s", "z")),
        Case("prelu/nhw", "PRelu", {"x": f32("n", 32, "h", "w"), "s": f32(32, 1, 1)}, IMAGE,
             ("s",)),
    ]  # fmt: skip


def _moves() -> list[Case]:
    x, heads = f32("n", "m"), f32("n", "m", 12, 64)
    tokens = sizes("nm", (0, 5), (1, 1), (3, 7), (1, 128), (2, 61))
    index = Tensor(("m",), "int64", 0, 50)
    return [
        Case("transpose/nm", "Transpose", {"x": x}, PLANE),
        Case("transpose-heads/nm", "Transpose", {"x": heads}, tokens, (),
             {"perm": [0, 2, 1, 3]}),
        Case("transpose-to-nhwc", "Transpose", {"x": f32("n", 32, "h", "w")}, IMAGE, (),
             {"perm": [0, 2, 3, 1]}),
        Case("transpose-reverse", "Transpose", {"x": f32("n", 16, "m")}, PLANE[:5]),
        Case("concat-first/nm", "Concat", {"a": f32("n", 64), "b": f32("m", 64)}, PLANE, (),
             {"axis": 0}),
        Case("concat-last/nm", "Concat", {"a": f32(64, "n"), "b": f32(64, "m")}, PLANE, (),
             {"axis": 1}),
        Case("concat-cache/m", "Concat", {"a": f32(1, 12, "m", 64), "b": f32(1, 12, 1, 64)},
             along("m", 0, 1, 31, 128, 500), (), {"axis": 2}),
        Case("slice/nm", "Slice", {"x": x, "s": ints([1, 0]), "e": ints([1 << 40, -1]),
             "a": ints([0, 1])}, PLANE),
        Case("slice-step/nm", "Slice", {"x": x, "s": ints([0]), "e": ints([1 << 40]),
             "a": ints([1]), "t": ints([2])}, PLANE),
        Case("flip/nm", "Slice", {"x": x, "s": ints([-1]), "e": ints([-(1 << 40)]),
             "a": ints([1]), "t": ints([-1])}, PLANE),
        Case("pad/nm", "Pad", {"x": x, "p": ints([1, 2, 3, 4])}, PLANE),
        Case("pad-image/nmp", "Pad", {"x": f32("n", 4, "m", "p"),
             "p": ints([0, 0, 1, 2, 0, 0, 2, 1]), "v": scalar(1.5)}, VOLUME),
        Case("pad-edge/nm", "Pad", {"x": x, "p": ints([1, 2, 3, 4])}, PLANE[1:], (),
             {"mode": "edge"}),
        Case("gather-rows/m", "Gather", {"x": f32(50, 64), "i": index},
             along("m", 0, 1, 7, 512), ("x",)),
        Case("gather-rows/nm", "Gather", {"x": f32("n", 64), "i": Tensor(("m",), "int64", 0, 1)},
             sizes("nm", (1, 1), (7, 512), (512, 61))),
        Case("gather-columns/nm", "Gather", {"x": f32("n", 50), "i": index}, PLANE[1:5], (),
             {"axis": 1}),
        Case("gather-nd/nm", "GatherND", {"x": f32(9, 9, "m"),
             "i": Tensor(("n", 2), "int64", 0, 9)}, PLANE),
        Case("gather-elements/nm", "GatherElements", {"x": f32("n", 50),
             "i": Tensor(("n", 30), "int64", 0, 50)}, LENGTH[1:5], (), {"axis": 1}),
        Case("scatter-elements/n", "ScatterElements", {"x": f32("n", 50),
             "i": Tensor(("n", 30), "int64", 0, 50), "u": f32("n", 30)}, LENGTH[1:5], (),
             {"axis": 1, "reduction": "add"}),
        Case("expand/nm", "Expand", {"x": f32("n", 1), "s": ints([1, 300])}, LENGTH[:5]),
        Case("tile/nm", "Tile", {"x": x, "r": ints([2, 3])}, PLANE),
        Case("one-hot/n", "OneHot", {"i": Tensor(("n",), "int64", 0, 20), "d": ints([20]),
             "v": np.asarray([0, 1], np.float32)}, LENGTH),
        Case("nonzero/nm", "NonZero", {"x": x}, PLANE, data_dependent=True),
        Case("trilu/nm", "Trilu", {"x": x}, PLANE),
    ]  # fmt: skip


def _composites() -> list[Case]:
    steps = sizes("tn", (1, 1), (7, 1), (37, 5), (100, 1))
    query = f32("b", 8, "q", 64)
    keys = f32("b", 8, "k", 64)
    extents = sizes(
        "bqk", (1, 1, 1), (1, 1, 128), (1, 37, 37), (2, 128, 128), (1, 7, 61), (0, 3, 3)
    )

    def cell(gates: int) -> dict[str, Any]:  # small weights: a cell must not amplify rounding
        weights = {"w": Tensor((1, 64 * gates, 32), scale=0.1),
                   "r": Tensor((1, 64 * gates, 64), scale=0.1)}  # fmt: skip
        return {"x": f32("t", "n", 32), **weights}

    return [
        Case("attention/bqk", "Attention", {"q": query, "k": keys, "v": keys}, extents),
        Case("attention-causal/bqk", "Attention", {"q": query, "k": keys, "v": keys}, extents, (),
             {"is_causal": 1}),
        Case("attention-mask/bqk", "Attention", {"q": query, "k": keys, "v": keys,
             "m": f32("q", "k")}, extents),
        Case("attention-cache/bqk", "Attention", {"q": query, "k": f32("b", 8, "q", 64),
             "v": f32("b", 8, "q", 64), "m": None, "pk": f32("b", 8, "k", 64),
             "pv": f32("b", 8, "k", 64)}, extents[:5], (), {}, ("y", "ck", "cv")),
        Case("lstm/tn", "LSTM", cell(4), steps, ("w", "r"), {"hidden_size": 64}),
        Case("gru/tn", "GRU", cell(3), steps, ("w", "r"), {"hidden_size": 64}),
        Case("rnn/tn", "RNN", cell(1), steps, ("w", "r"), {"hidden_size": 64}),
    ]  # fmt: skip


CASES = [
    *_products(), *_windows(), *_rows(), *_elements(), *_moves(), *_composites(),
]  # fmt: skip
"""All cases, by kind."""
