"""Floats become integers toward zero, saturate, and NaN becomes 0, in vectors and in tails."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import FunctionType, ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp

from lowering.cpu.host import host_target
from torsh_dialect.context import Context
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.ops.select import CastOp
from torsh_dialect.types import tensor
from torsh_dialect.weights import WeightStore
from torsh_fx.compilation import compile_imported
from torsh_fx.importers.model import ImportedModel, Report, set_names


def compiled_cast(source, target, count):
    types = [tensor(dtype_of_numpy(np.dtype(source)).element, [count])]
    function = FuncOp("main", (types, []))
    op = CastOp.make(function.body.block.args[0], to=dtype_of_numpy(np.dtype(target)).element)
    function.body.block.add_ops([op, ReturnOp(op.y)])
    function.function_type = FunctionType.from_lists(types, [op.y.type])
    set_names(function, ["x"], ["y"])
    model = ImportedModel(ModuleOp([function]), WeightStore(), ("x",), ("y",), {}, Report())
    return compile_imported(model, Context(target=host_target()))


@pytest.mark.parametrize("source", [np.float32, np.float64])
@pytest.mark.parametrize("target", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32])
def test_float_to_integer(source, target):
    limits = np.iinfo(target)
    near = [limits.min, limits.max, limits.max + 1, limits.min - 1, 0, 1, -1]
    values = [v + d for v in near for d in (-1.5, -0.5, -0.25, 0, 0.25, 0.5, 1.5)]
    values += [np.nan, np.inf, -np.inf, 1e30, -1e30, -0.0, 1e-40]
    x = np.resize(np.asarray(values, source), 131)
    ends = [np.nextafter(source(limits.max), source(0)), source(limits.max), source(limits.min)]
    x[-3:] = ends
    (actual,) = compiled_cast(source, target, x.size).run([x])
    whole = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0, posinf=1e30, neginf=-1e30))
    expected = [int(min(max(v, limits.min), limits.max)) for v in whole]
    np.testing.assert_array_equal(actual.astype(np.int64), expected)
