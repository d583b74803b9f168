"""Weights out of ONNX models: initializers of the graph and its sub-graphs, external data too.

Read from the wire format, so neither the `onnx` library nor a 2 GB limit stands in the way.
Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import ConversionError, LimitError
from torsh_package.limits import DEFAULT_LIMITS, Limits

from .arrays import Array, dense_view, element_count
from .checkpoint import Skipped
from .confined import ConfinedFolder
from .contents import Contents, PackageFormat
from .dtypes import ONNX_DTYPES, TORCH_DTYPES
from .foreign_zip import map_file
from .protobuf import Message

_MAX_DEPTH = 64
_MAX_NODES = 5_000_000
_PACKED_INTEGERS = {21: (4, False), 22: (4, True), 25: (2, False), 26: (2, True)}
_IN_INT32 = {"uint8", "int8", "uint16", "int16", "int32", "bool"}
_BITS_IN_INT32 = {"float16", "bfloat16"}


def is_onnx(data: Array) -> bool:
    """Whether the file is a protobuf with the fields of a ModelProto: `ir_version` and `graph`."""
    try:
        seen = {(number, wire) for number, wire, _ in Message(data, "").fields()}
    except (ConversionError, LimitError):
        return False
    return (1, 0) in seen and (7, 2) in seen and all(number <= 26 for number, _ in seen)


def read_onnx(path: Path, *, limits: Limits = DEFAULT_LIMITS) -> Contents:
    """Weights, operator sets and inputs of a model.

    Raises:
        ConversionError: when the file is malformed, or when external data would leave the
            model's folder.
    """
    data = map_file(path)
    reader = _Reader(path, limits)
    model = Message(data, path.name)
    found = Contents(PackageFormat.ONNX, "ONNX")
    for producer, number in (("producer_name", 2), ("producer_version", 3), ("domain", 4)):
        if text := model.text(number):
            found.environment[f"onnx_{producer}"] = text[:200]
    found.environment["onnx_ir_version"] = str(model.integer(1))
    for opset in model.messages(8):
        domain = opset.text(1) or "ai.onnx"
        found.environment[f"onnx_opset:{domain[:100]}"] = str(opset.integer(2))
    for graph in model.messages(7):
        reader.graph(graph, "", 0)
    for index, function in enumerate(model.messages(25)):
        for node in function.messages(7):
            reader.node(node, f"function{index}.", 1)
    found.config = {
        "environment": dict(found.environment),
        "operators": {name: count for name, count in sorted(reader.operators.items())},
        "inputs": [_value_info(v) for g in model.messages(7) for v in g.messages(11)],
        "outputs": [_value_info(v) for g in model.messages(7) for v in g.messages(12)],
    }
    found.weights = reader.tensors
    found.skipped = reader.skipped
    found.facts = {f"operators.{name}": count for name, count in sorted(reader.operators.items())}
    found.companions = sorted(reader.external)
    if reader.external:
        found.notes.append(f"external data was read from {', '.join(sorted(reader.external))}")
    found.notes += reader.notes
    return found


def _value_info(value: Message) -> JsonObject:
    """Name, dtype and shape of an input or output; symbols as text, unknown extents as null."""
    row: JsonObject = {"name": value.text(1), "dtype": None, "shape": None}
    for kind in value.messages(2):
        for tensor in kind.messages(1):
            row["dtype"] = ONNX_DTYPES.get(tensor.integer(1))
            for shape in tensor.messages(2):
                row["shape"] = [_extent(dim) for dim in shape.messages(1)]
    return row


def _extent(dim: Message) -> int | str | None:
    numbers, symbol = dim.integers(1), dim.text(2)
    if numbers:
        return numbers[-1] if abs(numbers[-1]) < 1 << 53 else None
    return symbol or None


class _Reader:
    def __init__(self, path: Path, limits: Limits):
        self._folder = ConfinedFolder(path.absolute().parent, limits=limits)
        self._entry = path.name
        self._limits = limits
        self._files: dict[str, Array] = {}
        self._nodes = 0
        self.tensors: dict[str, Array] = {}
        self.skipped: list[Skipped] = []
        self.operators: dict[str, int] = {}
        self.external: set[str] = set()
        self.notes: list[str] = []

    def graph(self, graph: Message, prefix: str, depth: int) -> None:
        """Take the initializers of `graph` and of the graphs in its nodes."""
        if depth > _MAX_DEPTH:
            raise LimitError(f"graphs are nested deeper than {_MAX_DEPTH}", entry=self._entry)
        for tensor in graph.messages(5):
            self._keep(prefix, tensor)
        sparse = sum(1 for _ in graph.messages(15))
        if sparse:
            self.skipped.append(
                Skipped(prefix or "graph", "sparse initializer", "stays in the original", sparse)
            )
        for node in graph.messages(1):
            self.node(node, prefix, depth)

    def node(self, node: Message, prefix: str, depth: int) -> None:
        """Count the operator of `node` and enter its sub-graphs."""
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise LimitError(f"more than {_MAX_NODES} nodes", entry=self._entry)
        kind = node.text(4)[:100]
        domain = node.text(7)[:100]
        label = f"{domain}:{kind}" if domain not in ("", "ai.onnx") else kind
        self.operators[label] = self.operators.get(label, 0) + 1
        for attribute in node.messages(5):
            graphs: Iterator[Message] = (g for n in (6, 11) for g in attribute.messages(n))
            for index, graph in enumerate(graphs):
                name = node.text(3) or f"{kind}{self._nodes}"
                self.graph(graph, f"{prefix}{name}.{attribute.text(1)}{index or ''}.", depth + 1)

    def _keep(self, prefix: str, tensor: Message) -> None:
        name = prefix + tensor.text(8)
        if len(self.tensors) >= self._limits.tensors:
            raise LimitError(f"more than {self._limits.tensors} tensors", entry=self._entry)
        if name in self.tensors:
            raise ConversionError(f"two initializers are named {name[:200]!r}", entry=self._entry)
        array = self._tensor(tensor, name)
        if array is not None:
            self.tensors[name] = array

    def _tensor(self, tensor: Message, name: str) -> Array | None:
        label = f"{self._entry}:{name[:80]}"
        shape, kind = tensor.integers(1), tensor.integer(2)
        count = element_count(shape, entry=label)
        external = tensor.integer(14) == 1
        raw = self._external(tensor, label) if external else tensor.raw(9)
        if kind in _PACKED_INTEGERS:
            return self._unpack(tensor, raw, shape, kind, name)
        if kind not in ONNX_DTYPES:
            what = "text" if kind == 8 else f"data type {kind}"
            self.skipped.append(Skipped(name, "initializer", f"{what} has no equivalent"))
            return None
        dtype = TORCH_DTYPES[ONNX_DTYPES[kind]]
        if raw is None:
            raw = _typed_data(tensor, dtype, label)
        if raw.nbytes == 0 and count:
            raise ConversionError("has no data", entry=label)
        return dense_view(raw, dtype, shape, entry=label)

    def _unpack(
        self, tensor: Message, raw: Array | None, shape: list[int], kind: int, name: str
    ) -> Array:
        """2- and 4-bit integers, lowest bits first, widened to 8 bits."""
        bits, signed = _PACKED_INTEGERS[kind]
        if raw is None:
            raw = np.array([v & 0xFF for v in tensor.integers(5)], np.uint8)
        count, per_byte = element_count(shape), 8 // bits
        if raw.nbytes != -(-count // per_byte):
            raise ConversionError(f"{raw.nbytes} bytes for {count} elements", entry=name[:80])
        shifts = np.arange(per_byte, dtype=np.uint8) * bits
        values = ((raw[:, None] >> shifts) & ((1 << bits) - 1)).reshape(-1)[:count]
        if signed:
            values = ((values ^ (1 << (bits - 1))).astype(np.int8) - (1 << (bits - 1))).astype("i1")
        self.notes.append(f"{name[:80]}: {bits}-bit integers are stored in 8 bits")
        return values.reshape(shape)

    def _external(self, tensor: Message, label: str) -> Array:
        """Bytes from a file in the model's folder: location, offset, length."""
        fields = {entry.text(1): entry.text(2) for entry in tensor.messages(13)}
        location = fields.get("location", "")
        offset, length = (_natural(fields.get(key), label) for key in ("offset", "length"))
        if location not in self._files:
            self._files[location] = self._folder.map(location)
            self.external.add(location)
        data = self._files[location]
        start = offset or 0
        end = data.nbytes if length is None else start + length
        if end > data.nbytes or start > end:
            raise ConversionError(
                f"external data ends at byte {end} of {data.nbytes} in {location[:80]!r}",
                entry=label,
            )
        return data[start:end]


def _natural(text: str | None, label: str) -> int | None:
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise ConversionError(f"external data offset or length {text[:40]!r}", entry=label)
    return int(text)


def _typed_data(tensor: Message, dtype: np.dtype, label: str) -> Array:
    """The bytes of `float_data`, `int32_data`, `int64_data`, `double_data` or `uint64_data`."""
    name = dtype.name
    if name in ("float32", "complex64"):
        values = tensor.packed(4, "f")
    elif name in ("float64", "complex128"):
        values = tensor.packed(10, "d")
    elif name == "int64":
        values = np.array(tensor.integers(7), np.int64)
    elif name in ("uint32", "uint64"):
        values = np.array([v & (1 << 64) - 1 for v in tensor.integers(11)], np.uint64)
        values = values.astype(dtype)
    else:
        wide = np.array(tensor.integers(5), np.int64)
        is_bits = name not in _IN_INT32
        bits = np.dtype(f"u{dtype.itemsize}") if is_bits else dtype
        values = wide.astype(bits)
        if (values.astype(np.int64) != wide).any():
            raise ConversionError(f"a value does not fit {name}", entry=label)
    if values is None:
        return np.empty(0, np.uint8)
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)
