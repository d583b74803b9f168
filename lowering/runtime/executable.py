"""Compiled programs as Python objects: they own code, weights and memory, and can be called."""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lowering.runtime.abi import PLAN, Word
from lowering.runtime.contexts import (
    Context,
    NativeEntry,
    Record,
    Room,
    WeightTable,
    address_of,
    aligned_array,
)
from lowering.runtime.dtypes import numpy_dtype
from lowering.runtime.host import TORCH_LOADED, native_host
from lowering.runtime.link import LinkedCode
from lowering.runtime.machine import check_machine, machine_flags
from lowering.runtime.profile import MAX_EVENTS, Profile, read_profile
from lowering.runtime.signature import Array, Signature
from lowering.runtime.slices import SlicedParallel
from lowering.runtime.spec import ProgramSpec, WeightSpec
from lowering.runtime.threads import thread_limit
from torsh_dialect.errors import ExecutionError, InvalidArgumentError

PREPARE = "prepare"
"""Name of the entry that makes prepared weights of raw ones."""

Inputs = Sequence[Array] | Mapping[str, Array]


@dataclass(frozen=True)
class RunOptions:
    """How an entry runs; none of these changes a bit of the results, but `flush_denormals`.

    Attributes:
        threads: Most threads of a call; None takes what container and affinity mask allow.
        flush_denormals: Treat denormal numbers as zero, in every thread of the call.
    """

    threads: int | None = None
    flush_denormals: bool = False


class Program:
    """Linked code and weights, shared by the executables of all entries. Thread-safe.

    Args:
        spec: What the program is.
        objects: Relocatable objects for this machine.
        weights: Prepared weights by name, used in place where contiguous and aligned; None where
            `prepare` will make them.
        symbols: Addresses of the `host_symbols` of `spec`.
        host: Object of the thread pool (`lowering.codegen.host_unit`); without it, llvmlite is
            loaded to make one, unless the process has one already.

    Raises:
        CodegenError: The objects do not link.
        ExecutionError: This machine cannot run code for the program's target.
        InvalidArgumentError: Weights or symbols do not fit `spec`.
    """

    def __init__(
        self,
        spec: ProgramSpec,
        objects: Sequence[bytes],
        weights: Mapping[str, Array] | None = None,
        symbols: Mapping[str, int] | None = None,
        host: bytes = b"",
    ):
        absent = set(spec.host_symbols) - set(symbols or {})
        if absent:
            raise InvalidArgumentError(f"no address for host symbols: {', '.join(sorted(absent))}")
        check_machine(spec.target, machine_flags())
        self.spec = spec
        self.host = native_host(host)
        exports = [f"{e.symbol}_{part}" for e in spec.entries for part in ("plan", "run")]
        exports += [kernel.name for kernel in spec.kernels]
        self.code = LinkedCode(objects, exports, symbols)
        ready = weights is not None or not spec.weights
        self.weights = WeightTable(_checked(spec.weights, weights or {})) if ready else None

    def prepare(self, raw: Inputs, options: "RunOptions | None" = None) -> None:
        """Compute all weights from raw ones by the entry `prepare`, and use them from now on.

        Raises:
            InputError: The raw weights break the signature of `prepare`; nothing has changed then.
            ExecutionError: Memory ran out, or a check failed; nothing has changed then.
        """
        entry = Executable(self, PREPARE, options)
        made = entry.run(raw)
        names = [one.name for one in entry.spec.outputs]
        self.update_weights(dict(zip(names, made, strict=True)))

    def update_weights(self, weights: Mapping[str, Array]) -> None:
        """Replace all weights at once; calls that are running finish with the old ones.

        Raises:
            InvalidArgumentError: A weight is missing, unknown, or of another dtype or shape;
                nothing has changed then.
        """
        self.weights = WeightTable(_checked(self.spec.weights, weights))


def _checked(specs: Sequence[WeightSpec], weights: Mapping[str, Array]) -> list[Array]:
    unknown = set(weights) - {spec.name for spec in specs}
    if unknown:
        raise InvalidArgumentError(f"the program has no weights {', '.join(sorted(unknown))}")
    arrays: list[Array] = []
    for spec in specs:
        if spec.name not in weights:
            raise InvalidArgumentError(f"the weight {spec.name!r} is missing")
        array = weights[spec.name]
        if array.dtype != numpy_dtype(spec.dtype) or array.shape != spec.dims:
            raise InvalidArgumentError(
                f"the weight {spec.name!r} is {array.dtype}{list(array.shape)}, not "
                f"{spec.dtype}{list(spec.dims)}"
            )
        arrays.append(aligned_array(array))
    return arrays


class Executable:
    """One entry of a program. Calls may overlap in any number of threads.

    Args:
        program: Code and weights; kept alive.
        entry: Name of the entry.
        options: Threads and floating-point mode.
    """

    def __init__(self, program: Program, entry: str = "main", options: RunOptions | None = None):
        options = options or RunOptions()
        self.program = program
        self.spec = program.spec.entry(entry)
        self.signature = Signature(self.spec)
        self.threads = thread_limit(options.threads).count
        self.host = program.host
        if self.threads > 1:
            self.host.find_gomp()
        symbol = self.spec.symbol
        self._entry = NativeEntry(
            PLAN(program.code.address(f"{symbol}_plan")),
            program.code.address(f"{symbol}_run"),
            self.host.parallel,
            self.threads,
            options.flush_denormals,
        )
        self._idle: deque[Context] = deque()  # append and pop are atomic: no lock to fork over
        self._dynamic = any(one.data_dependent for one in self.spec.outputs)
        self._prepares = entry == PREPARE

    @property
    def in_place(self) -> tuple[tuple[int, int], ...]:
        """Pairs of an input and an output that may be the same memory in a call."""
        return self.spec.in_place

    def run(self, inputs: Inputs) -> list[Array]:
        """Run on arrays, in order or by name; returns fresh outputs in order.

        Contiguous inputs are not copied. The GIL is released while native code runs.

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A check of the program failed, or memory ran out.
        """
        arrays = self._usable(inputs)
        context = self._take()
        try:
            return self._run(context, arrays)
        finally:
            self._idle.append(context)

    def run_keeping(self, inputs: Sequence[Array], rooms: Mapping[int, Room]) -> list[Array]:
        """Run on arrays and write some outputs where the caller says.

        Args:
            inputs: Arrays in order.
            rooms: For some outputs, a function from their extents to an array to write: aligned,
                contiguous, of the output's dtype, and apart from all other memory of the call
                except for a pair of `in_place`. Not asked for data-dependent outputs.

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A check of the program failed, or memory ran out.
        """
        arrays = self._usable(inputs)
        context = self._take()
        try:
            return self._run(context, arrays, rooms)
        finally:
            self._idle.append(context)

    def _run(
        self, context: Context, arrays: Sequence[Array], rooms: Mapping[int, Room] | None = None
    ) -> list[Array]:
        record = context.record(tuple([array.shape for array in arrays]))
        dtypes = self.signature.output_dtypes
        outputs = record.new_outputs(dtypes, aligned=self._prepares, rooms=rooms)
        record.bound = ()
        record.bind(arrays, outputs)
        self.call(context, record)
        if self._dynamic:
            made, context.allocator.arrays = context.allocator.arrays, {}
            outputs = [made[i] if one is None else one for i, one in enumerate(outputs)]
        found = [one for one in outputs if one is not None]
        return self.signature.logical(found) if self.signature.stores else found

    def run_into(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run on arrays and write into the caller's outputs.

        With the same arrays as last time, nothing is looked up or allocated again.

        Raises:
            InputError: The inputs break the signature.
            InvalidArgumentError: An output has the wrong dtype or shape, is not contiguous and
                writable, overlaps another array, or is data-dependent.
            ExecutionError: A check of the program failed, or memory ran out.
        """
        context = self._take()
        try:
            held = (*inputs, *outputs)
            record = self._bound_record(context, held)
            if record is None:
                arrays = self._usable(inputs)
                record = context.record(tuple([array.shape for array in arrays]))
                record.bind(arrays, self.check_outputs(record, arrays, outputs))
                copied = any(ours is not theirs for ours, theirs in zip(arrays, held, strict=False))
                record.remember(() if copied else held)
                self.call(context, record)
                return
            self.call(context, record)
        finally:
            self._idle.append(context)

    def run_sliced(self, inputs: Inputs, between: Callable[[], None]) -> list[Array]:
        """Run as `run` does, on this thread alone, and call `between` every now and then.

        Args:
            inputs: Arrays, in order or by name.
            between: Called between slices of kernels, e.g. to give back pages that were read.

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A check of the program failed, or memory ran out.
        """
        parallel = SlicedParallel(between)
        native = replace(self._entry, parallel_address=parallel.address)
        outputs = self._run(Context(self.signature, native), self._usable(inputs))
        if parallel.error is not None:
            raise parallel.error
        return outputs

    def bind(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> "BoundCall":
        """Check and bind arrays once, to run on them many times.

        Raises:
            InputError: As `run_into`; an input must be contiguous here.
            InvalidArgumentError: As `run_into`.
        """
        return BoundCall(self, inputs, outputs)

    def profile(self, inputs: Inputs) -> Profile:
        """Run once on arrays and time every kernel that the program gives to `parallel`.

        Raises:
            InputError: The inputs break the signature.
            ExecutionError: A check of the program failed, or memory ran out.
        """
        arrays = self._usable(inputs)
        native = replace(self._entry, parallel_address=self.host.parallel_profiled)
        context = Context(self.signature, native)
        events = np.zeros((MAX_EVENTS, 4), np.int64)
        context.state.events = events.ctypes.data
        context.state.capacity = MAX_EVENTS
        record = context.record(tuple([array.shape for array in arrays]))
        outputs = record.new_outputs(self.signature.output_dtypes)
        record.bind(arrays, outputs)
        start = time.perf_counter_ns()
        self.call(context, record)
        total = time.perf_counter_ns() - start
        kernels = {self.program.code.address(k.name): k for k in self.program.spec.kernels}
        return read_profile(events, int(context.state.count), kernels, total)

    def trim(self) -> None:
        """Free the memory of all contexts that no call uses now."""
        self._idle.clear()

    def call(self, context: Context, record: Record) -> None:
        """Run a bound record of `context`; the caller keeps its arrays alive meanwhile.

        Raises:
            InputError: A check of the program failed on the inputs.
            ExecutionError: Another check failed, or memory ran out.
        """
        table = self.program.weights
        if record.weights is not table or table is None:
            self._bind_weights(record, table)
        host = self.host
        if self.threads > 1 and not host.gomp_settled and TORCH_LOADED in sys.modules:
            host.find_gomp()
        status = host.call(record.frame_address)
        context.allocator.chunks.clear()
        if status:
            error, context.allocator.error = context.allocator.error, None
            context.allocator.arrays = {}
            raise error or record.failure(status)

    def new_context(self) -> Context:
        """A context of its own for a caller that keeps it."""
        return Context(self.signature, self._entry)

    def check_outputs(
        self, record: Record, inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> list[Array]:
        """Refuse outputs that the program cannot write; gives them as they lie in memory.

        Raises:
            InvalidArgumentError: With the output's name and what it should be.
        """
        if len(outputs) != len(self.spec.outputs):
            raise InvalidArgumentError(
                f"{len(outputs)} outputs were given; {len(self.spec.outputs)} are needed"
            )
        dtypes, memory = self.signature.output_dtypes, list[Array]()
        for i, (spec, array) in enumerate(zip(self.spec.outputs, outputs, strict=True)):
            shape = record.output_shapes[i]
            if shape is None:
                raise InvalidArgumentError(
                    f"output {spec.name!r} has extents that depend on data; use run()"
                )
            wanted = tuple(shape[axis] for axis in spec.axes) if spec.layout else shape
            if array.dtype != dtypes[i] or array.shape != wanted:
                raise InvalidArgumentError(
                    f"output {spec.name!r} is {array.dtype}{list(array.shape)}; it must be "
                    f"{dtypes[i]}{list(wanted)}"
                )
            memory.append(spec.in_memory(array))
            if not memory[-1].flags.carray:
                order = f"contiguous in the order {list(spec.layout)} of its axes"
                raise InvalidArgumentError(
                    f"output {spec.name!r} must be {order if spec.layout else 'C-contiguous'}, "
                    "aligned and writable"
                )
            if any(np.may_share_memory(array, other) for other in (*inputs, *outputs[:i])):
                raise InvalidArgumentError(f"output {spec.name!r} overlaps another array")
        return memory

    def _bind_weights(self, record: Record, table: WeightTable | None) -> None:
        if table is None:
            if not self._prepares:
                raise ExecutionError("the program has no weights yet; call prepare() first")
            return
        record.words[Word.WEIGHTS] = table.address
        record.weights = table

    def _take(self) -> Context:
        try:
            return self._idle.pop()
        except IndexError:
            return self.new_context()

    def _usable(self, inputs: Inputs) -> list[Array]:
        ordered = self.signature.arrange(inputs)
        return [self.signature.usable(i, array) for i, array in enumerate(ordered)]

    def _bound_record(self, context: Context, arrays: tuple[Array, ...]) -> Record | None:
        count = len(self.spec.inputs)
        try:
            shapes = tuple([array.shape for array in arrays[:count]])
        except AttributeError:  # a mapping, or no arrays: the slow way says what is wrong
            return None
        record = context.records.get(shapes)
        if record is None or not record.is_bound_to(arrays):
            return None
        return context.record(shapes)


class BoundCall:
    """A call with its arrays: checked, planned and bound once. Overlapping calls wait in turn."""

    def __init__(self, executable: Executable, inputs: Sequence[Array], outputs: Sequence[Array]):
        self._executable = executable
        self._arrays = (*inputs, *outputs)
        self._lock = threading.Lock()
        self._context = executable.new_context()
        for index, array in enumerate(executable.signature.arrange(inputs)):
            if address_of(executable.signature.usable(index, array)) != address_of(array):
                spec = executable.spec.inputs[index]
                order = f"contiguous in the order {list(spec.layout)} of its axes"
                needed = order if spec.layout else "C-contiguous"
                raise InvalidArgumentError(f"input {spec.name!r} must be {needed} to be bound")
        memory = [executable.signature.usable(i, array) for i, array in enumerate(inputs)]
        self._record = self._context.record(tuple([array.shape for array in memory]))
        self._record.bind(memory, executable.check_outputs(self._record, memory, outputs))

    def __call__(self) -> None:
        """Run on what the arrays hold now.

        Raises:
            InputError: A check of the program failed on the inputs.
            ExecutionError: Another check failed.
        """
        with self._lock:
            self._executable.call(self._context, self._record)

    @property
    def frame_address(self) -> int:
        """Address of {run, host, call}, for native callers; valid while this object lives.

        The first call from Python binds the weights: make one before any native call.
        """
        return self._record.frame_address
