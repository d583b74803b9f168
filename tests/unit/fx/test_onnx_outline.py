"""Large tensors are read from an ONNX file once, and the message around them stays the same."""

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

import torsh_fx
from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError
from torsh_fx.importers.onnx import import_onnx
from torsh_fx.importers.onnx_outline import LARGE, outline, read_varint, varint

RNG = np.random.default_rng(0)


def model(**more):
    """A product with a large and a small weight; x: f32[n, 200]."""
    large = RNG.normal(size=(200, 100)).astype(np.float32)
    stored = [
        numpy_helper.from_array(large, "w"),
        numpy_helper.from_array(RNG.normal(size=100).astype(np.float32), "b"),
        *(numpy_helper.from_array(array, name) for name, array in more.items()),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", "hb", "y")]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 200])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def embedded(found: bytes, data: bytes):
    """The message of an outline with its tensors put back, as protobuf reads it."""
    proto = onnx.ModelProto.FromString(found)
    for tensor in proto.graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries.get("location") == "m.onnx":
            begin, length = int(entries["offset"]), int(entries["length"])
            tensor.raw_data = data[begin : begin + length]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return proto


def test_numbers_go_through():
    for number in (0, 1, 127, 128, 300, 2**31, 2**63, 2**64 - 1):
        assert read_varint(memoryview(varint(number)), 0) == (number, len(varint(number)))


def test_an_outline_is_the_message_without_large_tensors():
    proto = model(e=np.zeros((3, 0), np.float32), i=np.arange(20_000))
    data = proto.SerializeToString()
    found = outline(memoryview(data), "m.onnx")
    assert len(found) < 3000 < LARGE < len(data)
    assert embedded(found, data) == proto


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "float64", "int8", "uint8", "int32", "int64"]
)
def test_the_arrays_are_those_of_the_file(dtype, tmp_path):
    array = RNG.integers(-100, 100, (300, 301)).astype(dtype)
    proto = model(c=array)
    proto.graph.output.append(helper.make_value_info("c", proto.graph.output[0].type))
    proto.graph.output[-1].type.CopyFrom(
        helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), [300, 301])
    )
    onnx.save(proto, tmp_path / "m.onnx")
    weights = import_onnx(tmp_path / "m.onnx", Context()).weights
    np.testing.assert_array_equal(weights["c"], array)
    assert weights["c"].dtype == array.dtype
    assert weights["w"].ctypes.data % 64 == 0


def test_a_file_that_changes_later_changes_nothing(tmp_path):
    proto, path = model(), tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = RNG.normal(size=(3, 200)).astype(np.float32)
    expected = torsh_fx.compile(proto)(x)
    f = torsh_fx.compile(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    assert f(x).tobytes() == expected.tobytes()
    f.update_weights({"b": np.zeros(100, np.float32)})  # prepares all weights anew
    bias = numpy_helper.to_array(proto.graph.initializer[1])
    np.testing.assert_allclose(f(x), expected - bias, atol=1e-4)


def test_a_linked_file_is_read_where_it_lies(tmp_path):
    (tmp_path / "store").mkdir()
    proto = model()
    onnx.save(proto, tmp_path / "store" / "blob")
    (tmp_path / "m.onnx").symlink_to(tmp_path / "store" / "blob")
    x = RNG.normal(size=(3, 200)).astype(np.float32)
    assert (
        torsh_fx.compile(tmp_path / "m.onnx")(x).tobytes() == torsh_fx.compile(proto)(x).tobytes()
    )


def test_damaged_messages_are_read_as_protobuf_reads_them():
    data = model().SerializeToString()
    places = [n for n in range(len(data)) if n < 300 or n > len(data) - 700]
    outlined = 0
    for _ in range(1500):
        damaged = bytearray(data)
        for place in RNG.choice(places, RNG.integers(1, 4)):
            damaged[place] = RNG.integers(256)
        found = outline(memoryview(bytes(damaged)), "m.onnx")
        if found is None:
            continue
        outlined += 1
        try:
            expected = onnx.ModelProto.FromString(bytes(damaged))
        except DecodeError:
            with pytest.raises(DecodeError):
                onnx.ModelProto.FromString(found)
        else:
            assert embedded(found, bytes(damaged)) == expected
    assert outlined > 300


def test_a_tensor_of_other_extents_is_refused(tmp_path):
    proto = model()
    proto.graph.initializer[0].dims[0] = 201
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(ImportModelError, match="the tensor 'w'"):
        import_onnx(tmp_path / "m.onnx", Context())
    data = model().SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(data[:-50])
    with pytest.raises(ImportModelError, match="damaged or cut off"):
        import_onnx(tmp_path / "cut.onnx", Context())
