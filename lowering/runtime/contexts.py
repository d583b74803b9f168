"""Execution contexts: the memory that one call needs and no other call may touch meanwhile."""

import ctypes
import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lowering.runtime.abi import (
    ABI_VERSION,
    ALIGNMENT,
    ALLOC,
    CALL_WORDS,
    ERROR_WORDS,
    LOG,
    HostContext,
    TorshHost,
    Word,
)
from lowering.runtime.signature import Array, Shape, Signature
from lowering.runtime.spec import EntrySpec
from torsh_dialect.errors import ExecutionError, InputError, TorshError

_MAX_RECORDS = 16
_MAX_BYTES = 1 << 47
_logger = logging.getLogger("torsh")


_DATA_OFFSET = object.__basicsize__


def _address_by_interface(array: Array) -> int:
    return array.__array_interface__["data"][0]


def _address_by_layout(array: Array) -> int:
    return ctypes.c_size_t.from_address(id(array) + _DATA_OFFSET).value


def _fastest_address() -> Callable[[Array], int]:
    """Read the `data` field of `PyArrayObject` where a check says that it is where we think.

    It is the first field after the object's header since numpy 1.0, and a part of its C ABI; the
    public ways to it (`ctypes`, `__array_interface__`) take 0.8 us for each array of each call.
    """
    whole = np.zeros(8, np.uint8)
    fits = all(_address_by_layout(a) == _address_by_interface(a) for a in (whole, whole[3:]))
    return _address_by_layout if fits else _address_by_interface


address_of = _fastest_address()
"""Where the elements of an array begin."""


def aligned_bytes(count: int) -> Array:
    """`count` bytes of uninitialised memory that begin at a multiple of `ALIGNMENT`.

    Raises:
        ExecutionError: The system has not that much.
    """
    try:
        memory = np.empty(count + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError) as error:
        raise ExecutionError(
            f"out of memory: {count} bytes for an arena or a weight; use smaller inputs"
        ) from error
    start = -address_of(memory) % ALIGNMENT
    return memory[start : start + count]


def aligned_array(array: Array) -> Array:
    """`array` itself where it is C-contiguous and aligned to `ALIGNMENT`, or a copy that is."""
    if array.flags.c_contiguous and address_of(array) % ALIGNMENT == 0:
        return array
    copy = aligned_bytes(array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


Room = Callable[[Shape], Array]
"""Gives the array that an output of these extents is written to."""


class WeightTable:
    """The weights of a program and the table of their addresses; never changes."""

    def __init__(self, arrays: Sequence[Array]):
        self.arrays = tuple(arrays)
        self._pointers = (ctypes.c_uint64 * max(1, len(arrays)))(*map(address_of, arrays))
        self.address = ctypes.addressof(self._pointers)


class Allocator:
    """The host table's `alloc`: makes outputs whose extents the program has just computed.

    A negative index asks for memory that lasts until the call ends.
    """

    def __init__(self, dtypes: Sequence[np.dtype[np.generic]]):
        self.dtypes = dtypes
        self.arrays: dict[int, Array] = {}
        self.chunks: list[Array] = []
        self.error: BaseException | None = None

    def __call__(
        self, context: int, index: int, rank: int, dims: Sequence[int], count: int
    ) -> int | None:
        """Called by the program; an exception waits in `error` until the native frames are left."""
        try:
            if index < 0:
                self.chunks.append(aligned_bytes(count))
                return address_of(self.chunks[-1])
            array = self._make(index, tuple(dims[i] for i in range(rank)), count)
        except BaseException as error:
            self.error = error
            return None
        self.arrays[index] = array
        return address_of(array)

    def _make(self, index: int, shape: Shape, count: int) -> Array:
        try:
            array = np.empty(shape, self.dtypes[index])
        except (MemoryError, ValueError) as error:
            raise ExecutionError(f"cannot make output {index} of shape {shape}: {error}") from error
        if array.nbytes < count:
            raise ExecutionError(
                f"output {index} of shape {shape} has {array.nbytes} bytes; the program asked for "
                f"{count}"
            )
        return array


def _write_log(context: int, level: int, message: bytes) -> None:
    _logger.log(level, "%s", message.decode(errors="replace"))


_log = LOG(_write_log)


class Record:
    """A call record for inputs of certain extents: planned once, bound to arrays anew.

    Attributes:
        output_shapes: Shapes that the plan computed; None for a data-dependent output.
        need: Bytes of arena and scratch.
    """

    def __init__(self, spec: EntrySpec, shapes: Sequence[Shape], threads: int):
        self.spec = spec
        self.words = (ctypes.c_uint64 * CALL_WORDS)()
        self.frame = (ctypes.c_uint64 * 3)()
        self.error = (ctypes.c_int64 * ERROR_WORDS)()
        self.inputs = (ctypes.c_uint64 * max(1, len(spec.inputs)))()
        self.outputs = (ctypes.c_uint64 * max(1, len(spec.outputs)))()
        flat = [extent for shape in shapes for extent in shape]
        self.input_dims = (ctypes.c_int64 * max(1, len(flat)))(*flat)
        count = sum(len(one.dims) for one in spec.outputs)
        self.output_dims = (ctypes.c_int64 * max(1, count))()
        for word, block in (
            (Word.INPUTS, self.inputs),
            (Word.INPUT_DIMS, self.input_dims),
            (Word.OUTPUTS, self.outputs),
            (Word.OUTPUT_DIMS, self.output_dims),
            (Word.ERROR, self.error),
        ):
            self.words[word] = ctypes.addressof(block)
        self.address = ctypes.addressof(self.words)
        self.frame_address = ctypes.addressof(self.frame)
        self.frame[2] = self.address
        self.weights: WeightTable | None = None
        self.output_shapes: list[Shape | None] = []
        self.need = 0
        self.bound: tuple[tuple[weakref.ref[Array], Shape, object], ...] = ()
        self._threads = threads

    def plan(self, function: Callable[[int], int]) -> None:
        """Let the program check extents and compute output extents and the size of its arena.

        Raises:
            InputError: A check of the program failed on the inputs.
            ExecutionError: A size overflows.
        """
        status = function(self.address)
        if status:
            raise self.failure(status)
        place = 0
        for spec in self.spec.outputs:
            shape = tuple(self.output_dims[place : place + len(spec.dims)])
            place += len(spec.dims)
            if not spec.data_dependent and any(extent < 0 for extent in shape):
                raise ExecutionError(f"output {spec.name!r} has a negative extent: {shape}")
            self.output_shapes.append(None if spec.data_dependent else shape)
        arena = self.words[Word.ARENA_BYTES]
        if arena > _MAX_BYTES:
            raise ExecutionError(
                f"the arena of this call would take {arena} bytes, more than a process can have; "
                "use smaller inputs"
            )
        scratch = self.spec.scratch_bytes * self._threads
        self.need = -(-arena // ALIGNMENT) * ALIGNMENT + scratch

    def failure(self, status: int) -> TorshError:
        """The error that a status other than 0 stands for."""
        if status == -1:
            return ExecutionError(f"the program was not compiled for host ABI {ABI_VERSION}")
        if not 0 < status <= len(self.spec.checks):
            return ExecutionError(f"the program stopped with status {status}, which it never gives")
        check = self.spec.checks[status - 1]
        kind = InputError if check.kind == "input" else ExecutionError
        value, limit, *more = map(int, self.error)
        if check.kind == "index" and value < 0:  # it has been counted from the end already
            value -= limit
        return kind(check.message.format(value, limit, *more), location=check.location or None)

    def new_outputs(
        self,
        dtypes: Sequence[np.dtype[np.generic]],
        *,
        aligned: bool = False,
        rooms: Mapping[int, Room] | None = None,
    ) -> list[Array | None]:
        """Output arrays, fresh but for those in `rooms`; None for a data-dependent one.

        Args:
            dtypes: The outputs' numpy dtypes.
            aligned: Begin each at a multiple of `ALIGNMENT` (numpy itself gives 16 bytes).
            rooms: Functions that give the arrays of some outputs.

        Raises:
            ExecutionError: Memory ran out, or a size overflows.
        """
        arrays: list[Array | None] = []
        planned = zip(self.spec.outputs, self.output_shapes, dtypes, strict=True)
        for number, (spec, shape, dtype) in enumerate(planned):
            try:
                if shape is None:
                    arrays.append(None)
                elif rooms and number in rooms:
                    arrays.append(rooms[number](shape))
                elif aligned:
                    count = math.prod(shape) * dtype.itemsize
                    arrays.append(aligned_bytes(count).view(dtype).reshape(shape))
                else:
                    arrays.append(np.empty(shape, dtype))
            except (MemoryError, ValueError) as error:
                raise ExecutionError(
                    f"out of memory: output {spec.name!r} of shape {shape} and dtype "
                    f"{spec.dtype}; use smaller inputs"
                ) from error
        return arrays

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array | None]) -> None:
        """Write the addresses of arrays that were checked; the caller keeps the arrays."""
        for index, array in enumerate(inputs):
            self.inputs[index] = address_of(array)
        for index, array in enumerate(outputs):
            self.outputs[index] = 0 if array is None else address_of(array)

    def remember(self, arrays: Sequence[Array]) -> None:
        """Note which arrays are bound, without keeping them alive."""
        self.bound = tuple((weakref.ref(one), one.shape, one.dtype) for one in arrays)

    def is_bound_to(self, arrays: Sequence[Array]) -> bool:
        """Whether these very arrays are bound, and none was changed in shape, dtype or strides."""
        if len(self.bound) != len(arrays):
            return False
        for (reference, shape, dtype), array in zip(self.bound, arrays, strict=True):
            if (
                reference() is not array
                or array.shape != shape
                or array.dtype is not dtype
                or not array.flags.c_contiguous
            ):
                return False
        return True


@dataclass(frozen=True)
class NativeEntry:
    """The addresses and functions that a call needs; the owner keeps the code alive."""

    plan: Callable[[int], int]
    run_address: int
    parallel_address: int
    threads: int
    flush_denormals: bool


class Context:
    """Arena, host table and the records of the extents seen last; one call at a time.

    Attributes:
        plans: How many times a plan was computed here.
        state: What the host's functions know of the call.
    """

    def __init__(self, signature: Signature, entry: NativeEntry):
        self.signature = signature
        self.entry = entry
        self.records: OrderedDict[tuple[Shape, ...], Record] = OrderedDict()
        self.arena = aligned_bytes(0)
        self._arena_address = address_of(self.arena)
        spec = signature.spec
        self.allocator = Allocator(signature.output_dtypes)
        asks = spec.allocates or any(one.data_dependent for one in spec.outputs)
        self._alloc = ALLOC(self.allocator) if asks else ALLOC()
        self.state = HostContext(int(entry.flush_denormals))
        self.host = TorshHost(
            ABI_VERSION,
            entry.threads,
            entry.parallel_address,
            self._alloc,
            _log,
            ctypes.addressof(self.state),
        )
        self.plans = 0

    def record(self, shapes: tuple[Shape, ...]) -> Record:
        """The record of these input shapes, planned if it is new; the arena is large enough.

        Raises:
            InputError: The shapes break the signature.
            ExecutionError: Memory ran out or a size overflows.
        """
        record = self.records.get(shapes)
        if record is None:
            record = self._new_record(shapes)
        elif len(self.records) > 1:
            self.records.move_to_end(shapes)
        if record.need > self.arena.nbytes:
            self._grow(record.need)
        if record.words[Word.ARENA] != self._arena_address:
            record.words[Word.ARENA] = self._arena_address
        return record

    def _new_record(self, shapes: tuple[Shape, ...]) -> Record:
        self.signature.check(shapes)
        record = Record(self.signature.spec, shapes, self.entry.threads)
        record.plan(self.entry.plan)
        self.plans += 1
        record.frame[0] = self.entry.run_address
        record.frame[1] = ctypes.addressof(self.host)
        self.records[shapes] = record
        if len(self.records) > _MAX_RECORDS:
            self.records.popitem(last=False)
        return record

    def _grow(self, count: int) -> None:
        for size in (0, count):  # the old arena goes first, so that the peak is one arena
            self.arena = aligned_bytes(size)
            self._arena_address = address_of(self.arena)
