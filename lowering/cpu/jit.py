"""Compile kernels inside this process: for tests, benchmarks and `TORSH_INPROCESS=1`.

The product compiles in worker processes, because LLVM ends the process on some bad inputs.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from lowering.cpu.text import Module
from lowering.runtime.link import LinkedCode, libc_address
from torsh_dialect.target import TargetInfo


@cache
def target_machine(target: TargetInfo) -> Any:
    """The LLVM target machine of `target`, position independent, codegen level 3."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    description = llvm.Target.from_triple(target.triple)
    return description.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small"
    )


def parse(module: Module, target: TargetInfo) -> Any:
    """Parse and verify a module for `target`."""
    machine = target_machine(target)
    parsed = llvm.parse_assembly(module.text())
    parsed.triple = machine.triple
    parsed.data_layout = str(machine.target_data)
    parsed.verify()
    return parsed


def assembly(module: Module, target: TargetInfo) -> str:
    """The target's assembly text of a module."""
    return target_machine(target).emit_assembly(parse(module, target))


def object_file(module: Module, target: TargetInfo) -> bytes:
    """The object file of a module."""
    return target_machine(target).emit_object(parse(module, target))


def runs_here(target: TargetInfo) -> bool:
    """Whether this machine can run code for `target`."""
    if not target.triple.startswith(llvm.get_process_triple().split("-")[0]):
        return False
    features = llvm.get_host_cpu_features()
    needed = {64: ("avx512f", "avx512vl"), 32: ("avx2", "fma"), 16: ("sse4.2",)}
    if target.cpu.startswith("znver"):
        return target.cpu == llvm.get_host_cpu_name()
    return all(features.get(name, False) for name in needed[target.vector_bytes])


@dataclass
class Compiled:
    """Linked kernels. Keep this object alive while a kernel of it may run."""

    code: LinkedCode
    module: Module

    def address(self, name: str) -> int:
        """The address of a kernel or of a variable that was exported."""
        return self.code.address(name)

    def kernel(self, name: str) -> Callable[..., None]:
        """The kernel `name` as `(words, lo, hi, worker=0)`.

        `words` are numpy arrays (their address is passed) and integers; the arrays stay
        referenced by the returned call's frame while the kernel runs.
        """
        signature = ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
        )
        function = signature(self.address(name))

        def call(words: list[Any], lo: int, hi: int, worker: int = 0) -> None:
            record = argument_words(words)
            function(record.ctypes.data, lo, hi, worker)
            assert self.code is not None  # the code must outlive the call

        return call

    def pointer(self, name: str) -> Any:
        """The raw ctypes function of kernel `name`, for timing loops."""
        return ctypes.CFUNCTYPE(
            None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
        )(self.address(name))


def argument_words(words: list[Any]) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    """Kernel argument words: addresses of arrays, integers as they are."""
    return np.array(
        [w.ctypes.data if isinstance(w, np.ndarray) else int(w) for w in words], dtype=np.uint64
    )


def compile_module(
    module: Module, target: TargetInfo, names: list[str], system: Sequence[str] = ()
) -> Compiled:
    """Compile and link `module`, exporting `names`; it may call `system`, of the C library."""
    imports = {name: libc_address(name) for name in system}
    return Compiled(LinkedCode([object_file(module, target)], names, imports), module)


def aligned(
    dims: tuple[int, ...], dtype: Any = np.float32, alignment: int = 64
) -> "np.ndarray[Any, Any]":
    """A zeroed array whose first byte is aligned to `alignment`."""
    size = int(np.prod(dims)) * np.dtype(dtype).itemsize
    raw = np.zeros(size + alignment, np.uint8)
    start = -raw.ctypes.data % alignment
    return raw[start : start + size].view(dtype).reshape(dims)
