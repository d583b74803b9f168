"""Pickles in resources: what they would import and call. Nothing is unpickled."""

from collections.abc import Iterator

import numpy as np

from torsh_package.convert.foreign_zip import ForeignZip
from torsh_package.convert.pickle_danger import CODE_CARRIERS, is_dangerous
from torsh_package.convert.pickle_reader import GlobalUse, PickleReader
from torsh_package.errors import PackageError
from torsh_package.limits import Limits

from .findings import Finding, Severity

_MAX_PICKLES = 256
_MAX_NESTING = 3
_MAX_TEXT_PICKLE = 16 << 20
_TEXT_STARTS = b"(cl}]iISFV"

# What honest checkpoints name. Everything else is told apart as unknown.
_KNOWN_MODULES = (
    "torch", "collections", "numpy", "_codecs", "copyreg", "copy_reg", "__torch__", "argparse",
    "builtins", "__builtin__", "datetime", "pathlib", "enum", "decimal", "fractions", "uuid",
)  # fmt: skip


class PickleScan:
    """Looks for pickles in bytes, in ZIP archives and in pickles.

    Args:
        limits: Parser limits.

    Attributes:
        pickles: Number of pickles that were read.
    """

    def __init__(self, limits: Limits):
        self._limits = limits
        self.pickles = 0

    def scan(self, data: memoryview, where: str, nesting: int = 0) -> Iterator[Finding]:
        """Findings in `data`; empty when it holds no pickle."""
        head = bytes(data[:4])
        if head == b"PK\x03\x04" and nesting < _MAX_NESTING:
            yield from self._archive(data, where, nesting)
        elif len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:
            yield from self._stream(data, where, nesting)
        elif head[:1] in _singles(_TEXT_STARTS) and len(data) <= _MAX_TEXT_PICKLE:
            yield from self._text(data, where)

    def _archive(self, data: memoryview, where: str, nesting: int) -> Iterator[Finding]:
        try:
            archive = ForeignZip(data, limits=self._limits)
            names = list(archive.names())
        except PackageError as error:
            yield Finding("archive-malformed", Severity.MEDIUM, where, str(error)[:300])
            return
        for name in names:
            try:
                entry = np.ascontiguousarray(archive.array(name)).data
            except PackageError as error:
                yield Finding("archive-malformed", Severity.MEDIUM, where, str(error)[:300])
                continue
            yield from self.scan(memoryview(entry), f"{where}!{name}", nesting + 1)

    def _stream(self, data: memoryview, where: str, nesting: int) -> Iterator[Finding]:
        """One pickle after another (torch before 1.6), as far as they can be read."""
        reader = PickleReader(data, entry=where, limits=self._limits)
        broken: str | None = None
        for _ in range(_MAX_PICKLES):
            try:
                reader.load()
            except PackageError as error:
                broken = str(error)
                break
            self.pickles += 1
            following = bytes(data[reader.position : reader.position + 2])
            if len(following) < 2 or following[0] != 0x80 or not 2 <= following[1] <= 5:
                break
        yield Finding(
            "pickle", Severity.LOW, where, "a pickle; never unpickle what you do not trust"
        )
        yield from _judge(reader.globals, where)
        if broken is not None:
            # An unpickler runs everything before the damage.
            yield Finding("pickle-malformed", Severity.MEDIUM, where, broken[:300])
        yield from self._nested(data, reader, where, nesting)

    def _nested(
        self, data: memoryview, reader: PickleReader, where: str, nesting: int
    ) -> Iterator[Finding]:
        """Pickles in the byte strings of `torch.storage._load_from_bytes` and `pickle.loads`."""
        loaders = {"torch.storage._load_from_bytes", "pickle.loads", "_pickle.loads"}
        if nesting >= _MAX_NESTING or not any(u.name.dotted in loaders for u in reader.globals):
            return
        raw, at = bytes(data), 2
        for _ in range(_MAX_PICKLES):
            at = raw.find(b"\x80", at)
            if at < 0 or at + 1 >= len(raw):
                return
            if 2 <= raw[at + 1] <= 5:
                inner = PickleReader(data[at:], entry=where, limits=self._limits)
                try:
                    inner.load()
                except PackageError:
                    inner.globals.clear()
                yield from _judge(inner.globals, f"{where}@{at}")
            at += 1

    def _text(self, data: memoryview, where: str) -> Iterator[Finding]:
        """Protocols 0 and 1 have no magic number: only what parses and imports counts."""
        reader = PickleReader(data, entry=where, limits=self._limits)
        try:
            reader.load()
        except PackageError:
            if not any(is_dangerous(use.name) for use in reader.globals):
                return
        if reader.globals:
            self.pickles += 1
            yield from _judge(reader.globals, where)


def _singles(letters: bytes) -> set[bytes]:
    return {bytes([letter]) for letter in letters}


def _judge(uses: list[GlobalUse], where: str) -> Iterator[Finding]:
    seen: set[str] = set()
    for use in uses:
        dotted = use.name.dotted
        if dotted in seen:
            continue
        seen.add(dotted)
        at = f"{dotted[:200]} ({use.opcode} at byte {use.offset})"
        if is_dangerous(use.name):
            message = f"unpickling it would reach {at}"
            yield Finding("pickle-dangerous", Severity.CRITICAL, where, message)
        elif use.name.module.startswith(tuple(CODE_CARRIERS)):
            yield Finding("pickle-code", Severity.HIGH, where, f"carries code objects: {at}")
        elif use.name.module in ("builtins", "__builtin__") and use.name.name == "getattr":
            yield Finding(
                "pickle-getattr", Severity.MEDIUM, where, f"takes attributes by name: {at}"
            )
        elif use.name.module.split(".", 1)[0] not in _KNOWN_MODULES:
            yield Finding("pickle-unknown-class", Severity.LOW, where, f"names {at}")
