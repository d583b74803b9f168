"""Operands that break a constraint are refused, with the constraint's number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from xdsl.ir import Block

from torsh_dialect.attributes import dims_attribute
from torsh_dialect.builder import BlockBuilder
from torsh_dialect.dtypes import dtype_of_numpy, i1, ui8
from torsh_dialect.errors import ShapeError
from torsh_dialect.ops import (
    attention,
    bits,
    contract,
    conv,
    norm,
    pool,
    quant,
    random,
    rejection,
    resize,
    sampling,
    signal,
    softmax,
)
from torsh_dialect.ops.control import CondOp
from torsh_dialect.types import tensor

F32, F64, I64, U8 = np.float32, np.float64, np.int64, np.uint8
EPS = {"epsilon": 1e-5}


def x(*shape: int, dtype: Any = F32) -> Any:
    return np.zeros(shape, dtype)


STATE, WORDS = x(2, dtype=np.uint64), x(628, dtype=np.uint32)


def drawn(*dims: int, **more: Any) -> dict[str, Any]:
    return {"target": dims_attribute(dims), **more}


CASES: list[tuple[Any, tuple[Any, ...], dict[str, Any], str]] = [
    (contract.MatMulOp, (x(), x(2, 3)), {}, "C1"),
    (contract.MatMulOp, (x(2, 3), x(4, 5)), {}, "C2"),
    (contract.MatMulOp, (x(2, 3), x(3, 5, dtype=F64)), {}, "element types"),
    (contract.MatMulOp, (x(2, 2, 3), x(3, 3, 5)), {}, "axis"),
    (contract.LinearOp, (x(2, 3), x(4, 4)), {}, "C2"),
    (contract.LinearOp, (x(2, 3), x(4, 3), x(3)), {}, "C3"),
    (conv.ConvOp, (x(1, 3, 8), x(4, 3, 3, 3)), {}, "C1"),
    (conv.ConvOp, (x(1, 3, 8, 8), x(4, 2, 3, 3)), {}, "C2"),
    (conv.ConvOp, (x(1, 4, 8), x(3, 2, 3)), {"groups": 2}, "C2"),
    (conv.ConvOp, (x(1, 3, 2, 8), x(4, 3, 3, 3)), {}, "does not fit"),
    (conv.ConvOp, (x(1, 3, 8), x(4, 3, 3)), {"strides": [0]}, "positive"),
    (conv.ConvOp, (x(1, 3, 8), x(4, 3, 3)), {"pads": [1]}, "entries"),
    (conv.ConvOp, (x(1, 3, 8), x(4, 3, 3, dtype=F64)), {}, "C4"),
    (conv.ConvOp, (x(1, 3, 8), x(4, 3, 3)), {"data_layout": "CHWN"}, "NCHW or NHWC"),
    (conv.ConvTransposeOp, (x(1, 3, 8), x(4, 3, 3)), {}, "C2"),
    (random.PhiloxOp, (x(2, dtype=I64),), drawn(3, skip=dims_attribute([0]), word=0), "C1"),
    (random.PhiloxOp, (STATE,), drawn(3, skip=dims_attribute([0]), word=4), "C2"),
    (random.Mt19937Op, (STATE, x(dtype=I64)), drawn(3), "C1"),
    (random.Mt19937Op, (WORDS, x(1, dtype=I64)), drawn(3), "C2"),
    (random.Mt19937Op, (WORDS, x(dtype=I64)), drawn(3, 2), "C3"),
    (random.WithinOp, (x(3, dtype=np.bool_),), {"low": 0.0, "high": 1.0}, "C1"),
    (random.ShuffleOp, (x(3),), {}, "C1"),
    (rejection.PoissonOp, (x(3, dtype=np.uint64), x(3, dtype=F64)), {}, "C1"),
    (rejection.PoissonOp, (STATE, x(3)), {}, "f64 of equal extents .C2"),
    (rejection.BinomialOp, (STATE, x(3), x(3, dtype=F64)), {}, "C2"),
    (rejection.BinomialOp, (WORDS, x(3), x(4)), {}, "C2"),
    (rejection.StandardGammaOp, (STATE, x(3, dtype=np.float16)), {}, "f32 or f64 .* .C2"),
    (pool.MaxPoolOp, (x(1, 3),), {"kernel": []}, "C1"),
    (pool.MaxPoolOp, (x(1, 3, 8),), {"kernel": [2, 2]}, "spatial axes"),
    (pool.AdaptiveAvgPoolOp, (x(1, 3, 8),), {"output": [2, 2]}, "C1"),
    (softmax.SoftmaxOp, (x(),), {"axis": 0}, "C1"),
    (softmax.SoftmaxOp, (x(2, dtype=I64),), {"axis": 0}, "C2"),
    (norm.BatchNormOp, (x(1, 3, 4), x(2), x(3), x(3), x(3)), EPS, "C2"),
    (norm.GroupNormOp, (x(1, 3, 4), None, None), {"groups": 2, **EPS}, "C2"),
    (norm.LpNormalizeOp, (x(2, 3),), {"axis": 0, "p": 3, **EPS}, "C3"),
    (attention.AttentionOp, (x(1, 2, 3), x(1, 2, 3, 4), x(1, 2, 3, 4)), {}, "C1"),
    (attention.AttentionOp, (x(1, 3, 3, 4), x(1, 2, 3, 4), x(1, 2, 3, 4)), {}, "C2"),
    (attention.AttentionOp, (x(1, 2, 3, 4), x(1, 2, 5, 4), x(1, 2, 5, 4), x(4)), {},
     "broadcast|C3"),
    (quant.QuantizeLinearOp, (x(2, 3), x(4)), {"to": ui8, "axis": 1}, "C2"),
    (quant.DequantizeLinearOp, (x(2, 3, dtype=U8), x(), x(dtype=I64)), {}, "C3"),
    (quant.MatMulIntegerOp, (x(2, 3), x(3, 4), None, None), {}, "C1"),
    (resize.ResizeOp, (x(1, 1, 4, 4), None, None),
     {"mode": "linear", "coordinates": "half_pixel", "output": dims_attribute([4])}, "C1"),
    (resize.ResizeOp, (x(1, 4), None, None),
     {"mode": "area", "coordinates": "half_pixel", "output": dims_attribute([1, 4])}, "C3"),
    (sampling.GridSampleOp, (x(1, 1, 4, 4), x(1, 2, 2, 3)),
     {"mode": "linear", "padding": "zeros"}, "C1"),
    (signal.DftOp, (x(2, 4, 3),), {"axis": 1, "length": dims_attribute([4])}, "C1"),
    (bits.BitcastOp, (x(3),), {"to": ui8}, "C1"),
]  # fmt: skip


@pytest.mark.parametrize(("op", "operands", "properties", "says"), CASES)
def test_constraint_is_named(op: Any, operands: Any, properties: Any, says: str):
    given = [a for a in operands if a is not None]
    block = Block(arg_types=[tensor(dtype_of_numpy(a.dtype).element, a.shape) for a in given])
    values = iter(block.args)
    with pytest.raises(ShapeError, match=says):
        BlockBuilder(block).all(op, *(None if a is None else next(values) for a in operands),
                                **properties)  # fmt: skip


def test_branches_must_agree():
    from torsh_dialect.builder import build_region

    block = Block(arg_types=[tensor(i1, ()), tensor(dtype_of_numpy(np.dtype(F32)).element, (2, 2))])
    condition, value = block.args
    one = build_region([], lambda b, _: [value])
    two = build_region([], lambda b, _: [value, value])
    with pytest.raises(ShapeError, match="C3"):
        BlockBuilder(block).all(CondOp, condition, regions=[one, two])
