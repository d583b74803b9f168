"""What the compiler's command lines share: exit codes, and errors without a traceback."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from xdsl.utils.exceptions import DiagnosticException, ParseError

from torsh_dialect.errors import InvalidArgumentError, TorshError
from torsh_dialect.settings import Numerics, Settings, environment_settings
from torsh_package.errors import PackageError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
WIDEST = 800
"""Characters of a line of a message: a line of MLIR text that is quoted can have millions."""


@dataclass
class Answer:
    """The answer of a verb: text for people, printed as it comes, or one JSON value at the end.

    Attributes:
        as_json: Whether the JSON value is printed instead of the text.
        quiet: Leaves out the text that was not asked for.
        value: What JSON gets.
    """

    as_json: bool
    quiet: bool
    value: dict[str, Any] = field(default_factory=dict[str, Any])

    def part(self, key: str, value: Any, text: Callable[[], str], *, asked: bool = True) -> None:
        """Give a part of the answer, as a value and as text."""
        self.value[key] = value
        if not self.as_json and (asked or not self.quiet):
            print(text())

    def end(self) -> None:
        """Print the value, where JSON was asked for."""
        if self.as_json:
            print(json_text(self.value))


def json_text(value: Any) -> str:
    """A value as JSON for people and programs; NaN and infinities are null."""
    return json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False)


def _without_nan(value: Any) -> Any:
    match value:
        case dict():
            pairs = cast("dict[Any, Any]", value)
            return {key: _without_nan(item) for key, item in pairs.items()}
        case list() | tuple():
            return [_without_nan(item) for item in cast("list[Any]", value)]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value


def guarded(program: str, action: Callable[[], int], *, debug: bool, as_json: bool = False) -> int:
    """The exit code of `action`; an expected error becomes a message on standard error and 1.

    Args:
        program: Name in front of messages.
        action: Does the work.
        debug: Let errors through, so that Python prints where they came from.
        as_json: Print the error as a JSON value to standard output too.
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
        if as_json:
            code = type(error).__name__ if not isinstance(error, OSError) else "OSError"
            print(json_text({"error": {"code": code, "message": message_of(error)}}))
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
