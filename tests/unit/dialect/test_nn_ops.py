"""Every neural-network op: text round trip, inferred types, expansion against the reference."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from docstring_examples import example_module
from samples_nn import SAMPLES, Sample
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation
from xdsl.parser import Parser
from xdsl.printer import Printer

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.context import Context
from torsh_dialect.declare import OPS
from torsh_dialect.dims import symbol
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.evaluate import evaluate
from torsh_dialect.kinds import Composite
from torsh_dialect.types import dims_of, element_type, tensor

KNOWN_LAST_EXTENT = {"torsh.dft"}
"""Ops that need to know the last extent: whether numbers are real or complex."""


def module_of(sample: Sample, *, dynamic: bool = False, expand: bool = False) -> ModuleOp:
    given = [a for a in sample.operands if a is not None]
    types = []
    for array in given:
        dims = [symbol(f"n{d}") if dynamic and d > 1 else d for d in array.shape]
        if sample.op.name in KNOWN_LAST_EXTENT:
            dims[-1] = array.shape[-1]
        types.append(tensor(dtype_of_numpy(array.dtype).element, dims))
    function = FuncOp("main", (types, []))
    block = function.body.block
    values = iter(block.args)
    operands = [None if a is None else next(values) for a in sample.operands]
    if sample.op.name == "torsh.einsum":
        operands = [operands]
    builder = BlockBuilder(block)
    results = builder.all(sample.op, *operands, **sample.properties)
    if expand:
        op = results[0].op
        assert isinstance(op, Composite)
        results = op.expand(BlockBuilder(block))
    block.add_op(ReturnOp(*results))
    function.function_type = type(function.function_type).from_lists(
        types, [r.type for r in results]
    )
    module = ModuleOp([function])
    module.verify()
    return module


def arrays(sample: Sample) -> list[np.ndarray]:
    return [a for a in sample.operands if a is not None]


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    left, right = a.astype(np.float64), b.astype(np.float64)
    scale = max(1.0, float(np.abs(left[np.isfinite(left)]).max(initial=0)))
    half = a.dtype.itemsize == 2 and a.dtype.kind != "i"
    np.testing.assert_allclose(left, right, rtol=0, atol=(1e-3 if half else tolerance) * scale)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_text_round_trip(sample: Sample):
    module = module_of(sample)
    text = str(module)
    again = Parser(Context(), text).parse_module()
    stream = StringIO()
    Printer(stream).print_op(again)
    assert stream.getvalue() == text


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_inferred_types_are_those_of_the_values(sample: Sample):
    module = module_of(sample)
    results = evaluate(module, arrays(sample))
    types = module.body.block.first_op.function_type.outputs.data
    for array, type in zip(results, types, strict=True):
        assert array.shape == dims_of(type)
        assert dtype_of_numpy(array.dtype).element == element_type(type)


@pytest.mark.parametrize("sample", [s for s in SAMPLES], ids=str)
def test_symbolic_extents_agree_with_static_ones(sample: Sample):
    static = evaluate(module_of(sample), arrays(sample))
    dynamic = evaluate(module_of(sample, dynamic=True), arrays(sample))
    for a, b in zip(static, dynamic, strict=True):
        np.testing.assert_array_equal(a, b)


COMPOSITES = [s for s in SAMPLES if issubclass(s.op, Composite)]


@pytest.mark.parametrize("sample", COMPOSITES, ids=str)
def test_expansion_equals_reference(sample: Sample):
    expected = evaluate(module_of(sample), arrays(sample))
    actual = evaluate(module_of(sample, expand=True), arrays(sample))
    for a, b in zip(expected, actual, strict=True):
        close(a, b, sample.tolerance)


FILES = {
    "attention", "bits", "box_muller", "contract", "conv", "determinant", "norm", "pool", "quant",
    "random", "recurrent", "rejection", "resize", "roi", "sampling", "signal", "softmax",
    "strided_attention",
}  # fmt: skip
ELSEWHERE = {"control", "sequence", "spelling", "string", "detection"}
"""Files whose ops the ONNX cases and `test_nn_control` evaluate: lists, strings, regions."""


def ops_of(files: set[str]) -> list[type[Operation]]:
    return [op for op in OPS if op.__module__.rpartition(".")[2] in files]


def test_every_op_has_a_sample():
    assert {op.name for op in ops_of(FILES)} == {sample.op.name for sample in SAMPLES}


@pytest.mark.parametrize("op", ops_of(FILES | ELSEWHERE), ids=str)
def test_docstring_states_an_example_that_verifies(op: type[Operation]):
    if op.__module__.endswith("control"):
        pytest.skip("regions: `test_nn_control` parses them")
    example_module(op).verify()
