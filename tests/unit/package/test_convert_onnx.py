"""ONNX models: equal to the reference library, confined to their folder, hostile ones refused."""

import os
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from convert_help import RNG, model_of, same, weights_of
from onnx import TensorProto, helper, numpy_helper

from torsh_package.convert import FormatConverter
from torsh_package.convert.converter import ENTRY_POINTS
from torsh_package.errors import ConversionError, LimitError, PackageError, ResourceNotFoundError

ONNX_TYPES = [
    np.float32, np.float64, np.float16, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32,
    np.int64, np.uint64, np.bool_, np.complex64, np.complex128, ml_dtypes.bfloat16,
    ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2,
]  # fmt: skip


@pytest.mark.parametrize("raw", [True, False])
def test_onnx_initializers_equal_the_library(tmp_path: Path, raw: bool) -> None:
    tensors = []
    for kind in ONNX_TYPES:
        array = np.array([[0, 1, 2], [3, 1, 0]]).astype(kind)
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        values = array.tobytes() if raw else array.flatten().tolist()
        tensors.append(helper.make_tensor(np.dtype(kind).name, code, array.shape, values, raw=raw))
    path = tmp_path / "m.onnx"
    onnx.save(model_of(tensors), path)
    expected = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    same(weights_of(FormatConverter().convert_from_onnx(path)), expected)


@pytest.mark.parametrize(
    "kind", [TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2]
)
def test_onnx_small_integers_are_widened(tmp_path: Path, kind: int) -> None:
    low = -2 if kind == TensorProto.INT2 else 0 if kind != TensorProto.INT4 else -8
    values = [low, 1, 0, 1, low]
    path = tmp_path / "m.onnx"
    onnx.save(model_of([helper.make_tensor("w", kind, (5,), values)]), path)
    converter = FormatConverter()
    found = weights_of(converter.convert(path))["w"]
    expected = numpy_helper.to_array(onnx.load(path).graph.initializer[0])
    assert np.array_equal(found, expected.astype(np.int8))
    assert converter.report is not None
    assert any("8 bits" in note for note in converter.report.notes)


def test_onnx_external_data(tmp_path: Path) -> None:
    arrays = {"a": RNG.normal(size=(40, 40)).astype(np.float32), "b": np.arange(5000)}
    model = model_of([numpy_helper.from_array(a, n) for n, a in arrays.items()])
    path = tmp_path / "m.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    package = FormatConverter().convert(path)
    same(weights_of(package), arrays)
    assert {"original/m.onnx", "original/m.data", "config", "weights"} <= set(
        package.list_resources()
    )
    assert bytes(package.get_resource("original/m.onnx").data) == path.read_bytes()


def test_onnx_subgraphs_and_report(tmp_path: Path) -> None:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["k"], ["o"])], "then", [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(2, np.float32), "k")],
    )  # fmt: skip
    node = helper.make_node("If", ["c"], ["y"], name="branch", then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "g", [], [], [numpy_helper.from_array(np.array(True), "c")])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, producer_name="maker", producer_version="9"), path)
    converter = FormatConverter()
    found = weights_of(converter.convert(path))
    assert set(found) == {"c", "branch.then_branch.k", "branch.else_branch.k"}
    report = converter.report
    assert report is not None
    assert report.environment["onnx_producer_name"] == "maker"
    assert report.facts["operators.If"] == 1
    assert report.program == "torsh_fx.packaging:add_onnx_program"


def test_onnx_config(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g",
        [info("x", TensorProto.FLOAT16, ["N", 3, None])], [info("y", TensorProto.INT64, None)],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), path)
    config = FormatConverter().convert(path).get_resource("config").json()
    assert config["inputs"] == [{"name": "x", "dtype": "float16", "shape": ["N", 3, None]}]
    assert config["outputs"] == [{"name": "y", "dtype": "int64", "shape": None}]
    assert config["operators"] == {"Relu": 1}
    assert config["environment"]["onnx_opset:ai.onnx"] == "21"


def external(tmp_path: Path, location: str, **fields: str) -> Path:
    tensor = TensorProto(name="w", dims=[2], data_type=TensorProto.FLOAT)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "inside" / "m.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model_of([tensor]).SerializeToString())
    (tmp_path / "secret").write_bytes(b"12345678")
    return path


OUTSIDE = {
    "parent": "../secret", "deep parent": "a/../../secret", "absolute": "/etc/passwd",
    "backslash": "..\\secret", "drive": "C:secret", "empty": "", "dot": ".", "NUL": "a\0b",
    "missing": "nothing", "folder": "sub", "device": "/dev/zero",
}  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_92_onnx_external_data_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = external(tmp_path, OUTSIDE[name])
    (path.parent / "sub").mkdir()
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


@pytest.mark.parametrize("how", ["file link", "folder link", "fifo", "hard to read"])
def test_92_onnx_external_data_crosses_no_link(tmp_path: Path, how: str) -> None:
    path = external(tmp_path, "sub/data" if how == "folder link" else "data")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "data").write_bytes(b"12345678")
    match how:
        case "file link":
            (path.parent / "data").symlink_to(tmp_path / "secret")
        case "folder link":
            (path.parent / "sub").symlink_to(tmp_path / "elsewhere")
        case "fifo":
            os.mkfifo(path.parent / "data")
        case _:
            (path.parent / "data").mkdir()
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


@pytest.mark.parametrize("fields", [
    {"offset": "4"}, {"length": "9"}, {"length": "4"}, {"offset": "-4"}, {"offset": "1e3"},
    {"offset": str(1 << 63), "length": "8"}, {"length": "9" * 40},
])  # fmt: skip
def test_onnx_external_ranges(tmp_path: Path, fields: dict[str, str]) -> None:
    path = external(tmp_path, "data", **fields)
    (path.parent / "data").write_bytes(b"12345678")
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, data: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(data)) + data


def deep_graph(levels: int) -> bytes:
    graph = b""
    for _ in range(levels):
        graph = field(1, field(5, field(6, graph)))
    return graph


BAD_ONNX = {
    "nested graphs": b"\x08\x08" + field(7, deep_graph(500)),
    "forged length": b"\x08\x08" + varint(7 << 3 | 2) + varint(1 << 60),
    "dims overflow": b"\x08\x08" + field(7, field(5, b"\x08" + varint(1 << 62) + b"\x10\x01")),
    "negative dim": b"\x08\x08" + field(7, field(5, b"\x08" + varint((1 << 64) - 1) + b"\x10\x01")),
    "data too short": b"\x08\x08" + field(7, field(5, b"\x08\x04\x10\x01" + field(9, b"\0" * 8))),
    "no data": b"\x08\x08" + field(7, field(5, b"\x08\x04\x10\x01")),
    "two of one name": b"\x08\x08" + field(7, field(5, b"\x10\x01\x08\x00" + field(8, b"w")) * 2),
    "group": b"\x08\x08" + field(7, b"\x0b\x0c"),
    "endless integer": b"\x08" + b"\xff" * 20,
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ONNX)
def test_93_hostile_onnx(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(BAD_ONNX[name])
    with pytest.raises(PackageError):
        FormatConverter().convert(path)


def test_93_protobuf_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bombs of many fields or integers, with the limits lowered so that the test stays small."""
    monkeypatch.setattr("torsh_package.convert.protobuf.MAX_FIELDS", 1_000)
    monkeypatch.setattr("torsh_package.convert.protobuf.MAX_INTEGERS", 1_000)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x08" + field(7, b"") + b"\x08\x08" * 2_000)
    with pytest.raises(ConversionError, match="not recognised"):
        FormatConverter().convert(path)
    path.write_bytes(b"\x08\x08" + field(7, b"\x08\x01" * 2_000))
    with pytest.raises(LimitError, match="fields"):
        FormatConverter().convert(path)
    path.write_bytes(b"\x08\x08" + field(7, field(5, field(1, b"\x01" * 2_000))))
    with pytest.raises(LimitError, match="integers"):
        FormatConverter().convert(path)


def test_programs_come_from_the_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Registered:
        value = "somewhere:add"

        def load(self):
            return lambda path, package: package.add_program(
                "program", f"from {path.name}", "text/x-mlir"
            )

    def entry_points(group: str, name: str) -> list[Registered]:
        return [Registered()] if (group, name) == (ENTRY_POINTS, "onnx") else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    path = tmp_path / "m.onnx"
    onnx.save(model_of([numpy_helper.from_array(np.ones(2, np.float32), "w")]), path)
    converter = FormatConverter()
    assert converter.convert(path).get_resource("program").text() == "from m.onnx"
    assert converter.report is not None
    assert converter.report.program == "somewhere:add"
    with pytest.raises(ResourceNotFoundError):
        FormatConverter(programs=False).convert(path).get_resource("program")
