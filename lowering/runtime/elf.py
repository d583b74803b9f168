"""Read ELF64 little-endian relocatable objects (System V gABI, chapters 4 and 5)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from torsh_dialect.errors import CodegenError

ALLOWED_IMPORTS = frozenset({"memcpy", "memset", "memmove"})
"""All that the code of a model may import, on every target; LLVM makes calls to them by itself."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_SHT_SYMTAB, SHT_RELA, SHT_NOBITS = 2, 4, 8
SHN_UNDEF = 0
_ET_REL = 1
_STB_LOCAL = 0


@dataclass(frozen=True)
class Section:
    """A section: its bytes are `object[offset : offset + size]`, or zeros for `SHT_NOBITS`."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int


@dataclass(frozen=True)
class Symbol:
    """A symbol: `value` is an offset into section number `section`, 0 where undefined."""

    name: str
    section: int
    value: int
    is_global: bool


@dataclass(frozen=True)
class Relocation:
    """Write at `offset` of a section what `kind` makes of the symbol and `addend`."""

    offset: int
    kind: int
    symbol: int
    addend: int


@dataclass(frozen=True)
class ElfObject:
    """A relocatable object, read and bounds-checked.

    Attributes:
        data: The file.
        machine: ELF machine number: 62 is x86-64, 183 AArch64.
        sections: By number.
        symbols: By number.
        relocations: By number of the section that they are applied to.
    """

    data: bytes
    machine: int
    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: dict[int, tuple[Relocation, ...]]

    @property
    def undefined(self) -> frozenset[str]:
        """Names of the symbols that it imports."""
        return frozenset(s.name for s in self.symbols if s.is_global and not s.section)

    @property
    def defined(self) -> frozenset[str]:
        """Names of the global symbols that it defines."""
        return frozenset(s.name for s in self.symbols if s.is_global and s.section)


def read_object(data: bytes, name: str = "object") -> ElfObject:
    """Read an ELF64 relocatable object.

    Raises:
        CodegenError: `data` is not a whole one.
    """
    try:
        return _read(data)
    except (struct.error, ValueError, IndexError, OverflowError) as error:
        raise CodegenError(f"{name!r} is not an ELF64 little-endian object: {error}") from None


@dataclass(frozen=True)
class Symbols:
    """Names of an object's undefined and of its defined global symbols."""

    undefined: frozenset[str]
    defined: frozenset[str]


def read_symbols(data: bytes, name: str = "object") -> Symbols:
    """The global symbols of an ELF64 relocatable object.

    Raises:
        CodegenError: `data` is not a whole one.
    """
    read = read_object(data, name)
    return Symbols(read.undefined, read.defined)


def _read(data: bytes) -> ElfObject:
    fields = _HEADER.unpack_from(data)
    if fields[0][:6] != b"\x7fELF\x02\x01" or fields[1] != _ET_REL:
        raise ValueError("wrong magic, class, byte order or type")
    table, entry_size, count = fields[6], fields[11], fields[12]
    rows: list[tuple[int, ...]] = [
        _SECTION.unpack_from(data, table + i * entry_size) for i in range(count)
    ]
    strings_section: int = fields[13]
    names = rows[strings_section][4]
    sections = tuple(_section(data, row, names) for row in rows)
    symbols: tuple[Symbol, ...] = ()
    relocations: dict[int, tuple[Relocation, ...]] = {}
    for section in sections:
        body = data[section.offset : section.offset + section.size]
        if section.kind == _SHT_SYMTAB:
            strings = sections[section.link].offset
            symbols = tuple(_symbol(data, row, strings) for row in _SYMBOL.iter_unpack(body))
        elif section.kind == SHT_RELA:
            relocations[section.info] = tuple(
                Relocation(offset, info & 0xFFFFFFFF, info >> 32, addend)
                for offset, info, addend in _RELOCATION.iter_unpack(body)
            )
    return ElfObject(data, fields[2], sections, symbols, relocations)


def _section(data: bytes, row: tuple[int, ...], names: int) -> Section:
    name, kind, flags, _, offset, size, link, info, align, _ = row
    if kind != SHT_NOBITS and offset + size > len(data):
        raise ValueError("a section ends past the end of the file")
    return Section(_string(data, names + name), kind, flags, offset, size, link, info, align)


def _symbol(data: bytes, row: tuple[int, ...], strings: int) -> Symbol:
    name, info, _, section, value, _ = row
    return Symbol(_string(data, strings + name), section, value, info >> 4 != _STB_LOCAL)


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def check_undefined(data: bytes, name: str, extra: Iterable[str] = ()) -> None:
    """Refuse an object that imports anything but `ALLOWED_IMPORTS` and `extra`.

    Args:
        data: The object; one that is not ELF (Mach-O, COFF) is not looked at.
        name: How the message calls it.
        extra: Host symbols that the program declares.

    Raises:
        CodegenError: It imports something else; the message lists what.
    """
    if data[:4] == b"\x7fELF":
        check_imports(read_object(data, name), name, extra)


def check_imports(read: ElfObject, name: str, extra: Iterable[str] = ()) -> None:
    """`check_undefined` for an object that has been read."""
    foreign = read.undefined - ALLOWED_IMPORTS - frozenset(extra)
    if foreign:
        raise CodegenError(
            f"module {name!r} imports {', '.join(sorted(foreign))}; compiled code may only import "
            f"{', '.join(sorted(ALLOWED_IMPORTS))} and the host symbols it declares"
        )
