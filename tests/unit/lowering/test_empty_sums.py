"""Programs of which a call may sum nothing: such calls only fill the results.

Oracle: numpy; what was launched is read from the profile of the call.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from executables import compiled

A, B = "tensor<5x?xf32, #torsh.dims<[5, k]>>", "tensor<?x7xf32, #torsh.dims<[k, 7]>>"
P, Q = "tensor<5x?xui8, #torsh.dims<[5, k]>>", "tensor<?x7xui8, #torsh.dims<[k, 7]>>"
Y = "tensor<5x7xf32>"

PRODUCT = f"""
func.func @main(%a: {A}, %b: {B}) -> {Y} {{
  %p = torsh.matmul %a, %b : ({A}, {B}) -> {Y}
  %h = torsh.constant {{value = #torsh.literal<"f32", [1, 1], [-1.5]>}} : () -> tensor<1x1xf32>
  %s = torsh.sub %h, %p : (tensor<1x1xf32>, {Y}) -> {Y}
  %y = torsh.exp %s : ({Y}) -> {Y}
  func.return %y : {Y}
}}
"""

INTEGERS = f"""
func.func @main(%a: {P}, %b: {Q}) -> tensor<5x7xi32> {{
  %u = torsh.constant {{value = #torsh.literal<"ui8", [], [100]>}} : () -> tensor<ui8>
  %v = torsh.constant {{value = #torsh.literal<"ui8", [], [90]>}} : () -> tensor<ui8>
  %y = torsh.matmul_integer %a, %b, %u, %v {{operandSegmentSizes = array<i32: 1, 1, 1, 1>}}
      : ({P}, {Q}, tensor<ui8>, tensor<ui8>) -> tensor<5x7xi32>
  func.return %y : tensor<5x7xi32>
}}
"""

MOVED = f"""
func.func @main(%a: {A}, %b: {B}) -> (tensor<7x5xf32>, tensor<35xf32>) {{
  %p = torsh.matmul %a, %b : ({A}, {B}) -> {Y}
  %t = torsh.transpose %p {{perm = array<i64: 1, 0>}} : ({Y}) -> tensor<7x5xf32>
  %r = torsh.reshape %p {{target = #torsh.dims<[35]>}} : ({Y}) -> tensor<35xf32>
  %c = torsh.cos %t : (tensor<7x5xf32>) -> tensor<7x5xf32>
  func.return %c, %r : tensor<7x5xf32>, tensor<35xf32>
}}
"""

DEPENDENT = f"""
func.func @main(%a: {A}, %b: {B}, %c: {Y}) -> {Y} {{
  %p = torsh.matmul %a, %b : ({A}, {B}) -> {Y}
  %y = torsh.add %p, %c : ({Y}, {Y}) -> {Y}
  func.return %y : {Y}
}}
"""

ROWS = "tensor<?x?xf32, #torsh.dims<[m, k]>>"
FOLD = f"""
func.func @main(%a: {ROWS}) -> tensor<?xf32, #torsh.dims<[m]>> {{
  %y = torsh.KIND %a {{axes = array<i64: 1>}} : ({ROWS}) -> tensor<?xf32, #torsh.dims<[m]>>
  func.return %y : tensor<?xf32, #torsh.dims<[m]>>
}}
"""


def launches(text: str, *inputs: Any) -> list[str]:
    """The stems of the kernels that a call runs."""
    runs = compiled(text).profile(list(inputs)).runs
    return [run.kernel.name.rpartition("_")[0] for run in runs]


def floats(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape, np.float32)


def octets(*shape: int) -> Any:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_products_of_no_steps_are_filled(k: int) -> None:
    a, b = floats(5, k), floats(k, 7)
    (y,) = compiled(PRODUCT).run([a, b])
    np.testing.assert_allclose(y, np.exp(-1.5 - a.astype(float) @ b), rtol=1e-6)
    filled = launches(PRODUCT, a, b) == ["broadcast_to"]
    assert filled == (k == 0)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_corrections_of_zero_points_are_filled(k: int) -> None:
    a, b = octets(5, k), octets(k, 7)
    (y,) = compiled(INTEGERS).run([a, b])
    np.testing.assert_array_equal(y, (a.astype(np.int32) - 100) @ (b.astype(np.int32) - 90))
    assert (launches(INTEGERS, a, b) == ["broadcast_to"]) == (k == 0)


@pytest.mark.parametrize("k", [0, 3])
def test_each_result_is_filled_with_its_own_value(k: int) -> None:
    a, b = floats(5, k), floats(k, 7)
    cosine, flat = compiled(MOVED).run([a, b])
    product = a.astype(float) @ b
    np.testing.assert_allclose(cosine, np.cos(product.T), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(flat, product.reshape(35), rtol=1e-5, atol=1e-6)
    assert (launches(MOVED, a, b) == ["broadcast_to", "broadcast_to"]) == (k == 0)


@pytest.mark.parametrize("k", [0, 3])
def test_results_of_data_are_computed(k: int) -> None:
    a, b, c = floats(5, k), floats(k, 7), floats(5, 7)
    (y,) = compiled(DEPENDENT).run([a, b, c])
    np.testing.assert_allclose(y, a.astype(float) @ b + c, rtol=1e-5, atol=1e-6)
    assert "broadcast_to" not in launches(DEPENDENT, a, b, c)


@pytest.mark.parametrize("kind", ["sum", "prod", "mean"])
@pytest.mark.parametrize("m", [0, 3, 5000])
def test_folds_of_no_elements(kind: str, m: int) -> None:
    text = FOLD.replace("KIND", kind)
    (y,) = compiled(text).run([floats(m, 0)])
    value = {"sum": 0.0, "prod": 1.0, "mean": np.nan}[kind]
    np.testing.assert_array_equal(y, np.full(m, value, np.float32))
    assert launches(text, floats(m, 0)) == (["broadcast_to"] if m else [])
    x = floats(max(m, 1), 3)
    (y,) = compiled(text).run([x])
    fold = {"sum": np.sum, "prod": np.prod, "mean": np.mean}[kind]
    np.testing.assert_allclose(y, fold(x.astype(float), axis=1), rtol=1e-5, atol=1e-6)


def test_extents_that_begin_at_one_have_no_fill() -> None:
    attributes = "attributes {torsh.symbols = {k = array<i64: 1>}} {"
    text = PRODUCT.replace(f"-> {Y} {{", f"-> {Y} {attributes}", 1)
    names = [kernel.name for kernel in compiled(text).program.spec.kernels]
    assert not any(name.startswith("broadcast_to") for name in names)
