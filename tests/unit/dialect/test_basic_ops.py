"""Every basic op: text, types, symbolic extents, and its kind's data against its reference."""

from __future__ import annotations

import numpy as np
import pytest
from docstring_examples import example_module
from numpy_scalar import NumpyScalar, folded, picked, scanned, scattered
from op_sweep import close, leaves, module_of
from samples_basic import SAMPLES
from samples_nn import SAMPLES as NN_SAMPLES
from xdsl.parser import Parser

from torsh_dialect.attributes import bool_of, int_of
from torsh_dialect.context import Context
from torsh_dialect.declare import OPS
from torsh_dialect.dtypes import dtype_of, dtype_of_numpy
from torsh_dialect.evaluate import evaluate
from torsh_dialect.kinds import Composite, Elementwise, Gather, Movement, Reduce, Scan, Scatter
from torsh_dialect.ops.half import widened
from torsh_dialect.types import dims_of, element_type

MINE = [
    "activation",
    "bessel",
    "blocks",
    "compare",
    "complex",
    "datadependent",
    "diagonal",
    "elementwise",
    "gather",
    "join",
    "ldl",
    "linalg",
    "logic",
    "maths",
    "movement",
    "reduce",
    "rounding",
    "scan",
    "scatter",
    "select",
    "shape",
    "sort",
    "special",
    "statistics",
    "storage",
]


def of_kind(*kinds):
    return [s for s in SAMPLES if issubclass(s.op, kinds)]


def value(sample):
    """The reference results of a sample."""
    module, op = module_of(sample)
    module.verify()
    return evaluate(module, leaves(sample)), op


def is_complex(sample):
    return any(a.dtype.kind == "c" for a in leaves(sample))


def by_op(samples):
    """One test for each op: `(op name, its samples)`."""
    names = {}
    for sample in samples:
        names.setdefault(sample.op.name, []).append(sample)
    return [pytest.param(rows, id=name) for name, rows in names.items()]


def test_every_basic_op_has_samples():
    mine = {op.name for op in OPS if op.__module__.rpartition(".")[2] in MINE}
    assert mine == {s.op.name for s in SAMPLES} - {"torsh.constant"}
    assert not mine & {s.op.name for s in NN_SAMPLES}


@pytest.mark.parametrize("rows", by_op(SAMPLES))
def test_text_round_trip(rows):
    for sample in rows[:: max(1, len(rows) // 3)]:
        module, _ = module_of(sample)
        text = str(module)
        again = Parser(Context(), text).parse_module()
        again.verify()
        assert str(again) == text


@pytest.mark.parametrize("op", [o for o in OPS if o.__module__.rpartition(".")[2] in MINE], ids=str)
def test_example_of_the_docstring_parses(op):
    example_module(op).verify()


@pytest.mark.parametrize("rows", by_op(SAMPLES))
def test_inferred_types_are_those_of_the_values(rows):
    for sample in rows:
        results, op = value(sample)
        symbols = {"count": len(results[0])} if results[0].ndim else {}
        for array, result in zip(results, op.results, strict=True):
            assert isinstance(array, np.ndarray)
            dims = [d if isinstance(d, int) else symbols.get(str(d), -1) for d in dims_of(result)]
            if sample.op.name == "torsh.unique" and "axis" in sample.properties:
                dims = [
                    a if d == symbols["count"] else d
                    for a, d in zip(array.shape, dims, strict=True)
                ]
            assert list(array.shape) == dims, sample
            assert dtype_of_numpy(array.dtype).element == element_type(result), sample


@pytest.mark.parametrize("rows", by_op(SAMPLES))
def test_symbolic_extents_agree_with_static_ones(rows):
    for sample in rows[:: max(1, len(rows) // 4)]:
        expected, _ = value(sample)
        module, _ = module_of(sample, dynamic=True)
        for a, b in zip(evaluate(module, leaves(sample)), expected, strict=True):
            close(a, b, exact=True)


@pytest.mark.parametrize("rows", by_op(of_kind(Elementwise)))
def test_body_agrees_with_reference(rows):
    for sample in rows:
        (expected,), op = value(sample)
        if is_complex(sample) or expected.dtype.kind == "c":
            continue
        with np.errstate(all="ignore"):
            actual = op.body(NumpyScalar(), *(np.asarray(widened(a)) for a in leaves(sample)))
            actual = np.broadcast_to(actual, expected.shape)
            wanted = dtype_of(element_type(op.results[0])).numpy
            assert widened(np.zeros(0, wanted)).dtype == widened(actual).dtype, sample
            close(actual.astype(wanted), expected)


@pytest.mark.parametrize("rows", by_op(of_kind(Movement, Gather)))
def test_index_map_agrees_with_reference(rows):
    for sample in rows:
        (expected,), op = value(sample)
        assert isinstance(op, Movement | Gather)
        close(picked(op, leaves(sample), expected.shape, expected.dtype, {}), expected, exact=True)
        _module, dynamic = module_of(sample, dynamic=True)
        symbols = {f"n{d}": d for a in leaves(sample) for d in a.shape}
        close(
            picked(dynamic, leaves(sample), expected.shape, expected.dtype, symbols),
            expected,
            exact=True,
        )


@pytest.mark.parametrize("rows", by_op(of_kind(Movement)))
def test_a_view_keeps_the_order_of_elements(rows):
    for sample in rows:
        (expected,), op = value(sample)
        if op.is_view() and expected.size == leaves(sample)[0].size:
            np.testing.assert_array_equal(expected.reshape(-1), leaves(sample)[0].reshape(-1))


@pytest.mark.parametrize("rows", by_op(of_kind(Scatter)))
def test_places_agree_with_reference(rows):
    for sample in rows:
        (expected,), op = value(sample)
        close(scattered(op, leaves(sample), {}), expected)


@pytest.mark.parametrize("rows", by_op(of_kind(Reduce)))
def test_accumulator_agrees_with_reference(rows):
    for sample in rows:
        (expected,), op = value(sample)
        x = widened(leaves(sample)[0])
        with np.errstate(all="ignore"):
            actual = folded(op, x).reshape(expected.shape)
        if x.size and actual.size:
            close(
                actual.astype(expected.dtype),
                expected,
                rtol=2e-3 if x is not leaves(sample)[0] else 1e-5,
            )


@pytest.mark.parametrize("rows", by_op(of_kind(Scan)))
def test_running_fold_agrees_with_reference(rows):
    for sample in rows:
        (expected,), op = value(sample)
        x = leaves(sample)[0]
        with np.errstate(all="ignore"):
            actual = scanned(
                op, x, int_of(op.axis), bool_of(op.reverse), bool_of(op.exclusive), expected.dtype
            )
        close(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("rows", by_op(of_kind(Composite)))
def test_expansion_agrees_with_reference(rows):
    for sample in rows:
        expected, _ = value(sample)
        for dynamic in (False, True):
            module, _ = module_of(sample, expand=True, dynamic=dynamic)
            module.verify()
            for a, b in zip(evaluate(module, leaves(sample)), expected, strict=True):
                close(a, b, rtol=2e-3 if b.dtype == np.float16 else 1e-5)


def test_factorisations_multiply_back():
    for sample in SAMPLES:
        name, x = (
            sample.op.name.removeprefix("torsh."),
            leaves(sample)[0] if leaves(sample) else None,
        )
        if name == "svd":
            u, s, vh = value(sample)[0]
            count = s.shape[-1]
            close((u[..., :count] * s[..., None, :]) @ vh[..., :count, :], x, rtol=1e-5)
        elif name == "qr":
            q, r = value(sample)[0]
            close(q @ r, x, rtol=1e-5)
        elif name == "cholesky" and not value(sample)[0][1].any():
            factor = value(sample)[0][0]
            factor = np.swapaxes(factor, -1, -2).conj() if "upper" in sample.properties else factor
            close(factor @ np.swapaxes(factor, -1, -2).conj(), x, rtol=1e-4)
        elif name == "lu":
            _check_lu(x, *value(sample)[0][:2])


def _check_lu(x, lu, pivots):
    for place in np.ndindex(*x.shape[:-2]):
        rows, count = list(range(x.shape[-2])), pivots.shape[-1]
        for i, p in enumerate(pivots[place]):
            rows[i], rows[p - 1] = rows[p - 1], rows[i]
        lower = np.tril(lu[place], -1)[:, :count] + np.eye(x.shape[-2], count, dtype=lu.dtype)
        close(lower @ np.triu(lu[place])[:count], x[place][rows], rtol=1e-5)
