"""The pickle reader: equal to `pickle` where that is safe, inert everywhere else."""

import collections
import io
import os
import pickle
import pickletools
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torsh_package.convert.pickle_danger import is_dangerous, refuse_dangerous
from torsh_package.convert.pickle_reader import PickleReader
from torsh_package.convert.pickle_values import (
    GlobalName,
    PickleDict,
    PickleObject,
    PickleSequence,
    SequenceKind,
    mapping_pairs,
)
from torsh_package.errors import ConversionError, LimitError, PackageError, UnsafePickleError
from torsh_package.limits import Limits

SMALL = Limits(pickle_opcodes=20_000)


def plain(value: object) -> object:
    """The Python value that a symbolic one stands for."""
    if isinstance(value, PickleSequence):
        make = {
            SequenceKind.LIST: list, SequenceKind.TUPLE: tuple,
            SequenceKind.SET: set, SequenceKind.FROZENSET: frozenset,
        }[value.kind]  # fmt: skip
        return make(plain(item) for item in value.items)
    if isinstance(value, PickleDict):
        return {plain(key): plain(item) for key, item in value.pairs}
    if isinstance(value, PickleObject):
        name = value.class_name.rpartition(".")[2]
        make = {
            "OrderedDict": collections.OrderedDict, "set": set, "frozenset": frozenset,
            "bytearray": bytes, "bytes": bytes, "encode": lambda t, c: t.encode(c),
        }[name]  # fmt: skip
        made = make(*map(plain, value.args))
        if value.pairs:
            made.update((plain(key), plain(item)) for key, item in value.pairs)
        return made
    return value


leaves = (
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text() | st.binary(max_size=300)
    | st.floats(allow_nan=False)
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.frozensets(st.integers())
        | st.sets(st.text())
        | st.dictionaries(st.text(), inner).map(collections.OrderedDict)
    ),
    max_leaves=20,
)


@given(value=values, protocol=st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_reads_what_pickle_writes(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    reader = PickleReader(data)
    assert plain(reader.load()) == value
    assert reader.position == len(data)


def test_several_pickles_in_one_stream() -> None:
    data = pickle.dumps([1]) + pickle.dumps("two") + b"tail"
    reader = PickleReader(data)
    assert (plain(reader.load()), reader.load()) == ([1], "two")
    assert data[reader.position :] == b"tail"


class Command:
    """Runs a command when a real unpickler loads it."""

    def __init__(self, mark: str):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_87_a_command_is_named_and_not_run(tmp_path) -> None:
    mark = tmp_path / "ran"
    data = pickle.dumps({"weights": Command(str(mark))})
    reader = PickleReader(data)
    reader.load()
    with pytest.raises(UnsafePickleError) as caught:
        refuse_dangerous(reader.globals, entry="model.pkl")
    assert not mark.exists()
    assert caught.value.found[0].startswith(f"{os.system.__module__}.system@")
    assert "STACK_GLOBAL" in str(caught.value)
    pickle.loads(data)  # the payload is real: here a real unpickler runs it
    assert mark.exists()


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR."


TEXT = b"X\x02\x00\x00\x00id"
DANGEROUS = {
    "os.system": _call("os", "system", TEXT),
    "posix.system": _call("posix", "system", TEXT),
    "nt.system": _call("nt", "system", TEXT),
    "subprocess.Popen": _call("subprocess", "Popen", TEXT),
    "builtins.eval": _call("builtins", "eval", TEXT),
    "python 2 eval": _call("__builtin__", "eval", TEXT),
    "builtins.exec by INST": b"(" + TEXT + b"ibuiltins\nexec\n.",
    "builtins.exec by OBJ": b"(cbuiltins\nexec\n" + TEXT + b"o.",
    "builtins.__import__": _call("builtins", "__import__", TEXT),
    "importlib": _call("importlib", "import_module", TEXT),
    "runpy": _call("runpy", "run_path", TEXT),
    "pickle.loads": _call("pickle", "loads", TEXT),
    "torch.load": _call("torch", "load", TEXT),
    "torch.hub": _call("torch.hub", "load", TEXT),
    "numpy.load": _call("numpy", "load", TEXT),
    "operator.methodcaller": _call("operator", "methodcaller", TEXT),
    "socket": _call("socket", "socket"),
    "webbrowser": _call("webbrowser", "open", TEXT),
    "code.interact": _call("code", "interact"),
    "ctypes": _call("ctypes", "CDLL", TEXT),
    "dotted walk": b"\x80\x04\x8c\x0bcollections\x8c\x12abc.sys.modules.os\x93.",
    "dunder walk": b"\x80\x04\x8c\x05torch\x8c\x10Tensor.__class__\x93.",
    "subclasses": b"\x80\x04\x8c\x08builtins\x8c\x15object.__subclasses__\x93.",
    "after the real payload": b"\x80\x02}q\x00" + b"cos\nsystem\n0.",
    "not called": b"\x80\x02cos\nsystem\n.",
}


@pytest.mark.parametrize("name", DANGEROUS)
def test_dangerous_names_are_refused(name: str) -> None:
    reader = PickleReader(DANGEROUS[name])
    reader.load()
    with pytest.raises(UnsafePickleError, match="Nothing was executed"):
        refuse_dangerous(reader.globals, entry=name)


@pytest.mark.parametrize(
    "dotted",
    [
        "collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage",
        "torch.nn.modules.linear.Linear", "ultralytics.nn.tasks.DetectionModel",
        "argparse.Namespace", "omegaconf.dictconfig.DictConfig", "pathlib.PosixPath",
        "copyreg._reconstructor", "copyreg.__newobj__", "builtins.getattr", "builtins.set",
        "numpy._core.multiarray._reconstruct", "datetime.datetime", "types.SimpleNamespace",
        "models.sys.Model", "code_model.Net", "test.Model",
    ],
)  # fmt: skip
def test_honest_names_are_not(dotted: str) -> None:
    module, _, name = dotted.rpartition(".")
    assert not is_dangerous(GlobalName(module, name))


MALFORMED = {
    "empty": b"",
    "no stop": b"\x80\x02N",
    "protocol 6": b"\x80\x06N.",
    "unknown opcode": b"\x80\x02\xff.",
    "extension registry": b"\x80\x02\x82\x01.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "underflow": b"\x80\x02R.",
    "stop without value": b"\x80\x02.",
    "pop across the mark": b"\x80\x02(\x85.",
    "no mark": b"\x80\x02t.",
    "memo miss": b"\x80\x02h\x07.",
    "negative memo": b"Np-1\n.",
    "string of 4 GB": b"\x80\x02X\xff\xff\xff\xffab.",
    "bytes of 2^63": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
    "frame of 2^62": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N.",
    "negative long": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "negative string": b"T\xff\xff\xff\xff.",
    "bad utf-8": b"\x80\x04\x8c\x01\xff.",
    "bad int": b"I12x\n.",
    "5000 digits": b"L" + b"9" * 5000 + b"L\n.",
    "unquoted string": b"Sabc\n.",
    "endless line": b"I" + b"1" * (2 << 20),
    "odd dict": b"(N" + b"d.",
    "append to tuple": b"\x80\x02)Na.",
    "build on list": b"\x80\x02]Nb.",
    "setitem on list": b"\x80\x02]NNs.",
    "additems on list": b"\x80\x04](N\x90.",
    "arguments no tuple": b"\x80\x02cm\nn\nNR.",
    "stack_global of numbers": b"\x80\x04K\x01K\x02\x93.",
    "obj without class": b"(o.",
    "global without lines": b"cos",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_streams_give_one_typed_error(name: str) -> None:
    with pytest.raises(ConversionError, match="pickle") as caught:
        PickleReader(MALFORMED[name], entry="e", limits=SMALL).load()
    assert caught.value.entry == "e"


def test_opcode_limit() -> None:
    with pytest.raises(LimitError, match="pickle_opcodes"):
        PickleReader(b"\x80\x02" + b"N0" * 20_000 + b"N.", limits=SMALL).load()


def test_88_hostile_sharing_costs_nothing_to_read() -> None:
    """Each tuple holds the one before twice: 2^5000 leaves, 5000 objects."""
    data = b"\x80\x02N" + b"2\x86" * 5_000 + b"."
    start = time.process_time()
    PickleReader(data).load()
    assert time.process_time() - start < 5


def test_dict_keys_are_never_hashed() -> None:
    key = b"N" + b"2\x86" * 200  # hashing this tuple takes 2^200 steps
    pairs = mapping_pairs(PickleReader(b"\x80\x02}" + key + b"K\x01s.").load())
    assert pairs is not None
    assert len(pairs) == 1


OPCODES = [op.code.encode("latin1") for op in pickletools.opcodes]
pieces = (
    st.sampled_from(OPCODES)
    | st.binary(max_size=9)
    | st.sampled_from(
        [b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch._utils\n_rebuild_tensor_v2\n"]
    )
    | st.integers(0, 255).map(lambda n: b"K" + bytes([n]))
    | st.text(max_size=5).map(lambda t: b"\x8c" + bytes([len(t.encode())]) + t.encode())
)


@given(stream=st.lists(pieces, max_size=60).map(b"".join))
@settings(max_examples=600, deadline=None)
def test_random_opcodes_end_in_a_value_or_a_typed_error(stream: bytes) -> None:
    reader = PickleReader(b"\x80\x04" + stream + b".", limits=SMALL)
    try:
        reader.load()
    except PackageError as error:
        assert isinstance(error, ConversionError | LimitError)  # noqa: PT017


@given(
    value=values, flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4)
)
@settings(max_examples=200, deadline=None)
def test_damaged_pickles_never_execute(value: object, flips: list[tuple[int, int]]) -> None:
    data = bytearray(pickle.dumps(value, 4))
    for at, mask in flips:
        data[at % len(data)] ^= mask
    try:
        PickleReader(bytes(data), limits=SMALL).load()
    except PackageError as error:
        assert error.code in ("conversion", "limit")  # noqa: PT017


def test_globals_are_those_that_the_real_unpickler_imports() -> None:
    asked: list[tuple[str, str]] = []

    class Spy(pickle.Unpickler):
        def find_class(self, module: str, name: str):
            asked.append((module, name))
            return super().find_class(module, name)

    value = [collections.OrderedDict(a=1), bytearray(b"x"), 1j, collections.Counter("ab")]
    for protocol in (3, 4, 5):
        asked.clear()
        data = pickle.dumps(value, protocol)
        Spy(io.BytesIO(data)).load()
        reader = PickleReader(data)
        reader.load()
        assert [(use.name.module, use.name.name) for use in reader.globals] == asked
        assert asked
