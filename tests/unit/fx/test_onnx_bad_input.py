"""Damaged, unsafe and unsupported ONNX models: one clear error each."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from torsh_dialect.context import Context
from torsh_dialect.errors import (
    ImportModelError,
    InvalidArgumentError,
    TorshError,
    UnsupportedError,
)
from torsh_fx.importers.onnx import import_onnx

F = TensorProto.FLOAT


def simple(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", F, ["n", 4])],
        [helper.make_tensor_value_info(name, F, None) for name in outputs],
        [numpy_helper.from_array(np.ones((4, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def external(location: str, length: int = 64, offset: int = 0) -> onnx.ModelProto:
    model = simple(helper.make_node("MatMul", ["x", "w"], ["y"]))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("length", length), ("offset", offset)):
        tensor.external_data.add(key=key, value=str(text))
    return model


GOOD = simple(helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no whole ONNX model"),
        (b"not a model at all", "no ONNX model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "no ONNX model"),
        (GOOD.SerializeToString()[:-40], "cut off|no whole ONNX model"),
    ],
    ids=["empty", "text", "png", "truncated"],
)
def test_files_that_are_no_models(tmp_path: Path, data: bytes, says: str):
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    with pytest.raises(ImportModelError, match=says):
        import_onnx(path, Context())
    with pytest.raises(ImportModelError, match=says):
        import_onnx(data, Context())


def test_a_missing_file_and_a_folder(tmp_path: Path):
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ImportModelError, match="cannot read"):
            import_onnx(path, Context())


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "", "C:\\secret", "\\\\host\\share"]
)
def test_external_data_outside_the_folder(tmp_path: Path, location: str):
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    (folder / "a").mkdir(parents=True)
    path = folder / "m.onnx"
    path.write_bytes(external(location).SerializeToString())
    with pytest.raises(ImportModelError, match=r"outside the model's folder|cannot be read"):
        import_onnx(path, Context())


def test_external_data_behind_a_link(tmp_path: Path):
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "w.bin")
    path = folder / "m.onnx"
    path.write_bytes(external("w.bin").SerializeToString())
    with pytest.raises(ImportModelError, match="leads outside"):
        import_onnx(path, Context())


@pytest.mark.parametrize(
    ("length", "offset", "says"),
    [(64, 0, "has 10 bytes"), (63, 0, "needs 64 bytes"), (64, 10**20, "cut off")],
)
def test_external_data_of_the_wrong_size(tmp_path: Path, length: int, offset: int, says: str):
    (tmp_path / "w.bin").write_bytes(bytes(10))
    path = tmp_path / "m.onnx"
    path.write_bytes(external("w.bin", length, offset).SerializeToString())
    with pytest.raises(ImportModelError, match=says):
        import_onnx(path, Context())


def test_external_data_without_a_folder():
    with pytest.raises(ImportModelError, match="give its path"):
        import_onnx(external("w.bin"), Context())


def test_all_unsupported_nodes_are_reported_at_once():
    model = simple(
        helper.make_node("Foo", ["x"], ["a"], name="first", domain="my.ops"),
        helper.make_node("Bar", ["x"], ["b"], name="second"),
        helper.make_node("Relu", ["a"], ["c"], name="fine"),
        helper.make_node("Transpose", ["w"], ["d"], name="third", perm=[0, 5]),
        helper.make_node("Baz", ["x"], ["unused"], name="dead"),
        helper.make_node("Sum", ["b", "c", "d"], ["y"]),
    )
    with pytest.raises(UnsupportedError) as caught:
        import_onnx(model, Context())
    text = str(caught.value)
    assert "3 node(s)" in text
    for name in ("my.ops::Foo", "first", "ai.onnx::Bar-18", "second", "third"):
        assert name in text
    assert "fine" not in text
    assert "dead" not in text
    assert text.count("->") >= 3


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([helper.make_node("Relu", ["nowhere"], ["y"])], "'nowhere' is used before"),
        ([helper.make_node("Add", ["x"], ["y"])], "Add"),
        ([helper.make_node("Gemm", ["x", "w"], ["y"], transA="no")], "Gemm"),
        ([helper.make_node("Reshape", ["x"], ["y"])], r"input 1 \(shape\) is missing"),
        ([helper.make_node("Concat", ["x", "w"], ["y"], axis=7)], "axis 7"),
        ([helper.make_node("Conv", ["x", "w"], ["y"])], "C1"),
        ([helper.make_node("Split", ["x"], ["y"], num_outputs=2**40)], "the node has 1 outputs"),
    ],
    ids=["undefined", "too-few", "attribute-type", "missing-input", "axis", "rank", "outputs"],
)  # fmt: skip
def test_malformed_nodes(nodes: list[onnx.NodeProto], says: str):
    with pytest.raises(TorshError, match=says):
        import_onnx(simple(*nodes), Context())


def test_values_defined_twice():
    twice = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
    with pytest.raises(ImportModelError, match="defined twice"):
        import_onnx(simple(*twice), Context())


def test_a_function_that_calls_itself():
    body = [helper.make_node("F", ["a"], ["b"], domain="ours")]
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("ours", 1)]
    model = simple(helper.make_node("F", ["x"], ["y"], domain="ours"))
    model.functions.append(helper.make_function("ours", "F", ["a"], ["b"], body, imports))
    model.opset_import.append(helper.make_opsetid("ours", 1))
    with pytest.raises(UnsupportedError, match="calls itself"):
        import_onnx(model, Context())


def test_an_input_without_a_rank():
    model = simple(helper.make_node("Relu", ["x"], ["y"]))
    model.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ImportModelError, match="'x' has no shape"):
        import_onnx(model, Context())


def test_bounds_for_unknown_extents():
    with pytest.raises(InvalidArgumentError, match=r"no symbolic extents \['m'\].*: n"):
        import_onnx(simple(helper.make_node("Relu", ["x"], ["y"])), Context(), {"m": 3})


def test_a_tensor_with_too_little_data():
    model = simple(helper.make_node("MatMul", ["x", "w"], ["y"]))
    model.graph.initializer[0].raw_data = bytes(10)
    with pytest.raises(ImportModelError, match=r"'w'.*is damaged"):
        import_onnx(model, Context())


def test_a_name_that_is_no_text():
    data = GOOD.SerializeToString().replace(b"MatMul", b"MatM\x80l")
    with pytest.raises(ImportModelError, match="not UTF-8"):
        import_onnx(data, Context())


BYTES = GOOD.SerializeToString()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, len(BYTES) - 1), st.integers(0, 255)), max_size=4),
       st.integers(0, len(BYTES)))  # fmt: skip
def test_damaged_bytes_give_a_typed_error_or_a_valid_module(changes, cut):
    data = bytearray(BYTES[: cut or len(BYTES)])
    for place, byte in changes:
        if place < len(data):
            data[place] = byte
    with suppress(TorshError):
        import_onnx(bytes(data), Context()).module.verify()
