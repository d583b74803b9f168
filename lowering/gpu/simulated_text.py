"""NVPTX LLVM IR text rewritten for the CPU, with the run-time that it calls.

Only what names the machine is replaced: address spaces, the kernel calling convention, and
`llvm.nvvm.*`, which become the functions below; loads and stores are logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lowering.gpu.accesses import MOST_ACCESSES
from lowering.gpu.from_kern import WARP

RUNNING, BARRIER, SHUFFLE, DONE = range(4)
"""What a fiber waits for."""

THREAD = np.dtype(
    [
        ("tid", np.int64),
        ("ctaid", np.int64),
        ("state", np.int64),
        ("value", np.int64),
        ("source", np.int64),
        ("epoch", np.int64),
        ("context", np.int64),
        ("scheduler", np.int64),
        ("words", np.int64),
    ]
)
"""A thread as the run-time sees it: words of 64 bits."""


def _field(name: str) -> int:
    return list(THREAD.names or ()).index(name)


def _read(name: str, label: str) -> str:
    return f"""  %{label}p = getelementptr i64, ptr %t, i64 {_field(name)}
  %{label} = load i64, ptr %{label}p"""


def _write(name: str, value: str, label: str) -> str:
    return f"""  %{label}p = getelementptr i64, ptr %t, i64 {_field(name)}
  store i64 {value}, ptr %{label}p"""


_LOG = "\n".join(
    f"  %l{n} = getelementptr i64, ptr %row, i64 {n}\n  store i64 {value}, ptr %l{n}"
    for n, value in enumerate(("%address", "%bytes", "%write", "%tid", "%cta", "%epoch"))
)

RUNTIME = f"""
@sim.thread = global ptr null
@sim.log = global ptr null
@sim.logged = global i64 0
declare i32 @swapcontext(ptr, ptr)

define void @sim.wait(i64 %state) noinline {{
  %t = load ptr, ptr @sim.thread
{_write("state", "%state", "s")}
{_read("context", "c")}
{_read("scheduler", "m")}
  %own = inttoptr i64 %c to ptr
  %main = inttoptr i64 %m to ptr
  %r = call i32 @swapcontext(ptr %own, ptr %main)
  ret void
}}
define void @sim.access(ptr %pointer, i64 %bytes, i64 %write) noinline {{
  %t = load ptr, ptr @sim.thread
{_read("tid", "tid")}
{_read("ctaid", "cta")}
{_read("epoch", "epoch")}
  %address = ptrtoint ptr %pointer to i64
  %n = load i64, ptr @sim.logged
  %next = add i64 %n, 1
  store i64 %next, ptr @sim.logged
  %fits = icmp ult i64 %n, {MOST_ACCESSES}
  br i1 %fits, label %put, label %full
put:
  %base = load ptr, ptr @sim.log
  %row = getelementptr [6 x i64], ptr %base, i64 %n
{_LOG}
  ret void
full:
  ret void
}}
define i32 @sim.read.ptx.sreg.tid.x() {{
  %t = load ptr, ptr @sim.thread
{_read("tid", "v")}
  %r = trunc i64 %v to i32
  ret i32 %r
}}
define i32 @sim.read.ptx.sreg.laneid() {{
  %v = call i32 @sim.read.ptx.sreg.tid.x()
  %r = and i32 %v, {WARP - 1}
  ret i32 %r
}}
define i32 @sim.read.ptx.sreg.ctaid.x() {{
  %t = load ptr, ptr @sim.thread
{_read("ctaid", "v")}
  %r = trunc i64 %v to i32
  ret i32 %r
}}
define void @sim.barrier.cta.sync.aligned.all(i32 %id) {{
  call void @sim.wait(i64 {BARRIER})
  ret void
}}
define i32 @sim.exchange(i32 %value, i64 %source) {{
  %t = load ptr, ptr @sim.thread
  %wide = zext i32 %value to i64
{_write("value", "%wide", "v")}
{_write("source", "%source", "l")}
  call void @sim.wait(i64 {SHUFFLE})
{_read("value", "o")}
  %r = trunc i64 %o to i32
  ret i32 %r
}}
define i32 @sim.shfl.sync.idx.i32(i32 %mask, i32 %value, i32 %lane, i32 %clamp) {{
  %source = zext i32 %lane to i64
  %r = call i32 @sim.exchange(i32 %value, i64 %source)
  ret i32 %r
}}
define i32 @sim.shfl.sync.down.i32(i32 %mask, i32 %value, i32 %offset, i32 %clamp) {{
  %lane = call i32 @sim.read.ptx.sreg.laneid()
  %far = add i32 %lane, %offset
  %inside = icmp ule i32 %far, %clamp
  %from = select i1 %inside, i32 %far, i32 %lane
  %source = zext i32 %from to i64
  %r = call i32 @sim.exchange(i32 %value, i64 %source)
  ret i32 %r
}}
"""

KERNEL = re.compile(r'^define ptx_kernel void @(\w+)\((.*)\) nounwind ".*" \{$', re.MULTILINE)
SHARED = re.compile(r"^@(\w+) = internal addrspace\(3\) global \[(\d+) x (\w+)\]", re.MULTILINE)
GENERIC = re.compile(r"addrspacecast ptr addrspace\(3\) (@\w+) to ptr")
LOAD = re.compile(r"^(  %(?!entry)\S+ = load (\w+), ptr (%\S+), align .*)$", re.MULTILINE)
"""Loads of kernels; `%entry` is the maths library reading its own tables."""
STORE = re.compile(r"^(  store (\w+) \S+, ptr (%\S+), align .*)$", re.MULTILINE)
SIZES = {"i1": 1, "i8": 1, "i16": 2, "i32": 4, "float": 4, "i64": 8, "double": 8}


def _logged(write: int) -> Callable[[re.Match[str]], str]:
    def replacement(match: re.Match[str]) -> str:
        line, type, pointer = match.groups()
        call = f"  call void @sim.access(ptr {pointer}, i64 {SIZES[type]}, i64 {write})"
        return f"{call}\n{line}"

    return replacement


@dataclass(frozen=True)
class SimulatedText:
    """NVPTX text rewritten for the CPU.

    Attributes:
        text: LLVM IR with the run-time.
        kernels: LLVM types of parameters by kernel.
        shared: Bytes of shared variables by name.
    """

    text: str
    kernels: Mapping[str, Sequence[str]]
    shared: Mapping[str, int]


def simulated(text: str) -> SimulatedText:
    """The text of kernels with a CPU's functions in the place of a GPU's."""
    shared = {m[1]: int(m[2]) * SIZES[m[3]] for m in SHARED.finditer(text)}
    kernels = {m[1]: [p.split()[0] for p in m[2].split(", ")] for m in KERNEL.finditer(text)}
    text = re.sub(r"^declare .*@llvm\.nvvm\..*\n", "", text, flags=re.MULTILINE)
    text = STORE.sub(_logged(1), LOAD.sub(_logged(0), text))
    text = KERNEL.sub(r"define void @\1(\2) nounwind {", text)
    text = GENERIC.sub(r"getelementptr i8, ptr \1, i64 0", text)
    text = text.replace("internal addrspace(3) global", "global").replace("@llvm.nvvm.", "@sim.")
    starts = "".join(_start(name, types) for name, types in kernels.items())
    return SimulatedText(text + RUNTIME + starts, kernels, shared)


def _start(name: str, types: Sequence[str]) -> str:
    """What a fiber runs: the kernel on the launch's argument words."""
    loads = "".join(
        f"  %p{n} = getelementptr i64, ptr %words, i64 {n}\n  %a{n} = load {type}, ptr %p{n}\n"
        for n, type in enumerate(types)
    )
    listed = ", ".join(f"{type} %a{n}" for n, type in enumerate(types))
    return f"""
define void @{name}.start() {{
  %t = load ptr, ptr @sim.thread
{_read("words", "w")}
  %words = inttoptr i64 %w to ptr
{loads}  call void @{name}({listed})
  call void @sim.wait(i64 {DONE})
  ret void
}}
"""
