"""Bad models and bad calls through `torsh_fx.compile`: one typed error, with names and limits."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from robust_models import ROOT, attention, convnet, in_process, mlp, model_of, normal

from torsh_dialect.errors import (
    ExecutionError,
    ImportModelError,
    InputError,
    InvalidArgumentError,
    TorshError,
    UnsupportedError,
)
from torsh_fx.compiler import compile as compile_model

I64 = TensorProto.INT64
BIG = 1 << 40
PART = 1 << 22
"""Three extents of this size have more elements than 64 bits count, and none is large alone."""

make = helper.make_node


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def external(location: str) -> bytes:
    model = mlp()
    tensor = model.graph.initializer[0]
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return model.SerializeToString()


def several_unknown() -> bytes:
    nodes = [
        make("Bogus", ["x"], ["a"], name="first"),
        make("Relu", ["a"], ["b"], name="known"),
        make("Strange", ["b"], ["y"], name="second", domain="their.ops"),
    ]
    model = model_of(nodes, {"x": ["n", 8]})
    model.opset_import.append(helper.make_opsetid("their.ops", 1))
    return model.SerializeToString()


GOOD = convnet().SerializeToString()
BAD_FILES: dict[str, tuple[bytes | None, type[TorshError], list[str]]] = {
    "text": (b"this is no model\n" * 9, ImportModelError, ["m.onnx", "no ONNX model"]),
    "empty": (b"", ImportModelError, ["m.onnx", "no whole ONNX model"]),
    "archive": (b"PK\x03\x04" + bytes(99), ImportModelError, ["m.onnx", "no ONNX model"]),
    "truncated": (GOOD[: len(GOOD) // 2], ImportModelError, ["m.onnx", f"{len(GOOD) // 2} bytes"]),
    "missing": (None, ImportModelError, ["m.onnx", "No such file"]),
    "data above": (external("../secret"), ImportModelError, ["'w'", "../secret", "outside"]),
    "data elsewhere": (external("/etc/passwd"), ImportModelError, ["/etc/passwd", "outside"]),
    "data by a link": (external("link"), ImportModelError, ["'link'", "outside"]),
    "unknown ops": (several_unknown(), UnsupportedError,
                    ["2 node(s)", "Bogus", "first", "their.ops::Strange", "second"]),
}  # fmt: skip


@pytest.fixture(params=list(BAD_FILES))
def bad_file(request: pytest.FixtureRequest, tmp_path: Path):
    data, error, words = BAD_FILES[request.param]
    (tmp_path / "secret").write_bytes(bytes(4096))
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink(tmp_path / "secret", folder / "link")
    if data is not None:
        (folder / "m.onnx").write_bytes(data)
    return folder / "m.onnx", error, words


def test_bad_files_give_one_typed_error(bad_file: tuple[Path, type[TorshError], list[str]]):
    path, error, words = bad_file
    with pytest.raises(error) as caught:
        compile_model(path)
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)
    assert "(node known)" not in str(caught.value)


def test_the_command_line_fails_with_one_message_and_writes_nothing(
    bad_file: tuple[Path, type[TorshError], list[str]], capsys: pytest.CaptureFixture[str]
):
    from tools.torsh import main

    path, _, words = bad_file
    before = files(path.parent)
    assert main(["compile", str(path), "-o", str(path.parent / "out.mlir")]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("torsh: error:") == 1
    assert "Traceback" not in printed.err
    for word in words:
        assert word in printed.err
    assert printed.out == ""
    assert files(path.parent) == before


def test_the_process_of_the_command_line_exits_with_1(tmp_path: Path):
    (tmp_path / "m.onnx").write_bytes(b"no model")
    script = "import runpy; runpy.run_module('tools.torsh', run_name='__main__')"
    done = in_process(script, "run", tmp_path / "m.onnx")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"torsh: error: .*m\.onnx.*\n", done.stderr)
    assert str(ROOT) not in done.stderr


# -- calls


@pytest.fixture(scope="module")
def bounded():
    return compile_model(mlp(), dynamic_shapes={"n": (1, 4)})


@pytest.fixture(scope="module")
def paired():
    node = make("Add", ["a", "b"], ["y"])
    return compile_model(model_of([node], {"a": ["n", 2], "b": ["n", 2]}))


BAD_CALLS = {
    "dtype": ([normal(2, 8).astype("f8")], ["'x'", "float64", "float32"]),
    "integer": ([np.ones((2, 8), "i4")], ["'x'", "int32", "float32"]),
    "rank": ([normal(8)], ["'x'", "rank 1", "2"]),
    "scalar": ([np.array(1, "f4")], ["'x'", "rank 0"]),
    "extent": ([normal(2, 7)], ["'x'", "extent 7", "axis 1", "not 8"]),
    "above": ([normal(5, 8)], ["n is 5", "'x'", "1..4"]),
    "below": ([normal(0, 8)], ["n is 0", "'x'", "1..4"]),
    "no array": ([[[1.0] * 8]], ["'x'", "list"]),
    "too many": ([normal(2, 8)] * 2, ["2 inputs", "1 are needed", "x"]),
    "none": ([], ["0 inputs", "x"]),
    "name": ({"z": normal(2, 8)}, ["'z'", "'x' is missing"]),
}


@pytest.mark.parametrize("case", list(BAD_CALLS))
def test_bad_inputs_are_named_with_value_and_limit(bounded, case: str):
    inputs, words = BAD_CALLS[case]
    with pytest.raises(InputError) as caught:
        bounded.run(inputs)
    for word in words:
        assert word in str(caught.value)
    x = normal(2, 8)
    assert bounded.run([x])[0].shape == (2, 8)


def test_unequal_extents_of_one_symbol(paired):
    with pytest.raises(InputError, match=r"'b' has extent 4 at axis 0, not n = 3.*of 'a'"):
        paired.run([np.ones((3, 2), "f4"), np.ones((4, 2), "f4")])


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([np.zeros((2, 7), "f4")], "'y' is float32[2, 7]; it must be float32[2, 8]"),
        ([np.zeros((2, 8), "f8")], "'y' is float64[2, 8]; it must be float32[2, 8]"),
        ([np.zeros((8, 2), "f4").T], "'y' must be C-contiguous"),
        ([], "0 outputs were given; 1 are needed"),
    ],
)
def test_bad_outputs_are_named(bounded, outputs: list[np.ndarray], words: str):
    with pytest.raises(InvalidArgumentError, match=re.escape(words)):
        bounded.run_into([normal(2, 8)], outputs)


def test_an_output_that_overlaps_an_input(bounded):
    x = normal(2, 8)
    with pytest.raises(InvalidArgumentError, match="'y' overlaps"):
        bounded.run_into([x], [x])


# -- sizes


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def product(*last: onnx.NodeProto) -> onnx.ModelProto:
    """a[n,1,1] * b[m,1] * c[k], and what follows."""
    nodes = [make("Mul", ["a", "b"], ["ab"]), make("Mul", ["ab", "c"], ["z"]), *last]
    return model_of(nodes, {"a": ["n", 1, 1], "b": ["m", 1], "c": ["k"]})


def made_by(op: str, *last: onnx.NodeProto) -> onnx.ModelProto:
    """An op whose input `s` gives extents at run time, and what follows."""
    given = {"Expand": {"x": [1]}, "Reshape": {"x": ["n"]}, "Tile": {"x": ["n", 1, 1]}}
    inputs = given.get(op, {})
    node = make(op, [*inputs, "s"], ["z" if last else "y"])
    return model_of([node, *last], {**inputs, "s": [3]}, dtypes={"s": I64})


TOTAL = (make("Softmax", ["z"], ["p"], axis=1), make("ReduceSum", ["p"], ["y"], keepdims=0))
ONE = np.ones(1, np.float32)
ROW = np.ones(PART, np.float32)
THREE = (ROW.reshape(-1, 1, 1), ROW.reshape(-1, 1), ROW)
HUGE: dict[str, tuple[onnx.ModelProto, tuple[np.ndarray, ...]]] = {
    "arena of the product of three extents": (product(*TOTAL), THREE),
    "output of the product of three extents": (product(make("Exp", ["z"], ["y"])), THREE),
    "flattened product": (
        product(make("Flatten", ["z"], ["f"], axis=0), make("Identity", ["f"], ["y"])),
        THREE,
    ),
    "constant output": (made_by("ConstantOfShape"), (ints(PART, PART, PART),)),
    "constant inside": (made_by("ConstantOfShape", *TOTAL), (ints(PART, PART, PART),)),
    "constant extent": (made_by("ConstantOfShape"), (ints(BIG, 1, 1),)),
    "negative extent": (made_by("ConstantOfShape"), (ints(4, -3, 1),)),
    "expand": (made_by("Expand"), (ONE, ints(PART, PART, PART))),
    "expand inside": (made_by("Expand", *TOTAL), (ONE, ints(PART, PART, PART))),
    "expand extent": (made_by("Expand"), (ONE, ints(1, 1 << 62, 4))),
    "reshape": (made_by("Reshape"), (np.ones(4, "f4"), ints((1 << 62) + 1, 4, 1))),
    "reshape of nothing": (made_by("Reshape"), (np.ones(0, "f4"), ints(PART, PART, PART))),
    "tile": (made_by("Tile", *TOTAL), (np.ones((1, 1, 1), "f4"), ints(PART, PART, PART))),
}  # fmt: skip


@pytest.mark.parametrize("case", list(HUGE))
def test_sizes_that_overflow_are_errors_of_the_call(case: str):
    model, inputs = HUGE[case]
    compiled = compile_model(model)
    with pytest.raises((ExecutionError, InputError), match=r"\d"):
        compiled.run(list(inputs))


STATIC = {
    "reshape": (make("Reshape", ["x", "s"], ["y"]), [1 << 33, (1 << 31) + 1]),
    "expand": (make("Expand", ["x", "s"], ["y"]), [BIG, BIG, 4]),
    "constant": (make("ConstantOfShape", ["s"], ["y"]), [BIG, BIG]),
    "constant beyond 64 bits": (make("ConstantOfShape", ["s"], ["y"]), [1 << 62, 1 << 62]),
    "tile": (make("Tile", ["x", "s"], ["y"]), [1 << 62]),
    "pad": (make("Pad", ["x", "s"], ["y"]), [1 << 62, 1 << 62]),
}


@pytest.mark.parametrize("case", list(STATIC))
def test_static_sizes_that_overflow_are_errors(case: str):
    node, extents = STATIC[case]
    model = model_of([node], {"x": [4]}, weights={"s": ints(*extents)})
    with pytest.raises((UnsupportedError, ExecutionError, TorshError), match=r"\d{6}"):
        compile_model(model).run([np.ones(4, "f4")])


def test_indices_outside_of_an_axis():
    node = make("Gather", ["w", "x"], ["y"])
    compiled = compile_model(
        model_of([node], {"x": ["n"]}, dtypes={"x": I64}, weights={"w": normal(4, 3)})
    )
    for index in (4, -5, 1 << 62, -(1 << 63)):
        with pytest.raises(ExecutionError, match=r"an index is .*extent 4"):
            compiled.run([ints(0, index)])
    np.testing.assert_array_equal(compiled.run([ints(3, -4)])[0], normal(4, 3)[[3, 0]])


def test_a_slice_step_of_zero_at_run_time():
    node = make("Slice", ["x", "a", "b", "axes", "s"], ["y"])
    inputs = {"x": ["n"], "a": [1], "b": [1], "s": [1]}
    kinds = dict.fromkeys("abs", I64)
    compiled = compile_model(model_of([node], inputs, dtypes=kinds, weights={"axes": ints(0)}))
    x = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(compiled.run([x, ints(4), ints(-9), ints(-2)])[0], x[::-2])
    with pytest.raises(ExecutionError, match="step"):
        compiled.run([x, ints(0), ints(5), ints(0)])


# -- memory

SHORT_OF_MEMORY = """
import resource, sys
import numpy as np
from robust_models import outer
from torsh_dialect.errors import ExecutionError
from torsh_fx.compiler import compile
f = compile(outer())
small = np.ones((64, 1), "f4")
right = f.run([small])[0]
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + (1 << 29), -1))
large = np.ones((20_000, 1), "f4")
for _ in range(3):
    try:
        f.run([large])
    except ExecutionError as error:
        print(error)
assert (f.run([small])[0] == right).all()
"""


def test_an_arena_that_memory_is_too_short_for_is_an_error():
    done = in_process(SHORT_OF_MEMORY)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert re.match(r"out of memory: \d{10} bytes", line)


def test_an_output_that_memory_is_too_short_for_is_an_error():
    script = SHORT_OF_MEMORY.replace("outer()", "outer(whole=True)")
    done = in_process(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("out of memory") == 3
    assert "20000, 20000" in done.stdout


def test_models_stay_usable_after_errors():
    compiled = compile_model(attention())
    x = normal(2, 6, 8)
    before = compiled.run([x])[0]
    for bad in ([x.astype("f8")], [x[0]], [np.ones((2, 6, 9), "f4")]):
        with pytest.raises(InputError):
            compiled.run(bad)
    np.testing.assert_array_equal(compiled.run([x])[0], before)
