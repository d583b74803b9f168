"""Runs the code of packages in a jailed child process; loading a package never does.

The child is a fresh interpreter without site packages, environment or inherited descriptors.
In `strict` mode it is confined by Landlock (may read the standard library, nothing else), seccomp
(no sockets, processes, signals, writable files), resource limits, and namespaces where they work.
What cannot be enforced here is said, and `strict` then refuses to run anything.
"""

import json
import os
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torsh_package.errors import (
    InvalidArgumentError,
    SandboxCodeError,
    SandboxError,
    SandboxLimitError,
    SandboxUnavailableError,
)
from torsh_package.limits import MIB

from .capabilities import Capabilities, namespace_command, probe
from .exchange import Blobs, decode, encode
from .globs import patterns_of
from .policy import implicit_externs
from .seccomp import ARCHITECTURES, assemble
from .table import code_table, sources_of

if TYPE_CHECKING:
    from torsh_package.package import Package

_CHILD = Path(__file__).with_name("jail_child.py")
_REFUSED = 97
_PRELOADED = ("encodings.idna", "encodings.latin_1", "math", "struct", "json", "re")


class Mode(StrEnum):
    """How much must be enforced."""

    STRICT = "strict"  # everything, or nothing is run
    PROCESS = "process"  # a separate process with resource limits: protects from accidents only


@dataclass(frozen=True)
class SandboxOptions:
    """Limits of one run. Sizes in bytes, times in seconds.

    Args:
        mode: What must be enforced.
        memory: Address space.
        cpu_seconds: Processor time.
        wall_seconds: Time by the clock.
        output: Most that the code may print, on each of its two streams.
        result: Largest result.
        numpy: Whether numpy can be read and imported; arrays then arrive as numpy arrays.
        namespaces: Whether to use namespaces where they work.
    """

    mode: Mode = Mode.STRICT
    memory: int = 1024 * MIB
    cpu_seconds: int = 10
    wall_seconds: float = 30.0
    output: int = 1 * MIB
    result: int = 256 * MIB
    numpy: bool = True
    namespaces: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "mode", Mode(self.mode))
        for name in ("memory", "cpu_seconds", "wall_seconds", "output", "result"):
            if getattr(self, name) <= 0:
                raise InvalidArgumentError(f"{name} must be over 0")


@dataclass(frozen=True)
class Call:
    """One call into a package.

    Args:
        package: The package.
        entry: `module:function` or `module:Class.method`.
        args: None, booleans, numbers, text, bytes, arrays, and lists, tuples, dicts of these.
        kwargs: Likewise, by name.
    """

    package: "Package"
    entry: str
    args: Sequence[object] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class SandboxResult:
    """What a run gave.

    Args:
        values: The result of each call. Made by untrusted code: treat as input.
        stdout: What the code printed.
        stderr: The same for its error stream.
        enforced: Layers that the child reported as in force before any code ran.
        wall_seconds: Time by the clock.
    """

    values: tuple[Any, ...]
    stdout: str
    stderr: str
    enforced: Mapping[str, object]
    wall_seconds: float

    @property
    def value(self) -> Any:
        """The result of the first call."""
        return self.values[0]


class Sandbox:
    """Runs calls in jailed children.

        Sandbox().run(package, "net.model:predict", array)

    Args:
        options: Limits.
        capabilities: What works here; found out if None.
    """

    def __init__(
        self,
        options: SandboxOptions | None = None,
        capabilities: Capabilities | None = None,
    ):
        self.options = options or SandboxOptions()
        self.capabilities = capabilities or probe()

    def run(self, package: "Package", entry: str, /, *args: object, **kwargs: object) -> Any:
        """Call `entry` of `package`; the result."""
        return self.run_calls([Call(package, entry, args, kwargs)]).value

    def run_calls(self, calls: Sequence[Call]) -> SandboxResult:
        """Make several calls, into one or more packages, in one child.

        Modules of one name in different packages stay apart.

        Raises:
            SandboxUnavailableError: when this machine cannot enforce what the mode asks for.
            SandboxLimitError: when the code was stopped at a limit or crashed.
            SandboxCodeError: when the code raised, or its result cannot leave the sandbox.
            CodePolicyError: when a source is not the one that was captured.
        """
        if not calls:
            raise InvalidArgumentError("there is no call to make")
        strict = self.options.mode is Mode.STRICT
        if strict and not self.capabilities.strict:
            raise SandboxUnavailableError(
                "strict mode cannot be enforced on this machine, so nothing was run:\n"
                + self.capabilities.describe()
            )
        job, blobs = self._job(calls, strict)
        return _Child(self.options, self._command(job["readable"]), job, blobs).run()

    def _job(self, calls: Sequence[Call], strict: bool) -> tuple[dict[str, Any], Blobs]:
        packages: list[Package] = []
        blobs = Blobs()
        rows: list[dict[str, Any]] = []
        for call in calls:
            if not any(call.package is known for known in packages):
                packages.append(call.package)
            index = next(i for i, known in enumerate(packages) if known is call.package)
            rows.append({
                "package": index,
                "entry": _checked_entry(call.entry),
                "args": encode(list(call.args), blobs),
                "kwargs": encode(dict(call.kwargs), blobs),
            })  # fmt: skip
        return {
            "strict": strict,
            "arrays": self.options.numpy,
            "rlimits": self._rlimits(),
            "readable": self._readable(),
            "path": _numpy_paths() if self.options.numpy else [],
            "preload": list(_PRELOADED),
            "packages": [_package_row(package) for package in packages],
            "calls": rows,
        }, blobs

    def _rlimits(self) -> dict[str, int]:
        return {
            "RLIMIT_AS": self.options.memory,
            "RLIMIT_CPU": self.options.cpu_seconds,
            "RLIMIT_FSIZE": 0,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_CORE": 0,
        }

    def _readable(self) -> list[str]:
        """The standard library, shared libraries and, if asked for, numpy."""
        paths = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
        paths |= {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"}
        paths.add(str(_CHILD.parent))
        if self.options.numpy:
            paths |= {p for folder in _numpy_paths() for p in _numpy_folders(folder)}
        return sorted(os.path.realpath(path) for path in paths if os.path.exists(path))

    def _command(self, readable: list[str]) -> list[str]:
        interpreter = os.path.realpath(sys.executable)
        command = [interpreter, "-I", "-S", "-B", str(_CHILD)]
        name = self.capabilities.namespaces if self.options.namespaces else ""
        path = shutil.which(name) if name else None
        if path is None:
            return command
        binds = [*readable, *_interpreter_files(interpreter)]
        return [*namespace_command(name, path, binds), *command]


def _package_row(package: "Package") -> dict[str, Any]:
    table = code_table(package)
    return {
        "sources": [[m.name, m.source, m.is_package] for m in sources_of(package).values()],
        "rules": [
            [str(r.action), patterns_of(r.modules.include), patterns_of(r.modules.exclude)]
            for r in table.policy.rules
        ],
        "implicit": sorted(implicit_externs()),
        "mocks": list(table.mocks),
    }


def _checked_entry(entry: str) -> str:
    module, _, attribute = entry.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise InvalidArgumentError(f"entry {entry[:80]!r}: write it as module:function")
    return entry


def _numpy_paths() -> list[str]:
    import numpy

    return [str(Path(numpy.__file__).resolve().parent.parent)]


def _numpy_folders(site: str) -> list[str]:
    """Numpy and the libraries that its wheel brings; not the other packages beside it."""
    return [str(path) for path in Path(site).glob("numpy*")]


def _interpreter_files(interpreter: str) -> list[str]:
    """The interpreter and its own libraries; the jail's file rules still apply inside."""
    return [interpreter, os.path.realpath(Path(interpreter).parent.parent / "lib")]


class _Child:
    """One child process: sends the job, collects output within limits, reads the answer."""

    def __init__(
        self, options: SandboxOptions, command: list[str], job: dict[str, Any], blobs: Blobs
    ):
        self._options = options
        self._command = command
        self._job = job
        machine = (
            os.uname().machine
        )  # Elsewhere strict refuses; an empty filter would be refused too.
        filter_program = assemble(machine) if machine in ARCHITECTURES else b""
        self._blobs = [*blobs.parts, filter_program]

    def run(self) -> SandboxResult:
        start, used = time.monotonic(), _children_seconds()
        receive, send = os.pipe()
        try:
            os.set_inheritable(send, True)
            header = {**self._job, "answer": send, "blobs": [len(b) for b in self._blobs]}
            raw = json.dumps(header).encode()
            job = [struct.pack("<Q", len(raw)) + raw, *self._blobs]
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=(send,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(receive)
            raise SandboxError(f"the child cannot be started: {error}") from error
        finally:
            os.close(send)
        try:
            streams = self._exchange(process, receive, b"".join(job), start)
        finally:
            os.close(receive)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None and not pipe.closed:
                    pipe.close()
        # In a namespace the exit status does not tell which signal ended the child.
        spent = _children_seconds() - used
        if process.returncode and spent > 0.8 * self._options.cpu_seconds:
            raise SandboxLimitError(
                f"stopped after {self._options.cpu_seconds} s of processor time (cpu_seconds)"
            )
        return self._result(process.returncode, streams, time.monotonic() - start)

    def _exchange(
        self, process: "subprocess.Popen[bytes]", receive: int, job: bytes, start: float
    ) -> dict[str, bytes]:
        """Feed standard input and drain three pipes until all are closed, within the limits."""
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise SandboxError("the child has no pipes")
        limits = {"stdout": self._options.output, "stderr": self._options.output}
        limits["answer"] = self._options.result + MIB
        collected = {name: bytearray() for name in limits}
        sources = {"stdout": process.stdout.fileno(), "stderr": process.stderr.fileno()}
        sources["answer"] = receive
        pending = memoryview(job)
        stdin = process.stdin
        os.set_blocking(stdin.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(stdin.fileno(), selectors.EVENT_WRITE, "stdin")
            for name, descriptor in sources.items():
                selector.register(descriptor, selectors.EVENT_READ, name)
            while selector.get_map():
                left = start + self._options.wall_seconds - time.monotonic()
                if left <= 0:
                    raise SandboxLimitError(
                        f"stopped after {self._options.wall_seconds:g} s (wall_seconds)"
                    )
                for key, _ in selector.select(left):
                    if key.data == "stdin":
                        pending = _feed(stdin.fileno(), pending)
                        if not pending:
                            selector.unregister(key.fd)
                            stdin.close()
                        continue
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        selector.unregister(key.fd)
                    collected[key.data] += data
                    if len(collected[key.data]) > limits[key.data]:
                        raise SandboxLimitError(
                            f"stopped: {key.data} is over {limits[key.data]} bytes"
                        )
        return {name: bytes(data) for name, data in collected.items()}

    def _result(self, status: int, streams: dict[str, bytes], seconds: float) -> SandboxResult:
        frames = _frames(streams["answer"])
        first = frames[0][0] if frames else {}
        if status == _REFUSED or "refused" in first:
            raise SandboxUnavailableError(
                f"the kernel refused to confine the child, so nothing was run: "
                f"{str(first.get('refused', 'no answer'))[:300]}"
            )
        applied = first.get("applied")
        if not isinstance(applied, dict):
            tail = streams["stderr"][-400:].decode("utf-8", "replace").strip()
            raise SandboxError(
                f"the child ended ({_status(status)}) before it was confined: {tail}"
            )
        enforced = cast("dict[str, object]", applied)
        if self._options.mode is Mode.STRICT and not (
            enforced.get("landlock") and enforced.get("seccomp")
        ):
            raise SandboxUnavailableError("the child did not confine itself")
        if len(frames) < 2:
            raise SandboxLimitError(f"the code ended the child: {_status(status)}")
        header, blobs = frames[1]
        if "raised" in header:
            raise SandboxCodeError(
                f"the code raised {str(header['raised'])[:100]}: "
                f"{str(header.get('message', ''))[:2000]}"
            )
        return SandboxResult(
            tuple(decode(value, blobs) for value in _list(header.get("results"))),
            streams["stdout"].decode("utf-8", "replace"),
            streams["stderr"].decode("utf-8", "replace"),
            enforced,
            seconds,
        )


def _feed(descriptor: int, pending: memoryview) -> memoryview:
    try:
        return pending[os.write(descriptor, pending[: 1 << 16]) :]
    except BlockingIOError:
        return pending
    except BrokenPipeError:
        return pending[len(pending) :]  # the child is gone; its status says why


def _frames(raw: bytes) -> list[tuple[dict[str, Any], list[bytes]]]:
    """Answers of the child: each a length, a JSON header, and blobs. Malformed tails are cut."""
    frames: list[tuple[dict[str, Any], list[bytes]]] = []
    at = 0
    while at + 8 <= len(raw) and len(frames) < 2:
        size = int.from_bytes(raw[at : at + 8], "little")
        at += 8
        if size > len(raw) - at:
            break
        try:
            header: Any = json.loads(raw[at : at + size])
            lengths = [int(length) for length in header["blobs"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise SandboxCodeError("the child's answer is malformed") from error
        at += size
        if any(length < 0 for length in lengths) or sum(lengths) > len(raw) - at:
            raise SandboxCodeError("the child's answer is cut short")
        blobs: list[bytes] = []
        for length in lengths:
            blobs.append(raw[at : at + length])
            at += length
        frames.append((header, blobs))
    return frames


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise SandboxCodeError("the child's answer has no results")
    return cast("list[Any]", value)


def _children_seconds() -> float:
    """Processor time of all children that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def _status(status: int) -> str:
    status = 128 - status if status > 128 else status  # as bwrap passes signals on
    if status >= 0:
        return f"exit status {status}"
    names = {-9: "killed (processor time or memory)", -11: "segmentation fault", -24: "CPU limit"}
    names |= {-6: "aborted", -31: "forbidden system call"}
    return f"signal {-status}" + (f", {names[status]}" if status in names else "")


def run(package: "Package", entry: str, /, *args: object, **kwargs: object) -> Any:
    """Call `module:function` of `package` in a strict sandbox with default limits."""
    return Sandbox().run(package, entry, *args, **kwargs)
