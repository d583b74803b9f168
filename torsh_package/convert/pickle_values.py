"""What a pickle says, as data: nothing here is an instance of a class that the pickle names.

Containers are own classes that compare and hash by identity. A pickle can share sub-values
through its memo, so structural `==`, `hash` or `repr` could take exponential time.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum


class SequenceKind(Enum):
    """Which built-in container a `PickleSequence` stands for."""

    LIST = "list"
    TUPLE = "tuple"
    SET = "set"
    FROZENSET = "frozenset"


@dataclass(frozen=True, slots=True)
class GlobalName:
    """A reference to `module.name`; never imported."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        """`module.name`."""
        return f"{self.module}.{self.name}"


@dataclass(eq=False, repr=False, slots=True)
class PickleSequence:
    """A list, tuple or set of values."""

    kind: SequenceKind
    items: list[object]


@dataclass(eq=False, repr=False, slots=True)
class PickleDict:
    """A dict as its pairs in stream order; a later pair of the same key wins, as in a dict."""

    pairs: list[tuple[object, object]] = field(default_factory=list[tuple[object, object]])

    def get(self, key: str) -> object:
        """The value under the string `key`, or None."""
        return lookup(self.pairs, key)


@dataclass(eq=False, repr=False, slots=True)
class PickleObject:
    """`callee(*args)` followed by what the stream adds to it, none of it carried out.

    Args:
        callee: A `GlobalName` for every honest pickle; anything in a hostile one.
        args: Positional arguments.
        offset: Byte offset of the opcode that makes the object.
        is_instance: Made by NEWOBJ, OBJ or INST, so `callee` is a class.
        state: Argument of BUILD, if any.
        items: What APPEND and ADDITEMS added.
        pairs: What SETITEM added.
    """

    callee: object
    args: list[object]
    offset: int
    is_instance: bool = False
    state: object = None
    items: list[object] = field(default_factory=list[object])
    pairs: list[tuple[object, object]] = field(default_factory=list[tuple[object, object]])

    @property
    def class_name(self) -> str:
        """Dotted name of the class (or callable) that would make the object."""
        callee = self.callee
        if isinstance(callee, GlobalName) and callee.name in _MAKERS.get(callee.module, ()):
            callee = self.args[0] if self.args else callee
        return callee.dotted if isinstance(callee, GlobalName) else "<computed callable>"


# Helpers through which Python 2 and protocols 0-2 make instances: the class is argument 0.
_MAKERS = {
    "copyreg": ("_reconstructor", "__newobj__", "__newobj_ex__"),
    "copy_reg": ("_reconstructor", "__newobj__", "__newobj_ex__"),
}


@dataclass(frozen=True, slots=True)
class PersistentRef:
    """A persistent id: for torch, a storage that lies outside the pickle."""

    pid: object


def lookup(pairs: list[tuple[object, object]], key: str) -> object:
    """The last value under the string `key`, or None."""
    for candidate, value in reversed(pairs):
        if isinstance(candidate, str) and candidate == key:
            return value
    return None


_MAPPING_CLASSES = {
    GlobalName("collections", "OrderedDict"),
    GlobalName("collections", "defaultdict"),
    GlobalName("collections", "Counter"),
    GlobalName("builtins", "dict"),
    GlobalName("__builtin__", "dict"),
}


def mapping_pairs(value: object) -> list[tuple[object, object]] | None:
    """The pairs of a dict or of an object that is one (OrderedDict, a dict subclass)."""
    if isinstance(value, PickleDict):
        return value.pairs
    if not isinstance(value, PickleObject):
        return None
    if value.pairs:
        return value.pairs
    if value.callee in _MAPPING_CLASSES if isinstance(value.callee, GlobalName) else False:
        return list(_argument_pairs(value.args))
    return None


def _argument_pairs(args: list[object]) -> Iterator[tuple[object, object]]:
    """Pairs of `OrderedDict([[k, v], ...])` and `dict({...})`, as Python 2 pickled them."""
    for arg in args:
        if isinstance(arg, PickleDict):
            yield from arg.pairs
        for item in sequence_items(arg) or ():
            pair = sequence_items(item)
            if pair is not None and len(pair) == 2:
                yield pair[0], pair[1]


def sequence_items(value: object) -> list[object] | None:
    """The items of a list, tuple or set; None for everything else."""
    return value.items if isinstance(value, PickleSequence) else None
