"""Matrix products: values against float64, order of sums bit by bit, independence of M, splits."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lowering.cpu import jit
from lowering.cpu.templates import batched, gemm, pack
from lowering.cpu.templates.epilogue import bias_residual_activation
from lowering.cpu.templates.schedule import register_tile
from lowering.cpu.text import Module
from torsh_dialect.target import TARGETS

RUNNABLE = [TARGETS[n] for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4")]
RUNNABLE = [target for target in RUNNABLE if jit.runs_here(target)]
SIZES = [(1, 5), (7, 300), (16, 256), (17, 257), (100, 64), (33, 1024), (130, 515)]

pytestmark = pytest.mark.skipif(not RUNNABLE, reason="no x86-64 target runs here")


@pytest.fixture(params=RUNNABLE, ids=lambda target: target.name)
def target(request):
    return request.param


def build(params, target, weight, transposed=True):
    """The kernel of `params` and its packed weight; `weight` is [N, K], else [K, N]."""
    module = Module()
    n, k = params.n, params.k
    packing = (pack.pack_nk if transposed else pack.pack_kn)(
        *((n, k) if transposed else (k, n)), params.element
    )
    gemm.emit(module, "gemm", params, target)
    pack.emit(module, "pack", packing, target)
    compiled = jit.compile_module(module, target, ["gemm", "pack"])
    packed = jit.aligned(pack.packed_dims(packing, target), weight.dtype)
    packed[:] = np.nan
    units = pack.parallel_extent(packing, target).value(1)
    compiled.kernel("pack")([weight, packed], 0, units)
    np.testing.assert_array_equal(packed, pack.pack_reference(weight, packing, target))
    return compiled.kernel("gemm"), packed


def multiply(kernel, params, target, a, packed, words=()):
    c = np.full((a.shape[0], params.n), np.nan, a.dtype)
    units = gemm.parallel_extent(params, target).value(a.shape[0])
    kernel([a, packed, c, a.shape[0], *words], 0, units)
    return c


def operands(rng, m, n, k, dtype=np.float32):
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((n, k)).astype(dtype)


@pytest.mark.parametrize(("n", "k"), SIZES)
def test_values_and_rows_do_not_depend_on_m(target, n, k):
    rng = np.random.default_rng(n * k)
    a, weight = operands(rng, 29, n, k)
    kernel, packed = build(gemm.GemmParams(n, k), target, weight)
    whole = multiply(kernel, gemm.GemmParams(n, k), target, a, packed)
    reference = a.astype(np.float64) @ weight.T.astype(np.float64)
    bound = 4e-7 * np.sqrt(k) * 4
    np.testing.assert_allclose(whole, reference, rtol=0, atol=bound * 4)
    for m in (1, 2, 3, 5, 6, 7, 11, 12, 13):
        part = multiply(kernel, gemm.GemmParams(n, k), target, a[:m], packed)
        np.testing.assert_array_equal(part.view(np.int32), whole[:m].view(np.int32))


@pytest.mark.parametrize("m", [1, 2, 7, 13, 29])
def test_static_rows_have_the_bits_of_dynamic_rows(target, m):
    a, weight = operands(np.random.default_rng(m), m, 50, 300)
    results = []
    for rows in (None, m):
        params = gemm.GemmParams(50, 300, m=rows)
        kernel, packed = build(params, target, weight)
        results.append(multiply(kernel, params, target, a, packed).view(np.int32))
    np.testing.assert_array_equal(*results)


def emulate(a, b, chains, fused):
    """The declared order of sums in 80-bit arithmetic, rounded to float32 after each step."""
    k = len(a)
    total = np.float32(0)
    for start in range(0, k, 256):
        sums = [np.float32(0)] * chains
        for step in range(start, min(start + 256, k)):
            chain = (step - start) % chains
            product = np.longdouble(a[step]) * np.longdouble(b[step])
            if not fused:
                product = np.longdouble(np.float32(product))
            sums[chain] = np.float32(product + np.longdouble(sums[chain]))
        while len(sums) > 1:
            sums = [x + y for x, y in zip(sums[::2], sums[1::2], strict=True)]
        total = sums[0] if k <= 256 else np.float32(total + sums[0])
    return total


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="needs 80-bit long double")
@pytest.mark.parametrize(("n", "k"), [(3, 700), (40, 256), (40, 700)])
def test_order_of_sums_is_the_declared_one(target, n, k):
    a, weight = operands(np.random.default_rng(5), 2, n, k)
    params = gemm.GemmParams(n, k)
    kernel, packed = build(params, target, weight)
    got = multiply(kernel, params, target, a, packed)
    chains = 4 if n <= target.lanes(4) else 1
    assert register_tile(n, target).chains == chains
    for row in range(2):
        for column in range(0, n, 7):
            assert got[row, column] == emulate(a[row], weight[column], chains, target.fma)


def test_any_split_of_the_range_has_the_same_bits(target):
    rng = np.random.default_rng(1)
    params = gemm.GemmParams(600, 2100)
    a, weight = operands(rng, 300, 600, 2100)
    kernel, packed = build(params, target, weight)
    whole = multiply(kernel, params, target, a, packed)
    units = gemm.parallel_extent(params, target).value(300)
    assert units > 4
    pieces = np.full_like(whole, np.nan)
    for unit in rng.permutation(units):
        kernel([a, packed, pieces, 300], int(unit), int(unit) + 1)
    np.testing.assert_array_equal(pieces.view(np.int32), whole.view(np.int32))


@pytest.mark.parametrize("n", [5, 16, 37])
def test_epilogue_bias_residual_relu(target, n):
    rng = np.random.default_rng(2)
    epilogue = bias_residual_activation(
        bias=4, residual=5, residual_stride=n + 3, activation="relu"
    )
    params = gemm.GemmParams(n, 20, epilogue=epilogue)
    a, weight = operands(rng, 9, n, 20)
    bias = rng.standard_normal(n).astype(np.float32)
    residual = rng.standard_normal((9, n + 3)).astype(np.float32)
    a[0, 0] = np.nan
    kernel, packed = build(params, target, weight)
    got = multiply(kernel, params, target, a, packed, (bias, residual))
    reference = np.maximum(
        a.astype(np.float64) @ weight.T + bias + residual[:, :n], 0.0
    )  # np.maximum keeps NaN, as torch's relu does
    assert np.isnan(got[0]).all()
    np.testing.assert_allclose(got, reference, atol=1e-5)


def test_strides_double_and_row_major_weights(target):
    rng = np.random.default_rng(3)
    params = gemm.GemmParams(21, 33, a_stride=40, c_stride=25, element="double")
    a = rng.standard_normal((8, 40))
    weight = rng.standard_normal((33, 21))
    kernel, packed = build(params, target, weight, transposed=False)
    c = np.full((8, 25), 7.0)
    kernel([a, packed, c, 8], 0, gemm.parallel_extent(params, target).value(8))
    np.testing.assert_allclose(c[:, :21], a[:, :33] @ weight, atol=1e-12)
    assert (c[:, 21:] == 7.0).all(), "columns past N must not be written"


def run_batched(kernel, params, target, a, b):
    """`a` [O, I, M, K] in memory order [O, M, I, K], as attention has it."""
    outer, inner, m, k = a.shape
    n = b.shape[-2] if params.transposed else b.shape[-1]
    stored = np.ascontiguousarray(a.transpose(0, 2, 1, 3))
    c = np.full((outer, inner, m, n), np.nan, np.float32)
    size = batched.scratch_bytes(params, target, k)
    scratch = jit.aligned((size,), np.uint8)
    words = [
        stored, b, c, m, n, k, inner, inner * k, m * inner * k, k,
        b.shape[-1], inner * n * k, n * k, n, inner * m * n, m * n, scratch, size,
    ]  # fmt: skip
    kernel(words, 0, batched.parallel_extent(params, target, outer * inner, n))
    return c


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("n", "k"), [(None, None), (64, None), (None, 64)])
def test_batched_values_and_independence(target, transposed, n, k):
    rng = np.random.default_rng(4)
    params = batched.BatchedGemmParams(transposed, n, k)
    module = Module()
    batched.emit(module, "matmul", params, target)
    kernel = jit.compile_module(module, target, ["matmul"]).kernel("matmul")
    for outer, inner, m, columns, steps in (
        (1, 1, 1, 1, 1), (2, 3, 7, 33, 64), (1, 2, 1, 100, 300), (2, 1, 13, 64, 17),
        (1, 1, 50, 129, 515), (1, 1, 60, 5, 64),
    ):  # fmt: skip
        columns, steps = n or columns, k or steps
        a = rng.standard_normal((outer, inner, m, steps)).astype(np.float32)
        dims = (columns, steps) if transposed else (steps, columns)
        b = rng.standard_normal((outer, inner, *dims)).astype(np.float32)
        got = run_batched(kernel, params, target, a, b)
        right = b.swapaxes(-1, -2) if transposed else b
        reference = a.astype(np.float64) @ right.astype(np.float64)
        np.testing.assert_allclose(got, reference, rtol=0, atol=1e-5 * np.sqrt(steps))
        one = run_batched(kernel, params, target, a[-1:, -1:, -1:].copy(), b[-1:, -1:].copy())
        np.testing.assert_array_equal(one[0, 0, 0].view(np.int32), got[-1, -1, -1].view(np.int32))


@pytest.mark.parametrize(
    ("n", "k"), [(None, None), (128, None), (300, None), (None, 257), (37, 64), (256, 5)]
)
def test_one_row_has_the_bits_of_many(target, n, k):
    """B where it is: values against float64, and the bits of the kernel that packs it."""
    rng = np.random.default_rng(5)
    kernels = []
    for one_row in (False, True):
        params = batched.BatchedGemmParams(n=n, k=k, one_row=one_row)
        module = Module()
        batched.emit(module, "matmul", params, target)
        kernels.append((jit.compile_module(module, target, ["matmul"]).kernel("matmul"), params))
    for columns in (
        (1, 3, 4, 5, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 300) if n is None else (n,)
    ):
        for steps in (0, 1, 3, 4, 37, 256, 257, 515) if k is None else (k,):
            a = rng.standard_normal((2, 1, 1, steps)).astype(np.float32)
            b = rng.standard_normal((2, 1, steps, columns)).astype(np.float32)
            packed, direct = (run_batched(*kernel, target, a, b) for kernel in kernels)
            reference = a.astype(np.float64) @ b.astype(np.float64)
            np.testing.assert_allclose(direct, reference, rtol=0, atol=1e-5 * np.sqrt(steps))
            np.testing.assert_array_equal(direct.view(np.int32), packed.view(np.int32))


def test_batched_has_the_bits_of_the_packed_product(target):
    rng = np.random.default_rng(6)
    a, weight = operands(rng, 20, 50, 600)
    params = gemm.GemmParams(50, 600)
    kernel, packed = build(params, target, weight)
    expected = multiply(kernel, params, target, a, packed)
    both = batched.BatchedGemmParams(True)
    module = Module()
    batched.emit(module, "matmul", both, target)
    matmul = jit.compile_module(module, target, ["matmul"]).kernel("matmul")
    got = run_batched(matmul, both, target, a[None, None], weight[None, None])
    np.testing.assert_array_equal(got[0, 0].view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize(("m", "n", "k"), [(0, 5, 7), (3, 20, 0), (0, 20, 0)])
@pytest.mark.parametrize("static", [False, True])
def test_empty_products(target, m, n, k, static):
    params = gemm.GemmParams(n, k, m=m if static else None)
    weight = np.zeros((n, k), np.float32)
    kernel, packed = build(params, target, weight)
    got = multiply(kernel, params, target, np.zeros((m, k), np.float32), packed)
    np.testing.assert_array_equal(got, np.zeros((m, n), np.float32))


@pytest.mark.parametrize("shared", [False, True])
def test_workers_side_by_side_have_the_bits_of_one(target, shared):
    """Two threads at once, each its own part of the range and its own memory."""
    rng = np.random.default_rng(9)
    params = batched.BatchedGemmParams(shared=shared)
    module = Module()
    batched.emit(module, "matmul", params, target)
    kernel = jit.compile_module(module, target, ["matmul"]).kernel("matmul")
    a, b = (rng.standard_normal((6, 70, 70)).astype(np.float32) for _ in range(2))
    size = batched.scratch_bytes(params, target, 70)
    results = []
    for workers in (1, 2):
        c, parts = np.full((6, 70, 70), np.nan, np.float32), 2
        if shared:
            parts = batched.parallel_extent(params, target, 6, 70)
        scratch = jit.aligned((parts * size,), np.uint8)
        matrix = (70, 0, 4900)
        words = [a, b, c, 70, 70, 70, 6, *matrix, *matrix, *matrix, scratch, size]
        units = batched.parallel_extent(params, target, 6, 70)
        borders = [units * i // workers for i in range(workers + 1)]
        with ThreadPoolExecutor(workers) as pool:
            parts = [(words, borders[w], borders[w + 1], w) for w in range(workers)]
            list(pool.map(lambda part: kernel(*part), parts))
        results.append(c.view(np.int32))
    np.testing.assert_array_equal(*results)
