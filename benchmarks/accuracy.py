"""How far each zoo model is from float64, next to its own frameworks; and which bytes it gives.

    python benchmarks/accuracy.py --markdown docs/accuracy.md

Errors: on 16 inputs, the model compiled from torch and from ONNX, torch itself and onnxruntime are
compared with the module in float64. Bytes: the outputs of one input over runs, threads 1, 2 and 4,
copied and mapped weights, and a fresh process; and for a program of `batch in 1..64`, each row of
batches of 2, 3 and 7 against that input alone. Ends with status 1 where a rule is broken.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

INPUTS = 16
ULP = 2.0**-23
"""A unit in the last place of float32 at 1."""

BATCH_AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "bert_base_128": ((0,), (0, 0)),
    "gpt2_decode_128": ((0, 2), (0, 2)),
}
"""Where the batch stands in inputs and outputs, for models in which it is not axis 0 of one."""

ENGINES = ("torsh (torch)", "torch", "torsh (onnx)", "onnxruntime")
"""Ours from each source, with that source's framework behind it."""

CHILD = """
import hashlib, json, sys
import numpy as np
from lowering.runtime.executable import Executable, RunOptions
from lowering.runtime.load import load_program
folder, inputs, threads = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
run = Executable(load_program(folder), options=RunOptions(threads=threads))
found = run.run([inputs[name] for name in inputs.files])
print(json.dumps([hashlib.sha256(np.ascontiguousarray(y).tobytes()).hexdigest() for y in found]))
"""

Arrays = Sequence[np.ndarray]


@dataclass
class Error:
    """The errors of an engine over all inputs, of its worst output.

    Attributes:
        rms: Root mean square of the difference, over that of the reference.
        greatest: Greatest difference, over the greatest magnitude of the reference.
    """

    rms: float = 0.0
    greatest: float = 0.0

    def add(self, found: np.ndarray, reference: np.ndarray) -> None:
        """Take an output into account."""
        difference = found.astype(np.float64) - reference
        self.rms = max(self.rms, rms(difference) / rms(reference))
        largest = float(np.abs(difference).max()) / float(np.abs(reference).max())
        self.greatest = max(self.greatest, largest)


@dataclass
class Row:
    """What was found of a model.

    Attributes:
        name: The model.
        errors: By engine: `torsh (torch)`, `torch`, `torsh (onnx)`, `onnxruntime`.
        broken: Rules that do not hold, in words.
        batches: Whether rows of batches were compared.
    """

    name: str
    errors: dict[str, Error] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    batches: bool = False


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def judge(row: Row, ours: str, theirs: str, found: Arrays, own: Arrays, wide: Arrays) -> None:
    """Compare an output over all inputs with the reference, and with the framework's own errors."""
    mine, framework, reference = (np.stack(arrays) for arrays in (found, own, wide))
    if mine.shape != reference.shape or mine.dtype != framework.dtype:
        row.broken.append(f"{ours}: {mine.dtype}{mine.shape}")
        return
    unit = 4 * ULP * rms(reference)
    a, b = np.abs(mine - reference), np.abs(framework - reference)
    scale = float(np.abs(reference).max())
    if rms(a) > max(1.5 * rms(b), unit):
        row.broken.append(f"{ours}: rms {rms(a):.1e}, {theirs} {rms(b):.1e}")
    if a.max() > max(4 * b.max(), unit):
        row.broken.append(f"{ours}: greatest {a.max():.1e}, {theirs} {b.max():.1e}")
    if a.max() > 1e-5 * scale and b.max() <= 5e-6 * scale:
        row.broken.append(f"{ours}: {a.max() / scale:.1e} of scale")
    row.errors.setdefault(ours, Error()).add(mine, reference)
    row.errors.setdefault(theirs, Error()).add(framework, reference)


def check_errors(row: Row, model, path: str) -> None:
    """Errors on `INPUTS` inputs, from both sources."""
    import onnxruntime
    import torch
    from zoo import build

    import torsh_fx

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    wide = build(model.name).module.double()
    from_torch = torsh_fx.compile(model.module, model.inputs, threads=1)
    from_onnx = torsh_fx.compile(path, threads=1)
    found: dict[str, list[Arrays]] = {name: [] for name in ("float64", *ENGINES)}
    for seed in range(INPUTS):
        inputs = other_inputs(model, seed)
        arrays = [x.numpy() for x in inputs]
        with torch.no_grad():
            widened = [x.double() if x.is_floating_point() else x for x in inputs]
            found["float64"].append(flat(wide(*widened)))
            found["torch"].append(flat(model.module(*inputs)))
        found["onnxruntime"].append(session.run(None, dict(zip(names, arrays, strict=True))))
        found["torsh (torch)"].append(from_torch.run(arrays))
        found["torsh (onnx)"].append(from_onnx.run(arrays))
    by_output = {name: list(zip(*calls, strict=True)) for name, calls in found.items()}
    for number, reference in enumerate(by_output["float64"]):
        for ours, theirs in zip(ENGINES[::2], ENGINES[1::2], strict=True):
            judge(row, ours, theirs, by_output[ours][number], by_output[theirs][number], reference)


def other_inputs(model, seed: int):
    """Inputs of the same shapes and kinds as the example's."""
    import torch

    generator = torch.Generator().manual_seed(1000 + seed)
    return tuple(
        torch.randn(x.shape, generator=generator)
        if x.is_floating_point()
        else torch.randint(0, 30000, x.shape, generator=generator)
        for x in model.inputs
    )


def flat(y) -> Arrays:
    """Outputs of a module as arrays."""
    return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]


def digests(found: Sequence[np.ndarray]) -> list[str]:
    """SHA-256 of the bytes of arrays."""
    return [hashlib.sha256(np.ascontiguousarray(y).tobytes()).hexdigest() for y in found]


def check_bytes(row: Row, model, folder: Path) -> None:
    """The same bytes over runs, threads, kinds of weights and processes."""
    import torsh_fx
    from lowering.cpu.host import host_target
    from lowering.runtime.executable import Executable, RunOptions
    from torsh_fx.ahead import write_program

    compiled = torsh_fx.compile(model.module, model.inputs, threads=1)
    arrays = [x.numpy() for x in other_inputs(model, 50)]
    first = digests(compiled.run(arrays))
    program = folder / f"{model.name}.program"
    write_program(compiled, program, host_target())
    np.savez(folder / "inputs.npz", *arrays)
    for threads in (1, 2, 4):
        run = Executable(compiled.program, options=RunOptions(threads=threads))
        if any(digests(run.run(arrays)) != first for _ in range(3)):
            row.broken.append(f"other bytes with {threads} threads")
        done = subprocess.run(
            [sys.executable, "-c", CHILD, program, folder / "inputs.npz", str(threads)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        if json.loads(done.stdout) != first:
            row.broken.append(f"other bytes in a process with {threads} threads, mapped weights")


def check_rows(row: Row, model) -> None:
    """A row of a batch has the bytes of that input alone."""
    import torch

    import torsh_fx

    ins, outs = BATCH_AXES.get(model.name, ((0,), (0,)))
    batch = torch.export.Dim("batch", min=1, max=64)
    narrow = [x.narrow(axis, 0, 1) for x, axis in zip(model.inputs, ins, strict=True)]
    example = tuple(torch.cat([x, x], axis) for x, axis in zip(narrow, ins, strict=True))
    shapes = tuple({axis: batch} for axis in ins)
    compiled = torsh_fx.compile(model.module, example, dynamic_shapes=shapes)
    for size in (2, 3, 7):
        generator = torch.Generator().manual_seed(size)
        many: list[np.ndarray] = []
        for x, axis in zip(narrow, ins, strict=True):
            shape = list(x.shape)
            shape[axis] = size
            many.append(
                torch.randn(shape, generator=generator).numpy()
                if x.is_floating_point()
                else torch.randint(0, 30000, shape, generator=generator).numpy()
            )
        whole = compiled.run(many)
        for number in range(size):
            alone = compiled.run(
                [x.take([number], axis) for x, axis in zip(many, ins, strict=True)]
            )
            parts = [y.take([number], axis) for y, axis in zip(whole, outs, strict=True)]
            if digests(parts) != digests(alone):
                row.broken.append(f"row {number} of a batch of {size} has other bytes")
    row.batches = True


def check(name: str, folder: Path) -> Row:
    """All checks of one model."""
    from zoo import build, export_onnx

    row, model, path = Row(name), build(name), str(folder / f"{name}.onnx")
    export_onnx(model, path)
    check_errors(row, model, path)
    check_bytes(row, model, folder)
    check_rows(row, model)
    Path(path).unlink()
    return row


def report(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    machine = f"{platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    head = "".join(f" {engine}: rms | greatest |" for engine in ENGINES)
    lines = [
        "# Accuracy of the zoo",
        "",
        f"Made by `python benchmarks/accuracy.py --markdown docs/accuracy.md` ({machine}).",
        f"Over {INPUTS} inputs, against the module in float64: the root mean square of the",
        "difference over that of the reference, and the greatest difference over the greatest",
        "magnitude. For several outputs the worst. `same bytes`: so were those of three runs, of",
        "threads 1, 2 and 4, of copied and mapped weights, of a fresh process, and of the rows",
        "of batches of 2, 3 and 7 against the input alone.",
        "",
        f"| model |{head} same bytes | rules broken |",
        f"|---|{'---|' * (2 * len(ENGINES) + 2)}",
    ]
    for row in rows:
        errors = "".join(
            f" {row.errors[e].rms:.1e} | {row.errors[e].greatest:.1e} |" for e in ENGINES
        )
        same = "yes" if row.batches and not any("bytes" in b for b in row.broken) else "no"
        lines.append(f"| {row.name} |{errors} {same} | {'; '.join(row.broken) or 'none'} |")
    exceed = [r.name for r in rows if any(r.errors[e].greatest > 5e-6 for e in ENGINES[1::2])]
    lines += [
        "",
        f"Models whose framework itself exceeds 5e-6 of scale: {', '.join(exceed) or 'none'}.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Run the checks that the arguments ask for; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", help="names, by comma (default: all)")
    parser.add_argument("--markdown", type=Path, help="write the table here, too")
    args = parser.parse_args()
    from zoo import MODELS

    names = args.models.split(",") if args.models else list(MODELS)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            start = time.perf_counter()
            rows.append(check(name, Path(folder)))
            print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    text = report(rows)
    print(text)
    if args.markdown:
        args.markdown.write_text(text)
    return int(any(row.broken for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
