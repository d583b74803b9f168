"""Kernels on an NVIDIA GPU through the CUDA driver API: PTX in, launches and timings out.

Needs the driver's `libcuda.so.1`, ctypes and numpy only, none of the compiler. The context is the
device's primary one, which PyTorch in the same process uses too.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from torsh_dialect.errors import TorshError

Array = np.ndarray[Any, np.dtype[Any]]

JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BYTES = 5, 6
"""`CUjit_option` values (cuda.h)."""
LOG_BYTES = 16384


class CudaError(TorshError):
    """The driver refused a call."""


class Driver(Protocol):
    """`libcuda.so.1`, or what a test puts in its place."""

    def __getattr__(self, name: str) -> Callable[..., int]: ...


def load_driver() -> Driver:
    """The installed driver.

    Raises:
        CudaError: There is none.
    """
    try:
        return ctypes.CDLL("libcuda.so.1")  # pyright: ignore[reportReturnType]
    except OSError as error:
        raise CudaError(f"no CUDA driver: {error}; GPU programs need an NVIDIA driver") from None


@dataclass(frozen=True, eq=False)
class DeviceMemory:
    """Memory of the GPU; freed with the object."""

    pointer: int
    dims: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def bytes(self) -> int:
        """Its size."""
        return int(np.prod(self.dims, dtype=np.int64)) * self.dtype.itemsize


class CudaDevice:
    """The first GPU with the kernels of one PTX text. A `Device` (see `lowering.gpu.program`).

    Args:
        ptx: The kernels.
        driver: The driver; None loads the installed one.

    Raises:
        CudaError: There is no driver or GPU, or the driver's compiler refused the PTX.
    """

    def __init__(self, ptx: str, driver: Driver | None = None):
        self._driver = driver or load_driver()
        self._call("cuInit", 0)
        device, context, self._module = c_int(), c_void_p(), c_void_p()
        self._call("cuDeviceGet", byref(device), 0)
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._load(ptx)
        self._functions: dict[str, c_void_p] = {}

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._driver, name)(*arguments):
            raise CudaError(f"{name} failed with CUresult {status}")

    def _load(self, ptx: str) -> None:
        log = ctypes.create_string_buffer(LOG_BYTES)
        options = (c_int * 2)(JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BYTES)
        values = (c_void_p * 2)(ctypes.addressof(log), LOG_BYTES)
        image = ctypes.create_string_buffer(ptx.encode())
        try:
            self._call("cuModuleLoadDataEx", byref(self._module), image, 2, options, values)
        except CudaError as error:
            raise CudaError(f"{error}: {log.value.decode(errors='replace')}") from None

    # -- Device

    def empty(self, dims: Sequence[int], dtype: np.dtype[Any]) -> DeviceMemory:
        """New memory whose bytes are all ones, NaN for floats."""
        pointer = c_uint64()
        count = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
        self._call("cuMemAlloc_v2", byref(pointer), c_size_t(max(count, 1)))
        memory = DeviceMemory(pointer.value, tuple(dims), dtype)
        weakref.finalize(memory, self._call, "cuMemFree_v2", c_uint64(pointer.value))
        self._call("cuMemsetD8_v2", pointer, ctypes.c_ubyte(0xFF), c_size_t(count))
        return memory

    def put(self, array: Array) -> DeviceMemory:
        """A copy of an array on the GPU."""
        source = np.ascontiguousarray(array)
        memory = self.empty(source.shape, source.dtype)
        pointer, count = c_uint64(memory.pointer), c_size_t(memory.bytes)
        self._call("cuMemcpyHtoD_v2", pointer, c_void_p(source.ctypes.data), count)
        return memory

    def get(self, memory: DeviceMemory) -> Array:
        """What is in the memory, once all launches before are done."""
        array = np.empty(memory.dims, memory.dtype)
        pointer, count = c_uint64(memory.pointer), c_size_t(memory.bytes)
        self._call("cuMemcpyDtoH_v2", c_void_p(array.ctypes.data), pointer, count)
        return array

    def launch(
        self, name: str, blocks: int, threads: int, arguments: Sequence[DeviceMemory | int]
    ) -> None:
        """Start a kernel on a line of blocks, in the default stream."""
        words = [c_uint64(a if isinstance(a, int) else a.pointer) for a in arguments]
        listed = (c_void_p * len(words))(*[ctypes.addressof(word) for word in words])
        sizes = [c_uint(n) for n in (blocks, 1, 1, threads, 1, 1, 0)]
        self._call("cuLaunchKernel", self._function(name), *sizes, None, listed, None)

    def _function(self, name: str) -> c_void_p:
        if name not in self._functions:
            function = c_void_p()
            self._call("cuModuleGetFunction", byref(function), self._module, name.encode())
            self._functions[name] = function
        return self._functions[name]

    # -- measuring

    def copy(self, target: DeviceMemory, source: DeviceMemory) -> None:
        """Copy memory on the GPU: what it can move at best."""
        pointers = c_uint64(target.pointer), c_uint64(source.pointer)
        self._call("cuMemcpyDtoDAsync_v2", *pointers, c_size_t(source.bytes), None)

    def seconds(self, work: Callable[[], None], repeats: int = 20) -> list[float]:
        """GPU times of `work`, each between two events, after three runs without."""
        start, stop = c_void_p(), c_void_p()
        for event in (start, stop):
            self._call("cuEventCreate", byref(event), 0)
        times: list[float] = []
        for number in range(repeats + 3):
            self._call("cuEventRecord", start, None)
            work()
            self._call("cuEventRecord", stop, None)
            self._call("cuEventSynchronize", stop)
            elapsed = c_float()
            self._call("cuEventElapsedTime", byref(elapsed), start, stop)
            if number >= 3:
                times.append(1e-3 * elapsed.value)
        return times
