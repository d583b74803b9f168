"""Fused attention against torch in float64; equal bits for any S, batch and split."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from lowering.cpu.jit import aligned, compile_module, object_file, runs_here
from lowering.cpu.templates.attention import (
    AttentionParams,
    emit,
    parallel_extent,
    scratch_bytes,
)
from lowering.cpu.text import Module
from lowering.runtime.elf import read_symbols
from torsh_dialect.target import TARGETS, TargetInfo

Array = np.ndarray[Any, Any]
HOST = next(t for t in map(TARGETS.get, ("x86-64-v3", "x86-64-v2", "aarch64")) if runs_here(t))


def strides(x: Array, broadcast: tuple[int, ...] = ()) -> list[int]:
    return [0 if n == 1 else s // x.itemsize for s, n in zip(x.strides[:3], x.shape, strict=False)]


def run(
    params: AttentionParams,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    offset: int = 0,
    splits: tuple[int, ...] = (),
    target: TargetInfo = HOST,
) -> Array:
    batch, _, rows, _ = q.shape
    module = Module()
    emit(module, "attention", params, target)
    kernel = compile_module(module, target, ["attention"]).kernel("attention")
    out = np.full((*q.shape[:3], v.shape[3]), 7, np.float32)
    size = scratch_bytes(params, target)
    scratch = aligned((2 * size,), np.uint8)
    scratch[:] = 0xFF  # NaN everywhere: stale scratch must not leak
    table = np.zeros((1, 1, 1, 1), np.float32) if mask is None else mask
    words = [q, k, v, out, table, batch, rows, k.shape[2], scratch, offset & (2**64 - 1)]
    for array in (q, k, v, out, table):
        words += strides(array)
    words += [0, 0, 0]
    extent = parallel_extent(params, target, batch, rows)
    for i, (lo, hi) in enumerate(pairwise([0, *(s for s in splits if s < extent), extent])):
        kernel(words, lo, hi, i % 2)
    return out


def data(b: int, h: int, hkv: int, s: int, t: int, d: int, dv: int) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(s * 1000 + t)
    shapes = ((b, h, s, d), (b, hkv, t, d), (b, hkv, t, dv))
    q, k, v = (rng.standard_normal(x).astype(np.float32) for x in shapes)
    return q, k, v


def sdpa(q: Any, k: Any, v: Any, double: bool, **options: Any) -> Array:
    tensors = [torch.from_numpy(x) for x in (q, k, v)]
    if double:
        tensors = [t.double() for t in tensors]
        if (bias := options.get("attn_mask")) is not None and bias.is_floating_point():
            options["attn_mask"] = bias.double()
    return torch.nn.functional.scaled_dot_product_attention(
        *tensors, enable_gqa=True, **options
    ).numpy()


def within(ours: Array, theirs: Array, exact: Array) -> None:
    mine, other = np.abs(ours - exact), np.abs(theirs - exact)
    ulp = 2.0**-23 * np.sqrt(np.mean(exact**2))
    assert np.sqrt(np.mean(mine**2)) <= max(1.5 * np.sqrt(np.mean(other**2)), 4 * ulp)
    assert mine.max() <= max(4 * other.max(), 16 * ulp)


SHAPES = [
    (1, 2, 2, 1, 1, 8, 8), (2, 3, 3, 5, 7, 16, 16), (1, 2, 2, 50, 300, 64, 64),
    (1, 4, 2, 13, 129, 40, 24), (2, 8, 2, 1, 257, 64, 64), (1, 1, 1, 7, 128, 5, 3),
    (1, 1, 1, 9, 33, 300, 20), (1, 6, 1, 17, 64, 33, 65),
]  # fmt: skip


@pytest.mark.parametrize("dims", SHAPES)
def test_attention_is_torch_in_float64(dims: tuple[int, ...]) -> None:
    _, h, hkv, _, _, d, dv = dims
    q, k, v = data(*dims)
    params = AttentionParams(h, d, hkv, dv, scale=d**-0.5)
    within(run(params, q, k, v), sdpa(q, k, v, False), sdpa(q, k, v, True))


@pytest.mark.parametrize(("s", "t", "offset"), [(70, 70, 0), (20, 150, 130), (150, 20, 0)])
def test_causal(s: int, t: int, offset: int) -> None:
    q, k, v = data(1, 4, 2, s, t, 32, 32)
    keep = np.arange(t)[None, :] <= np.arange(s)[:, None] + offset
    options = {"attn_mask": torch.from_numpy(keep)}
    got = run(AttentionParams(4, 32, 2, scale=32**-0.5, causal=True), q, k, v, offset=offset)
    within(got, sdpa(q, k, v, False, **options), sdpa(q, k, v, True, **options))


def test_causal_rows_never_read_what_they_do_not_see() -> None:
    q, k, v = data(1, 2, 2, 40, 200, 16, 16)
    params = AttentionParams(2, 16, scale=0.25, causal=True)
    clean = run(params, q, k, v)
    k[:, :, 40:], v[:, :, 40:] = np.nan, np.nan
    np.testing.assert_array_equal(run(params, q, k, v), clean)


@pytest.mark.parametrize("shape", [(2, 3, 11, 140), (1, 1, 11, 140), (2, 1, 1, 140)])
@pytest.mark.parametrize("kind", ["additive", "boolean"])
def test_masks(shape: tuple[int, ...], kind: Any) -> None:
    q, k, v = data(2, 3, 3, 11, 140, 24, 24)
    rng = np.random.default_rng(0)
    keep = rng.random(shape) < 0.6
    mask = rng.standard_normal(shape).astype(np.float32)
    mask[~keep] = -np.inf
    table = mask if kind == "additive" else keep.view(np.uint8)
    params = AttentionParams(3, 24, scale=24**-0.5, mask=kind)
    given = torch.from_numpy(mask if kind == "additive" else keep)
    exact = sdpa(q, k, v, True, attn_mask=given)
    within(run(params, q, k, v, table), sdpa(q, k, v, False, attn_mask=given), exact)


def test_a_row_that_sees_nothing_is_zero() -> None:
    q, k, v = data(1, 1, 1, 3, 40, 8, 8)
    keep = np.ones((1, 1, 3, 40), np.uint8)
    keep[0, 0, 1] = 0
    out = run(AttentionParams(1, 8, mask="boolean"), q, k, v, keep)
    assert (out[0, 0, 1] == 0).all()
    assert np.isfinite(out).all()


def test_softcap() -> None:
    q, k, v = data(1, 2, 2, 10, 60, 16, 16)
    scores = np.einsum("bhsd,bhtd->bhst", q.astype(np.float64), k) * 2
    scores = 5 * np.tanh(scores / 5)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    exact = np.einsum("bhst,bhtd->bhsd", weights / weights.sum(-1, keepdims=True), v)
    got = run(AttentionParams(2, 16, scale=2.0, softcap=5.0), q, k, v)
    np.testing.assert_allclose(got, exact, atol=5e-6)


def test_strided_operands() -> None:
    """q, k, v as slices of one [B, S, 3, H, D] projection."""
    packed = np.random.default_rng(1).standard_normal((2, 30, 3, 4, 16)).astype(np.float32)
    q, k, v = (packed[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    params = AttentionParams(4, 16, scale=0.25)
    dense = [np.ascontiguousarray(x) for x in (q, k, v)]
    np.testing.assert_array_equal(run(params, q, k, v), run(params, *dense))


def test_bits_do_not_depend_on_rows_batch_or_split() -> None:
    q, k, v = data(2, 4, 2, 61, 333, 48, 40)
    params = AttentionParams(4, 48, 2, 40, scale=48**-0.5)
    whole = run(params, q, k, v)
    np.testing.assert_array_equal(run(params, q, k, v, splits=(1, 2, 5)), whole)
    for row in (0, 7, 60):
        one = run(params, q[:, :, row : row + 1].copy(), k, v)
        np.testing.assert_array_equal(one[:, :, 0], whole[:, :, row])
    np.testing.assert_array_equal(run(params, q[1:], k[1:], v[1:])[0], whole[1])


@pytest.mark.parametrize(("kv_heads", "width"), [(1, 32), (2, 32), (2, 75)])
def test_decoding_with_a_cache_gives_the_bits_of_the_whole_sequence(
    kv_heads: int, width: int
) -> None:
    """With `kv_heads` = 2 a unit has one row and reads V in place."""
    q, k, v = data(1, 2, kv_heads, 140, 140, 32, width)
    params = AttentionParams(2, 32, kv_heads, width, scale=32**-0.5, causal=True)
    whole = run(params, q, k, v)
    for position in (0, 1, 77, 139):
        keys = position + 1
        one = q[:, :, position : position + 1].copy()
        got = run(params, one, k[:, :, :keys], v[:, :, :keys], offset=position)
        np.testing.assert_array_equal(got[:, :, 0], whole[:, :, position])


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_assembles_without_libraries(target: str) -> None:
    module = Module()
    for i, mask in enumerate(("none", "additive", "boolean")):
        params = AttentionParams(8, 40, 2, 24, 0.1, causal=i > 0, mask=mask, softcap=float(i))  # pyright: ignore
        emit(module, f"attention_{mask}", params, TARGETS[target])
    symbols = read_symbols(object_file(module, TARGETS[target]), "attention")
    assert symbols.undefined <= {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"}
