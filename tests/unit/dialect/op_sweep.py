"""Building a module of one op from a sample, and comparing arrays."""

from __future__ import annotations

import numpy as np
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Operation

from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dims import symbol
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.kinds import Composite
from torsh_dialect.types import tensor

STATIC = {"torsh.gather_nd": 1, "torsh.scatter_nd": 1, "torsh.bind": 0, "torsh.dft": 0}
"""Operands of which an op needs to know the (last) extent: index tuples, named values, parts."""


def leaves(sample):
    """The arrays of a sample, in the order of the op's operands."""
    found = []
    for operand in sample.operands:
        items = operand if isinstance(operand, list) else [operand]
        found += [item for item in items if item is not None]
    return found


def module_of(sample, *, dynamic=False, expand=False) -> tuple[ModuleOp, Operation]:
    """A module whose `@main` is one op (or its expansion) of the sample's operands."""
    types = []
    for number, array in enumerate(leaves(sample)):
        free = dynamic and STATIC.get(sample.op.name) != number
        dims = [symbol(f"n{d}") if free and d > 1 else d for d in array.shape]
        types.append(tensor(dtype_of_numpy(array.dtype).element, dims))
    function = FuncOp("main", (types, []))
    block = function.body.block
    values = iter(block.args)
    operands = [
        [next(values) for _ in operand]
        if isinstance(operand, list)
        else None
        if operand is None
        else next(values)
        for operand in sample.operands
    ]
    op = sample.op.make(*operands, **sample.properties)
    results = op.results
    if expand:
        assert isinstance(op, Composite)
        results = op.expand(BlockBuilder(block))
    else:
        block.add_op(op)
    block.add_op(ReturnOp(*results))
    function.function_type = FunctionType.from_lists(types, [r.type for r in results])
    module = ModuleOp([function])
    if expand:
        op.drop_all_references()
    return module, op


def close(actual, expected, *, exact=False, rtol=None):
    """Equal shapes and dtypes, and values within a few units of the dtype's precision."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    if expected.dtype.kind in "iub" or exact:
        wide = np.float64 if expected.dtype.kind not in "iubfc" else expected.dtype
        np.testing.assert_array_equal(actual.astype(wide), expected.astype(wide))
        return
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    bits = {2: 2e-3, 8: 1e-12, 16: 1e-12}.get(expected.dtype.itemsize, 2e-6)
    bits = 2e-6 if expected.dtype == np.complex64 else bits
    bits = 2e-2 if expected.dtype.name in ("bfloat16",) else bits
    rtol = bits if rtol is None else rtol
    np.testing.assert_allclose(
        actual.astype(kind), expected.astype(kind), rtol=rtol, atol=rtol, equal_nan=True
    )
