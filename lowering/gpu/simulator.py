"""Runs the NVPTX LLVM IR text of kernels on the CPU: every GPU thread is a fiber.

The text is the one that becomes PTX. Only what names the machine is replaced: address spaces,
the kernel calling convention, and `llvm.nvvm.*`, which become functions of the small run-time
below. A barrier or shuffle there switches to the scheduler (`swapcontext` of glibc), which resumes
the threads in a random order, so that a missing barrier shows in the results.

Every load and store is logged, and the log is checked after each launch: an access outside the
kernel's arguments and shared memory, and one that another thread's store races with (the same
byte, no barrier between them), is a `SimulationError`.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from lowering.cpu.host import host_target
from lowering.cpu.jit import compile_module
from lowering.cpu.text import Module
from lowering.gpu.from_kern import WARP
from torsh_dialect.errors import CodegenError

Array = np.ndarray[Any, np.dtype[Any]]

RUNNING, BARRIER, SHUFFLE, DONE = range(4)
"""What a fiber waits for."""

STACK_BYTES = 64 * 1024
CONTEXT_BYTES = 8192
"""More than `ucontext_t` takes on any Linux."""
STACK_POINTER, STACK_SIZE = 16, 32
"""Offsets in `ucontext_t` of uc_stack.ss_sp and ss_size (Linux, 64 bits); uc_link is at 8."""
LINK = 8

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

ACCESS = np.dtype(
    [("address", np.int64), ("bytes", np.int64), ("write", np.int64), ("thread", np.int64),
     ("block", np.int64), ("epoch", np.int64)]
)  # fmt: skip
"""One logged access."""

MOST_ACCESSES = 1 << 22
"""Accesses of one launch that the log holds."""


class SimulationError(CodegenError):
    """A kernel did something that a GPU does not define."""


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
        kernels: Numbers of parameters by kernel.
        shared: Bytes of shared variables by name.
    """

    text: str
    kernels: Mapping[str, int]
    shared: Mapping[str, int]


def simulated(text: str) -> SimulatedText:
    """The text of kernels with a CPU's functions in the place of a GPU's."""
    shared = {m[1]: int(m[2]) * SIZES[m[3]] for m in SHARED.finditer(text)}
    kernels = {m[1]: m[2].count("%a") for m in KERNEL.finditer(text)}
    text = re.sub(r"^declare .*@llvm\.nvvm\..*\n", "", text, flags=re.MULTILINE)
    text = STORE.sub(_logged(1), LOAD.sub(_logged(0), text))
    text = KERNEL.sub(r"define void @\1(\2) nounwind {", text)
    text = GENERIC.sub(r"getelementptr i8, ptr \1, i64 0", text)
    text = text.replace("internal addrspace(3) global", "global").replace("@llvm.nvvm.", "@sim.")
    starts = "".join(_start(name, count) for name, count in kernels.items())
    return SimulatedText(text + RUNTIME + starts, kernels, shared)


def _start(name: str, count: int) -> str:
    """What a fiber runs: the kernel on the launch's argument words."""
    loads = "".join(
        f"  %p{n} = getelementptr i64, ptr %words, i64 {n}\n  %a{n} = load ptr, ptr %p{n}\n"
        for n in range(count)
    )
    listed = ", ".join(f"ptr %a{n}" for n in range(count))
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


class Simulator:
    """Compiled kernels and the memory they run on. A `Device` (see `lowering.gpu.program`).

    Args:
        text: LLVM IR text of kernels, as `lowering.gpu.emit.llvm_text` writes it.
        seed: Of the order in which threads run.
    """

    def __init__(self, text: str, seed: int = 0):
        self.source = simulated(text)
        starts = [f"{name}.start" for name in self.source.kernels]
        names = [*starts, "sim.thread", "sim.log", "sim.logged", *self.source.shared]
        self._code = compile_module(Module(functions=[self.source.text]), host_target(), names)
        self._random = np.random.default_rng(seed)
        self._log = np.empty(MOST_ACCESSES, ACCESS)
        self._variable("sim.log").value = self._log.ctypes.data

    def _variable(self, name: str) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self._code.tracker[name])

    # -- Device

    def put(self, array: Array) -> Array:
        """A copy of an array in memory with room around it."""
        memory = self.empty(array.shape, array.dtype)
        memory[...] = array
        return memory

    def empty(self, dims: Sequence[int], dtype: np.dtype[Any]) -> Array:
        """Memory whose bytes are all ones, NaN for floats; stray accesses near it do no harm."""
        count = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
        raw = np.full(count + 2 * MARGIN, 0xFF, np.uint8)
        return raw[MARGIN : MARGIN + count].view(dtype).reshape(tuple(dims))

    def get(self, memory: Array) -> Array:
        """A copy of the memory."""
        return memory.copy()

    def launch(self, name: str, blocks: int, threads: int, arguments: Sequence[Array]) -> None:
        """Run a kernel on `blocks` blocks of `threads` threads.

        Raises:
            SimulationError: It accessed memory that it was not given, had a data race, or threads
                waited for others that never came.
        """
        words = np.array([array.ctypes.data for array in arguments], np.int64)
        logged = self._variable("sim.logged")
        logged.value = 0
        fibers = Fibers(threads, self._code.tracker[f"{name}.start"])
        for block in range(blocks):
            fibers.start(block, words.ctypes.data)
            self._run(fibers)
        if logged.value > MOST_ACCESSES:
            raise SimulationError(f"{name}: {logged.value} accesses are too many to check")
        log = self._log[: logged.value]
        shared = {self._code.tracker[n]: size for n, size in self.source.shared.items()}
        given = {array.ctypes.data: array.nbytes for array in arguments}
        check_bounds(name, log, {**given, **shared})
        check_races(name, log, shared)

    def _run(self, fibers: Fibers) -> None:
        """Run a block: threads in random order until each waits, then what they wait for."""
        current, records = self._variable("sim.thread"), fibers.records
        while True:
            ready = np.flatnonzero(records["state"] == RUNNING)
            for thread in self._random.permutation(ready):
                current.value = records.ctypes.data + int(thread) * THREAD.itemsize
                fibers.resume(int(thread))
            if exchange(records):
                continue
            waiting = records["state"] == BARRIER
            if not waiting.any():
                return
            if not waiting.all():
                raise SimulationError(f"{np.sum(~waiting)} threads never come to a barrier")
            records["epoch"] += 1
            records["state"] = RUNNING


MARGIN = 4096
"""Bytes around simulated memory."""


def exchange(records: Array) -> bool:
    """Do the shuffles that whole warps wait for; whether there were any.

    Raises:
        SimulationError: Only a part of a warp came to a shuffle.
    """
    warps = records.reshape(-1, WARP)
    waiting = warps["state"] == SHUFFLE
    for warp, lanes in zip(warps, waiting, strict=True):
        if lanes.any():
            if not lanes.all():
                raise SimulationError(f"{np.sum(~lanes)} lanes never come to a shuffle")
            warp["value"] = warp["value"][warp["source"]]
            warp["state"] = RUNNING
    return bool(waiting.any())


class Fibers:
    """The threads of one block: a stack and a machine context each."""

    def __init__(self, count: int, entry: int):
        self.entry = entry
        self.records = np.zeros(count, THREAD)
        self._stacks = np.empty((count, STACK_BYTES), np.uint8)
        self._contexts = np.zeros((count + 1, CONTEXT_BYTES), np.uint8)
        self._scheduler = self._contexts[count].ctypes.data

    def start(self, block: int, words: int) -> None:
        """Make all threads ready to run block number `block` on the argument words."""
        libc, records = _libc(), self.records
        records["tid"] = np.arange(len(records))
        records["ctaid"], records["state"], records["epoch"] = block, RUNNING, 0
        records["scheduler"], records["words"] = self._scheduler, words
        for thread, stack in enumerate(self._stacks):
            context = self._contexts[thread].ctypes.data
            records[thread]["context"] = context
            libc.getcontext(context)
            for offset, value in (
                (LINK, self._scheduler), (STACK_POINTER, stack.ctypes.data),
                (STACK_SIZE, STACK_BYTES),
            ):  # fmt: skip
                ctypes.c_int64.from_address(context + offset).value = value
            libc.makecontext(context, self.entry, 0)

    def resume(self, thread: int) -> None:
        """Run a thread until it waits or ends."""
        _libc().swapcontext(self._scheduler, int(self.records[thread]["context"]))


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    pointer = ctypes.c_void_p
    libc.getcontext.argtypes = [pointer]
    libc.makecontext.argtypes = [pointer, pointer, ctypes.c_int]
    libc.swapcontext.argtypes = [pointer, pointer]
    return libc


def check_bounds(name: str, log: Array, allowed: Mapping[int, int]) -> None:
    """Check that each access is inside a range `start: bytes`.

    Raises:
        SimulationError: One is not; the first is named.
    """
    starts = np.array(sorted(allowed), np.int64)
    ends = starts + np.array([allowed[start] for start in sorted(allowed)], np.int64)
    place = np.searchsorted(starts, log["address"], "right") - 1
    inside = (place >= 0) & (log["address"] + log["bytes"] <= ends[place])
    if not inside.all():
        row = log[np.argmin(inside)]
        beyond = int(row["address"]) - int(starts[np.argmin(abs(starts - row["address"]))])
        raise SimulationError(f"{name}: {_who(row)} byte {beyond} of a buffer, out of bounds")


def check_races(name: str, log: Array, shared: Mapping[int, int]) -> None:
    """Check that no two threads access one address without a barrier, one of them storing.

    Raises:
        SimulationError: Two do; the address' first store is named.
    """
    in_shared = np.zeros(len(log), bool)
    for start, size in shared.items():
        in_shared |= (log["address"] >= start) & (log["address"] < start + size)
    for rows, keys, actor in (
        (log, ("address", "block", "epoch"), "thread"),
        (log[~in_shared], ("address",), "block"),
    ):
        order = np.lexsort([rows[key] for key in keys])
        rows = rows[order]
        if not len(rows):
            continue
        new = np.ones(len(rows), bool)
        new[1:] = np.any([rows[key][1:] != rows[key][:-1] for key in keys], axis=0)
        first = np.flatnonzero(new)
        several = np.minimum.reduceat(rows[actor], first) != np.maximum.reduceat(rows[actor], first)
        racing = several & (np.maximum.reduceat(rows["write"], first) == 1)
        if racing.any():
            row = rows[first[np.argmax(racing)]]
            raise SimulationError(f"{name}: {_who(row)} memory that another {actor} accesses: race")


def _who(row: Any) -> str:
    verb = "stores to" if row["write"] else "loads from"
    return f"thread {row['thread']} of block {row['block']} {verb}"
