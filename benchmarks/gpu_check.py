"""Check and time GPU kernels: prepare where the compiler is, run where a GPU is.

    python benchmarks/gpu_check.py prepare FOLDER          PTX, inputs and the CPU's results
    python benchmarks/gpu_check.py run FOLDER [--write]    on a GPU; needs numpy (torch: optional)

`prepare` compiles each case and computes its first rows with the CPU's kernel of the same region.
`run` needs nothing of the compiler: it compares every row's bits with the CPU's, and times each
kernel beside a copy of as many bytes and beside torch. `--write` puts the table into
docs/benchmarks-gpu.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

DOCUMENT = ROOT / "docs" / "benchmarks-gpu.md"
ROWS = 16
"""Rows whose results are prepared; the kernel's input repeats them."""


@dataclass(frozen=True)
class Case:
    """One kernel.

    Attributes:
        name: What it computes.
        rows: Extent of the first axis when it is timed.
        columns: Extent of the second axis.
        body: Ops from %x (rows x columns) and %g (columns) to %r.
        torch: The same in torch, of `x`, `g` and `F` (torch.nn.functional).
        reduced: Whether %r has the rows only.
    """

    name: str
    rows: int
    columns: int
    body: str
    torch: str
    reduced: bool = False

    def text(self, rows: int) -> str:
        """The program for some number of rows."""
        x, g = f"tensor<{rows}x{self.columns}xf32>", f"tensor<{self.columns}xf32>"
        r = f"tensor<{rows}xf32>" if self.reduced else x
        body = self.body.format(x=x, g=g, r=r)
        return f"func.func @main(%x: {x}, %g: {g}) -> {r} {{\n{body}\nfunc.return %r : {r}\n}}"

    def arrays(self) -> list[np.ndarray]:
        """The first rows of %x, and %g."""
        random = np.random.default_rng(7)
        shapes = ((ROWS, self.columns), (self.columns,))
        return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


GELU = """%a = torsh.add %x, %g : ({x}, {g}) -> {x}
%r = torsh.gelu %a {{approximate = "tanh"}} : ({x}) -> {x}"""
SOFTMAX = "%r = torsh.softmax %x {{axis = 1 : i64}} : ({x}) -> {r}"
NORM = """%r = torsh.layer_norm %x, %g {{axis = -1 : i64, epsilon = 1.0e-05 : f64,
operandSegmentSizes = array<i32: 1, 1, 0>}} : ({x}, {g}) -> {r}"""
SUM = "%r = torsh.sum %x {{axes = array<i64: 1>}} : ({x}) -> {r}"

CASES = (
    Case("bias + gelu", 32_768, 4096, GELU, "F.gelu(x + g, approximate='tanh')"),
    Case("sum", 32_768, 4096, SUM, "x.sum(1)", reduced=True),
    Case("softmax", 131_072, 1000, SOFTMAX, "F.softmax(x, 1)"),
    Case("softmax, long rows", 2048, 50_257, SOFTMAX, "F.softmax(x, 1)"),
    Case("layer_norm", 131_072, 768, NORM, "F.layer_norm(x, (x.shape[1],), g)"),
)


@dataclass(frozen=True)
class Prepared:
    """What `run` needs of a case: files in the folder, and the launch.

    Attributes:
        case: The case's fields.
        ptx: File of the kernel.
        kernel: Its symbol.
        blocks: Blocks of the launch.
        threads: Threads of a block.
        arguments: `x`, `g` and `out` in the kernel's order.
    """

    case: dict
    ptx: str
    kernel: str
    blocks: int
    threads: int
    arguments: list[str] = field(default_factory=list)


def prepare(folder: Path) -> None:
    """Compile all cases into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    prepared = []
    for number, case in enumerate(CASES):
        prepared.append(_prepare(folder, number, case))
        print(f"{case.name}: {prepared[-1].blocks} blocks of {prepared[-1].threads} threads")
    (folder / "cases.json").write_text(json.dumps([asdict(p) for p in prepared], indent=1))


def _prepare(folder: Path, number: int, case: Case) -> Prepared:
    from xdsl.dialects.gpu import LaunchFuncOp

    from lowering.codegen import CodegenSettings, shared_generator
    from lowering.gpu.program import kernel_of
    from lowering.gpu.ptx import GPU_TARGETS, ptx_of
    from torsh_dialect.attributes import int_of

    module = _passes(case.text(case.rows))
    (launch,) = (op for op in module.walk() if isinstance(op, LaunchFuncOp))
    blocks, threads = (int_of(v.owner.value) for v in (launch.gridSizeX, launch.blockSizeX))
    ptx = ptx_of(module, GPU_TARGETS["sm_80"], shared_generator(CodegenSettings()))
    (folder / f"{number}.ptx").write_text(ptx)
    np.save(folder / f"{number}.npy", _expected(case))
    names = ["x", "g", "out"] if len(launch.kernelOperands) == 3 else ["x", "out"]
    return Prepared(asdict(case), f"{number}.ptx", kernel_of(launch), blocks, threads, names)


def _passes(text: str, until: str | None = None):
    from xdsl.parser import Parser

    from torsh_dialect.context import Context
    from torsh_fx.pipeline import gpu_stages

    ctx = Context()
    module = Parser(ctx, text).parse_module()
    for one in gpu_stages(ctx):
        one.apply(ctx, module)
        if one.name == until:
            break
    return module


def _expected(case: Case) -> np.ndarray:
    """The first rows by the CPU's kernel."""
    from lowering.gpu.reference import on_the_cpu
    from torsh_dialect.ops.fused import FusedOp
    from torsh_dialect.target import TARGETS

    module = _passes(case.text(ROWS), "fuse")
    (op,) = (op for op in module.walk() if isinstance(op, FusedOp))
    return on_the_cpu(op, case.arrays()[: len(op.operands)], TARGETS["x86-64-v3"])


@dataclass(frozen=True)
class Row:
    """One line of the table: times in seconds, medians."""

    case: Case
    bits: bool
    ours: float
    copy: float
    torch: float | None

    @property
    def moved(self) -> int:
        """Bytes that the kernel must read and write."""
        elements = self.case.rows * self.case.columns
        return 4 * (elements + (self.case.rows if self.case.reduced else elements))

    def line(self) -> str:
        """The row in Markdown."""
        case = self.case
        beside = ["-", "-"]
        if self.torch is not None:
            beside = [f"{1e6 * self.torch:.1f}", f"{self.torch / self.ours:.2f}"]
        cells = [
            case.name,
            f"{case.rows}x{case.columns}",
            "equal" if self.bits else "DIFFERENT",
            f"{1e6 * self.ours:.1f}",
            f"{self.moved / self.ours / 1e9:.0f}",
            f"{100 * self.copy / self.ours:.0f} %",
            *beside,
        ]
        return f"| {' | '.join(cells)} |"


def run(folder: Path) -> list[Row]:
    """Check and time every prepared case on the GPU here."""
    prepared = [Prepared(**entry) for entry in json.loads((folder / "cases.json").read_text())]
    rows = []
    for number, one in enumerate(prepared):
        rows.append(_run(folder, number, one))
        print(rows[-1].line(), flush=True)
    return rows


def _run(folder: Path, number: int, one: Prepared) -> Row:
    from lowering.gpu.cuda import CudaDevice

    case = Case(**one.case)
    device = CudaDevice((folder / one.ptx).read_text())
    x, g = case.arrays()
    dims = (case.rows,) if case.reduced else (case.rows, case.columns)
    whole = np.resize(x, (case.rows, case.columns))
    memory = {"x": device.put(whole), "g": device.put(g), "out": device.empty(dims, x.dtype)}
    arguments = [memory[name] for name in one.arguments]

    def launch() -> None:
        device.launch(one.kernel, one.blocks, one.threads, arguments)

    launch()
    expected = np.resize(np.load(folder / f"{number}.npy"), dims)
    same = device.get(memory["out"]).tobytes() == expected.tobytes()
    ours = statistics.median(device.seconds(launch))
    copied = np.resize(whole, (Row(case, same, 0, 0, None).moved // 8,))
    target, source = device.empty(copied.shape, x.dtype), device.put(copied)
    copy = statistics.median(device.seconds(lambda: device.copy(target, source)))
    return Row(case, same, ours, copy, _torch(case, whole, g, device.seconds))


def _torch(
    case: Case, x: np.ndarray, g: np.ndarray, seconds: Callable[[Callable[[], None]], list[float]]
) -> float | None:
    try:
        import torch
        import torch.nn.functional as F  # noqa: N812
    except ImportError:
        return None
    names = {"x": torch.from_numpy(x).cuda(), "g": torch.from_numpy(g).cuda(), "F": F}
    code = compile(case.torch, "<case>", "eval")
    return statistics.median(seconds(lambda: eval(code, names)))


HEAD = """# GPU kernels

`benchmarks/gpu_check.py` on {machine}, {day}. Bits: every row against the CPU's kernel of the same
region. Copy: time of a device copy of as many bytes, relative to ours.

| kernel | extents | bits | us | GB/s | of copy | torch us | torch / ours |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def main() -> int:
    """Run the command line; 1 if a bit differs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("prepare", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true", help=f"write {DOCUMENT.relative_to(ROOT)}")
    parser.add_argument("--machine", default="one GPU", help="how the table calls the machine")
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.folder)
        return 0
    rows = run(arguments.folder)
    if arguments.write:
        head = HEAD.format(machine=arguments.machine, day=date.today().isoformat())
        DOCUMENT.write_text(head + "\n".join(row.line() for row in rows) + "\n")
    return 0 if all(row.bits for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
