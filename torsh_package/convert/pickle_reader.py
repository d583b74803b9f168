"""Reads the opcodes of a pickle, protocols 0 to 5, into plain data. Nothing is ever executed.

The format is the one of CPython's `pickletools`. Where `pickle.Unpickler` imports and calls, this
reader writes down a `GlobalName` and a `PickleObject`. Every length is checked against the bytes
that are there before anything is allocated.
"""

import codecs
import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from .pickle_values import (
    GlobalName,
    PersistentRef,
    PickleDict,
    PickleObject,
    PickleSequence,
    SequenceKind,
)

_MAX_LINE = 1 << 20  # text opcodes end with a newline; no honest one is longer


@dataclass(frozen=True, slots=True)
class GlobalUse:
    """One opcode that names a global."""

    name: GlobalName
    offset: int
    opcode: str


class _Mark:
    """The mark on the stack."""


_MARK = _Mark()


def _python2_text(data: bytes) -> str | bytes:
    """Python 2 `str`: text where it is ASCII, else bytes (array data, mostly)."""
    return data.decode("ascii") if data.isascii() else data


def _text(data: memoryview) -> str:
    return str(data, "utf-8", "surrogatepass")


class PickleReader:
    """Reads pickles one after another from `data`.

    Args:
        data: The bytes; more may follow the pickle.
        entry: Name used in errors.
        limits: `pickle_opcodes` bounds the work of one pickle.
        position: Where the first pickle starts.

    Attributes:
        position: Offset after the last pickle read.
        globals: Every global named so far, also when `load` raised half-way.
        persistent: Every persistent id so far.
    """

    def __init__(
        self,
        data: bytes | memoryview,
        *,
        entry: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
        position: int = 0,
    ):
        self._data = memoryview(data)
        self._entry = entry
        self._limits = limits
        self.position = position
        self.globals: list[GlobalUse] = []
        self.persistent: list[PersistentRef] = []
        self._start = position
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """Read one pickle.

        Raises:
            ConversionError: when the stream is malformed or truncated.
            LimitError: when it has more opcodes than the limit.
        """
        self._stack, self._memo = [], {}
        for _ in range(self._limits.pickle_opcodes):
            self._start = self.position
            opcode = bytes(self._take(1))
            if opcode == pickle.STOP:
                return self._pop()
            action = self._ACTIONS.get(opcode)
            if action is None:
                raise self._error(f"0x{opcode.hex()} is no opcode that a checkpoint may hold")
            try:
                action(self)
            except (ValueError, OverflowError, struct.error) as error:
                if isinstance(error, ConversionError):
                    raise
                raise self._error(f"malformed argument: {str(error)[:120]}") from error
        raise LimitError(
            f"the pickle has more than {self._limits.pickle_opcodes} opcodes "
            "(Limits.pickle_opcodes)",
            entry=self._entry,
            offset=self._start,
        )

    # Bytes

    def _error(self, message: str) -> ConversionError:
        return ConversionError(f"pickle: {message}", entry=self._entry, offset=self._start)

    def _take(self, count: int) -> memoryview:
        end = self.position + count
        if count < 0 or end > len(self._data):
            left = len(self._data) - self.position
            raise self._error(f"truncated: an argument needs {count} bytes, {left} are left")
        view = self._data[self.position : end]
        self.position = end
        return view

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._take(size), "little", signed=signed)

    def _counted(self, size: int, *, signed: bool = False) -> memoryview:
        return self._take(self._number(size, signed=signed))

    def _line(self) -> bytes:
        window = bytes(self._data[self.position : self.position + _MAX_LINE])
        end = window.find(b"\n")
        if end < 0:
            raise self._error("a text argument has no end of line")
        self.position += end + 1
        return window[:end]

    # Stack

    def push(self, value: object) -> None:
        """Put `value` on the stack."""
        self._stack.append(value)

    def _pop(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise self._error("stack underflow")
        return self._stack.pop()

    def _top(self) -> object:
        if not self._stack or self._stack[-1] is _MARK:
            raise self._error("stack underflow")
        return self._stack[-1]

    def _pop_mark(self) -> list[object]:
        for index in range(len(self._stack) - 1, -1, -1):
            if self._stack[index] is _MARK:
                items = self._stack[index + 1 :]
                del self._stack[index:]
                return items
        raise self._error("no mark on the stack")

    # Opcodes with logic of their own

    def _op_proto(self) -> None:
        protocol = self._number(1)
        if protocol > 5:
            raise self._error(f"protocol {protocol} is unknown; 0 to 5 are known")

    def _op_frame(self) -> None:
        length = self._number(8)
        if length > len(self._data) - self.position:
            raise self._error(f"truncated: a frame of {length} bytes")

    def _op_int(self) -> None:
        line = self._line()
        self.push({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))

    def _op_long(self) -> None:
        self.push(int(self._line().removesuffix(b"L")))

    def _op_string(self) -> None:
        line = self._line().strip()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
            raise self._error("a STRING argument is not quoted")
        self.push(_python2_text(codecs.escape_decode(line[1:-1])[0]))

    def _op_put(self, index: int) -> None:
        if index < 0:
            raise self._error(f"memo index {index} is negative")
        self._memo[index] = self._top()

    def _op_get(self, index: int) -> None:
        if index not in self._memo:
            raise self._error(f"memo has no value {index}")
        self.push(self._memo[index])

    def _op_pop(self) -> None:
        if self._stack and self._stack[-1] is _MARK:
            self._stack.pop()
        else:
            self._pop()

    def _op_pop_mark(self) -> None:
        self._pop_mark()

    def _op_global(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        self.push(self._named(module, name, "GLOBAL"))

    def _op_stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise self._error("STACK_GLOBAL needs two strings")
        self.push(self._named(module, name, "STACK_GLOBAL"))

    def _named(self, module: str, name: str, opcode: str) -> GlobalName:
        found = GlobalName(module, name)
        self.globals.append(GlobalUse(found, self._start, opcode))
        return found

    def _op_inst(self) -> None:
        module, name = self._line().decode(), self._line().decode()
        callee = self._named(module, name, "INST")
        self._call(callee, self._pop_mark(), is_instance=True)

    def _op_obj(self) -> None:
        items = self._pop_mark()
        if not items:
            raise self._error("OBJ without a class")
        self._call(items[0], items[1:], is_instance=True)

    def _op_reduce(self, *, is_instance: bool = False) -> None:
        args, callee = self._pop(), self._pop()
        if not isinstance(args, PickleSequence) or args.kind is not SequenceKind.TUPLE:
            raise self._error("the arguments of a call are no tuple")
        self._call(callee, list(args.items), is_instance=is_instance)

    def _op_newobj_ex(self) -> None:
        kwargs, args, callee = self._pop(), self._pop(), self._pop()
        if not isinstance(args, PickleSequence) or not isinstance(kwargs, PickleDict):
            raise self._error("the arguments of NEWOBJ_EX are no tuple and dict")
        self._call(callee, [*args.items, kwargs], is_instance=True)

    def _call(self, callee: object, args: list[object], *, is_instance: bool) -> None:
        self.push(PickleObject(callee, args, self._start, is_instance))

    def _op_persistent(self, pid: object) -> None:
        fields = pid.items if isinstance(pid, PickleSequence) else []
        if len(fields) > 1 and fields[0] == "module":
            # torch before 1.6: ("module", class, source file, source) stands for the class.
            self.push(fields[1])
            return
        found = PersistentRef(pid)
        self.persistent.append(found)
        self.push(found)

    def _op_build(self) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, PickleObject):
            target.state = state
        elif not isinstance(target, PersistentRef):
            raise self._error("BUILD on something that is no object")

    def _op_append(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, PickleSequence | PickleObject):
            raise self._error("APPEND on something that is no list")
        if isinstance(target, PickleSequence) and target.kind is not SequenceKind.LIST:
            raise self._error("APPEND on a tuple or set")
        target.items.extend(items)

    def _op_append_one(self) -> None:
        value = self._pop()
        self._op_append([value])

    def _op_add_items(self) -> None:
        items, target = self._pop_mark(), self._top()
        if not isinstance(target, PickleSequence | PickleObject):
            raise self._error("ADDITEMS on something that is no set")
        if isinstance(target, PickleSequence) and target.kind is not SequenceKind.SET:
            raise self._error("ADDITEMS on a list or tuple")
        target.items.extend(items)

    def _op_set_items(self, items: list[object]) -> None:
        target = self._top()
        if not isinstance(target, PickleDict | PickleObject):
            raise self._error("SETITEM on something that is no dict")
        if len(items) % 2:
            raise self._error("SETITEMS with an odd number of values")
        target.pairs.extend(zip(items[::2], items[1::2], strict=True))

    def _op_set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._op_set_items([key, value])

    def _op_dict(self) -> None:
        items = self._pop_mark()
        self.push(PickleDict())
        self._op_set_items(items)

    def _op_tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self.push(PickleSequence(SequenceKind.TUPLE, items[::-1]))

    def _push_marked(self, kind: SequenceKind) -> None:
        self.push(PickleSequence(kind, self._pop_mark()))

    # Opcode byte to action. EXT* (copyreg registry) and out-of-band buffers are left out.
    _ACTIONS: ClassVar[dict[bytes, Callable[["PickleReader"], object]]] = {
        pickle.PROTO: _op_proto,
        pickle.FRAME: _op_frame,
        pickle.MARK: lambda s: s.push(_MARK),
        pickle.POP: _op_pop,
        pickle.POP_MARK: _op_pop_mark,
        pickle.DUP: lambda s: s.push(s._top()),
        pickle.NONE: lambda s: s.push(None),
        pickle.NEWTRUE: lambda s: s.push(True),
        pickle.NEWFALSE: lambda s: s.push(False),
        pickle.INT: _op_int,
        pickle.LONG: _op_long,
        pickle.BININT: lambda s: s.push(s._number(4, signed=True)),
        pickle.BININT1: lambda s: s.push(s._number(1)),
        pickle.BININT2: lambda s: s.push(s._number(2)),
        pickle.LONG1: lambda s: s.push(int.from_bytes(s._counted(1), "little", signed=True)),
        pickle.LONG4: lambda s: s.push(
            int.from_bytes(s._counted(4, signed=True), "little", signed=True)
        ),
        pickle.FLOAT: lambda s: s.push(float(s._line())),
        pickle.BINFLOAT: lambda s: s.push(struct.unpack(">d", s._take(8))[0]),
        pickle.STRING: _op_string,
        pickle.BINSTRING: lambda s: s.push(_python2_text(bytes(s._counted(4, signed=True)))),
        pickle.SHORT_BINSTRING: lambda s: s.push(_python2_text(bytes(s._counted(1)))),
        pickle.UNICODE: lambda s: s.push(s._line().decode("raw-unicode-escape")),
        pickle.BINUNICODE: lambda s: s.push(_text(s._counted(4))),
        pickle.SHORT_BINUNICODE: lambda s: s.push(_text(s._counted(1))),
        pickle.BINUNICODE8: lambda s: s.push(_text(s._counted(8))),
        pickle.BINBYTES: lambda s: s.push(bytes(s._counted(4))),
        pickle.SHORT_BINBYTES: lambda s: s.push(bytes(s._counted(1))),
        pickle.BINBYTES8: lambda s: s.push(bytes(s._counted(8))),
        pickle.BYTEARRAY8: lambda s: s.push(bytes(s._counted(8))),
        pickle.EMPTY_LIST: lambda s: s.push(PickleSequence(SequenceKind.LIST, [])),
        pickle.EMPTY_TUPLE: lambda s: s.push(PickleSequence(SequenceKind.TUPLE, [])),
        pickle.EMPTY_SET: lambda s: s.push(PickleSequence(SequenceKind.SET, [])),
        pickle.EMPTY_DICT: lambda s: s.push(PickleDict()),
        pickle.LIST: lambda s: s._push_marked(SequenceKind.LIST),
        pickle.TUPLE: lambda s: s._push_marked(SequenceKind.TUPLE),
        pickle.FROZENSET: lambda s: s._push_marked(SequenceKind.FROZENSET),
        pickle.TUPLE1: lambda s: s._op_tuple(1),
        pickle.TUPLE2: lambda s: s._op_tuple(2),
        pickle.TUPLE3: lambda s: s._op_tuple(3),
        pickle.DICT: _op_dict,
        pickle.APPEND: _op_append_one,
        pickle.APPENDS: lambda s: s._op_append(s._pop_mark()),
        pickle.ADDITEMS: _op_add_items,
        pickle.SETITEM: _op_set_item,
        pickle.SETITEMS: lambda s: s._op_set_items(s._pop_mark()),
        pickle.PUT: lambda s: s._op_put(int(s._line())),
        pickle.BINPUT: lambda s: s._op_put(s._number(1)),
        pickle.LONG_BINPUT: lambda s: s._op_put(s._number(4)),
        pickle.MEMOIZE: lambda s: s._op_put(len(s._memo)),
        pickle.GET: lambda s: s._op_get(int(s._line())),
        pickle.BINGET: lambda s: s._op_get(s._number(1)),
        pickle.LONG_BINGET: lambda s: s._op_get(s._number(4)),
        pickle.GLOBAL: _op_global,
        pickle.STACK_GLOBAL: _op_stack_global,
        pickle.INST: _op_inst,
        pickle.OBJ: _op_obj,
        pickle.REDUCE: _op_reduce,
        pickle.NEWOBJ: lambda s: s._op_reduce(is_instance=True),
        pickle.NEWOBJ_EX: _op_newobj_ex,
        pickle.BUILD: _op_build,
        pickle.PERSID: lambda s: s._op_persistent(s._line().decode("ascii")),
        pickle.BINPERSID: lambda s: s._op_persistent(s._pop()),
    }
