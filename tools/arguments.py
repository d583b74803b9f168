"""Types of values on a command line that argparse has none for.

Each says what to write; a wrong value is wrong usage (exit code 2), found before any work is done.
"""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError
from collections.abc import Callable

LARGEST = 2**63 - 1
Extents = int | tuple[int, int | None]
"""One extent, or bounds of it; None: no upper one."""

_NUMBER = re.compile(r"-?[0-9]{1,30}")


def whole(least: int = 0, most: int = LARGEST) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def number(text: str) -> int:
        if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
            limit = f" and at most {most}" if most < LARGEST else ""
            raise ArgumentTypeError(f"{text!r}: give a whole number of at least {least}{limit}")
        return int(text)

    return number


def real(least: float = 0.0, *, most: float = math.inf) -> Callable[[str], float]:
    """A finite number from `least` to `most`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            limit = f" and at most {most:g}" if math.isfinite(most) else ""
            raise ArgumentTypeError(f"{text!r}: give a number of at least {least:g}{limit}")
        return value

    return number


def decibels(text: str) -> float:
    """A finite number of either sign."""
    return real(-math.inf)(text)


def named_extent(text: str) -> tuple[str, int]:
    """`NAME=N`."""
    name, _, value = text.partition("=")
    if not name or (number := _extent(value)) is None:
        raise ArgumentTypeError(f"{text!r}: write NAME=N, as batch=8")
    return name, number


def named_extents(text: str) -> tuple[str, Extents]:
    """`NAME=N`, or `NAME=LOW:HIGH` with or without the upper bound."""
    name, _, value = text.partition("=")
    first, colon, last = value.partition(":")
    low, high = _extent(first), _extent(last)
    if not name or low is None or (last and high is None):
        raise ArgumentTypeError(f"{text!r}: write name=8 or name=1:64 or name=1:")
    if high is not None and low > high:
        raise ArgumentTypeError(f"{text!r}: the lower bound is over the upper one")
    return name, (low, high) if colon else low


def integer_range(text: str) -> tuple[int, int]:
    """`LOW:HIGH` of 64-bit integers, with a number in it."""
    first, _, last = text.partition(":")
    fine = all(_NUMBER.fullmatch(n) and abs(int(n)) <= LARGEST for n in (first, last))
    if not fine or int(first) >= int(last):
        raise ArgumentTypeError(f"{text!r}: write low:high, as 0:1000")
    return int(first), int(last)


def named_file(text: str) -> tuple[str, str]:
    """`NAME=FILE`."""
    name, _, path = text.partition("=")
    if not name or not path:
        raise ArgumentTypeError(f"{text!r}: write name=file.npy")
    return name, path


SYSTEMS = ("linux", "darwin", "win32", "freebsd", "android", "emscripten")
MACHINES = (
    "x86_64", "amd64", "i686", "aarch64", "arm64", "armv7l", "ppc64le", "riscv64", "s390x",
    "wasm32",
)  # fmt: skip
"""What `sys.platform` and `platform.machine()` say, in small letters."""


def platform_name(text: str) -> str:
    """`SYSTEM-MACHINE`, both of the known ones."""
    system, _, machine = text.partition("-")
    if system not in SYSTEMS or machine not in MACHINES:
        raise ArgumentTypeError(
            f"{text!r}: write SYSTEM-MACHINE, as linux-x86_64; systems: {', '.join(SYSTEMS)}; "
            f"machines: {', '.join(MACHINES)}"
        )
    return text


def license_expression(text: str) -> str:
    """An SPDX expression in its canonical spelling; `LicenseRef-NAME` for one of one's own."""
    from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

    try:
        return canonicalize_license_expression(text)
    except InvalidLicenseExpression:
        raise ArgumentTypeError(
            f"{text!r} is no SPDX expression: write as Apache-2.0, MIT OR BSD-3-Clause, or "
            "LicenseRef-NAME for a licence of your own (identifiers: https://spdx.org/licenses)"
        ) from None


def _extent(text: str) -> int | None:
    """A number that an extent can be."""
    if not _NUMBER.fullmatch(text) or not 0 <= int(text) <= LARGEST:
        return None
    return int(text)
