"""Reductions along rows of any length: short rows, whole groups and blocks, and their rests.

Oracle: numpy in float64 and in integers; and the program compiled for the length, bit by bit.
"""

from __future__ import annotations

import re

import numpy as np
import pytest
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program
from torsh_dialect.context import Context
from torsh_dialect.target import TARGETS
from torsh_fx.pipeline import optimise

LENGTHS = (
    *range(0, 36), 47, 48, 49, 63, 64, 65, 67, 80, 81, 4080, 4095, 4096, 4097, 4111, 4112, 4113,
    8191, 8192, 8193, 8209, 12288,
)  # fmt: skip
"""Around the lanes of a group, half of them, and a block of 4,096."""

F32, I32 = "tensor<3x?xf32, #torsh.dims<[3, n]>>", "tensor<3x?xi32, #torsh.dims<[3, n]>>"
MODULE = f"""
func.func @main(%x: {F32}, %i: {I32})
    -> (tensor<3xf32>, tensor<3xi32>, tensor<3xi64>, tensor<3xi64>, tensor<3xf32>) {{
  %s = torsh.sum %x {{axes = array<i64: 1>}} : ({F32}) -> tensor<3xf32>
  %t = torsh.sum %i {{axes = array<i64: 1>}} : ({I32}) -> tensor<3xi32>
  %a = torsh.argmax %x {{axes = array<i64: 1>}} : ({F32}) -> tensor<3xi64>
  %b = torsh.argmin %i {{axes = array<i64: 1>}} : ({I32}) -> tensor<3xi64>
  %l = torsh.l2_norm %x {{axes = array<i64: 1>}} : ({F32}) -> tensor<3xf32>
  func.return %s, %t, %a, %b, %l
      : tensor<3xf32>, tensor<3xi32>, tensor<3xi64>, tensor<3xi64>, tensor<3xf32>
}}
"""


def compiled(text: str, target: str | None = None) -> Executable:
    ctx = Context(target=host_target() if target is None else TARGETS[target])
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    main, _ = lower_module(module, ctx.target)
    objects = shared_generator(CodegenSettings()).compile(main.units)
    return Executable(Program(main.spec, objects, main.constants))


def inputs(length: int) -> list[np.ndarray]:
    rng = np.random.default_rng(length)
    x = rng.standard_normal((3, length)).astype(np.float32)
    i = rng.integers(-(2**31), 2**31, (3, length)).astype(np.int32)
    if length > 2:  # equal elements: the first of them is the answer
        x[1, length // 2], x[1, -1] = 9, 9
        i[2, 1], i[2, -1] = -(2**31), -(2**31)
    return [x, i]


@pytest.fixture(scope="module")
def dynamic() -> Executable:
    return compiled(MODULE)


@pytest.mark.parametrize("length", LENGTHS)
def test_rows_of_any_length(dynamic: Executable, length: int) -> None:
    x, i = inputs(length)
    wide = x.astype(np.float64)
    if length == 0:  # which index an empty row has is nobody's to say
        sums, totals, _, _, norms = dynamic.run([x, i])
        assert not sums.any()
        assert not totals.any()
        assert not norms.any()
        return
    sums, totals, largest, smallest, norms = dynamic.run([x, i])
    bound = 2.0**-24 * 160 * np.abs(wide).sum(axis=1)  # chains of 128 and a tree
    assert (np.abs(sums - wide.sum(axis=1)) <= bound).all()
    np.testing.assert_array_equal(totals, i.sum(axis=1, dtype=np.int32))
    np.testing.assert_array_equal(largest, x.argmax(axis=1))
    np.testing.assert_array_equal(smallest, i.argmin(axis=1))
    np.testing.assert_allclose(norms, np.sqrt((wide**2).sum(axis=1)), rtol=2e-6)


@pytest.mark.parametrize("length", [1, 13, 16, 17, 32, 67, 4096, 4113, 8193])
def test_a_known_length_gives_the_same_bits(dynamic: Executable, length: int) -> None:
    known = re.sub(r", #torsh.dims<[^>]*>", "", MODULE.replace("3x?x", f"3x{length}x"))
    arrays = inputs(length)
    for ours, theirs in zip(dynamic.run(arrays), compiled(known).run(arrays), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_nan_and_the_signs_of_zero(dynamic: Executable) -> None:
    """The first NaN is the largest; sums of negative zeros begin with a positive one."""
    i = np.zeros((3, 40), np.int32)
    for length in (1, 16, 17, 33, 40):
        x = np.full((3, length), -0.0, np.float32)
        x[1, length // 2 :] = np.nan
        sums, _, largest, _, _ = dynamic.run([x, i[:, :length]])
        assert largest.tolist() == [0, length // 2, 0]
        assert np.isnan(sums[1])
        assert not np.signbit(sums[[0, 2]]).any()


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_narrower_vectors_give_the_same_bits(dynamic: Executable, target: str) -> None:
    if host_target().triple.split("-")[0] != "x86_64":
        pytest.skip("needs an x86-64 processor")
    other = compiled(MODULE, target)
    for length in (5, 16, 31, 67, 4113):
        arrays = inputs(length)
        for ours, theirs in zip(dynamic.run(arrays), other.run(arrays), strict=True):
            assert ours.tobytes() == theirs.tobytes()


U8, I8 = F32.replace("f32", "ui8"), F32.replace("f32", "i8")
BYTES = f"""
func.func @main(%u: {U8}, %i: {I8})
    -> (tensor<3xi32>, tensor<3xi32>, tensor<3xi8>, tensor<3xi32>) {{
  %c = torsh.constant {{value = #torsh.literal<"i32", [], [100]>}} : () -> tensor<i32>
  %x = torsh.cast %u {{to = i32}} : ({U8}) -> {I32}
  %y = torsh.cast %i {{to = i32}} : ({I8}) -> {I32}
  %d = torsh.sub %x, %c : ({I32}, tensor<i32>) -> {I32}
  %s = torsh.sum %x {{axes = array<i64: 1>}} : ({I32}) -> tensor<3xi32>
  %t = torsh.sum %y {{axes = array<i64: 1>}} : ({I32}) -> tensor<3xi32>
  %w = torsh.sum %i {{axes = array<i64: 1>}} : ({I8}) -> tensor<3xi8>
  %r = torsh.sum %d {{axes = array<i64: 1>}} : ({I32}) -> tensor<3xi32>
  func.return %s, %t, %w, %r : tensor<3xi32>, tensor<3xi32>, tensor<3xi8>, tensor<3xi32>
}}
"""


@pytest.mark.parametrize("target", [None, "x86-64-v2", "x86-64-v3"])
def test_sums_of_bytes(target: str | None) -> None:
    """What lies beside a short row adds nothing, and a difference of it neither."""
    program = compiled(BYTES, target)
    for length in LENGTHS:
        i = inputs(length)[1].astype(np.int8)
        u = np.random.default_rng(length).integers(0, 256, (3, length)).astype(np.uint8)
        wide, signed = u.astype(np.int32), i.astype(np.int32)
        expected = wide.sum(1), signed.sum(1), i.sum(1, dtype=np.int8), (wide - 100).sum(1)
        for found, sums in zip(program.run([u, i]), expected, strict=True):
            np.testing.assert_array_equal(found, sums)
