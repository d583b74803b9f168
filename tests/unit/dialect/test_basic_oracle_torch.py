"""The references of basic ops against torch, for every op that names a torch spelling."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from op_sweep import close, leaves, module_of
from samples_basic import SAMPLES

from torsh_dialect.evaluate import evaluate
from torsh_fx.importers.torch_types import to_numpy, to_torch

FINITE = ("torsh.y0", "torsh.y1")
"""Torch gives NaN at infinity; the limit, which ours gives, is 0."""


def overload(op):
    """The torch op of a spelling that takes tensors only."""
    for name in op.SPELLED.torch:
        library, function, form = name.split(".")
        if form in ("default", "Tensor", "self", "Tensor_Tensor"):
            return getattr(getattr(getattr(torch.ops, library), function), form)
    return None


def cases():
    rows = {}
    for sample in SAMPLES:
        if overload(sample.op) is not None and not sample.properties:
            rows.setdefault(sample.op, []).append(sample)
    return [pytest.param(op, samples, id=op.name) for op, samples in rows.items()]


def expected(function, arrays):
    """What torch gives; None where it has no such kernel or refuses the values."""
    try:
        return function(*(to_torch(np.array(a)) for a in arrays))
    except (NotImplementedError, RuntimeError, ZeroDivisionError):
        return None


@pytest.mark.parametrize(("op", "samples"), cases())
def test_reference_equals_torch(op, samples):
    function, compared = overload(op), 0
    for sample in samples:
        arrays = leaves(sample)
        if op.name in FINITE:
            arrays = [a[np.isfinite(a)] for a in arrays]
            sample = replace(sample, operands=tuple(arrays))
        result = expected(function, arrays)
        if result is None:
            continue
        module, _ = module_of(sample)
        (value,) = evaluate(module, arrays)
        if result.dtype != to_torch(value).dtype:
            assert result.is_floating_point()
            continue
        compared += 1
        close(value, to_numpy(result), rtol={2: 1e-2}.get(value.dtype.itemsize, 2e-5))
    assert compared, f"torch computes none of the samples of {op.name}"
