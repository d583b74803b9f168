"""Read the symbols of ELF64 little-endian relocatable objects (System V gABI, chapter 4)."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torsh_dialect.errors import CodegenError

ALLOWED_IMPORTS = frozenset({"memcpy", "memset", "memmove"})
"""All that the code of a model may import, on every target; LLVM makes calls to them by itself."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB = 2
_SHN_UNDEF = 0
_STB_LOCAL = 0


@dataclass(frozen=True)
class Symbols:
    """Names of an object's undefined and of its defined global symbols."""

    undefined: frozenset[str]
    defined: frozenset[str]


def read_symbols(data: bytes, name: str = "object") -> Symbols:
    """The global symbols of an ELF64 object.

    Raises:
        CodegenError: `data` is not a whole ELF64 little-endian object.
    """
    try:
        entries = list(_entries(data))
    except (struct.error, ValueError, IndexError) as error:
        raise CodegenError(f"{name!r} is not an ELF64 little-endian object: {error}") from None
    return Symbols(
        frozenset(symbol for symbol, section in entries if section == _SHN_UNDEF),
        frozenset(symbol for symbol, section in entries if section != _SHN_UNDEF),
    )


def _entries(data: bytes) -> Iterator[tuple[str, int]]:
    fields = _HEADER.unpack_from(data)
    if fields[0][:6] != b"\x7fELF\x02\x01":
        raise ValueError("wrong magic, class or byte order")
    table, entry_size, count = fields[6], fields[11], fields[12]
    sections: list[tuple[int, ...]] = [
        _SECTION.unpack_from(data, table + i * entry_size) for i in range(count)
    ]
    for section in sections:
        if section[1] != _SHT_SYMTAB:
            continue
        offset, size, names = section[4], section[5], sections[section[6]]
        if offset + size > len(data):
            raise ValueError("symbol table ends past the end of the file")
        for place in range(offset, offset + size, _SYMBOL.size):
            string, info, _, index, _, _ = _SYMBOL.unpack_from(data, place)
            if info >> 4 != _STB_LOCAL:
                start = names[4] + string
                yield data[start : data.index(b"\0", start)].decode(), index


def check_undefined(data: bytes, name: str, extra: Iterable[str] = ()) -> None:
    """Refuse an object that imports anything but `ALLOWED_IMPORTS` and `extra`.

    Args:
        data: The object; one that is not ELF (Mach-O, COFF) is not looked at.
        name: How the message calls it.
        extra: Host symbols that the program declares.

    Raises:
        CodegenError: It imports something else; the message lists what.
    """
    if data[:4] != b"\x7fELF":
        return
    foreign = read_symbols(data, name).undefined - ALLOWED_IMPORTS - frozenset(extra)
    if foreign:
        raise CodegenError(
            f"module {name!r} imports {', '.join(sorted(foreign))}; compiled code may only import "
            f"{', '.join(sorted(ALLOWED_IMPORTS))} and the host symbols it declares"
        )
