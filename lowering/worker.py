"""The code generation process: LLVM IR text in, machine code out.

LLVM aborts the whole process on input that it cannot handle, so it never runs in the user's.
`lowering.codegen` starts this file as a child and talks to it over pipes; it imports the standard
library and llvmlite, nothing of ours. By hand: `python -m lowering.worker`. The parent imports it
for the pipe protocol, so llvmlite is loaded only where code is generated.

A frame, in both directions, is: header length (u32, big endian), body length (u64, big endian),
header (JSON, UTF-8), body. A request's body is LLVM IR text; an answer's is the product or nothing.
"""

import argparse
import json
import os
import resource
import select
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llvmlite import binding as llvm

FRAME = struct.Struct(">IQ")
Header = Mapping[str, str | int | bool]


@dataclass(frozen=True)
class Request:
    """What to make of one module.

    Attributes:
        name: How messages call the module.
        triple: LLVM target triple.
        cpu: LLVM `-mcpu` name.
        features: LLVM feature string.
        passes: Speed level 0..3 of LLVM's own pass pipeline; 0 runs none.
        codegen: Optimisation level 0..3 of instruction selection and register allocation.
        emit: `object` (ELF, Mach-O or COFF by triple), `asm` (PTX for nvptx) or `llvm` (IR text).
    """

    name: str
    triple: str
    cpu: str = ""
    features: str = ""
    passes: int = 0
    codegen: int = 2
    emit: str = "object"


def encode_frame(header: Header, body: bytes) -> bytes:
    """One frame of the pipe protocol."""
    head = json.dumps(dict(header)).encode()
    return FRAME.pack(len(head), len(body)) + head + body


def encode_request(request: Request, text: bytes) -> bytes:
    """The frame that asks for `request` on LLVM IR `text`."""
    return encode_frame(asdict(request), text)


def initialize_llvm() -> None:
    """Register every target that this LLVM was built with."""
    from llvmlite import binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()


def generate(request: Request, text: str) -> bytes:
    """Parse, verify and compile one module.

    Raises:
        RuntimeError: LLVM refused the text or the target, with its message.
    """
    from llvmlite import binding as llvm

    module = llvm.parse_assembly(text)
    module.verify()
    machine = llvm.Target.from_triple(request.triple).create_target_machine(
        cpu=request.cpu,
        features=request.features,
        opt=request.codegen,
        reloc="pic",
        codemodel="small",
    )
    module.triple = request.triple
    module.data_layout = str(machine.target_data)
    if request.passes:
        _optimize(module, machine, request.passes)
    if request.emit == "object":
        return bytes(machine.emit_object(module))
    return (machine.emit_assembly(module) if request.emit == "asm" else str(module)).encode()


def _optimize(module: "llvm.ModuleRef", machine: "llvm.TargetMachine", level: int) -> None:
    from llvmlite import binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=level)
    options.loop_vectorization = level >= 2
    options.slp_vectorization = level >= 2
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)


def limit_memory(extra_bytes: int) -> None:
    """Let the address space of this process grow by at most `extra_bytes`; no core files."""
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read_exactly(fd: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = os.read(fd, min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _answer(header: dict[str, str | int], text: bytes) -> bytes:
    request = Request(**header)  # pyright: ignore[reportArgumentType]
    try:
        return encode_frame({"ok": True}, generate(request, text.decode()))
    except MemoryError:
        return encode_frame({"ok": False}, b"out of memory")
    except RuntimeError as error:
        return encode_frame({"ok": False}, str(error).encode())


def _take_standard_output() -> int:
    """Keep standard output for frames; whatever LLVM prints goes to standard error."""
    channel = os.dup(1)
    os.dup2(2, 1)
    return channel


def serve(source: int, sink: int, idle_s: float) -> None:
    """Answer requests until the pipe closes or nothing came for `idle_s` seconds."""
    while select.select([source], [], [], idle_s)[0]:
        try:
            head_bytes, body_bytes = FRAME.unpack(_read_exactly(source, FRAME.size))
        except EOFError:
            return
        header = json.loads(_read_exactly(source, head_bytes))
        answer = memoryview(_answer(header, _read_exactly(source, body_bytes)))
        while answer:
            answer = answer[os.write(sink, answer) :]


def main() -> int:
    """Run the process; returns its exit status."""
    parser = argparse.ArgumentParser(description="Compile LLVM IR from standard input (frames).")
    parser.add_argument("--memory", type=int, default=0, help="bytes it may allocate; 0: no limit")
    parser.add_argument("--idle", type=float, default=30.0, help="seconds without work to exit at")
    options = parser.parse_args()
    channel = _take_standard_output()
    initialize_llvm()
    if options.memory:
        limit_memory(options.memory)
    try:
        serve(0, channel, options.idle)
    except (BrokenPipeError, EOFError, KeyboardInterrupt):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
