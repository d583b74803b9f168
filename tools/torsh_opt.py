"""`torsh-opt`: run passes on MLIR text, and print any stage of the compiler.

Reads one file or standard input, runs the passes of `-p` (or `-O`: all, as a compilation does)
and writes MLIR text, or what `--emit` names. A stage below the torsh dialect needs fused
regions, so `--emit` without `-p` implies `-O`.

    torsh-opt model.mlir -p 'canonicalize,fuse'
    torsh-opt model.mlir -O --print-ir-after-all > fused.mlir
    torsh-opt model.mlir --emit llvm --target x86-64-v4
    torsh-opt model.mlir -p 'expand-composites{keep="torsh.softmax"}' | torsh-opt --emit asm
    torsh-opt model.mlir --emit gpu | torsh-opt --emit ptx --gpu-target sm_90

No pass reads the data of weights: what depends on weights alone becomes `@prepare`, which runs when
a model is loaded. So text alone is enough, and with `--weights` nothing but a check is added: every
`torsh.weight` must be in the file, with its type and, where the text has one, its digest. `torsh
run` runs a saved model.

Exit codes: 0 success, 1 an error in the input, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path

from xdsl.dialects import get_all_dialects
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Dialect
from xdsl.passes import ModulePass, PassPipeline
from xdsl.printer import Printer
from xdsl.utils.exceptions import ArgSpecParseError, DiagnosticException, ParseError

from torsh_dialect.context import Context
from torsh_dialect.errors import InvalidArgumentError, TorshError, VerificationError
from torsh_dialect.parse import parse_module
from torsh_dialect.target import TARGETS, target_named
from torsh_dialect.verify import verify_module
from torsh_fx.pipeline import PASSES, REWRITES, gpu_stages, pass_named, stages

from .torsh_verbs.console import (
    USAGE,
    guarded,
    message_of,
    read_file,
    settings_of,
    write_bytes,
    write_text,
)
from .verbs import add_version

PROGRAM = "torsh-opt"
CHUNK_BORDER = "// -----"
GPU_EMITTED = ("gpu", "nvptx", "ptx")
EMITTED = ("mlir", "kern", "llvm", "asm", "object", *GPU_EMITTED)

FLAGS = {
    "split-input-file": f"treat the parts between {CHUNK_BORDER} alone",
    "verify-diagnostics": "expect an error in each part, and print it",
    "print-ir-after-all": "print the module after each pass to standard error",
    "print-op-generic": "print in MLIR's generic form",
    "print-debuginfo": "print locations",
    "time-passes": "print the time of each pass to standard error",
    "no-verify": "do not verify between passes",
    "list-passes": "print the names of all passes",
    "in-process": "run LLVM in this process, for debugging",
    "debug": "show where an error came from",
}
"""Options without a value, and what they do."""


def build_parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_version(parser)
    add = parser.add_argument
    add("input", nargs="?", default="-", help="MLIR text; standard input without")
    add("-o", "--output", help="file to write; a folder for --emit object")
    passes = parser.add_mutually_exclusive_group()
    passes.add_argument("-p", "--passes", metavar="LIST", help="names, each with {option=value}")
    passes.add_argument("-O", "--optimise", action="store_true", help="the passes of a compilation")
    add("--emit", choices=EMITTED, default="mlir", help="what to write")
    add("--target", default="x86-64-v3", choices=TARGETS, help="the machine (default: %(default)s)")
    add("--gpu-target", default="sm_80", choices=("sm_80", "sm_90"), help="for nvptx and ptx")
    add("--weights", metavar="FILE", help=".safetensors or .npz that must fit the text")
    add("--numerics", choices=("default", "strict", "fast"), default="default")
    add("--disable-rewrite", choices=REWRITES, action="append", default=[], help="may be repeated")
    for name, meaning in FLAGS.items():
        add(f"--{name}", action="store_true", help=meaning)
    return parser


@dataclass
class PassTimer:
    """Wall time of passes in the order of their runs."""

    rows: list[tuple[str, float]] = field(default_factory=list[tuple[str, float]])

    @contextmanager
    def step(self, name: str) -> Generator[None]:
        """Time the `with` body."""
        start = time.perf_counter()
        yield
        self.rows.append((name, time.perf_counter() - start))

    def table(self) -> str:
        """The times, the sum last."""
        total = sum(seconds for _, seconds in self.rows)
        rows = [*self.rows, ("total", total)]
        return "\n".join(f"{1e3 * seconds:10.2f} ms  {name}" for name, seconds in rows)


@dataclass
class OptTool:
    """One run of the tool.

    Attributes:
        args: The parsed command line.
        pipeline: The passes of `-p`; None without that option.
        timer: Times of passes over all parts of the input.
    """

    args: argparse.Namespace
    pipeline: Sequence[ModulePass] | None
    timer: PassTimer = field(default_factory=PassTimer)

    def run(self) -> int:
        """Do what the command line says; returns the exit code."""
        text = _decoded(read_file(self.args.input), self.args.input)
        chunks = [(0, text)]
        if self.args.split_input_file:
            chunks = list(split_chunks(text))
        written = [self._chunk_text(line, chunk) for line, chunk in chunks]
        self._write(f"{CHUNK_BORDER}\n".join(written))
        if self.args.time_passes:
            print(self.timer.table(), file=sys.stderr)
        return 0

    def _chunk_text(self, line: int, chunk: str) -> str:
        if not self.args.verify_diagnostics:
            return self._chunk(line, chunk)
        try:
            self._chunk(line, chunk)
        except (TorshError, DiagnosticException, ParseError) as error:
            return f"{message_of(error)}\n"
        raise VerificationError(f"the part at line {line + 1} has no error, but one is expected")

    def _chunk(self, line: int, chunk: str) -> str:
        ctx = Context(
            target=target_named(self.args.target),
            settings=settings_of(
                self.args.numerics, self.args.disable_rewrite, in_process=self.args.in_process
            ),
        )
        register_lowered_dialects(ctx)
        module = parse_module(ctx, chunk, self.args.input, line)
        if self.args.weights:
            from torsh_fx.save import attach_weights, read_weights

            ctx.weights = read_weights(Path(self.args.weights))
            attach_weights(module, ctx.weights)
        self._verify(module)
        for one in self._passes(ctx):
            with self.timer.step(one.name):
                one.apply(ctx, module)
            self._verify(module)
            if self.args.print_ir_after_all:
                sys.stderr.write(f"// IR after {one.name}\n{self._mlir(module)}")
        return self._emitted(module, ctx)

    def _verify(self, module: ModuleOp) -> None:
        if not self.args.no_verify:
            verify_module(module)

    def _passes(self, ctx: Context) -> Sequence[ModulePass]:
        if self.pipeline is not None:
            return self.pipeline
        if self.args.emit in GPU_EMITTED:
            return list(gpu_stages(ctx))
        if self.args.optimise or self.args.emit != "mlir":
            return list(stages(ctx))
        return []

    # -- output

    def _mlir(self, module: ModuleOp) -> str:
        stream = StringIO()
        printer = Printer(
            stream=stream,
            print_generic_format=self.args.print_op_generic,
            print_debuginfo=self.args.print_debuginfo,
        )
        printer.print_op(module)
        return f"{stream.getvalue()}\n"

    def _emitted(self, module: ModuleOp, ctx: Context) -> str:
        emit: str = self.args.emit
        if emit == "mlir":
            return self._mlir(module)
        if emit in GPU_EMITTED:
            return self._gpu(module, emit)
        from lowering.program.build import lower_module

        programs = [p for p in lower_module(module, ctx.target) if p is not None]
        if emit == "kern":
            return "".join(str(f) + "\n" for p in programs for f in p.functions)
        units = [unit for p in programs for unit in p.units]
        if emit == "llvm":
            return "\n".join(f"; module {u.name}\n{u.text}" for u in units)
        from lowering.codegen import CodegenSettings, shared_generator

        generator = shared_generator(CodegenSettings(inprocess=ctx.settings.in_process))
        products = generator.compile([replace(u, emit=emit) for u in units])
        if emit == "asm":
            return "\n".join(p.decode() for p in products)
        folder = self._object_folder()
        for unit, product in zip(units, products, strict=True):
            write_bytes(folder / f"{unit.name}.o", product)
        return "".join(f"{folder / unit.name}.o\n" for unit in units)

    def _gpu(self, module: ModuleOp, emit: str) -> str:
        from lowering.codegen import CodegenSettings, shared_generator
        from lowering.gpu.emit import llvm_text
        from lowering.gpu.ptx import GPU_TARGETS, gpu_module, ptx_of

        if emit == "gpu":
            gpu_module(module)
            return self._mlir(module)
        target = GPU_TARGETS[self.args.gpu_target]
        if emit == "nvptx":
            return llvm_text(gpu_module(module), target)
        generator = shared_generator(CodegenSettings(inprocess=self.args.in_process))
        return ptx_of(module, target, generator)

    def _object_folder(self) -> Path:
        if self.args.output is None:
            raise InvalidArgumentError("--emit object writes a folder of objects; name it with -o")
        folder = Path(self.args.output)
        if folder.exists() and not folder.is_dir():
            raise InvalidArgumentError(f"-o {folder} is a file; --emit object writes a folder")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _write(self, text: str) -> None:
        if self.args.output is None or self.args.emit == "object":
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            write_text(Path(self.args.output), text)


def register_lowered_dialects(ctx: Context) -> None:
    """Let the text of GPU programs be read too; a dialect is imported when its name is met."""

    def ours() -> Dialect:
        from lowering.gpu.dialect import GPU

        return GPU

    def kern() -> Dialect:
        from lowering.kern.dialect import KERN

        return KERN

    ctx.register_dialect("gpu", ours)
    ctx.register_dialect("kern", kern)
    known = get_all_dialects()
    for name in ("memref", "tensor"):
        ctx.register_dialect(name, known[name])


def split_chunks(text: str) -> Iterator[tuple[int, str]]:
    """The parts of `text` between border lines, each with the number of lines before it."""
    first, part = 0, list[str]()
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.startswith(CHUNK_BORDER):
            yield first, "".join(part)
            first, part = number, []
        else:
            part.append(line)
    yield first, "".join(part)


def parse_pipeline(spec: str) -> Sequence[ModulePass]:
    """The passes that `name{option=value ...},name` stands for.

    Raises:
        InvalidArgumentError: A name or an option is unknown, or the syntax is wrong.
    """
    factories = {name: lambda name=name: pass_named(name) for name in PASSES}
    try:
        return PassPipeline.parse_spec(factories, spec).passes
    except ArgSpecParseError as error:
        raise InvalidArgumentError(f"-p {spec!r}: {str(error).strip()}") from None
    except ValueError as error:
        known = ", ".join(sorted(PASSES))
        raise InvalidArgumentError(f"-p {spec!r}: {error}; the passes are {known}") from None


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(
            f"{name} is no MLIR text: byte {error.start} is not UTF-8"
        ) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; returns its exit code."""
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else USAGE
    if args.list_passes:
        print("\n".join(sorted(PASSES)))
        return 0
    try:
        pipeline = None if args.passes is None else parse_pipeline(args.passes)
    except InvalidArgumentError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return USAGE
    return guarded(PROGRAM, OptTool(args, pipeline).run, debug=args.debug)


if __name__ == "__main__":
    sys.exit(main())
