"""Runs the NVPTX LLVM IR text of kernels on the CPU: every GPU thread is a fiber.

The text is the one that becomes PTX (see `simulated_text` for what is replaced). A barrier or a
shuffle switches to the scheduler (`swapcontext` of glibc), which resumes the threads in a random
order, so that a missing barrier shows in the results. The log of loads and stores is checked
after each launch: an access outside the kernel's arguments and shared memory, and one that races
with another thread's store, is a `SimulationError`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lowering.cpu.host import host_target
from lowering.cpu.jit import compile_module
from lowering.cpu.text import Module
from lowering.gpu.accesses import (
    ACCESS,
    MOST_ACCESSES,
    SimulationError,
    check_bounds,
    check_races,
)
from lowering.gpu.from_kern import WARP
from lowering.gpu.simulated_text import BARRIER, RUNNING, SHUFFLE, THREAD, simulated

Array = np.ndarray[Any, np.dtype[Any]]

STACK_BYTES = 64 * 1024
CONTEXT_BYTES = 8192
"""More than `ucontext_t` takes on any Linux."""
STACK_POINTER, STACK_SIZE = 16, 32
"""Offsets in `ucontext_t` of uc_stack.ss_sp and ss_size (Linux, 64 bits); uc_link is at 8."""
LINK = 8


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
        module = Module(functions=[self.source.text])
        self._code = compile_module(module, host_target(), names, ["swapcontext"])
        self._random = np.random.default_rng(seed)
        self._log = np.empty(MOST_ACCESSES, ACCESS)
        self._variable("sim.log").value = self._log.ctypes.data

    def _variable(self, name: str) -> ctypes.c_int64:
        return ctypes.c_int64.from_address(self._code.address(name))

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

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[Array | int]
    ) -> None:
        """Run a kernel on `blocks` blocks of `threads` threads.

        Raises:
            SimulationError: It accessed memory that it was not given, had a data race, or threads
                waited for others that never came.
        """
        arrays = [argument for argument in arguments if not isinstance(argument, int)]
        words = np.array([a if isinstance(a, int) else a.ctypes.data for a in arguments], np.int64)
        logged = self._variable("sim.logged")
        logged.value = 0
        fibers = Fibers(threads, self._code.address(f"{name}.start"))
        for block in range(blocks):
            fibers.start(block, words.ctypes.data)
            self._run(fibers)
        if logged.value > MOST_ACCESSES:
            raise SimulationError(f"{name}: {logged.value} accesses are too many to check")
        log = self._log[: logged.value]
        shared = {self._code.address(n): size for n, size in self.source.shared.items()}
        given = {array.ctypes.data: array.nbytes for array in arrays}
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
