"""Singular values and eigenvalues, compiled: by their definitions, and against numpy in f64."""

from __future__ import annotations

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp, ReturnOp
from xdsl.ir import Block, Region

from torsh_dialect.attributes import names_attribute
from torsh_dialect.context import Context
from torsh_dialect.dtypes import dtype_of_numpy
from torsh_dialect.ops.linalg import EighOp, SvdOp
from torsh_dialect.types import tensor
from torsh_dialect.weights import WeightStore
from torsh_fx.compilation import compile_imported
from torsh_fx.importers.model import ImportedModel, Report


def run(cls, x, **properties):
    block = Block(arg_types=[tensor(dtype_of_numpy(x.dtype).element, x.shape)])
    op = cls.make(*block.args, **properties)
    block.add_ops([op, ReturnOp(*op.results)])
    types = [a.type for a in block.args], [r.type for r in op.results]
    function = FuncOp("main", types, Region(block))
    names = (("x",), tuple(f"r{n}" for n in range(len(op.results))))
    function.attributes["arg_names"] = names_attribute(names[0])
    function.attributes["result_names"] = names_attribute(names[1])
    model = ImportedModel(ModuleOp([function]), WeightStore(), *names, {}, Report())
    return compile_imported(model, Context()).run([x])


def matrices(dims, dtype, rank=None, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(dims)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(dims)
    if rank is not None:
        x = x[..., :rank] @ rng.standard_normal((rank, dims[-1]))
    return x.astype(dtype)


def tolerance(dtype):
    return 200 * np.finfo(dtype).eps


DTYPES = [np.float32, np.complex128]
SHAPES = [(1, 1), (5, 5), (7, 3), (3, 7), (2, 3, 4, 6)]


def transposed(x):
    return np.swapaxes(x, -1, -2).conj()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dims", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_svd(dims, dtype, full):
    x = matrices(dims, dtype)
    u, s, vh = run(SvdOp, x, full=full)
    check_svd(x, u, s, vh, full)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_svd_of_singular_matrices(rank, full):
    x = matrices((6, 4), np.float64, rank)
    check_svd(x, *run(SvdOp, x, full=full), full)


def check_svd(x, u, s, vh, full):
    rtol, count = tolerance(x.dtype), min(x.shape[-2:])
    scale = np.linalg.norm(x) + 1e-300
    np.testing.assert_allclose(s, np.linalg.svd(x.astype(wide(x)))[1], atol=rtol * scale)
    assert u.shape[-1] == (x.shape[-2] if full else count)
    assert vh.shape[-2] == (x.shape[-1] if full else count)
    again = (u[..., :count] * s[..., None, :]) @ vh[..., :count, :]
    np.testing.assert_allclose(again, x, atol=rtol * scale)
    for basis in (transposed(u) @ u, vh @ transposed(vh)):
        np.testing.assert_allclose(basis, np.broadcast_to(np.eye(basis.shape[-1]), basis.shape),
                                   atol=rtol)  # fmt: skip


def wide(x):
    return np.complex128 if x.dtype.kind == "c" else np.float64


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("dims", [(1, 1), (4, 4), (2, 3, 5, 5), (25, 25)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_eigh(dims, dtype, upper):
    x = matrices(dims, dtype)
    triangle = np.triu(x) if upper else np.tril(x)
    whole = triangle + transposed(np.triu(x, 1) if upper else np.tril(x, -1))
    diagonal = np.eye(dims[-1], dtype=bool)
    whole = np.where(diagonal, whole.real, whole)
    values, vectors = run(EighOp, x, upper=upper)
    scale, rtol = np.linalg.norm(whole), tolerance(dtype)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(whole.astype(wide(x))),
                               atol=rtol * scale)  # fmt: skip
    again = (vectors * values[..., None, :]) @ transposed(vectors)
    np.testing.assert_allclose(again, whole, atol=rtol * scale)


def test_not_a_number_ends():
    x = np.full((3, 3), np.nan)
    values, _ = run(EighOp, x)
    assert np.isnan(values).all()
