"""Link objects into this process; nothing is compiled here."""

import ctypes
import itertools
import platform
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from lowering.runtime.elf import ALLOWED_IMPORTS, ElfObject, check_imports, read_object
from lowering.runtime.image import EM_X86_64, Image
from torsh_dialect.errors import CodegenError

_MACHINES = {"x86_64": EM_X86_64, "aarch64": 183}
_numbers = itertools.count()


class Linker(Enum):
    """Who links: our own linker, or LLVM's just-in-time linker (for machines ours lacks)."""

    OWN = "own"
    LLVM = "llvm"


class LinkedCode:
    """Machine code in memory. The code lives as long as this object: keep it while calling.

    Args:
        objects: Relocatable objects for this machine; they may use each other's symbols.
        exports: Functions whose addresses are wanted.
        imports: Addresses of host symbols beyond memcpy, memset and memmove.
        linker: None takes our own on x86-64 and LLVM's elsewhere.

    Raises:
        CodegenError: An object is for another machine, imports a symbol that nobody has, or cannot
            be linked.
        ExecutionError: The system refuses memory for code, or the right to run it.
    """

    def __init__(
        self,
        objects: Sequence[bytes],
        exports: Iterable[str],
        imports: Mapping[str, int] | None = None,
        linker: Linker | None = None,
    ):
        machine = platform.machine()
        read = [read_object(data, f"object {number}") for number, data in enumerate(objects)]
        given = {name: libc_address(name) for name in ALLOWED_IMPORTS} | dict(imports or {})
        wanted = tuple(exports)
        _check(read, wanted, given, _MACHINES.get(machine))
        if linker is None:
            linker = Linker.OWN if machine == "x86_64" else Linker.LLVM
        if linker is Linker.OWN:
            image = Image(read, given)
            self._owner: object = image
            self._addresses = {name: image.symbols[name] for name in wanted}
        else:
            self._owner, self._addresses = _link_with_llvm(objects, wanted, given)

    def address(self, name: str) -> int:
        """The address of an exported function."""
        return self._addresses[name]


def _check(
    objects: Sequence[ElfObject],
    exports: Sequence[str],
    imports: Mapping[str, int],
    machine: int | None,
) -> None:
    defined = {name for one in objects for name in one.defined}
    for number, one in enumerate(objects):
        if one.machine != machine:
            raise CodegenError(
                f"object {number} is for ELF machine {one.machine}, this machine is {machine}"
            )
        check_imports(one, f"object {number}", (*imports, *defined))
    absent = [name for name in exports if name not in defined]
    if absent:
        raise CodegenError(f"the objects do not define {', '.join(absent)}")


def _link_with_llvm(
    objects: Sequence[bytes], exports: Sequence[str], imports: Mapping[str, int]
) -> tuple[object, dict[str, int]]:
    from llvmlite import binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    builder = llvm.JITLibraryBuilder()
    for data in objects:
        builder.add_object_img(data)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    for name in exports:
        builder.export_symbol(name)
    try:
        linker = llvm.create_lljit_compiler(use_jit_link=True)
        tracker = builder.link(linker, f"torsh{next(_numbers)}")
    except RuntimeError as error:
        raise CodegenError(f"the objects cannot be linked: {error}") from None
    return (linker, tracker), {name: tracker[name] for name in exports}


def libc_address(name: str) -> int:
    """The address of a function of the C library or of another loaded global library."""
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0
