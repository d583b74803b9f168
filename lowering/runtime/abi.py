"""The native interface between a compiled program and whoever calls it.

A program is `i32 NAME_plan(ptr call)` and `i32 NAME_run(ptr host, ptr call)`; both return 0, or one
more than the index of the check that failed. `call` points at a `Call` record of 64-bit words.
"""

import ctypes
from enum import IntEnum

ABI_VERSION = 1
"""Raised with every change of the host table, the call record or the kernel signature."""

ALIGNMENT = 64
"""Bytes: alignment of the arena, of scratch, and of weights."""


class Word(IntEnum):
    """Index of each 64-bit word of a call record.

    `INPUT_DIMS` and `OUTPUT_DIMS` point at all extents of all tensors, one after the other. Scratch
    begins at `ARENA + ARENA_BYTES` rounded up to `ALIGNMENT`.
    """

    INPUTS = 0
    INPUT_DIMS = 1
    OUTPUTS = 2
    OUTPUT_DIMS = 3
    WEIGHTS = 4
    ARENA = 5
    ARENA_BYTES = 6
    ERROR = 7


CALL_WORDS = len(Word)
ERROR_WORDS = 4

ALLOC = ctypes.CFUNCTYPE(
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_int64),
    ctypes.c_int64,
)
"""`ptr alloc(ptr ctx, i64 index, i64 rank, const i64* dims, i64 bytes)`; NULL refuses."""

LOG = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)
"""`void log(ptr ctx, i32 level, const char* message)`; levels as in `logging`."""

PLAN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)
RUN = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)


class TorshHost(ctypes.Structure):
    """What a program may ask of its host; one for each execution context.

    `parallel` is `void (const TorshHost*, void (*kernel)(ptr, i64, i64, i64), ptr args, i64 n,
    i64 grain)`. `ctx` points at a `HostContext`, which only this host's functions read.
    """

    _fields_ = (
        ("abi_version", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("parallel", ctypes.c_void_p),
        ("alloc", ALLOC),
        ("log", LOG),
        ("ctx", ctypes.c_void_p),
    )


class HostContext(ctypes.Structure):
    """What `TorshHost.ctx` points at; only the functions of the host read it.

    `flush_denormals` is 0 or 1. A profiled call writes up to `capacity` events of four words
    {kernel, units, start ns, end ns} to `events`, and the number there should be to `count`.
    """

    _fields_ = (
        ("flush_denormals", ctypes.c_int64),
        ("events", ctypes.c_void_p),
        ("capacity", ctypes.c_int64),
        ("count", ctypes.c_int64),
    )
