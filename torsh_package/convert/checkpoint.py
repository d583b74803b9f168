"""Names the tensors inside a checkpoint, as `state_dict()` would, without its classes.

A checkpoint is a module, a state dict, or a dict or object around one of these (Lightning,
ultralytics, a training loop of one's own). The tensors of the model go to `weights`; optimizer
states, averages and plain attributes go to `extra`; what is no tensor is reported.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torsh_package.errors import ConversionError, LimitError

from .arrays import Array
from .pickle_values import (
    GlobalName,
    PersistentRef,
    PickleDict,
    PickleObject,
    PickleSequence,
    mapping_pairs,
    sequence_items,
)
from .torch_tensors import TensorDecoder

_MAX_VISITS = 2_000_000
_MAX_REPEATS = 100_000  # visits of containers that were visited before: shared sub-values
_MAX_FACTS = 4_096
_MAX_FACT_CHARS = 1_024
_MAX_VIEW_FACTOR = 64  # how often overlapping views may repeat the bytes of the file
_VIEW_FLOOR = 1 << 30

# Keys under which training loops keep the model, most specific first.
ROOT_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "module", "net", "network",
    "generator", "params_ema", "params", "weights", "ema_state_dict", "ema",
)  # fmt: skip

# Values, not things that were left out.
_PLAIN_CLASSES = {
    "torch.Size", "torch.device", "torch.dtype", "torch.serialization._get_layout",
    "collections.OrderedDict", "collections.defaultdict", "collections.Counter",
    "collections.deque", "_codecs.encode", "numpy.dtype", "builtins.set", "builtins.frozenset",
    "builtins.list", "builtins.tuple", "builtins.dict", "builtins.bytearray", "builtins.bytes",
    "builtins.complex", "builtins.slice", "builtins.range", "__builtin__.set",
    "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar", "builtins.object",
}  # fmt: skip

Fact = str | int | float | bool | None


@dataclass(frozen=True)
class Skipped:
    """Something that was left out.

    Args:
        where: Path of its first occurrence in the source.
        what: Class or kind.
        why: Reason.
        count: How often.
    """

    where: str
    what: str
    why: str
    count: int = 1


@dataclass
class Harvest:
    """What a source holds.

    Args:
        weights: Tensors of the model by `state_dict()` name.
        extra: Other tensors by their full path.
        skipped: What was left out.
        facts: Plain values (epoch, hyper-parameters) by their path.
        modules: Class of each module by its path.
        root: Path at which the model was found.
    """

    weights: dict[str, Array] = field(default_factory=dict[str, Array])
    extra: dict[str, Array] = field(default_factory=dict[str, Array])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    root: str = ""


@dataclass(frozen=True, slots=True)
class _Visit:
    value: object
    path: str
    is_weight: bool
    parent: "_Visit | None"
    depth: int


class _Harvester:
    def __init__(self, decoder: TensorDecoder, entry: str | None, depth: int, source_bytes: int):
        self._decoder = decoder
        self._entry = entry
        self._max_depth = depth
        self._bytes_left = max(_VIEW_FLOOR, source_bytes * _MAX_VIEW_FACTOR)
        self._classes: dict[tuple[str, str], Skipped] = {}
        self._visits = 0
        self._repeats = 0
        self._seen: set[int] = set()  # ids of values that the root keeps alive
        self.found = Harvest()

    def run(self, value: object, root: str | None) -> Harvest:
        root_path, root_value = self._find_root(value, root)
        self.found.root = ".".join(root_path)
        self._walk(root_value, "", is_weight=True)
        if root_path:
            self._walk_siblings(value, root_path)
        self.found.skipped = [*self._classes.values()]
        return self.found

    # Where the model is

    def _find_root(self, value: object, wanted: str | None) -> tuple[list[str], object]:
        if wanted is not None:
            return self._follow(value, wanted)
        path: list[str] = []
        for _ in range(4):
            children = self._container(value)
            keys = [key for key in ROOT_KEYS if self._holds_tensors(children.get(key))]
            if not keys or any(self._decoder.decode(child) for child in children.values()):
                break
            path.append(keys[0])
            value = children[keys[0]]
        return path, value

    def _follow(self, value: object, wanted: str) -> tuple[list[str], object]:
        path = wanted.split(".") if wanted else []
        for index, key in enumerate(path):
            children = self._container(value)
            if key not in children:
                raise ConversionError(
                    f"has nothing at {'.'.join(path[: index + 1])!r}; "
                    f"there are {', '.join(sorted(children)[:20]) or 'no named values'}",
                    entry=self._entry,
                )
            value = children[key]
        return path, value

    def _container(self, value: object) -> dict[str, object]:
        """Named values of a dict, or of an object that is no module."""
        pairs = mapping_pairs(value)
        if pairs is None and isinstance(value, PickleObject):
            pairs = _state_pairs(value)
        if pairs is None or _is_module(pairs):
            return {}
        return {key: child for key, child in pairs if isinstance(key, str)}

    def _holds_tensors(self, value: object) -> bool:
        """Whether `value` is a module or a container with a tensor near its top."""
        if value is None or self._decoder.decode(value) is not None:
            return False
        layer = [value]
        for _ in range(4):
            below: list[object] = []
            for item in layer[:4096]:
                if self._decoder.decode(item) is not None:
                    return True
                pairs = mapping_pairs(item)
                if pairs is None and isinstance(item, PickleObject):
                    pairs = _state_pairs(item)
                if pairs is not None and _is_module(pairs):
                    return True
                below += [child for _, child in pairs or ()]
            layer = below
        return False

    def _walk_siblings(self, value: object, root_path: list[str]) -> None:
        """Everything beside the root, at each level above it."""
        prefix = ""
        for key in root_path:
            children = self._container(value)
            for name, child in children.items():
                if name != key:
                    self._walk(child, prefix + name, is_weight=False)
            value = children[key]
            prefix += f"{key}."

    # Walking

    def _walk(self, value: object, path: str, *, is_weight: bool) -> None:
        stack = [_Visit(value, path, is_weight, None, 0)]
        while stack:
            visit = stack.pop()
            self._count(visit.value)
            if visit.depth > self._max_depth:
                raise LimitError(
                    f"values are nested deeper than {self._max_depth} (Limits.pickle_depth)",
                    entry=self._entry,
                )
            children = [
                _Visit(child, _join(visit.path, name), role, visit, visit.depth + 1)
                for name, child, role in self._enter(visit)
            ]
            stack.extend(reversed(children))

    def _count(self, value: object) -> None:
        """Bound the work: values can hold each other so that there are 2^n paths."""
        self._visits += 1
        if isinstance(value, PickleDict | PickleObject | PickleSequence):
            self._repeats += id(value) in self._seen
            self._seen.add(id(value))
        if self._visits > _MAX_VISITS or self._repeats > _MAX_REPEATS:
            raise LimitError(
                f"more than {_MAX_VISITS} values are reachable, or over {_MAX_REPEATS} are shared; "
                "values that hold each other many times are refused",
                entry=self._entry,
            )

    def _enter(self, visit: _Visit) -> Iterator[tuple[str, object, bool]]:
        """Take what `visit` is, and give its children with their names and roles."""
        value, path = visit.value, visit.path
        tensor = self._decoder.decode(value)
        if tensor is not None:
            for suffix, array in tensor.parts.items():
                self._keep((path or "tensor") + suffix, array, is_weight=visit.is_weight)
            if tensor.skipped:
                self._skip(path, "tensor", tensor.skipped)
        elif value is None or isinstance(value, bool | int | float | str):
            self._note(path, value)
        elif isinstance(value, PickleDict | PickleObject | PickleSequence):
            if _in_progress(visit):
                self._skip(path, "reference", "a value that holds itself")
            else:
                yield from self._children(value, path, is_weight=visit.is_weight)
        elif isinstance(value, PersistentRef):
            fields = sequence_items(value.pid) or []
            if len(fields) == 4 and fields[0] == "reduce_package":  # torch.package
                yield from self._arguments(
                    sequence_items(fields[3]) or [], is_weight=visit.is_weight
                )
            else:
                self._skip(path, "storage", "a storage outside any tensor")
        elif isinstance(value, GlobalName):
            self._note(path, value.dotted)
        else:
            self._skip(path, type(value).__name__, "raw bytes outside any tensor")

    def _children(
        self, value: PickleDict | PickleObject | PickleSequence, path: str, *, is_weight: bool
    ) -> Iterator[tuple[str, object, bool]]:
        items = sequence_items(value)
        if items is not None:
            yield from ((str(i), item, is_weight) for i, item in enumerate(items))
            return
        pairs = mapping_pairs(value)
        state = _state_pairs(value) if isinstance(value, PickleObject) else None
        for found in (pairs, state):
            if found is not None and _is_module(found):
                self._note_module(value, path)
                yield from self._module_children(found, is_weight=is_weight)
                return
        if isinstance(value, PickleObject):
            yield from self._object_children(value, path, state, is_weight=is_weight)
        for name, child in _named(pairs or []):
            if name is None:
                self._skip(path, "dict key", "a key that is neither text nor number")
            else:
                yield name, child, is_weight

    def _object_children(
        self,
        value: PickleObject,
        path: str,
        state: list[tuple[object, object]] | None,
        *,
        is_weight: bool,
    ) -> Iterator[tuple[str, object, bool]]:
        if value.class_name.startswith("__torch__"):
            self._note_module(value, path)
        elif value.class_name not in _PLAIN_CLASSES:
            self._skip(path, value.class_name, "class not loaded; its tensors were taken")
        for name, child in _named(state or []):
            if name is not None:
                yield name, child, is_weight
        if state is None:
            yield from ((str(i), v, is_weight) for i, v in enumerate(_rest(value.state)))
        yield from ((str(i), v, is_weight) for i, v in enumerate(value.items))
        if value.class_name != "numpy.dtype":
            yield from self._arguments(value.args, is_weight=is_weight)

    def _arguments(
        self, args: list[object], *, is_weight: bool
    ) -> Iterator[tuple[str, object, bool]]:
        """Arguments of a call; the state of a module (torch.fx) keeps the module's own names."""
        for index, arg in enumerate(args):
            pairs = mapping_pairs(arg)
            inlined = pairs is not None and _is_module(pairs)
            yield "" if inlined else f"args.{index}", arg, is_weight

    def _module_children(
        self, pairs: list[tuple[object, object]], *, is_weight: bool
    ) -> Iterator[tuple[str, object, bool]]:
        """Children of an `nn.Module`, named as `state_dict()` does."""
        state = {key: child for key, child in pairs if isinstance(key, str)}
        hidden = _text_items(state.pop("_non_persistent_buffers_set", None))
        for group in ("_parameters", "_buffers", "_modules"):
            for name, child in _named(mapping_pairs(state.pop(group, None)) or []):
                if name is not None and child is not None:
                    yield name, child, is_weight and not (group == "_buffers" and name in hidden)
        for name, child in state.items():
            if not name.startswith("_"):
                yield name, child, False

    # Taking

    def _keep(self, name: str, array: Array, *, is_weight: bool) -> None:
        target = self.found.weights if is_weight else self.found.extra
        if name in target:
            raise ConversionError(f"two tensors are named {name[:200]!r}", entry=self._entry)
        self._bytes_left -= array.nbytes
        if self._bytes_left < 0:
            raise LimitError(
                f"the tensors are views that repeat the file more than {_MAX_VIEW_FACTOR} times",
                entry=self._entry,
            )
        target[name] = array

    def _note(self, path: str, value: Fact) -> None:
        if len(self.found.facts) < _MAX_FACTS and path:
            short = value[:_MAX_FACT_CHARS] if isinstance(value, str) else value
            self.found.facts[path] = short

    def _note_module(self, value: object, path: str) -> None:
        name = value.class_name if isinstance(value, PickleObject) else "module state"
        self.found.modules[path] = name

    def _skip(self, path: str, what: str, why: str) -> None:
        known = self._classes.get((what, why))
        count = known.count + 1 if known else 1
        where = known.where if known else path
        self._classes[what, why] = Skipped(where, what[:200], why, count)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path and name else path or name


def _in_progress(visit: _Visit) -> bool:
    """Whether `visit` is inside the value that it would enter."""
    above = visit.parent
    while above is not None:
        if above.value is visit.value:
            return True
        above = above.parent
    return False


def _state_pairs(value: PickleObject) -> list[tuple[object, object]] | None:
    """Attributes that BUILD set: `__dict__`, or the pair of `__dict__` and slots."""
    pairs = mapping_pairs(value.state)
    items = sequence_items(value.state)
    if pairs is None and items is not None and len(items) == 2:
        parts = [mapping_pairs(item) for item in items]
        if any(part is not None for part in parts):
            return [pair for part in parts for pair in part or ()]
    return pairs


def _rest(state: object) -> list[object]:
    return sequence_items(state) or ([] if state is None else [state])


def _is_module(pairs: list[tuple[object, object]]) -> bool:
    keys = {key for key, _ in pairs if isinstance(key, str)}
    return "_parameters" in keys and "_modules" in keys


def _named(pairs: list[tuple[object, object]]) -> Iterator[tuple[str | None, object]]:
    """Pairs with text keys; of equal keys the last. A key that cannot be a name gives None."""
    last: dict[str | int | float | None, object] = {}
    unnamed: list[object] = []
    for key, value in pairs:
        if isinstance(key, str | int | float):
            last[key] = value
        else:
            unnamed.append(value)
    yield from ((str(key), value) for key, value in last.items())
    yield from ((None, value) for value in unnamed)


def _text_items(value: object) -> set[str]:
    items = sequence_items(value)
    if items is None and isinstance(value, PickleObject):
        items = [item for arg in value.args for item in sequence_items(arg) or ()]
    return {item for item in items or () if isinstance(item, str)}


def harvest(
    value: object,
    decoder: TensorDecoder,
    *,
    root: str | None = None,
    entry: str | None = None,
    depth: int = 256,
    source_bytes: int = 0,
) -> Harvest:
    """Name all tensors reachable from `value`.

    Args:
        value: Result of `PickleReader.load`.
        decoder: Rebuilds tensors.
        root: Dotted path of the model inside the checkpoint; found by well-known keys if None.
        entry: Name used in errors.
        depth: Deepest nesting.
        source_bytes: Size of the file, against which the sum of all views is bounded.

    Raises:
        ConversionError: when two tensors have one name, or one is forged.
        LimitError: when nesting, sharing or views exceed what an honest file needs.
    """
    return _Harvester(decoder, entry, depth, source_bytes).run(value, root)
