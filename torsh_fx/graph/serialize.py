"""Graphs as JSON and as bytes.

JSON (format version 2.0) holds the module op by op; attributes and types are MLIR text:

    {"format": "torsh-fx-graph", "version": "2.0",
     "weights": {"fc.weight": "sha256:..."},
     "functions": [{"op": "func.func", "attributes": {...}, "regions": [
        {"arguments": [[0, "tensor<2x3xf32>"]],
         "ops": [{"op": "torsh.relu", "operands": [0], "results": [[1, "..."]]}]}]}]}

Values are numbered in the order in which they appear. The binary form is the 8 bytes
`TORSHFXG`, the lengths of the two parts (u64, little-endian), the JSON and a safetensors file of
the weights; SHA-256 of all that closes it.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, cast

from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Attribute, Block, Operation, Region, SSAValue
from xdsl.parser import Parser
from xdsl.utils.exceptions import DiagnosticException, ParseError

from torsh_dialect.attributes import Array
from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, TorshError
from torsh_dialect.weights import digest_of
from torsh_fx.graph.graph import FxGraph
from torsh_fx.safetensors import read_safetensors, write_safetensors

FORMAT, VERSION = "torsh-fx-graph", "2.0"
MAGIC, LENGTHS = b"TORSHFXG", struct.Struct("<QQ")
DEEPEST = 64
"""Most regions within each other."""

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


# -- writing


@dataclass
class _Writer:
    numbers: dict[SSAValue, int] = field(default_factory=dict[SSAValue, int])

    def op(self, op: Operation) -> dict[str, Json]:
        row: dict[str, Json] = {"op": op.name}
        if op.operands:
            row["operands"] = [self.numbers[value] for value in op.operands]
        if op.results:
            row["results"] = [self._define(result) for result in op.results]
        for key, entries in (("properties", op.properties), ("attributes", op.attributes)):
            if entries:
                row[key] = {name: str(value) for name, value in sorted(entries.items())}
        if op.regions:
            row["regions"] = [self._region(region) for region in op.regions]
        return row

    def _region(self, region: Region) -> dict[str, Json]:
        block = region.block
        row: dict[str, Json] = {}
        if block.args:
            row["arguments"] = [self._define(argument) for argument in block.args]
        row["ops"] = [self.op(op) for op in block.ops]
        return row

    def _define(self, value: SSAValue) -> Json:
        self.numbers[value] = len(self.numbers)
        return [self.numbers[value], str(value.type)]


def to_json(graph: FxGraph) -> str:
    """The graph as JSON; of weights it has names and digests."""
    writer = _Writer()
    rows = [writer.op(op) for op in graph.module.ops]
    whole = {
        "format": FORMAT,
        "version": VERSION,
        "weights": {name: digest_of(array) for name, array in sorted(graph.weights.items())},
        "functions": rows,
    }
    return json.dumps(whole, indent=1)


def to_binary(graph: FxGraph) -> bytes:
    """The graph and its weights as bytes; equal graphs give equal bytes."""
    text = to_json(graph).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        write_safetensors(path, dict(graph.weights))
        arrays = path.read_bytes()
    body = MAGIC + LENGTHS.pack(len(text), len(arrays)) + text + arrays
    return body + hashlib.sha256(body).digest()


# -- reading


@dataclass
class _Reader:
    context: Context
    values: dict[int, SSAValue] = field(default_factory=dict[int, SSAValue])
    known: dict[str, Attribute] = field(default_factory=dict[str, Attribute])

    def op(self, row: Json, depth: int = 0) -> Operation:
        entry = _object(row, "an op")
        name = _text(entry.get("op"), "an op's name")
        if depth > DEEPEST:
            raise ImportModelError(f"regions are nested deeper than {DEEPEST}")
        cls = self.context.get_optional_op(name)
        if cls is None:
            raise ImportModelError(f"the graph has the op {name!r}, which is unknown")
        operands = [self._value(number) for number in _list(entry.get("operands", []))]
        results = [self._definition(pair) for pair in _list(entry.get("results", []))]
        properties, attributes = (
            self._entries(entry, "properties"),
            self._entries(entry, "attributes"),
        )
        regions = [self._region(one, depth + 1) for one in _list(entry.get("regions", []))]
        op = cls.create(
            operands=operands,
            result_types=[type for _, type in results],
            properties=properties,
            attributes=attributes,
            regions=regions,
        )
        for (number, _), value in zip(results, op.results, strict=True):
            self.values[number] = value
        return op

    def _region(self, row: Json, depth: int) -> Region:
        entry = _object(row, "a region")
        arguments = [self._definition(pair) for pair in _list(entry.get("arguments", []))]
        block = Block(arg_types=[type for _, type in arguments])
        for (number, _), value in zip(arguments, block.args, strict=True):
            self.values[number] = value
        for one in _list(entry.get("ops", [])):
            block.add_op(self.op(one, depth))
        return Region(block)

    def _value(self, number: Json) -> SSAValue:
        if not isinstance(number, int) or number not in self.values:
            raise ImportModelError(f"the value {number!r} is used before it is computed")
        return self.values[number]

    def _definition(self, pair: Json) -> tuple[int, Attribute]:
        match pair:
            case [int() as number, str() as type] if number not in self.values:
                return number, self._attribute(type)
            case _:
                raise ImportModelError(f"{pair!r} is no [number, type] of a new value")

    def _entries(self, entry: dict[str, Json], key: str) -> dict[str, Attribute]:
        rows = _object(entry.get(key, {}), key)
        return {name: self._attribute(_text(value, name)) for name, value in rows.items()}

    def _attribute(self, text: str) -> Attribute:
        if text not in self.known:
            parser = Parser(self.context, text)
            self.known[text] = parser.parse_attribute()
            if parser.parse_optional_identifier() is not None:
                raise ImportModelError(f"{text!r} is more than one attribute")
        return self.known[text]


def _object(value: Json, what: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise ImportModelError(f"{what} is {type(value).__name__} in the JSON, expected an object")
    return value


def _list(value: Json) -> list[Json]:
    if not isinstance(value, list):
        raise ImportModelError(f"{value!r} is no list")
    return value


def _text(value: Json, what: str) -> str:
    if not isinstance(value, str):
        raise ImportModelError(f"{what} is {value!r}, expected text")
    return value


def from_json(text: str, weights: Mapping[str, Array] | None = None) -> FxGraph:
    """The graph that `to_json` wrote.

    Args:
        text: The JSON.
        weights: Arrays for the names that it lists; may be given later with `graph.bind`.

    Raises:
        ImportModelError: The text is damaged, of a newer format, or a weight differs from the one
            that was saved.
    """
    try:
        whole = _object(cast(Json, json.loads(text)), "the graph")
        _check_version(whole)
        reader = _Reader(Context())
        module = ModuleOp([reader.op(row) for row in _list(whole.get("functions", []))])
        graph = FxGraph(module)
        graph.verify()
    except (ValueError, ParseError, DiagnosticException, TorshError, RecursionError) as error:
        if isinstance(error, ImportModelError):
            raise
        raise ImportModelError(f"the JSON is no graph: {str(error).strip()}") from None
    _attach(graph, _object(whole.get("weights", {}), "weights"), weights or {})
    return graph


def _attach(graph: FxGraph, digests: Mapping[str, Json], weights: Mapping[str, Array]) -> None:
    for name, digest in digests.items():
        if name in weights and digest_of(weights[name]) != digest:
            raise ImportModelError(f"the weight {name!r} differs from the one that was saved")
    graph.weights.arrays.update(weights)


def _check_version(whole: Mapping[str, Json]) -> None:
    if whole.get("format") != FORMAT:
        raise ImportModelError(f"the format is {whole.get('format')!r}, expected {FORMAT!r}")
    version = _text(whole.get("version"), "the version")
    if version.partition(".")[0] != VERSION.partition(".")[0]:
        raise ImportModelError(f"the graph has format version {version}; this ToRSh reads 2.x")


def from_binary(data: bytes) -> FxGraph:
    """The graph that `to_binary` wrote.

    Raises:
        ImportModelError: The bytes are damaged, or of another format.
    """
    head = len(MAGIC) + LENGTHS.size
    if data[: len(MAGIC)] != MAGIC or len(data) < head + 32:
        raise ImportModelError("the bytes are no graph: they do not begin with TORSHFXG")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise ImportModelError("the graph's bytes are damaged: their digest differs")
    text_size, arrays_size = LENGTHS.unpack_from(data, len(MAGIC))
    if head + text_size + arrays_size + 32 != len(data):
        raise ImportModelError(f"the graph has {len(data)} bytes, not as many as it says")
    text = data[head : head + text_size]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        path.write_bytes(data[head + text_size : -32])
        arrays = {name: array.copy() for name, array in read_safetensors(path).items()}
    return from_json(text.decode(), arrays)
