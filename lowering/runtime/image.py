"""Put x86-64 objects into memory and relocate them: a linker small enough to need no LLVM.

Loading LLVM to link an object costs 70 MB of resident memory and 50 ms. What our code generator
emits (position-independent, small code model, no thread-local storage, no constructors) needs six
kinds of relocation (x86-64 psABI, table 4.10). Anything else is refused.

The image is one mapping, so that every section reaches every other: code with call stubs, then
constants, then writable data with the table of addresses (GOT). Each part begins at a page and gets
the least rights; nothing is ever writable and executable at once.
"""

import ctypes
import mmap
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lowering.runtime.elf import (
    SHN_UNDEF,
    SHT_NOBITS,
    ElfObject,
    Relocation,
    Section,
    Symbol,
)
from torsh_dialect.errors import CodegenError, ExecutionError

EM_X86_64 = 62
_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_PC64 = 1, 2, 4, 9, 24
_R_GOTPCRELX, _R_REX_GOTPCRELX = 41, 42
_GOT_KINDS = frozenset({_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX})
_SHF_WRITE, _SHF_ALLOC, _SHF_EXECINSTR, _SHF_TLS = 1, 2, 4, 0x400
_SHT_INIT_ARRAY = 14
_SHT_X86_64_UNWIND = 0x70000001
_PROT_READ, _PROT_WRITE, _PROT_EXEC = 1, 2, 4
_PROTECTION = (_PROT_READ | _PROT_EXEC, _PROT_READ, _PROT_READ | _PROT_WRITE)
_STUB = struct.Struct("<HiH")  # jmp *distance(%rip), then two bytes that are never run
_JUMP = 0x25FF
_TRAP = 0x0B0F


@dataclass(frozen=True)
class _Place:
    """Where section `number` of object `unit` begins in the image."""

    unit: int
    number: int
    section: Section
    start: int


class Image:
    """Relocated code. It is unmapped with this object: keep it while anything may run in it.

    Args:
        objects: Objects for x86-64; they may use each other's global symbols.
        imports: Addresses of all other symbols.

    Raises:
        CodegenError: A symbol is missing or defined twice, or an object is not of the kind above.
        ExecutionError: The system refuses the memory or the right to run it.
    """

    def __init__(self, objects: Sequence[ElfObject], imports: Mapping[str, int]):
        self._objects = objects
        self._imports = imports
        foreign = sorted({name for one in objects for name in one.undefined})
        self._slots = {name: i for i, name in enumerate(self._got_names(foreign))}
        ends = self._lay_out(len(foreign))
        try:
            # Private: a forked child gets its own copy of the variables.
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
            self._memory = mmap.mmap(-1, max(ends[-1], mmap.PAGESIZE), flags=flags)
        except (OSError, ValueError, OverflowError) as error:
            raise ExecutionError(f"no memory for {ends[-1]} bytes of code: {error}") from error
        self._base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self.symbols = self._addresses()
        self._fill(foreign)
        for place in self._places:
            for relocation in objects[place.unit].relocations.get(place.number, ()):
                self._relocate(place, relocation)
        self._protect(ends)

    def _got_names(self, foreign: list[str]) -> Iterator[str]:
        """Foreign symbols first (stubs jump through their slots), then all global ones."""
        yield from foreign
        yield from sorted({n for one in self._objects for n in one.defined} - {*foreign})

    def _lay_out(self, stubs: int) -> tuple[int, int, int]:
        self._places: list[_Place] = []
        self._place_of: dict[tuple[int, int], int] = {}
        ends: list[int] = []
        place = 0
        for part in range(3):
            if part == 0:
                self._stubs, place = place, place + stubs * _STUB.size
            if part == 2:
                self._got, place = place, place + 8 * len(self._slots)
            for unit, one in enumerate(self._objects):
                for number, section in enumerate(one.sections):
                    if _part_of(section) == part:
                        place = _round_up(place, max(1, section.align))
                        self._places.append(_Place(unit, number, section, place))
                        self._place_of[unit, number] = place
                        place += section.size
            place = _round_up(place, mmap.PAGESIZE)
            ends.append(place)
        return ends[0], ends[1], ends[2]

    def _addresses(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for unit, one in enumerate(self._objects):
            for symbol in one.symbols:
                if not symbol.is_global or not symbol.section:
                    continue
                if symbol.name in found:
                    raise CodegenError(f"the symbol {symbol.name!r} is defined twice")
                found[symbol.name] = self._address(unit, symbol)
        return found

    def _address(self, unit: int, symbol: Symbol) -> int:
        start = self._place_of.get((unit, symbol.section))
        sections = self._objects[unit].sections
        if start is None or symbol.value > sections[symbol.section].size:
            raise CodegenError(
                f"symbol {symbol.name!r} of object {unit} lies at {symbol.value} in section "
                f"{symbol.section}, which is not in memory"
            )
        return self._base + start + symbol.value

    def _resolve(self, name: str) -> int:
        address = self.symbols.get(name) or self._imports.get(name)
        if not address:
            raise CodegenError(f"nobody defines the symbol {name!r}")
        return address

    def _fill(self, foreign: list[str]) -> None:
        for place in self._places:
            section = place.section
            if section.kind != SHT_NOBITS:
                data = self._objects[place.unit].data
                end = section.offset + section.size
                self._memory[place.start : place.start + section.size] = data[section.offset : end]
        for name, slot in self._slots.items():
            struct.pack_into("<Q", self._memory, self._got + 8 * slot, self._resolve(name))
        for slot in range(len(foreign)):
            here = self._stubs + slot * _STUB.size
            distance = self._got + 8 * slot - (here + 6)
            _STUB.pack_into(self._memory, here, _JUMP, distance, _TRAP)

    def _relocate(self, place: _Place, relocation: Relocation) -> None:
        unit, section = place.unit, place.section
        kind, wide = relocation.kind, relocation.kind in (_R_64, _R_PC64)
        if not 0 <= relocation.offset <= section.size - (8 if wide else 4):
            raise CodegenError(f"a relocation lies outside of its section {section.name!r}")
        symbols = self._objects[unit].symbols
        if relocation.symbol >= len(symbols):
            raise CodegenError(f"a relocation names symbol {relocation.symbol}, which is not there")
        symbol = symbols[relocation.symbol]
        at = place.start + relocation.offset
        if kind in _GOT_KINDS and symbol.is_global:
            target = self._base + self._got + 8 * self._slots[symbol.name]
        elif kind == _R_PLT32 and symbol.name in self._slots and not symbol.section:
            target = self._callee(symbol.name)
        elif kind in (_R_64, _R_PC32, _R_PLT32, _R_PC64):
            local = symbol.section != SHN_UNDEF
            target = self._address(unit, symbol) if local else self._resolve(symbol.name)
        else:
            raise CodegenError(f"relocation kind {kind} in {section.name!r} is not supported")
        value = target + relocation.addend
        try:
            if kind == _R_64:
                struct.pack_into("<Q", self._memory, at, value)
            else:
                form = "<q" if wide else "<i"
                struct.pack_into(form, self._memory, at, value - (self._base + at))
        except struct.error:
            raise CodegenError(
                f"{symbol.name or section.name!r} is too far away for the code that uses it"
            ) from None

    def _callee(self, name: str) -> int:
        """Where a call of `name` goes: the function of another object, or a stub."""
        if name in self.symbols:
            return self.symbols[name]
        return self._base + self._stubs + self._slots[name] * _STUB.size

    def _protect(self, ends: tuple[int, int, int]) -> None:
        mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        start = 0
        for end, rights in zip(ends, _PROTECTION, strict=True):
            if end > start and mprotect(self._base + start, end - start, rights):
                code = ctypes.get_errno()
                raise ExecutionError(
                    f"the system does not let this process run code (errno {code})"
                )
            start = end


def _part_of(section: Section) -> int | None:
    """0 for code, 1 for constants, 2 for writable data; None for what is not loaded."""
    if not section.flags & _SHF_ALLOC:
        return None
    if section.kind == _SHT_X86_64_UNWIND or section.name == ".eh_frame":
        return None  # nothing unwinds through our code
    if section.flags & _SHF_TLS or section.kind == _SHT_INIT_ARRAY:
        raise CodegenError(f"the section {section.name!r} is not supported")
    if section.flags & _SHF_EXECINSTR:
        return 0
    return 2 if section.flags & _SHF_WRITE else 1


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
