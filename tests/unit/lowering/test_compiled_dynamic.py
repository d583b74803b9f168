"""Programs whose extents are found while they run: compiled, against numpy."""

import numpy as np
import pytest
from executables import compiled

from torsh_dialect.errors import ExecutionError, InputError

F32 = np.float32

SQUARES_OF_POSITIVE = """
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[k]>> {
  %zero = torsh.constant {value = #torsh.literal<"f32", [], [0.0]>} : () -> tensor<f32>
  %mask = torsh.gt %x, %zero : (tensor<?xf32, #torsh.dims<[n]>>, tensor<f32>)
      -> tensor<?xi1, #torsh.dims<[n]>>
  %y = torsh.masked_select %x, %mask {count = "k"}
      : (tensor<?xf32, #torsh.dims<[n]>>, tensor<?xi1, #torsh.dims<[n]>>)
      -> tensor<?xf32, #torsh.dims<[k]>>
  %z = torsh.mul %y, %y : (tensor<?xf32, #torsh.dims<[k]>>, tensor<?xf32, #torsh.dims<[k]>>)
      -> tensor<?xf32, #torsh.dims<[k]>>
  func.return %z : tensor<?xf32, #torsh.dims<[k]>>
}
"""


@pytest.mark.parametrize("size", [0, 1, 5, 64, 4097])
def test_intermediate_of_unknown_extent(size: int) -> None:
    x = np.random.default_rng(size).standard_normal(size).astype(F32)
    run = compiled(SQUARES_OF_POSITIVE)
    for values in (x, -x, np.abs(x)):  # one context: extents and memory change from call to call
        (y,) = run.run([values])
        np.testing.assert_array_equal(y, values[values > 0] ** 2)


def test_memory_of_a_call_is_released() -> None:
    run = compiled(SQUARES_OF_POSITIVE)
    context = run.new_context()
    run._idle.append(context)
    run.run([np.ones(100_000, F32)])
    assert context.allocator.chunks == []
    assert context.allocator.arrays == {}


SIZED_BY_DATA = """
func.func @main(%n: tensor<i64>, %x: tensor<f32>) -> tensor<?x2xf32, #torsh.dims<[k, 2]>> {
  %m = torsh.bind %n {names = ["k"], high = 9 : i64} : (tensor<i64>) -> tensor<i64>
  %y = torsh.full %x {target = #torsh.dims<[k, 2]>} : (tensor<f32>)
      -> tensor<?x2xf32, #torsh.dims<[k, 2]>>
  %z = torsh.neg %y : (tensor<?x2xf32, #torsh.dims<[k, 2]>>) -> tensor<?x2xf32, #torsh.dims<[k, 2]>>
  func.return %z : tensor<?x2xf32, #torsh.dims<[k, 2]>>
}
"""


def test_bound_values_are_extents() -> None:
    run = compiled(SIZED_BY_DATA)
    for n in (0, 1, 9):
        (y,) = run.run([np.asarray(n), np.asarray(2.5, F32)])
        np.testing.assert_array_equal(y, np.full((n, 2), -2.5, F32))


@pytest.mark.parametrize(("n", "text"), [(-1, "k is -1, below 0"), (10, "k is 10, above 9")])
def test_bound_values_outside_their_bounds_are_refused(n: int, text: str) -> None:
    with pytest.raises(ExecutionError, match=text):
        compiled(SIZED_BY_DATA).run([np.asarray(n), np.asarray(2.5, F32)])


BRANCHES = """
func.func @main(%c: tensor<i1>, %x: tensor<?xf32, #torsh.dims<[n]>>)
    -> (tensor<?xf32, #torsh.dims<[m]>>, tensor<?xf32, #torsh.dims<["m + 1"]>>) {
  %y = torsh.cond %c {symbols = ["m"]} {
    %a = torsh.concat %x, %x {axis = 0 : i64} : (tensor<?xf32, #torsh.dims<[n]>>,
        tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<["2*n"]>>
    torsh.yield %a : (tensor<?xf32, #torsh.dims<["2*n"]>>) -> ()
  } {
    %b = torsh.neg %x : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
    torsh.yield %b : (tensor<?xf32, #torsh.dims<[n]>>) -> ()
  } : (tensor<i1>) -> tensor<?xf32, #torsh.dims<[m]>>
  %one = torsh.constant {value = #torsh.literal<"f32", [1], [1.0]>} : () -> tensor<1xf32>
  %z = torsh.concat %y, %one {axis = 0 : i64} : (tensor<?xf32, #torsh.dims<[m]>>, tensor<1xf32>)
      -> tensor<?xf32, #torsh.dims<["m + 1"]>>
  func.return %y, %z : tensor<?xf32, #torsh.dims<[m]>>, tensor<?xf32, #torsh.dims<["m + 1"]>>
}
"""


@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("taken", [True, False])
def test_branches_of_different_extents(size: int, taken: bool) -> None:
    x = np.arange(size, dtype=F32)
    expected = np.concatenate([x, x]) if taken else -x
    y, z = compiled(BRANCHES).run([np.asarray(taken), x])
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(z, [*expected, 1])


GROWING = """
func.func @main(%trips: tensor<i64>, %limit: tensor<f32>, %x: tensor<2xf32>)
    -> (tensor<?xf32, #torsh.dims<[m]>>, tensor<?xf32, #torsh.dims<[t]>>) {
  %go = torsh.constant {value = #torsh.literal<"bool", [], [1]>} : () -> tensor<i1>
  %r, %s = torsh.loop %trips, %go, %x
      {scans = 1 : i64, changing = array<i64: 0, 0>, symbols = ["m", "t"]} {
  ^bb0(%i: tensor<i64>, %v: tensor<?xf32, #torsh.dims<[k]>>):
    %sum = torsh.sum %v {axes = array<i64: 0>} : (tensor<?xf32, #torsh.dims<[k]>>) -> tensor<f32>
    %one = torsh.reshape %sum {target = #torsh.dims<[1]>} : (tensor<f32>) -> tensor<1xf32>
    %w = torsh.concat %v, %one {axis = 0 : i64} : (tensor<?xf32, #torsh.dims<[k]>>, tensor<1xf32>)
        -> tensor<?xf32, #torsh.dims<["k + 1"]>>
    %more = torsh.lt %sum, %limit : (tensor<f32>, tensor<f32>) -> tensor<i1>
    torsh.yield %more, %w, %sum : (tensor<i1>, tensor<?xf32, #torsh.dims<["k + 1"]>>, tensor<f32>)
        -> ()
  } : (tensor<i64>, tensor<i1>, tensor<2xf32>)
      -> (tensor<?xf32, #torsh.dims<[m]>>, tensor<?xf32, #torsh.dims<[t]>>)
  func.return %r, %s : tensor<?xf32, #torsh.dims<[m]>>, tensor<?xf32, #torsh.dims<[t]>>
}
"""


@pytest.mark.parametrize(("trips", "limit"), [(0, 1e9), (1, 1e9), (40, 1e9), (-1, 1000.0), (5, -1)])
def test_loop_whose_values_grow(trips: int, limit: float) -> None:
    x, sums, step = np.asarray([1, 2], F32), [], 0
    expected, going = x, True
    while going and (trips < 0 or step < trips):
        sums.append(expected.sum())
        expected, going, step = np.append(expected, sums[-1]), sums[-1] < limit, step + 1
    grown, stacked = compiled(GROWING).run([np.asarray(trips), np.asarray(limit, F32), x])
    np.testing.assert_allclose(grown, expected, rtol=1e-6)
    np.testing.assert_allclose(stacked, np.asarray(sums, F32), rtol=1e-6)


ASSUMED = """
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>, %y: tensor<?xf32, #torsh.dims<[m]>>)
    -> tensor<?xf32, #torsh.dims<["bcast(m, n)"]>> {
  %z = torsh.add %x, %y : (tensor<?xf32, #torsh.dims<[n]>>, tensor<?xf32, #torsh.dims<[m]>>)
      -> tensor<?xf32, #torsh.dims<["bcast(m, n)"]>>
  func.return %z : tensor<?xf32, #torsh.dims<["bcast(m, n)"]>>
}
"""


def test_symbolic_extents_broadcast_or_are_refused() -> None:
    run = compiled(ASSUMED)
    x, y = np.arange(5, dtype=F32), np.arange(1, dtype=F32) + 3
    for pair in ((x, y), (y, x), (x, x)):
        np.testing.assert_array_equal(run.run(list(pair))[0], pair[0] + pair[1])
    with pytest.raises(InputError, match="must be 1 or equal"):
        run.run([x, np.zeros(3, F32)])


LATE_RELATION = """
func.func @main(%x: tensor<4xf32>, %y: tensor<4xf32>)
    -> tensor<?xf32, #torsh.dims<["bcast(a, b)"]>> {
  %p = torsh.nonzero %x {count = "a"} : (tensor<4xf32>) -> tensor<?x1xi64, #torsh.dims<[a, 1]>>
  %q = torsh.nonzero %y {count = "b"} : (tensor<4xf32>) -> tensor<?x1xi64, #torsh.dims<[b, 1]>>
  %r = torsh.reshape %p {target = #torsh.dims<[a]>} : (tensor<?x1xi64, #torsh.dims<[a, 1]>>)
      -> tensor<?xi64, #torsh.dims<[a]>>
  %s = torsh.reshape %q {target = #torsh.dims<[b]>} : (tensor<?x1xi64, #torsh.dims<[b, 1]>>)
      -> tensor<?xi64, #torsh.dims<[b]>>
  %t = torsh.add %r, %s : (tensor<?xi64, #torsh.dims<[a]>>, tensor<?xi64, #torsh.dims<[b]>>)
      -> tensor<?xi64, #torsh.dims<["bcast(a, b)"]>>
  %u = torsh.cast %t {to = f32} : (tensor<?xi64, #torsh.dims<["bcast(a, b)"]>>)
      -> tensor<?xf32, #torsh.dims<["bcast(a, b)"]>>
  func.return %u : tensor<?xf32, #torsh.dims<["bcast(a, b)"]>>
}
"""


def test_extents_of_data_that_do_not_fit_are_refused() -> None:
    run = compiled(LATE_RELATION)
    two, one = np.asarray([0, 1, 0, 1], F32), np.asarray([0, 0, 1, 0], F32)
    np.testing.assert_array_equal(run.run([two, one])[0], [3, 5])
    np.testing.assert_array_equal(run.run([two, two])[0], [2, 6])
    with pytest.raises(ExecutionError, match="must be 1 or equal"):
        run.run([two, np.ones(4, F32)])


def test_assumption_is_checked() -> None:
    run = compiled("""
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>> {
  %y = torsh.assume %x {left = #torsh.dims<[n]>, relation = "le", right = #torsh.dims<[4]>}
      : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  %z = torsh.neg %y : (tensor<?xf32, #torsh.dims<[n]>>) -> tensor<?xf32, #torsh.dims<[n]>>
  func.return %z : tensor<?xf32, #torsh.dims<[n]>>
}
""")
    np.testing.assert_array_equal(run.run([np.ones(4, F32)])[0], -np.ones(4))
    with pytest.raises(InputError, match="n = 5 must be at most 4 = 4"):
        run.run([np.ones(5, F32)])


UNPROVED = """
func.func @main(%x: tensor<?xf32, #torsh.dims<[n]>>, %y: tensor<?x2xf32, #torsh.dims<[m, 2]>>)
    -> tensor<?x3xf32, #torsh.dims<[m, 3]>> {
  %z = torsh.reshape %x {target = #torsh.dims<[m, 1]>} : (tensor<?xf32, #torsh.dims<[n]>>)
      -> tensor<?x1xf32, #torsh.dims<[m, 1]>>
  %r = torsh.concat %z, %y {axis = 1 : i64} : (tensor<?x1xf32, #torsh.dims<[m, 1]>>,
      tensor<?x2xf32, #torsh.dims<[m, 2]>>) -> tensor<?x3xf32, #torsh.dims<[m, 3]>>
  func.return %r : tensor<?x3xf32, #torsh.dims<[m, 3]>>
}
"""


def test_what_shape_inference_takes_for_granted_is_checked() -> None:
    run = compiled(UNPROVED)
    x, y = np.arange(4, dtype=F32), np.ones((4, 2), F32)
    np.testing.assert_array_equal(run.run([x, y])[0], np.concatenate([x[:, None], y], 1))
    with pytest.raises(InputError, match="n = 3 must equal m = 4"):
        run.run([x[:3], y])


def test_division_of_an_extent_by_zero_does_not_trap() -> None:
    run = compiled("""
func.func @main(%x: tensor<?x?xf32, #torsh.dims<[n, m]>>)
    -> tensor<?x?xf32, #torsh.dims<[n, "floordiv(m*n + 1, n)"]>> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [1.0]>} : () -> tensor<f32>
  %y = torsh.full %s {target = #torsh.dims<[n, "floordiv(m*n + 1, n)"]>} : (tensor<f32>)
      -> tensor<?x?xf32, #torsh.dims<[n, "floordiv(m*n + 1, n)"]>>
  func.return %y : tensor<?x?xf32, #torsh.dims<[n, "floordiv(m*n + 1, n)"]>>
}
""")
    assert run.run([np.ones((0, 3), F32)])[0].shape[0] == 0
    assert run.run([np.ones((4, 3), F32)])[0].shape == (4, 3)


def test_sizes_that_overflow_are_refused() -> None:
    run = compiled("""
func.func @main(%x: tensor<?xi8, #torsh.dims<[n]>>) -> tensor<f32> {
  %s = torsh.constant {value = #torsh.literal<"f32", [], [1.0]>} : () -> tensor<f32>
  %y = torsh.full %s {target = #torsh.dims<[n, n, n, n, n]>} : (tensor<f32>)
      -> tensor<?x?x?x?x?xf32, #torsh.dims<[n, n, n, n, n]>>
  %i, %j = torsh.sort %y {axis = 0 : i64, descending = false}
      : (tensor<?x?x?x?x?xf32, #torsh.dims<[n, n, n, n, n]>>)
      -> (tensor<?x?x?x?x?xf32, #torsh.dims<[n, n, n, n, n]>>,
          tensor<?x?x?x?x?xi64, #torsh.dims<[n, n, n, n, n]>>)
  %z = torsh.sum %i {axes = array<i64: 0, 1, 2, 3, 4>}
      : (tensor<?x?x?x?x?xf32, #torsh.dims<[n, n, n, n, n]>>) -> tensor<f32>
  func.return %z : tensor<f32>
}
""")
    np.testing.assert_array_equal(run.run([np.ones(3, np.int8)])[0], 3.0**5)
    with pytest.raises(ExecutionError, match="bytes"):
        run.run([np.ones(65536, np.int8)])  # 4 * 65536^5 is 4 * 2^80, which wraps to 0


@pytest.mark.parametrize("size", [1, 2, 3, 1000, 4097])
@pytest.mark.parametrize("descending", [True, False])
def test_sort_is_stable(size: int, descending: bool) -> None:
    run = compiled(f"""
func.func @main(%x: tensor<2x?xf32, #torsh.dims<[2, n]>>)
    -> (tensor<2x?xf32, #torsh.dims<[2, n]>>, tensor<2x?xi64, #torsh.dims<[2, n]>>) {{
  %v, %i = torsh.sort %x {{axis = 1 : i64, descending = {str(descending).lower()}}}
      : (tensor<2x?xf32, #torsh.dims<[2, n]>>)
      -> (tensor<2x?xf32, #torsh.dims<[2, n]>>, tensor<2x?xi64, #torsh.dims<[2, n]>>)
  func.return %v, %i : tensor<2x?xf32, #torsh.dims<[2, n]>>, tensor<2x?xi64, #torsh.dims<[2, n]>>
}}
""")
    x = np.random.default_rng(size).integers(0, 1 + size // 3, (2, size)).astype(F32)
    values, places = run.run([x])
    order = np.argsort(-x if descending else x, axis=-1, kind="stable")
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1))


@pytest.mark.parametrize("k", [1, 7, 32, 33, 1000])
def test_best_of_a_long_row(k: int) -> None:
    run = compiled(f"""
func.func @main(%x: tensor<3x5000xf32>) -> (tensor<3x{k}xf32>, tensor<3x{k}xi64>) {{
  %v, %i = torsh.topk %x {{axis = 1 : i64, k = #torsh.dims<[{k}]>}}
      : (tensor<3x5000xf32>) -> (tensor<3x{k}xf32>, tensor<3x{k}xi64>)
  func.return %v, %i : tensor<3x{k}xf32>, tensor<3x{k}xi64>
}}
""")
    x = np.random.default_rng(k).integers(0, 900, (3, 5000)).astype(F32)
    values, places = run.run([x])
    order = np.argsort(-x, axis=-1, kind="stable")[:, :k]
    np.testing.assert_array_equal(places, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1))
