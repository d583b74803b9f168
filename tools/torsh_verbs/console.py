"""What the compiler's command lines share: exit codes, and errors without a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from xdsl.utils.exceptions import DiagnosticException, ParseError

from torsh_dialect.errors import InvalidArgumentError, TorshError
from torsh_dialect.settings import Numerics, Settings, environment_settings
from torsh_package.errors import PackageError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
WIDEST = 800
"""Characters of a line of a message: a line of MLIR text that is quoted can have millions."""


def guarded(program: str, action: Callable[[], int], *, debug: bool) -> int:
    """The exit code of `action`; an expected error becomes a message on standard error and 1.

    Args:
        program: Name in front of messages.
        action: Does the work.
        debug: Let errors through, so that Python prints where they came from.
    """
    try:
        return action()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to write to
        return FAILED
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (TorshError, PackageError, ParseError, DiagnosticException, OSError) as error:
        if debug:
            raise
        print(f"{program}: error: {message_of(error)}", file=sys.stderr)
        return FAILED
    except MemoryError as error:
        if debug:
            raise
        print(f"{program}: error: not enough memory: {error}", file=sys.stderr)
        return FAILED


@contextmanager
def ended_by_interrupt() -> Generator[None]:
    """While native code runs, Ctrl-C ends the process: Python would wait until the call is over,
    and a loop of a model may never be.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def message_of(error: Exception) -> str:
    """What a user needs of an error."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return "\n".join(map(_cut, str(error).strip().splitlines()))


def _cut(line: str) -> str:
    """A line without its middle beyond `WIDEST`: the end says what to do."""
    half = WIDEST // 2
    return line if len(line) <= WIDEST else f"{line[:half]} ... {line[-half:]}"


def read_file(path: str) -> bytes:
    """The content of a file, or of standard input for `-`."""
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def write_text(path: Path, text: str) -> None:
    """Write a file; errors name it, also those that come after it was opened."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; errors name it, also those that come after it was opened."""
    try:
        path.write_bytes(data)
    except OSError as error:
        error.filename = str(path)
        raise


def settings_of(numerics: Numerics, disabled: list[str], *, in_process: bool) -> Settings:
    """Settings from a command line; the environment gives what the arguments do not."""
    settings = environment_settings(os.environ)
    return replace(
        settings,
        numerics=numerics,
        disabled_rewrites=frozenset(disabled),
        in_process=in_process or settings.in_process,
    )


def options_text(names: Iterable[str]) -> str:
    """Options as they are written, from the names that argparse gives them."""
    return ", ".join(f"--{name.replace('_', '-')}" for name in names)


def require_extension(path: str, *allowed: str) -> str:
    """The extension of `path`, without the dot.

    Raises:
        InvalidArgumentError: It is none of `allowed`.
    """
    extension = Path(path).suffix.removeprefix(".").lower()
    if extension not in allowed:
        known = ", ".join(f".{one}" for one in allowed)
        raise InvalidArgumentError(f"{path}: the name must end in one of {known}")
    return extension
