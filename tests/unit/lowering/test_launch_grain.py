"""How many units one thread gets at least, of kernels whose extents only a call knows."""

from __future__ import annotations

import pytest
from xdsl.parser import Parser

from lowering.cpu.host import host_target
from lowering.kernel import WORK_PER_THREAD, Kernel
from lowering.program.build import build_kernel
from torsh_dialect.context import Context
from torsh_dialect.dims import evaluate_dim
from torsh_dialect.ops.fused import FusedOp
from torsh_fx.pipeline import optimise

ROWS = "tensor<?x?xf32, #torsh.dims<[m, k]>>"
SUMS, ROW = "tensor<?xf32, #torsh.dims<[m]>>", "tensor<?xf32, #torsh.dims<[k]>>"
OPS = {
    "sums of rows": (f"torsh.sum %x {{axes = array<i64: 1>}} : ({ROWS}) -> {SUMS}", SUMS),
    "rows": (f"torsh.add %x, %z : ({ROWS}, {ROW}) -> {ROWS}", ROWS),
}


def kernel_of(name: str) -> Kernel:
    """The kernel of an op over rows."""
    op, result = OPS[name]
    other = f", %z: {ROW}" if "%z" in op else ""
    text = (
        f"func.func @main(%x: {ROWS}{other}) -> {result} {{ %y = {op} func.return %y : {result} }}"
    )
    ctx = Context(target=host_target())
    module = Parser(ctx, text).parse_module()
    optimise(module, ctx)
    (region,) = (found for found in module.walk() if isinstance(found, FusedOp))
    return build_kernel(region, ctx.target)


@pytest.mark.parametrize("name", list(OPS))
@pytest.mark.parametrize("k", [0, 1, 16, 1000, 10**6])
def test_a_thread_gets_enough_rows_to_pay_for_it(name: str, k: int) -> None:
    rows = evaluate_dim(kernel_of(name).grain, {"m": 64, "k": k})
    assert rows >= 1
    assert rows * max(k, 1) * 3 >= WORK_PER_THREAD  # not waked for less
    assert rows == 1 or (rows - 1) * max(k, 1) <= WORK_PER_THREAD  # nor left out for more
