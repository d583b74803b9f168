"""A pool of code generation processes and the loop that feeds them.

One thread at a time runs jobs; the loop multiplexes pipes with a selector, so a hung or slow
worker never blocks it, and every limit is enforced from outside by killing the process.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lowering import worker
from torsh_dialect.errors import CodegenError

_POLL_S = 0.05
_STDERR_TAIL = 2000

Jobs = Mapping[str, tuple[str, bytes]]
"""Key of each job -> the module's name and its request frame."""


@dataclass(frozen=True)
class WorkerLimits:
    """Limits of one worker process: seconds a job, bytes of memory, idle seconds until exit."""

    timeout_s: float
    memory_bytes: int
    idle_s: float


@dataclass
class Worker:
    """One child process, the job it has, and what of the frames is still on its way."""

    process: subprocess.Popen[bytes]
    sink: int
    source: int
    stderr: int
    key: str = ""
    name: str = ""
    started: float = 0.0
    outgoing: memoryview = field(default_factory=lambda: memoryview(b""))
    incoming: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, limits: WorkerLimits) -> "Worker":
        """Start a process.

        Raises:
            CodegenError: The interpreter cannot be started.
        """
        stderr = os.memfd_create("torsh-worker-stderr", os.MFD_CLOEXEC)
        command = [
            sys.executable,
            "-P",
            worker.__file__,
            f"--memory={limits.memory_bytes}",
            f"--idle={limits.idle_s}",
        ]
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=stderr, bufsize=0, start_new_session=True
            )
        except OSError as error:
            os.close(stderr)
            raise CodegenError(
                f"cannot start the code generation process {command[0]!r}: {error}"
            ) from error
        assert process.stdin
        assert process.stdout
        sink, source = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(sink, False)
        os.set_blocking(source, False)
        return cls(process, sink, source, stderr)

    def give(self, key: str, name: str, frame: bytes) -> None:
        """Make `frame` its job."""
        self.key, self.name, self.started = key, name, time.monotonic()
        self.outgoing, self.incoming = memoryview(frame), bytearray()

    def send(self) -> None:
        """Write what the pipe takes; a dead process shows as end of file on `source`."""
        try:
            self.outgoing = self.outgoing[os.write(self.sink, self.outgoing) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.outgoing = memoryview(b"")

    def receive(self) -> bool:
        """Read what is there; False at end of file."""
        try:
            part = os.read(self.source, 1 << 20)
        except BlockingIOError:
            return True
        self.incoming += part
        return bool(part)

    def answer(self) -> tuple[bool, bytes] | None:
        """Whether the job succeeded, and its body; None until all of it has arrived."""
        size = worker.FRAME.size
        if len(self.incoming) < size:
            return None
        head, body = worker.FRAME.unpack_from(self.incoming)
        if len(self.incoming) < size + head + body:
            return None
        header = json.loads(self.incoming[size : size + head])
        return bool(header["ok"]), bytes(self.incoming[size + head :])

    def last_words(self) -> str:
        """The end of what it wrote to standard error."""
        size = os.fstat(self.stderr).st_size
        tail = os.pread(self.stderr, _STDERR_TAIL, max(0, size - _STDERR_TAIL))
        return tail.decode(errors="replace").strip()

    def end(self) -> int:
        """Kill the process and return its exit status (negative: the signal)."""
        self.process.kill()
        status = self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()
        os.close(self.stderr)
        return status


class WorkerPool:
    """Up to `size` worker processes that are kept between runs and exit when idle."""

    def __init__(self, size: int, limits: WorkerLimits):
        self.size = max(1, size)
        self.limits = limits
        self._reset()

    def _reset(self) -> None:
        self._idle: list[Worker] = []
        self._lock = threading.Lock()
        self._process = os.getpid()
        weakref.finalize(self, _end_all, self._idle, self._process)

    def run(
        self,
        jobs: Jobs,
        finished: Callable[[str, bytes], None],
        cancel: threading.Event,
        deadline: float | None,
    ) -> None:
        """Do every job; call `finished(key, product)` in this thread as each is done.

        Raises:
            CodegenError: A job failed, a limit was reached, or `cancel` was set. Processes that
                still have a job are killed.
        """
        if not jobs:
            return
        if self._process != os.getpid():
            self._reset()  # a forked child: the parent's processes and lock are not ours
        while not self._lock.acquire(timeout=_POLL_S):
            _check_stop(cancel, deadline, "another compilation")
        run = _Run(jobs, self._idle, self.limits, self.size)
        try:
            run.loop(finished, cancel, deadline)
        finally:
            run.kill_busy()
            self._lock.release()

    def close(self) -> None:
        """End all processes."""
        if self._process != os.getpid():
            return
        with self._lock:
            _end_all(self._idle, self._process)


def _end_all(idle: list[Worker], process: int) -> None:
    while idle and process == os.getpid():
        idle.pop().end()


class _Run:
    """One `WorkerPool.run`: the jobs that wait, the workers that are busy."""

    def __init__(self, jobs: Jobs, idle: list[Worker], limits: WorkerLimits, size: int):
        self.jobs = jobs
        self.waiting = deque(jobs)
        self.idle = idle
        self.limits = limits
        self.size = size
        self.busy: dict[int, Worker] = {}
        self.selector = selectors.DefaultSelector()

    def loop(
        self,
        finished: Callable[[str, bytes], None],
        cancel: threading.Event,
        deadline: float | None,
    ) -> None:
        with self.selector:
            while self.waiting or self.busy:
                while self.waiting and len(self.busy) < self.size:
                    self._assign(self.waiting.popleft())
                for key, events in self.selector.select(_POLL_S):
                    if self.busy.get(key.data.source) is key.data:
                        self._advance(key.data, events, finished)
                self._check_limits(cancel, deadline)

    def _assign(self, key: str) -> None:
        one = self._worker()
        one.give(key, *self.jobs[key])
        self.busy[one.source] = one
        self.selector.register(one.source, selectors.EVENT_READ, one)
        self.selector.register(one.sink, selectors.EVENT_WRITE, one)

    def _worker(self) -> Worker:
        while self.idle:
            one = self.idle.pop()
            if one.process.poll() is None:
                return one
            one.end()
        return Worker.start(self.limits)

    def _advance(self, one: Worker, events: int, finished: Callable[[str, bytes], None]) -> None:
        if events & selectors.EVENT_WRITE:
            one.send()
            if not one.outgoing:
                self.selector.unregister(one.sink)
            return
        alive = one.receive()
        answer = one.answer()
        if answer is None and alive:
            return
        self._release(one)
        if answer is None:
            self._died(one)
            return
        self.idle.append(one)
        succeeded, body = answer
        if not succeeded:
            raise CodegenError(f"LLVM refused module {one.name!r}: {body.decode()}")
        finished(one.key, body)

    def _release(self, one: Worker) -> None:
        self.selector.unregister(one.source)
        if one.outgoing:
            self.selector.unregister(one.sink)
        del self.busy[one.source]

    def _died(self, one: Worker) -> None:
        words = one.last_words()
        key, name = one.key, one.name
        received = bool(one.incoming)
        status = one.process.wait()
        one.end()
        if status == 0 and not received:
            self.waiting.appendleft(key)  # it went idle just as the job came
            return
        cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        limit = self.limits.memory_bytes
        raise CodegenError(
            f"the code generator crashed on module {name!r} ({cause}, memory limit {limit} bytes)"
            f"{': ' + words if words else ''}"
        )

    def _check_limits(self, cancel: threading.Event, deadline: float | None) -> None:
        now = time.monotonic()
        for one in self.busy.values():
            _check_stop(cancel, deadline, f"module {one.name!r}")
            if now - one.started > self.limits.timeout_s:
                raise CodegenError(
                    f"code generation of module {one.name!r} took more than the limit of "
                    f"{self.limits.timeout_s:g} s; raise the limit or make the kernel smaller"
                )

    def kill_busy(self) -> None:
        """End the processes whose work is no longer wanted."""
        for one in self.busy.values():
            one.end()
        self.busy.clear()


def _check_stop(cancel: threading.Event, deadline: float | None, what: str) -> None:
    if cancel.is_set():
        raise CodegenError(f"compilation was cancelled at {what}")
    if deadline is not None and time.monotonic() > deadline:
        raise CodegenError(f"compilation ran out of time at {what}")
