"""safetensors, npz, ONNX, folders: equal to the reference libraries, hostile files refused."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from torsh_package import Package
from torsh_package.convert import FormatConverter, PackageFormat, detect_format
from torsh_package.convert.converter import ENTRY_POINTS
from torsh_package.convert.folders import parse_flavours
from torsh_package.convert.npz_file import read_npy
from torsh_package.convert.safetensors_file import read_safetensors
from torsh_package.errors import ConversionError, LimitError, PackageError, ResourceNotFoundError

RNG = np.random.default_rng(0)


def weights_of(package: Package) -> dict[str, np.ndarray]:
    return dict(package.get_resource("weights").tensors)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype.newbyteorder("="), name
        assert found[name].shape == array.shape, name
        assert np.array_equal(found[name], array), name


# safetensors

SAFE = {
    "f": RNG.normal(size=(3, 2)).astype(np.float32), "h": np.ones((2,), np.float16),
    "bf": np.arange(3).astype(ml_dtypes.bfloat16), "i": np.arange(4), "s": np.array(2.5),
    "b": np.array([True, False]), "e": np.zeros((0, 3), np.int8),
    "u": np.arange(3, dtype=np.uint16),
}  # fmt: skip


def test_safetensors_equal_the_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(SAFE, path, {"format": "pt"})
    assert detect_format(path) is PackageFormat.SAFETENSORS
    converter = FormatConverter()
    same(weights_of(converter.convert(path)), safetensors.numpy.load_file(path))
    assert converter.report is not None
    assert converter.report.facts == {"format": "pt"}


def packed(header: str | bytes, body: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + body


ROW = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
BAD_SAFETENSORS = {
    "duplicate key": packed(f'{{"a":{ROW},"a":{ROW}}}', b"\0" * 4),
    "overlap": packed(f'{{"a":{ROW},"b":{ROW}}}', b"\0" * 4),
    "hole": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"\0" * 8),
    "trailing": packed(f'{{"a":{ROW}}}', b"\0" * 8),
    "beyond the end": packed(f'{{"a":{ROW}}}', b"\0" * 3),
    "shape overflow": packed(
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}', b"\0" * 4
    ),
    "size differs": packed('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"\0" * 4),
    "header 2^40": struct.pack("<Q", 1 << 40) + b"{}",
    "header 2^64-1": struct.pack("<Q", (1 << 64) - 1) + b"{}",
    "negative extent": packed('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"\0" * 4),
    "negative offset": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}', b"\0" * 4),
    "reversed offsets": packed('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}', b"\0" * 4),
    "float extent": packed('{"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}', b"\0" * 4),
    "boolean extent": packed('{"a":{"dtype":"U8","shape":[true],"data_offsets":[0,1]}}', b"\0"),
    "unknown dtype": packed('{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "unknown field": packed(f'{{"a":{ROW[:-1]},"x":1}}}}', b"\0" * 4),
    "missing field": packed('{"a":{"shape":[1],"data_offsets":[0,4]}}', b"\0" * 4),
    "metadata no text": packed('{"__metadata__":{"a":1}}'),
    "deep nesting": packed('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "5000 digits": packed('{"a":' + "9" * 5_000 + "}"),
    "NaN": packed('{"a":NaN}'),
    "not utf-8": packed(b'{"\xff":1}'),
    "leading space": packed(" {}"),
    "no object": packed("[]"),
    "too short": b"\x02\0\0",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_hostile_safetensors(name: str) -> None:
    data = np.frombuffer(BAD_SAFETENSORS[name], np.uint8)
    with pytest.raises(ConversionError):
        read_safetensors(data, entry=name)


# npz

ARRAYS = {
    "f": RNG.normal(size=(3, 4)).astype(np.float32),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.arange(3, dtype=">i4"), "c": np.array([1 + 2j]), "b": np.array([[True], [False]]),
    "scalar": np.array(3), "empty": np.zeros((0, 2)), "h": np.arange(3).astype(np.float16),
}  # fmt: skip


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_equal_numpy(tmp_path: Path, save) -> None:
    path = tmp_path / "weights.npz"
    save(path, **ARRAYS, label=np.array(["text"]))
    converter = FormatConverter()
    found = weights_of(converter.convert(path))
    with np.load(path, allow_pickle=False) as expected:
        same(found, {name: expected[name] for name in ARRAYS})
    assert converter.report is not None
    assert [row.where for row in converter.report.skipped] == ["label.npy"]


def test_npy(tmp_path: Path) -> None:
    path = tmp_path / "one.npy"
    np.save(path, ARRAYS["fortran"])
    same(weights_of(FormatConverter().convert_from_npz(path)), {"one": ARRAYS["fortran"]})


class Shout:
    def __reduce__(self):
        return print, ("unpickled",)


def test_npz_with_objects_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.array([Shout()], dtype=object))
    with pytest.raises(ConversionError, match="Python objects"):
        FormatConverter().convert(path)
    assert capsys.readouterr().out == ""


def npy(header: str, body: bytes = b"\0" * 8, version: int = 1) -> bytes:
    raw = header.encode("latin1")
    size = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + body


GOOD_HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }"


def test_a_long_header_is_fine_up_to_the_limit() -> None:
    data = np.frombuffer(npy(GOOD_HEADER + " " * 9_000, version=2), np.uint8)
    assert np.array_equal(read_npy(data, entry="npy"), [0.0])


BAD_NPY = {
    "call": npy("{'descr': __import__('os').system('id'), 'fortran_order': False, 'shape': (1,)}"),
    "lambda": npy("(lambda: 1)()"),
    "deep": npy("(" * 5_000),
    "deep dict": npy("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 4_000 + "}"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "record": npy("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,)}"),
    "record of objects": npy("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}"),
    "subarray": npy("{'descr': ('<f8', (2,)), 'fortran_order': False, 'shape': (1,)}"),
    "twice": npy("{'descr': '<f8', 'descr': '|O', 'fortran_order': False, 'shape': (1,)}"),
    "missing": npy("{'descr': '<f8', 'shape': (1,)}"),
    "extra": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), 'x': 1}"),
    "after": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)} + 1"),
    "negative": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"),
    "overflow": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (9999999999, 9999999999)}"),
    "too small": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (2,)}"),
    "too large": npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", b"\0" * 9),
    "odd width": npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}"),
    "header 4 GB": b"\x93NUMPY\x02\0\xff\xff\xff\xff",
    "header over the limit": npy(GOOD_HEADER + " " * 20_000, version=2),
    "version 9": npy("{}", version=9),
    "magic only": b"\x93NUMPY",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_NPY)
def test_hostile_npy(name: str) -> None:
    with pytest.raises(ConversionError):
        read_npy(np.frombuffer(BAD_NPY[name], np.uint8), entry=name)


def zipped(path: Path, *entries: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


GOOD = npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }")


def _zip_edit(path: Path, find: bytes, put: bytes, last: bool = False) -> Path:
    data = bytearray(path.read_bytes())
    at = data.rfind(find) if last else data.find(find)
    data[at : at + len(find)] = put
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", [
    "slip", "absolute", "backslash", "twice", "bomb", "crc", "local name", "encrypted", "method",
])  # fmt: skip
def test_hostile_zip(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.npz"
    match case:
        case "slip":
            zipped(path, ("../a.npy", GOOD))
        case "absolute":
            zipped(path, ("/a.npy", GOOD))
        case "backslash":
            zipped(path, ("..\\a.npy", GOOD))
        case "twice":
            zipped(path, ("a.npy", GOOD), ("a.npy", GOOD))
        case "bomb":
            zeros = npy(
                "{'descr': '<f8', 'fortran_order': False, 'shape': (8912896,), }", bytes(68 << 20)
            )
            zipped(path, ("a.npy", zeros), method=zipfile.ZIP_DEFLATED)
        case "crc":
            _zip_edit(zipped(path, ("a.npy", GOOD)), b"\0" * 8 + b"PK", b"\0" * 7 + b"\1PK")
        case "local name":
            _zip_edit(zipped(path, ("a.npy", GOOD)), b"a.npy", b"b.npy")
        case "encrypted":
            data = bytearray(zipped(path, ("a.npy", GOOD)).read_bytes())
            data[data.find(b"PK\1\2") + 8] |= 1
            path.write_bytes(data)
        case _:
            data = bytearray(zipped(path, ("a.npy", GOOD)).read_bytes())
            data[data.find(b"PK\1\2") + 10] = 12
            path.write_bytes(data)
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


# ONNX


def model_of(initializers: list[TensorProto], **more: object) -> onnx.ModelProto:
    first = initializers[0].name if initializers else "x"
    node = helper.make_node("Identity", [first], ["y"])
    info = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [], [info], initializers, **more)  # pyright: ignore
    return helper.make_model(
        graph, producer_name="test", opset_imports=[helper.make_opsetid("", 21)]
    )


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
def test_onnx_external_data_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = external(tmp_path, OUTSIDE[name])
    (path.parent / "sub").mkdir()
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


@pytest.mark.parametrize("how", ["file link", "folder link", "fifo", "hard to read"])
def test_onnx_external_data_crosses_no_link(tmp_path: Path, how: str) -> None:
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
def test_hostile_onnx(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(BAD_ONNX[name])
    with pytest.raises(PackageError):
        FormatConverter().convert(path)


def test_protobuf_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


# Folders


def test_huggingface_shards(tmp_path: Path) -> None:
    shards = {
        "model-1.safetensors": {"a": np.ones(2, np.float32)},
        "model-2.safetensors": {"b": np.arange(3)},
    }
    for name, tensors in shards.items():
        safetensors.numpy.save_file(tensors, tmp_path / name)
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    (tmp_path / "config.json").write_text('{"model_type": "tiny", "transformers_version": "5.0"}')
    (tmp_path / "modeling_tiny.py").write_text("class Tiny: ...\n")
    (tmp_path / "tf_model.h5").write_bytes(b"\x89HDF")
    (tmp_path / "README.md").write_text("# Tiny")
    assert detect_format(tmp_path) is PackageFormat.HUGGINGFACE
    converter = FormatConverter()
    package = converter.convert(tmp_path)
    same(weights_of(package), {"a": np.ones(2, np.float32), "b": np.arange(3)})
    assert {"config.json", "code/modeling_tiny.py", "README.md"} <= set(package.list_resources())
    assert converter.report is not None
    assert [row.where for row in converter.report.skipped] == ["tf_model.h5"]
    assert converter.report.environment["transformers_version"] == "5.0"
    index["weight_map"]["b"] = "model-1.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError, match="'b' is not in"):
        FormatConverter().convert(tmp_path)
    both = {"a": np.zeros(2, np.float32), "b": np.zeros(3)}
    safetensors.numpy.save_file(both, tmp_path / "model-1.safetensors")
    index["weight_map"] = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError, match="the index says otherwise"):
        FormatConverter().convert(tmp_path)
    index["weight_map"]["b"] = "../../outside.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ConversionError):
        FormatConverter().convert(tmp_path)


def test_huggingface_links_are_refused(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a": np.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").symlink_to("/etc/hostname")
    with pytest.raises(ConversionError, match="symbolic link"):
        FormatConverter().convert(tmp_path)


MLMODEL = """artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
    loader_module: mlflow.pytorch
  pytorch:
    code: null
    model_data: data
    pytorch_version: 2.13.0
mlflow_version: 3.1.0
"""


def test_mlflow(tmp_path: Path) -> None:
    import torch

    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_text(MLMODEL)
    (tmp_path / "requirements.txt").write_text("torch==2.13.0\nnumpy>=1.26  # arrays\n-e ./here\n")
    torch.save(torch.nn.Linear(2, 3), tmp_path / "data" / "model.pth")
    converter = FormatConverter()
    package = converter.convert(tmp_path)
    assert {n: a.shape for n, a in weights_of(package).items()} == {"weight": (3, 2), "bias": (3,)}
    assert {(d.name, d.version_req, d.kind) for d in package.dependencies} == {
        ("torch", "==2.13.0", "pip"), ("numpy", ">=1.26", "pip"),
    }  # fmt: skip
    assert converter.report is not None
    assert converter.report.environment["pytorch_version"] == "2.13.0"
    assert [row.where for row in converter.report.skipped] == ["-e ./here"]
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    pickled_model: model.pkl\n")
    with pytest.raises(ConversionError, match="sklearn"):
        FormatConverter().convert(tmp_path)


def test_mlflow_flavours() -> None:
    found = parse_flavours(MLMODEL)
    assert found["pytorch"] == {"code": "null", "model_data": "data", "pytorch_version": "2.13.0"}
    assert set(found) == {"python_function", "pytorch"}


# Detection


def test_extensions_do_not_count(tmp_path: Path) -> None:
    import torch

    torch.save({"w": torch.ones(1)}, tmp_path / "a.onnx")
    np.savez(tmp_path / "b.npz", w=np.ones(1))
    (tmp_path / "b.npz").rename(tmp_path / "b.pt")
    onnx.save(model_of([numpy_helper.from_array(np.ones(1), "w")]), tmp_path / "c.safetensors")
    (tmp_path / "d.bin").write_bytes(pickle.dumps({"w": np.ones(1)}))
    safetensors.numpy.save_file({"w": np.ones(1)}, tmp_path / "e.npz")
    Package("m", "1.0.0").save(tmp_path / "f.zip")
    expected = {"a.onnx": "pytorch", "b.pt": "npz", "c.safetensors": "onnx", "d.bin": "pytorch",
                "e.npz": "safetensors", "f.zip": "torsh"}  # fmt: skip
    assert {p.name: str(detect_format(p)) for p in sorted(tmp_path.iterdir())} == expected
    with pytest.raises(ConversionError, match="holds pytorch, not onnx"):
        FormatConverter().convert_from_onnx(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"hello world, this is no model", b"\x7fELF" + b"\0" * 60, b"PK\x03\x04"]
)
def test_unknown_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(data)
    with pytest.raises(ConversionError):
        detect_format(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/nonexistent", "/tmp"])
def test_what_is_no_file(path: str) -> None:
    with pytest.raises(ConversionError):
        FormatConverter().convert(path)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConversionError, match="regular"):
        detect_format(tmp_path / "pipe")
