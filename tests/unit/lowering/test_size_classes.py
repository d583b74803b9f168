"""Kernels for what only the run knows: equal extents, extents of 1, short rows.

Oracle: numpy at every combination of extents, and the program compiled for that combination.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import numpy as np
import pytest
from xdsl.parser import Parser

from lowering.codegen import CodegenSettings, shared_generator
from lowering.cpu.host import host_target
from lowering.program.build import lower_module
from lowering.runtime.executable import Executable, Program, RunOptions
from torsh_dialect.context import Context
from torsh_dialect.errors import ExecutionError, InputError
from torsh_fx.pipeline import optimise


def linked(text: str) -> Program:
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    main, _ = lower_module(module, ctx.target)
    objects = shared_generator(CodegenSettings()).compile(main.units)
    return Program(main.spec, objects, main.constants)


def compiled(text: str) -> Executable:
    return Executable(linked(text))


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


MAYBE = """
func.func @main(%a: tensor<?x?xf32, #torsh.dims<[n, m]>>,
    %b: tensor<?x?xf32, #torsh.dims<[p, q]>>, %c: tensor<?xf32, #torsh.dims<[r]>>)
    -> tensor<?x?xf32, #torsh.dims<["bcast(n, p)", "bcast(bcast(m, q), r)"]>> {
  %s = torsh.sub %a, %b : (tensor<?x?xf32, #torsh.dims<[n, m]>>,
      tensor<?x?xf32, #torsh.dims<[p, q]>>)
      -> tensor<?x?xf32, #torsh.dims<["bcast(n, p)", "bcast(m, q)"]>>
  %y = torsh.mul %s, %c : (tensor<?x?xf32, #torsh.dims<["bcast(n, p)", "bcast(m, q)"]>>,
      tensor<?xf32, #torsh.dims<[r]>>)
      -> tensor<?x?xf32, #torsh.dims<["bcast(n, p)", "bcast(bcast(m, q), r)"]>>
  func.return %y : tensor<?x?xf32, #torsh.dims<["bcast(n, p)", "bcast(bcast(m, q), r)"]>>
}
"""


def fits(extents: Sequence[int]) -> bool:
    return len(set(extents) - {1}) <= 1


def test_operands_that_may_be_broadcast() -> None:
    """Every way in which three operands meet; what does not fit is refused."""
    program, refused = compiled(MAYBE), 0
    rows = [(1, 1), (1, 5), (5, 1), (5, 5), (0, 1), (0, 0)]
    for (n, p), (m, q, r) in itertools.product(rows, itertools.product((0, 1, 33, 70), repeat=3)):
        a, b, c = numbers(n, m), numbers(p, q), numbers(r)
        if not fits((m, q, r)):
            refused += 1
            with pytest.raises(InputError):
                program.run([a, b, c])
            continue
        np.testing.assert_array_equal(program.run([a, b, c])[0], (a - b) * c)
    assert refused > 0


def test_a_flat_range_is_the_same_in_parts() -> None:
    """Operands of equal extents are one axis: the rows of a thread are a part of it."""
    program = linked(MAYBE)
    a, b, c = numbers(900, 301), numbers(900, 301), numbers(301)
    expected = (a - b) * c
    for threads in (1, 2):
        found = Executable(program, options=RunOptions(threads)).run([a, b, c])[0]
        np.testing.assert_array_equal(found, expected)


COLUMNS = """
func.func @main(%a: tensor<?x?xf32, #torsh.dims<[n, m]>>, %b: tensor<?xf32, #torsh.dims<[m]>>,
    %c: tensor<?x1xf32, #torsh.dims<[n, 1]>>) -> tensor<?x?xf32, #torsh.dims<[n, m]>> {
  %s = torsh.add %a, %b : (tensor<?x?xf32, #torsh.dims<[n, m]>>, tensor<?xf32, #torsh.dims<[m]>>)
      -> tensor<?x?xf32, #torsh.dims<[n, m]>>
  %f = torsh.flip %s {axes = array<i64: 1>} : (tensor<?x?xf32, #torsh.dims<[n, m]>>)
      -> tensor<?x?xf32, #torsh.dims<[n, m]>>
  %y = torsh.mul %f, %c : (tensor<?x?xf32, #torsh.dims<[n, m]>>,
      tensor<?x1xf32, #torsh.dims<[n, 1]>>) -> tensor<?x?xf32, #torsh.dims<[n, m]>>
  func.return %y : tensor<?x?xf32, #torsh.dims<[n, m]>>
}
"""


def test_rows_of_any_length_and_their_rests() -> None:
    """Rests of rows are masked parts of a vector; rows of one element are lanes themselves."""
    program = compiled(COLUMNS)
    for n, m in itertools.product((0, 1, 2, 7, 40, 97), (*range(36), 63, 64, 65, 97)):
        a, b, c = numbers(n, m), numbers(m), numbers(n, 1)
        np.testing.assert_array_equal(program.run([a, b, c])[0], (a + b)[:, ::-1] * c)


@pytest.mark.parametrize(("n", "m"), [(0, 1), (40, 1), (3, 0), (7, 13), (2, 97)])
def test_a_known_size_gives_the_same_bits(n: int, m: int) -> None:
    arrays = [numbers(n, m), numbers(m), numbers(n, 1)]
    known = re.sub(r", #torsh.dims<[^>]*>", "", COLUMNS.replace("?x?x", f"{n}x{m}x"))
    known = known.replace("tensor<?x1x", f"tensor<{n}x1x").replace("tensor<?x", f"tensor<{m}x")
    ours, theirs = compiled(COLUMNS).run(arrays)[0], compiled(known).run(arrays)[0]
    np.testing.assert_array_equal(ours.view(np.int32), theirs.view(np.int32))


IMAGES = """
func.func @main(%x: tensor<?x3x?x?xf32, #torsh.dims<[n, 3, h, w]>>)
    -> tensor<?x3x?x?xf32, #torsh.dims<[n, 3, h, w]>> {
  %y = torsh.max_pool %x {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>,
      pads = array<i64: 1, 1, 1, 1>} : (tensor<?x3x?x?xf32, #torsh.dims<[n, 3, h, w]>>)
      -> tensor<?x3x?x?xf32, #torsh.dims<[n, 3, h, w]>>
  func.return %y : tensor<?x3x?x?xf32, #torsh.dims<[n, 3, h, w]>>
}
"""


def test_places_of_several_symbolic_axes_are_counted() -> None:
    """Rows are numbered over [n, 3, h]; each thread counts on from its first."""
    program = compiled(IMAGES)
    for n, h, w in itertools.product((0, 1, 3), (0, 1, 2, 9, 40), (0, 1, 5, 33)):
        x = numbers(n, 3, h, w)
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        expected = np.full_like(x, -np.inf)
        for i, j in itertools.product(range(3), repeat=2):
            expected = np.maximum(expected, padded[:, :, i : i + h, j : j + w])
        np.testing.assert_array_equal(program.run([x])[0], expected)


STEPPED = """
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>)
    -> (tensor<?xf32, #torsh.dims<["9*n"]>>, tensor<?xf32, #torsh.dims<["9*n"]>>) {
  %t = torsh.tile %x {repeats = #torsh.dims<[9]>} : (tensor<?xf32, #torsh.dims<[n]>>)
      -> tensor<?xf32, #torsh.dims<["9*n"]>>
  %b = torsh.flip %t {axes = array<i64: 0>} : (tensor<?xf32, #torsh.dims<["9*n"]>>)
      -> tensor<?xf32, #torsh.dims<["9*n"]>>
  %f = torsh.flip %x {axes = array<i64: 0>} : (tensor<?xf32, #torsh.dims<[n]>>)
      -> tensor<?xf32, #torsh.dims<[n]>>
  %u = torsh.tile %f {repeats = #torsh.dims<[9]>} : (tensor<?xf32, #torsh.dims<[n]>>)
      -> tensor<?xf32, #torsh.dims<["9*n"]>>
  func.return %b, %u : tensor<?xf32, #torsh.dims<["9*n"]>>, tensor<?xf32, #torsh.dims<["9*n"]>>
}
"""


def test_lanes_are_divided_by_any_extent() -> None:
    """Forwards and backwards, by divisors below and above the lanes of a vector."""
    program = compiled(STEPPED)
    for n in (*range(140), 1000):
        x = numbers(n)
        backwards, forwards = program.run([x])
        np.testing.assert_array_equal(backwards, np.tile(x, 9)[::-1])
        np.testing.assert_array_equal(forwards, np.tile(x[::-1], 9))


@pytest.mark.parametrize("n", [1, 2, 3, 5, 31, 33, 60, 127, 129])
def test_lanes_are_divided_by_a_known_extent(n: int) -> None:
    known = STEPPED.replace('tensor<?xf32, #torsh.dims<["9*n"]>>', f"tensor<{9 * n}xf32>")
    known = known.replace("tensor<?xf32, #torsh.dims<[n]>>", f"tensor<{n}xf32>")
    x = numbers(n)
    backwards, forwards = compiled(known).run([x])
    np.testing.assert_array_equal(backwards, np.tile(x, 9)[::-1])
    np.testing.assert_array_equal(forwards, np.tile(x[::-1], 9))


ROWS = """
func.func @main(%x: tensor<?x?xf32, #torsh.dims<[n, m]>>) -> (tensor<?xi64, #torsh.dims<[n]>>,
    tensor<?x?xf32, #torsh.dims<[n, m]>>) attributes {torsh.symbols = {m = array<i64: LOW, HIGH>}} {
  %i = torsh.argmax %x {axes = array<i64: 1>}
      : (tensor<?x?xf32, #torsh.dims<[n, m]>>) -> tensor<?xi64, #torsh.dims<[n]>>
  %y = torsh.cumsum %x {axis = 1 : i64} : (tensor<?x?xf32, #torsh.dims<[n, m]>>)
      -> tensor<?x?xf32, #torsh.dims<[n, m]>>
  func.return %i, %y : tensor<?xi64, #torsh.dims<[n]>>, tensor<?x?xf32, #torsh.dims<[n, m]>>
}
"""


def rows(low: int, high: int) -> Executable:
    return compiled(ROWS.replace("LOW", str(low)).replace("HIGH", str(high)))


def kernels_of(program: Executable, *arrays: np.ndarray) -> list[str]:
    return [run.kernel.name for run in program.profile(arrays).runs]


def test_a_call_with_an_extent_of_one_takes_the_kernels_of_that_case() -> None:
    program = rows(0, 5000)
    for n, m in itertools.product((0, 1, 7, 4099), (0, 1, 2, 33)):
        if m == 0 and n > 0:
            continue  # there is no largest of nothing
        x = numbers(n, m)
        index, sums = program.run([x])
        if m:
            np.testing.assert_array_equal(index, np.argmax(x, 1))
        np.testing.assert_allclose(sums, np.cumsum(x, 1, dtype=np.float64), rtol=2e-5, atol=2e-6)
    of_one, of_many = (kernels_of(program, numbers(40, m)) for m in (1, 2))
    assert not set(of_one) & set(of_many)
    assert kernels_of(program, numbers(40, 9)) == of_many


def test_a_call_for_empty_results_runs_no_kernel() -> None:
    program = rows(0, 5000)
    found = program.run([numbers(0, 7)])
    assert [y.shape for y in found] == [(0,), (0, 7)]
    assert kernels_of(program, numbers(0, 7)) == []
    assert len(kernels_of(program, numbers(3, 7))) == 2


def test_there_is_no_kernel_for_a_case_that_bounds_exclude() -> None:
    assert len(rows(2, 5000).program.spec.kernels) < len(rows(0, 5000).program.spec.kernels)
    x = numbers(40, 2)
    np.testing.assert_array_equal(rows(2, 5000).run([x])[0], np.argmax(x, 1))


CROPPED = """
func.func @main(%x: tensor<?x?xf32, #torsh.dims<[n, m]>>)
    -> tensor<?x?xf32, #torsh.dims<[n, "m - 2"]>> {
  %s = torsh.slice %x {starts = #torsh.dims<[0, 1]>, sizes = #torsh.dims<[n, "m - 2"]>,
      steps = array<i64: 1, 1>} : (tensor<?x?xf32, #torsh.dims<[n, m]>>)
      -> tensor<?x?xf32, #torsh.dims<[n, "m - 2"]>>
  %y = torsh.neg %s : (tensor<?x?xf32, #torsh.dims<[n, "m - 2"]>>)
      -> tensor<?x?xf32, #torsh.dims<[n, "m - 2"]>>
  func.return %y : tensor<?x?xf32, #torsh.dims<[n, "m - 2"]>>
}
"""


def test_a_case_that_the_ops_refuse_has_no_kernel_and_its_error() -> None:
    program = compiled(CROPPED)
    np.testing.assert_array_equal(program.run([numbers(4, 5)])[0], -numbers(4, 5)[:, 1:-1])
    with pytest.raises(ExecutionError, match="negative extent"):
        program.run([numbers(4, 1)])


REPEATED = """
func.func @main(%x: tensor<?x1xf32, #torsh.dims<[n, 1]>>)
    -> tensor<?x3xf32, #torsh.dims<["2*n", 3]>> {
  %y = torsh.tile %x {repeats = #torsh.dims<[2, 3]>} : (tensor<?x1xf32, #torsh.dims<[n, 1]>>)
      -> tensor<?x3xf32, #torsh.dims<["2*n", 3]>>
  func.return %y : tensor<?x3xf32, #torsh.dims<["2*n", 3]>>
}
"""


def test_remainders_of_a_loop_are_counted_from_wherever_it_begins() -> None:
    """The rows of the second thread begin in the midst of a period."""
    program = linked(REPEATED)
    for n, threads in itertools.product((0, 1, 2, 7, 30_001), (1, 2)):
        x = numbers(n, 1)
        found = Executable(program, options=RunOptions(threads)).run([x])[0]
        np.testing.assert_array_equal(found, np.tile(x, (2, 3)))
