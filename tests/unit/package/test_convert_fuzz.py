"""Damaged and random files: every reader ends in a value or in one typed error, within limits."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from torsh_package.convert import FormatConverter, detect_format
from torsh_package.convert.checkpoint import harvest
from torsh_package.convert.pickle_values import (
    GlobalName,
    PersistentRef,
    PickleDict,
    PickleObject,
    PickleSequence,
    SequenceKind,
)
from torsh_package.convert.torch_file import read_torch
from torsh_package.convert.torch_tensors import (
    Storage,
    TensorDecoder,
    storage_dtype,
    storage_fields,
)
from torsh_package.errors import PackageError
from torsh_package.limits import Limits

SMALL = Limits(pickle_opcodes=5_000, pickle_depth=40)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(dotted: str) -> bytes:
    module, _, last = dotted.rpartition(".")
    return f"c{module}\n{last}\n".encode()


STORAGE = b"(" + text("storage") + name("torch.FloatStorage") + text("0") + text("cpu") + b"K\x04tQ"
TENSOR = name("torch._utils._rebuild_tensor_v2") + b"(" + STORAGE
TENSOR += b"K\x00(K\x02K\x02t(K\x02K\x01t\x89NtR"
PIECES = [
    STORAGE,
    TENSOR,
    name("torch._utils._rebuild_tensor_v2"),
    name("torch._utils._rebuild_parameter"),
    name("torch._utils._rebuild_tensor_v3"),
    name("torch._utils._rebuild_qtensor"),
    name("torch._utils._rebuild_sparse_tensor"),
    name("torch._tensor._rebuild_from_type_v2"),
    name("torch.storage._load_from_bytes"),
    name("numpy.core.multiarray._reconstruct"),
    name("numpy._core.numeric._frombuffer"),
    name("numpy.dtype"),
    name("numpy.ndarray"),
    name("_codecs.encode"),
    name("collections.OrderedDict"),
    name("torch.Size"),
    name("torch.float32"),
    name("copyreg._reconstructor"),
    name("builtins.object"),
    name("some.module.Net"),
    text("_parameters"),
    text("_modules"),
    text("_buffers"),
    text("_non_persistent_buffers_set"),
    text("state_dict"),
    text("model"),
    text("f4"),
    text("<"),
    text("latin1"),
    text("a.b"),
    text(""),
    b"K\x00",
    b"K\x01",
    b"K\x04",
    b"J\xff\xff\xff\xff",
    b"N",
    b"\x88",
    b"\x89",
    b"G" + bytes(8),
    b"C\x08" + bytes(8),
    b"}",
    b"]",
    b")",
    b"(",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"R",
    b"\x81",
    b"b",
    b"s",
    b"u",
    b"a",
    b"e",
    b"Q",
    b"2",
    b"0",
    b"q\x00",
    b"h\x00",
    b"d",
    b"l",
    b"o",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


streams = st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)
# What any sequence of pieces leaves on the stack is gathered, so that more streams end well.
gathered = streams.map(lambda s: b"\x80\x02" + text("root") + b"(" + s + b"t\x86.")


@given(stream=gathered | streams.map(lambda s: b"\x80\x02}(" + s + b"u."))
@settings(
    max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_checkpoints(folder: Path, stream: bytes) -> None:
    path = folder / "random.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("random/data.pkl", stream)
        archive.writestr("random/data/0", np.arange(4, dtype=np.float32).tobytes())
    try:
        found = read_torch(path, limits=SMALL)
    except PackageError as error:
        assert error.code in ("conversion", "limit", "unsafe-pickle")  # noqa: PT017
        return
    for array in (*found.weights.values(), *found.extra.values()):
        assert array.nbytes <= 1 << 20
        array.sum()  # every element can be read


def test_the_pieces_make_an_honest_checkpoint(folder: Path) -> None:
    path = folder / "honest.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("honest/data.pkl", b"\x80\x02}(" + text("w") + TENSOR + b"u.")
        archive.writestr("honest/data/0", np.arange(4, dtype=np.float32).tobytes())
        archive.writestr("honest/version", "3")
    assert read_torch(path).weights["w"].tolist() == [[0, 1], [2, 3]]
    assert torch.load(path)["w"].tolist() == [[0, 1], [2, 3]]


def samples() -> dict[str, bytes]:
    """One small honest file of each kind."""
    state, found = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.ones(1)}, dict[str, bytes]()
    for kind, zipped in (("zip", True), ("legacy", False)):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=zipped)
        found[kind] = buffer.getvalue()
    arrays = {key: tensor.numpy() for key, tensor in state.items()}
    found["safetensors"] = safetensors.numpy.save(arrays)
    for kind, save in (("npz", np.savez), ("npz compressed", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        found[kind] = buffer.getvalue()
    tensors = [numpy_helper.from_array(array, key) for key, array in arrays.items()]
    node = helper.make_node("Identity", ["w"], ["y"])
    model = helper.make_model(helper.make_graph([node], "g", [], [], tensors))
    found["onnx"] = model.SerializeToString()
    assert onnx.load_from_string(found["onnx"]).graph.initializer
    return found


SAMPLES = samples()
edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=6)),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("kind", SAMPLES)
@given(edits=edits, cut=st.floats(0.3, 1))
@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_damaged_files(
    folder: Path, kind: str, edits: list[tuple[float, bytes]], cut: float
) -> None:
    data = bytearray(SAMPLES[kind])
    for where, put in edits:
        at = int(where * len(data))
        data[at : at + len(put)] = put
    path = folder / "damaged"
    path.write_bytes(data[: int(cut * len(data))] if cut < 0.9 else data)
    try:
        package = FormatConverter(limits=SMALL).convert(path)
    except PackageError as error:
        assert str(error)  # noqa: PT017
        return
    assert sum(array.nbytes for array in package.get_resource("weights").tensors.values()) < 1 << 20


@pytest.mark.parametrize("kind", SAMPLES)
def test_honest_files_convert(folder: Path, kind: str) -> None:
    path = folder / "honest"
    path.write_bytes(SAMPLES[kind])
    found = FormatConverter().convert(path).get_resource("weights").tensors
    assert found["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@given(data=st.binary(max_size=400))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_random_bytes(folder: Path, data: bytes) -> None:
    path = folder / "bytes"
    path.write_bytes(data)
    with pytest.raises(PackageError):
        FormatConverter(limits=SMALL).convert_from_safetensors(path)
    try:
        detect_format(path)
    except PackageError as error:
        assert error.code == "conversion"  # noqa: PT017


# Calls of the functions that are understood, with arguments that they were not made for.

REBUILDERS = [
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_qtensor",
    "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state", "torch._utils._rebuild_meta_tensor_no_storage",
    "torch._utils._rebuild_device_tensor_from_numpy", "torch._tensor._rebuild_from_type_v2",
    "torch.storage._load_from_bytes", "numpy.core.multiarray._reconstruct",
    "numpy._core.numeric._frombuffer", "numpy.dtype", "torch.Size", "_codecs.encode",
    "torch.serialization._get_layout", "collections.OrderedDict", "copyreg._reconstructor",
]  # fmt: skip


def sequence(items: list[object]) -> PickleSequence:
    return PickleSequence(SequenceKind.TUPLE, items)


def storage_pid(numel: object, kind: str) -> PersistentRef:
    return PersistentRef(sequence(["storage", GlobalName("torch", kind), "0", "cpu", numel]))


scalars = (
    st.none()
    | st.booleans()
    | st.integers(-2, 5)
    | st.sampled_from([-(1 << 63), 1 << 40, 1 << 63])
    | st.sampled_from(["", "f4", "<f8", "O8", "<", ">", "latin1", "torch.sparse_coo", "conj", "F"])
    | st.sampled_from([b"", bytes(8), bytes(16), 1.5])
    | st.sampled_from(
        [GlobalName("torch", n) for n in ("float32", "bfloat16", "strided", "sparse_csr")]
    )
    | st.builds(
        storage_pid,
        st.sampled_from([4, 2, -1, None]),
        st.sampled_from(["FloatStorage", "DoubleStorage", "QInt8Storage", "Nothing"]),
    )
)


def calls(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    arguments = st.lists(inner, max_size=8)
    made = st.builds(
        lambda dotted, args, state: PickleObject(
            GlobalName(*dotted.rsplit(".", 1)), args, 0, state=state
        ),
        st.sampled_from(REBUILDERS), arguments, st.none() | inner,
    )  # fmt: skip
    pairs = st.lists(st.tuples(st.sampled_from(["conj", "neg", "_parameters", "_modules"]), inner))
    return made | st.lists(inner, max_size=4).map(sequence) | pairs.map(PickleDict)


def load_storage(pid: object) -> Storage:
    fields = storage_fields(pid)
    return Storage(np.arange(16, dtype=np.uint8), storage_dtype(fields[1])[0])


@given(value=st.recursive(scalars, calls, max_leaves=25))
@settings(max_examples=200, deadline=None)
def test_88_hostile_arguments(value: object) -> None:
    decoder = TensorDecoder(load_storage, lambda raw: load_storage(raw), entry="fuzz")
    try:
        found = harvest(value, decoder, depth=40)
    except PackageError as error:
        assert error.code in ("conversion", "limit")  # noqa: PT017
        return
    for array in (*found.weights.values(), *found.extra.values()):
        array.sum()
