"""`quantize`: programs that run on integer kernels, and a report that says what they cost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import torsh_fx
from tools.torsh import main
from torsh_dialect.errors import InvalidArgumentError, UnsupportedError
from torsh_fx.quantize import QuantizeOptions, quantize
from torsh_fx.quantize_layers import by_blocks, by_channel, range_of

RNG = np.random.default_rng(29)


def network(depth=24):
    """conv, batch norm, relu, mean, linear, relu, matmul; weights by name beside it."""
    normal = RNG.standard_normal
    weights = {
        "c.weight": normal((16, 3, 3, 3)) / 5, "scale": RNG.uniform(0.5, 2, 16),
        "shift": normal(16), "mean": normal(16) / 9, "variance": RNG.uniform(0.5, 2, 16),
        "fc.weight": normal((depth, 16)) / 4, "fc.bias": normal(depth),
        "head.weight": normal((depth, 6)) / 5,
    }  # fmt: skip
    weights = {name: array.astype(np.float32) for name, array in weights.items()}
    n = helper.make_node
    nodes = [
        n("Conv", ["x", "c.weight"], ["c"], pads=[1, 1, 1, 1]),
        n("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["b"]),
        n("Relu", ["b"], ["r"]),
        n("GlobalAveragePool", ["r"], ["g"]),
        n("Flatten", ["g"], ["f"]),
        n("Gemm", ["f", "fc.weight", "fc.bias"], ["l"], transB=1),
        n("Relu", ["l"], ["m"]),
        n("MatMul", ["m", "head.weight"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(a, name) for name, a in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 10
    return model


MODEL = network()
CALLS = [{"x": RNG.standard_normal((4, 3, 8, 8)).astype(np.float32)} for _ in range(3)]
FRESH = RNG.standard_normal((16, 3, 8, 8)).astype(np.float32)


def sqnr(reference, actual):
    wide = reference.astype(np.float64)
    return 10 * np.log10((wide**2).sum() / ((wide - actual) ** 2).sum())


KERNELS = {
    "static": {"packed_conv_integer": 1, "packed_linear_integer": 2},
    "dynamic": {"packed_conv_integer": 1, "packed_linear_integer": 2},
    "weight-only": {"packed_linear_blocks": 2},
}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (QuantizeOptions("static"), 30),
        (QuantizeOptions("dynamic"), 30),
        (QuantizeOptions("weight-only", group_size=8), 38),
        (QuantizeOptions("weight-only", bits=4, group_size=8), 18),
    ],
    ids=["static", "dynamic", "weights in 8 bits", "weights in 4 bits"],
)
def test_accuracy_on_inputs_that_were_not_calibrated(options, expected):
    """8 bits with a fitting range have about 40 dB, 4 bits in small groups over 20."""
    quantised = quantize(MODEL, options, CALLS)
    compiled = torsh_fx.compile(quantised.imported)
    text = str(compiled.optimised)
    for kernel, count in KERNELS[options.mode].items():
        assert text.count(f"torsh.{kernel} ") == count
    reference = ReferenceEvaluator(MODEL).run(None, {"x": FRESH})[0]
    assert sqnr(reference, compiled.run([FRESH])[0]) > expected


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_the_report_is_what_the_programs_give(mode):
    quantised = quantize(MODEL, QuantizeOptions(mode), CALLS)
    report, compiled = quantised.report, torsh_fx.compile(quantised.imported)
    assert [(r.name, r.kind, r.bits) for r in report.layers] == [
        ("c.weight", "conv", 8), ("fc.weight", "linear", 8), ("head.weight", "matmul", 8)
    ]  # fmt: skip
    reference = [ReferenceEvaluator(MODEL).run(None, call)[0] for call in CALLS]
    actual = [compiled.run(call)[0] for call in CALLS]
    (output,) = report.outputs
    assert output.sqnr == pytest.approx(sqnr(np.stack(reference), np.stack(actual)), abs=0.05)
    largest = np.abs(np.stack(reference) - np.stack(actual)).max()
    assert output.max_error == pytest.approx(largest, rel=1e-3)
    assert report.calls == 3
    assert report.quantised_bytes < 0.5 * report.float_bytes
    assert "head.weight" in report.table()


def test_layers_can_stay_in_floats():
    options = QuantizeOptions("static", skip=("c.*",))
    report = quantize(MODEL, options, CALLS).report
    assert [row.bits for row in report.layers] == [0, 8, 8]
    assert report.layers[0].sqnr > 120  # the same kernel up to the order of its neighbours


def test_layers_under_the_limit_go_back_to_floats():
    """An outlier in one input makes the range of its layer useless, and only that layer's."""
    calls = [{"x": CALLS[0]["x"].copy()}]
    calls[0]["x"][0, 0, 0, 0] = 3000.0
    plain = quantize(MODEL, QuantizeOptions("static"), calls).report
    assert plain.layers[0].sqnr < 60
    limit = plain.layers[0].sqnr + 1
    report = quantize(MODEL, QuantizeOptions("static", minimum_sqnr=limit), calls).report
    assert report.layers[0].bits == 0
    clipped = quantize(MODEL, QuantizeOptions("static", percentile=99.9), CALLS)
    assert clipped.report.layers[0].bits == 8


def test_saved_programs_run_alike(tmp_path):
    for options in (QuantizeOptions("static"), QuantizeOptions("weight-only", 4, 8)):
        quantised = quantize(MODEL, options, CALLS)
        expected = torsh_fx.compile(quantised.imported).run([FRESH])[0]
        quantised.save(tmp_path / "m.mlir")
        np.testing.assert_array_equal(torsh_fx.load(tmp_path / "m.mlir").run([FRESH])[0], expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_weights_in_blocks_are_within_half_a_step(bits):
    w = RNG.standard_normal((5, 48)).astype(np.float32)
    got = by_blocks(w, 1, 16, bits)
    scale = np.repeat(got.scale, 16, axis=1)
    error = np.abs(got.q.astype(np.float32) * scale - w)
    clipped = np.abs(w) > (2 ** (bits - 1) - 0.5) * scale
    assert (error[~clipped] <= 0.5001 * scale[~clipped]).all()
    assert clipped.mean() < (0.1 if bits == 4 else 1e-9)
    channel = by_channel(w, 0)
    assert np.abs(channel.q * channel.scale[:, None] - w).max() <= 0.5001 * channel.scale.max()


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: quantize(MODEL, QuantizeOptions("static")), "calibration"),
        (lambda: QuantizeOptions("int3"), "int3"),
        (lambda: QuantizeOptions("static", bits=4), "weight-only"),
        (lambda: QuantizeOptions(percentile=20), "percentile is 20"),
        (lambda: QuantizeOptions(group_size=-1), "group_size is -1"),
        (lambda: QuantizeOptions(minimum_sqnr=float("nan")), "minimum_sqnr"),
        (lambda: quantize(MODEL, QuantizeOptions(skip=("none",)), CALLS), "skip none: no layer"),
        (lambda: quantize(MODEL, QuantizeOptions(), [{"image": FRESH}]), "image"),
        (lambda: range_of([np.array([1.0, np.nan])], 100), "NaN"),
    ],
)
def test_wrong_use_is_refused(action, message):
    with pytest.raises(InvalidArgumentError, match=message):
        action()


def test_models_without_layers_are_refused():
    with pytest.raises(UnsupportedError, match="no layer"):
        quantize(MODEL, QuantizeOptions("static", skip=("*",)), CALLS)


@pytest.fixture
def files(tmp_path):
    onnx.save(MODEL, tmp_path / "m.onnx")
    np.savez(tmp_path / "calls.npz", x=np.stack([call["x"] for call in CALLS]))
    np.savez(tmp_path / "one.npz", x=CALLS[0]["x"])
    return tmp_path


def test_the_command_writes_program_and_report(files, capsys):
    code = main([
        "quantize", str(files / "m.onnx"), "-o", str(files / "q.mlir"), "--calibration",
        str(files / "calls.npz"), "--report", str(files / "r.json"), "--require-sqnr", "20",
    ])  # fmt: skip
    out = capsys.readouterr().out
    assert code == 0
    assert "head.weight" in out
    report = json.loads((files / "r.json").read_text())
    assert report["calls"] == 3
    assert report["outputs"][0]["sqnr"] > 25
    np.save(files / "x.npy", FRESH)
    run = ["run", str(files / "q.mlir"), "--input", f"x={files / 'x.npy'}", "-o"]
    assert main([*run, str(files / "y.npz")]) == 0
    reference = ReferenceEvaluator(MODEL).run(None, {"x": FRESH})[0]
    with np.load(files / "y.npz") as arrays:
        assert sqnr(reference, arrays["y"]) > 30


def test_the_command_writes_packages_and_fails_under_the_limit(files, capsys):
    arguments = ["quantize", str(files / "m.onnx"), "--mode", "weight-only", "--bits", "4"]
    package = str(files / "q.torshpkg")
    code = main([*arguments, "--group-size", "8", "-o", package, "--require-sqnr", "90"])
    captured = capsys.readouterr()
    assert code == 1
    assert "under 90 dB" in captured.err
    assert "random call" in captured.out
    assert main(["run", package]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "{0}/q.onnx"], "must end in one of .mlir, .torshpkg"),
        (["-o", "{0}/q.mlir"], "calibration"),
        (["-o", "{0}/q.mlir", "--calibration", "{0}/none.npz"], "No such file"),
    ],
)
def test_the_command_explains_wrong_use(files, capsys, arguments, message):
    given = [one.format(files) for one in arguments]
    assert main(["quantize", str(files / "m.onnx"), *given]) == 1
    assert message in capsys.readouterr().err


def test_the_example_of_the_page_runs(tmp_path, monkeypatch, capsys):
    page = Path(__file__).resolve().parents[3] / "docs" / "quantization.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(page), "exec"), {})
    assert "SQNR dB" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "model-int8.mlir", "model-int8.safetensors",
    }  # fmt: skip
