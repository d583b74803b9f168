"""Casts of strings, fp6 and powers of two; operators on strings; MaxRoiPool; Resize of opset 10."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from torsh_dialect.errors import InputError, UnsupportedError
from torsh_fx.compiler import compile

SPECIALS = np.array(
    [0, -0.0, 0.3, -0.06, 1.06, 7.4, 7.6, 27, 29, 1e9, -1e9, math.inf, -math.inf], np.float32
)
FP6: dict[int, Any] = {
    TensorProto.FLOAT6E2M3: ml_dtypes.float6_e2m3fn,
    TensorProto.FLOAT6E3M2: ml_dtypes.float6_e3m2fn,
}


def one_node(
    op: str, inputs: list[Any], opset: int, constants: tuple[int, ...] = (), **attributes: Any
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model of one node, some of its inputs being initializers; and the others."""
    names = [f"x{i}" for i in range(len(inputs))]
    types = [
        TensorProto.STRING if x.dtype.kind == "O" else helper.np_dtype_to_tensor_dtype(x.dtype)
        for x in inputs
    ]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], **attributes)],
        "g",
        [
            helper.make_tensor_value_info(
                name, type, list(x.shape) if i else [f"x_{a}" for a in range(x.ndim)]
            )
            for i, (name, type, x) in enumerate(zip(names, types, inputs, strict=True))
            if i not in constants
        ],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(inputs[i], names[i]) for i in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, {
        n: x for i, (n, x) in enumerate(zip(names, inputs, strict=True)) if i not in constants
    }


def peers(model: onnx.ModelProto, feeds: dict[str, Any]) -> Any:
    """The output of onnxruntime."""
    session: Any = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, feeds)[0]


def outputs(model: onnx.ModelProto, feeds: dict[str, Any]) -> tuple[Any, Any]:
    """Ours, and those of onnx's evaluator."""
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(got), np.asarray(expected)


@pytest.mark.parametrize("to", ["FLOAT", "FLOAT16", "DOUBLE"])
def test_strings_spell_floats(to: str):
    text = np.array([["1", "-3.5", "2e3"], ["NaN", "-INF", "+inf"], ["1E-8", " 7 ", "0"]], object)
    got, expected = outputs(*one_node("Cast", [text], 21, to=getattr(TensorProto, to)))
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("to", ["INT8", "UINT16", "INT32", "INT64", "UINT64"])
def test_strings_spell_integers(to: str):
    text = np.array(["0", "17", "+9", "127"], object)
    got, expected = outputs(*one_node("Cast", [text], 13, to=getattr(TensorProto, to)))
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("text", "to", "says"),
    [
        ("Hello", TensorProto.FLOAT, "'Hello' spells no number"),
        ("300", TensorProto.UINT8, r"'300' is outside of ui8's 0..255"),
        ("nan", TensorProto.INT32, "'nan' spells no number of i32"),
    ],
)
def test_text_that_is_no_such_number_is_refused(text: str, to: int, says: str):
    model, feeds = one_node("Cast", [np.array([text], object)], 21, to=to)
    with pytest.raises(InputError, match=says):
        compile(model, threads=1).run(list(feeds.values()))


@pytest.mark.parametrize(
    "x",
    [
        np.array([[1.0, 0.1], [1e-7, 123456.789]], np.float32),
        np.array([math.nan, math.inf, -math.inf, -0.0], np.float32),
        np.array([1e22, 1 / 3]),
        np.array([0.1], np.float16),
        np.array([-128, 5], np.int8),
        np.array([True, False]),
    ],
    ids=lambda x: str(x.dtype),
)
def test_numbers_as_strings(x: np.ndarray[Any, Any]):
    got, expected = outputs(*one_node("Cast", [x], 19, to=TensorProto.STRING))
    assert got.tolist() == expected.tolist()


@pytest.mark.parametrize("to", FP6)
def test_fp6_values_are_the_nearest_ones(to: int):
    got, expected = outputs(*one_node("Cast", [SPECIALS], 28, to=to))
    assert got.dtype == np.dtype(FP6[to])
    np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize("to", FP6)
def test_fp6_codes_mean_their_values(to: int):
    codes = np.arange(64, dtype=np.uint8).view(FP6[to])
    got, expected = outputs(*one_node("Cast", [codes], 28, to=TensorProto.FLOAT))
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_fp6_initializers_are_unpacked_and_quantised():
    x = np.linspace(-9, 9, 12, dtype=np.float32).reshape(3, 4)
    scale, zero = np.float32(0.5), np.zeros((), ml_dtypes.float6_e3m2fn)
    inputs = [x, np.asarray(scale), zero]
    got, expected = outputs(*one_node("QuantizeLinear", inputs, 28, (1, 2)))
    np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))
    inputs = [expected, np.asarray(scale)]
    got, expected = outputs(*one_node("DequantizeLinear", inputs, 28, (0,)))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_powers_of_two_down_to_the_least(mode: str):
    x = np.array([0, 2.0**-126, 1, 1.4, 1.6, 3], np.float32)
    model, feeds = one_node("Cast", [x], 25, to=TensorProto.FLOAT8E8M0, round_mode=mode)
    got, expected = outputs(model, feeds)
    np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))
    # Exact, where onnx's evaluator goes by the bits of the exponent: 2^-127 is the least power.
    x = np.array([2.0**-127, 2.0**-130], np.float32)
    (got,) = compile(model, threads=1).run([x])
    assert got.view(np.uint8).tolist() == [0, 0]


def test_empty_strings_are_no_truth():
    text = np.array([["", "a"], ["bc", ""]], object)
    got, expected = outputs(*one_node("NonZero", [text], 13))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("upper", [0, 1])
def test_a_triangle_of_strings(upper: int):
    text = np.array([["a", "b", "c"], ["d", "e", "f"]], object)
    got, _ = outputs(*one_node("Trilu", [text], 14, upper=upper))
    kept = np.triu(np.ones((2, 3))) if upper else np.tril(np.ones((2, 3)))
    assert got.tolist() == np.where(kept, text, "").tolist()


@pytest.mark.parametrize("axis", [0, 1])
def test_unique_slices_of_strings(axis: int):
    text = np.array([["a", "b", "a"], ["c", "d", "c"], ["a", "b", "a"]], object)
    model, feeds = one_node("Unique", [text], 11, axis=axis)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    assert got.tolist() == peers(model, feeds).tolist()


def pooled(x: Any, rois: Any, size: tuple[int, int], scale: float) -> Any:
    """MaxRoiPool element by element, as Caffe's ROIPooling layer does it."""
    y = np.zeros((len(rois), x.shape[1], *size), x.dtype)
    for r, (batch, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (math.floor(abs(v * scale) + 0.5) * (-1 if v < 0 else 1) for v in corners)
        steps = max(y2 - y1 + 1, 1) / size[0], max(x2 - x1 + 1, 1) / size[1]
        for i, j in np.ndindex(*size):
            low = [math.floor(k * s) + o for k, s, o in zip((i, j), steps, (y1, x1), strict=True)]
            high = [
                math.ceil((k + 1) * s) + o for k, s, o in zip((i, j), steps, (y1, x1), strict=True)
            ]
            rows, columns = (slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
            cell = x[int(batch), :, rows, columns]
            if cell.size:
                y[r, :, i, j] = cell.max((1, 2))
    return y


@pytest.mark.parametrize(("size", "scale"), [((2, 2), 1.0), ((3, 1), 0.5), ((4, 5), 2.0)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_of_each_cell_of_a_region(size: tuple[int, int], scale: float, dtype: Any):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 6, 7)).astype(dtype)
    corners = np.array([[0, 0, 3, 3], [1, 2, 6, 4], [5, 5, 2, 2], [-2, -1, 9, 8], [20, 20, 25, 25]])
    rois = np.concatenate([[[0], [1], [0], [1], [0]], corners], 1).astype(dtype)
    model, feeds = one_node("MaxRoiPool", [x, rois], 22, pooled_shape=size, spatial_scale=scale)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    np.testing.assert_array_equal(got, pooled(x, rois, size, scale))


@pytest.mark.parametrize("constants", [(), (1,)])
@pytest.mark.parametrize("scales", [[1.0, 0.6], [0.7, 1.5], [0.4, 0.4], [2.0, 2.5]])
def test_nearest_of_opset_10_looks_ahead_where_axes_shrink(
    scales: list[float], constants: tuple[int, ...]
):
    x = np.arange(20, dtype=np.float32).reshape(4, 5)
    model, feeds = one_node("Resize", [x, np.array(scales, np.float32)], 10, constants)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    np.testing.assert_array_equal(got, peers(model, feeds))


def test_sizes_as_data_may_leave_an_axis_as_it_is():
    x = np.random.default_rng(0).standard_normal((4, 1)).astype(np.float32)
    nothing = np.zeros(0, np.float32)
    for sizes in ([9, 8], [4, 1], [2, 1]):
        inputs = [x, nothing, nothing, np.array(sizes)]
        model, feeds = one_node("Resize", inputs, 13, (1, 2), mode="cubic")
        got, expected = outputs(model, feeds)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_grids_over_integers_have_their_own_precision(dtype: Any, mode: str):
    rng = np.random.default_rng(5)
    x = rng.integers(0, 100, (1, 2, 4, 5)).astype(dtype)
    grid = rng.uniform(-0.9, 0.9, (1, 3, 3, 2)).astype(np.float32)
    model, feeds = one_node("GridSample", [x, grid], 20, mode=mode, align_corners=1)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    wide, _ = one_node("GridSample", [x.astype(np.float64), grid], 20, mode=mode, align_corners=1)
    expected = np.asarray(ReferenceEvaluator(wide).run(None, {"x0": x.astype(float), "x1": grid}))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, expected[0].astype(dtype))


def test_a_grid_of_f32_over_bf16_is_not_rounded():
    x = np.arange(300, dtype=np.float32).reshape(1, 1, 1, 300) // 2
    grid = np.stack([np.linspace(-0.99, 0.99, 41, dtype=np.float32), np.zeros(41, np.float32)], -1)
    model, feeds = one_node(
        "GridSample", [x.astype(ml_dtypes.bfloat16), grid.reshape(1, 1, 41, 2)], 22, mode="nearest"
    )
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    places = np.rint(((grid[:, 0].astype(np.float64) + 1) * 300 - 1) / 2).astype(int)
    np.testing.assert_array_equal(got.astype(np.float32).reshape(-1), x.reshape(-1)[places])


def test_division_by_a_scale_has_the_precision_of_the_wider_type():
    x = np.random.default_rng(1).uniform(-9, 9, 2000).astype(ml_dtypes.bfloat16)
    scale, zero = np.float32(0.0123), np.int16(0)
    got, expected = outputs(
        *one_node("QuantizeLinear", [x, np.asarray(scale), np.asarray(zero)], 23, (1, 2))
    )
    np.testing.assert_array_equal(got, expected)


def test_pads_of_opset_1_are_called_paddings():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    model, feeds = one_node("Pad", [x], 1, paddings=[1, 0, 0, 2], mode="edge")
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    np.testing.assert_array_equal(got, np.pad(x, [(1, 0), (0, 2)], mode="edge"))


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_a_mask_of_one_key_hides_the_others_since_opset_24(dtype: Any):
    rng = np.random.default_rng(2)
    q, k, v = (rng.standard_normal((1, 2, 3, 4)).astype(np.float32) for _ in range(3))
    model, feeds = one_node("Attention", [q, k, v, np.ones((3, 1), dtype)], 24)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    np.testing.assert_allclose(got, np.broadcast_to(v[:, :, :1], got.shape), rtol=1e-6)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
@pytest.mark.parametrize("to", [TensorProto.INT32, TensorProto.FLOAT, TensorProto.DOUBLE])
@pytest.mark.parametrize("periodic", [0, 1])
def test_windows_reach_their_top(op: str, to: int, periodic: int):
    for size in (6, 12, 13):
        got, expected = outputs(
            *one_node(op, [np.array(size)], 17, (0,), output_datatype=to, periodic=periodic)
        )
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("hidden", [1, 3])
def test_weights_and_states_whose_extents_only_the_run_knows(op: str, gates: int, hidden: int):
    rng = np.random.default_rng(7)
    shapes = {"X": (4, 2, 3), "W": (1, gates * hidden, 3), "R": (1, gates * hidden, hidden)}
    feeds = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    feeds["H"] = rng.standard_normal((1, 2, hidden)).astype(np.float32)
    node = helper.make_node(op, ["X", "W", "R", "", "", "H"], ["Y"], hidden_size=hidden)
    inputs = [helper.make_tensor_value_info(n, 1, [f"{n}{a}" for a in "abc"]) for n in feeds]
    graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name="Y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    (got,) = compile(model, threads=1).run(list(feeds.values()))
    np.testing.assert_allclose(got, peers(model, feeds), rtol=1e-5, atol=1e-6)


def test_a_signal_may_hide_whether_it_is_complex():
    x = np.random.default_rng(4).standard_normal((1, 16, 1)).astype(np.float32)
    for parts in (1, 2):
        signal = np.concatenate([x] * parts, 2)
        inputs = [signal, np.array(4), np.ones(8, np.float32)]
        got, expected = outputs(*one_node("STFT", inputs, 17, (1, 2), onesided=0))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_numbers_among_strings_are_refused():
    text = np.full((1, 4, 3), "a", object)
    inputs = [text, np.array([3]), np.array([2])]
    model, _ = one_node("Col2Im", inputs, 18, (1, 2), pads=[0, 1])
    with pytest.raises(UnsupportedError, match="among strings, which have no arithmetic"):
        compile(model, threads=1)


@pytest.mark.parametrize("x", [["b", "q", "a"], [2, 0, 7]], ids=["strings", "integers"])
def test_labels_of_the_first_encoder_are_places_in_a_list(x: list[Any]):
    array = np.array(x, object) if isinstance(x[0], str) else np.array(x)
    data: dict[str, Any] = {"classes_strings": ["a", "b", "c"], "default_string": "none"}
    node = helper.make_node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **data)
    kind = TensorProto.STRING if isinstance(x[0], str) else TensorProto.INT64
    value = helper.make_tensor_value_info("x", kind, ["n"])
    graph = helper.make_graph([node], "g", [value], [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", 12), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=7)
    (got,) = compile(model, threads=1).run([array])
    assert got.tolist() == peers(model, {"x": array}).tolist()
