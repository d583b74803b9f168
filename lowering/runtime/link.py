"""Link objects into this process with LLVM's just-in-time linker; nothing is compiled here."""

import ctypes
import itertools
from collections.abc import Iterable, Mapping, Sequence

from lowering.runtime.elf import ALLOWED_IMPORTS, check_undefined
from torsh_dialect.errors import CodegenError

_numbers = itertools.count()


class LinkedCode:
    """Machine code in memory. The code lives as long as this object: keep it while calling.

    Args:
        objects: Relocatable objects for this machine; they may use each other's symbols.
        exports: Functions whose addresses are wanted.
        imports: Addresses of host symbols beyond memcpy, memset and memmove.

    Raises:
        CodegenError: An object imports a symbol that nobody has, or cannot be linked.
    """

    def __init__(
        self,
        objects: Sequence[bytes],
        exports: Iterable[str],
        imports: Mapping[str, int] | None = None,
    ):
        from llvmlite import binding as llvm

        from lowering.runtime.elf import read_symbols

        wanted = tuple(exports)
        given = dict(imports or {})
        defined: set[str] = set()
        for number, data in enumerate(objects):
            defined |= read_symbols(data, f"object {number}").defined
        for number, data in enumerate(objects):
            check_undefined(data, f"object {number}", (*given, *defined))
        absent = [name for name in wanted if name not in defined]
        if absent:
            raise CodegenError(f"the objects do not define {', '.join(absent)}")
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        builder = llvm.JITLibraryBuilder()
        for data in objects:
            builder.add_object_img(data)
        for name in ALLOWED_IMPORTS:
            builder.import_symbol(name, libc_address(name))
        for name, address in given.items():
            builder.import_symbol(name, address)
        for name in wanted:
            builder.export_symbol(name)
        try:
            self._linker = llvm.create_lljit_compiler(use_jit_link=True)
            self._tracker = builder.link(self._linker, f"torsh{next(_numbers)}")
        except RuntimeError as error:
            raise CodegenError(f"the objects cannot be linked: {error}") from None

    def address(self, name: str) -> int:
        """The address of an exported function."""
        return self._tracker[name]


def libc_address(name: str) -> int:
    """The address of a function of the C library or of another loaded global library."""
    function = getattr(ctypes.CDLL(None), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0
