"""Saving a model as text and weights, and reading it again.

`save(model, "m.mlir")` writes two files: `m.mlir`, the module as it was imported, with the
format's version, locations, and for each weight its name and digest; and `m.safetensors` beside
it, with the data. Reading compiles again: the same program on the same target has the same bytes.
The structure of a torch model's arguments and results is not kept: a loaded model takes its
inputs by position or name, and gives one array or a tuple.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Attribute, SSAValue
from xdsl.printer import Printer
from xdsl.utils.exceptions import DiagnosticException, ParseError

from torsh_dialect.attributes import int_of, integer, str_of, text
from torsh_dialect.context import Context
from torsh_dialect.errors import ImportModelError, InvalidArgumentError, VerificationError
from torsh_dialect.evaluate import names_of
from torsh_dialect.ops.constant import WeightOp
from torsh_dialect.parse import parse_module
from torsh_dialect.placement import logical
from torsh_dialect.symbols import symbols_in
from torsh_dialect.verify import verify_module
from torsh_dialect.weights import WeightStore, digest_of
from torsh_fx.importers.model import ImportedModel, Report
from torsh_fx.interface import State
from torsh_fx.mapped import give_back, mappings_of
from torsh_fx.places import place_of
from torsh_fx.safetensors import read_safetensors, write_safetensors

FORMAT_VERSION = "2.0"
VERSION_KEY, WEIGHTS_KEY, STATE_KEY = "torsh.format_version", "torsh.weights", "torsh.state"
SUFFIX = ".mlir"


def save(model: ImportedModel, path: str | Path) -> None:
    """Write a model as `path` (ends in `.mlir`) and a `.safetensors` file beside it.

    Raises:
        InvalidArgumentError: The path does not end in `.mlir`, or a weight holds strings.
        OSError: A file cannot be written; an old pair of files is then unchanged, or complete.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise InvalidArgumentError(
            f"{path}: the name of a saved model ends in {SUFFIX} (text) or .torshpkg (machine code)"
        )
    module = model.module.clone()
    used = {op.id.data: op for op in weights_in(module)}
    for op in weights_in(module):
        op.properties["digest"] = text(digest_of(model.weights[op.id.data]))
    arrays = {name: model.weights[name] for name in used}
    arrays.update({s.weight: model.weights[s.weight] for s in model.state})
    beside = path.with_suffix(".safetensors")
    module.attributes[VERSION_KEY] = text(FORMAT_VERSION)
    if arrays:
        module.attributes[WEIGHTS_KEY] = text(beside.name)
        write_safetensors(beside, arrays)
    if model.state:
        module.attributes[STATE_KEY] = ArrayAttr([_state_attribute(s) for s in model.state])
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(module_text(module), encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def import_mlir(path: Path, ctx: Context) -> ImportedModel:
    """Read MLIR text with its weights; what a file without weights names stays without data.

    Raises:
        ImportModelError: The text is no module of the torsh dialect, is of a newer format, or
            its weights are missing or damaged; or the file cannot be read.
    """
    try:
        module = parse_module(ctx, path.read_bytes().decode(), str(path))
        verify_module(module)
    except OSError as error:
        raise ImportModelError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ImportModelError(f"{path} is no MLIR text: byte {error.start} is not UTF-8") from None
    except ParseError as error:
        raise ImportModelError(str(error).strip()) from None  # it says file and line itself
    except (DiagnosticException, VerificationError) as error:
        raise ImportModelError(f"{path}: {str(error).strip()}") from None
    main = _main(module, path)
    try:
        check_version(module, path)
        beside = _weights_file(module, path)
        inputs, outputs = give_names(main)
        state = tuple(_state(one) for one in _array(module.attributes.pop(STATE_KEY, None)))
    except VerificationError as error:
        raise ImportModelError(f"{path}: {error}") from None
    ctx.weights = _weights_in(beside) if beside else WeightStore()
    attach_weights(module, ctx.weights)
    module.attributes.pop(VERSION_KEY, None)
    module.attributes.pop(WEIGHTS_KEY, None)
    files = (beside,) if beside else ()
    found = {n: place_of(array, file) for file in files for n, array in ctx.weights.items()}
    places = {name: place for name, place in found.items() if place is not None}
    symbols, report = symbols_in(main), Report()
    return ImportedModel(
        module, ctx.weights, inputs, outputs, symbols, report, state, files=files, places=places
    )


def give_names(main: FuncOp) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of inputs and outputs; those of the text's values where attributes have none.

    Raises:
        VerificationError: There are more or fewer names than values, or one stands twice.
    """
    returned = main.get_return_op()
    if returned is None:
        raise VerificationError("@main has no body that ends in func.return")
    values = {"arg_names": main.args, "result_names": returned.operands}
    for key, named in values.items():
        if key not in main.attributes:
            main.attributes[key] = ArrayAttr([text(name) for name in _distinct(named, key)])
        attribute = main.attributes[key]
        if not isinstance(attribute, ArrayAttr):
            raise VerificationError(f"{key} of @main holds {attribute}, which is no list")
        names = names_of(main, key)
        if len(set(names)) != len(names) or len(names) != len(named):
            raise VerificationError(
                f"{key} of @main holds {', '.join(names) or 'nothing'}: give each of "
                f"{len(named)} values a name of its own"
            )
    return names_of(main, "arg_names"), names_of(main, "result_names")


def _distinct(values: Sequence[SSAValue], key: str) -> list[str]:
    """Names of values as the text has them; numbered where that has none, or one twice."""
    prefix = key.partition("_")[0]
    hints = [value.name_hint for value in values]
    numbered = [f"{prefix}{index}" for index in range(len(values))]
    if any(hint is None for hint in hints) or len(set(hints)) != len(hints):
        return numbered
    return [hint for hint in hints if hint is not None]


def check_version(module: ModuleOp, path: Path) -> None:
    """Refuse a module of a newer format.

    Raises:
        ImportModelError: With both versions.
    """
    value = module.attributes.get(VERSION_KEY)
    version = FORMAT_VERSION if value is None else str_of(value)
    major = version.partition(".")[0]
    if not major.isdigit() or int(major) > int(FORMAT_VERSION.partition(".")[0]):
        raise ImportModelError(
            f"{path} has format version {version}; this ToRSh reads up to {FORMAT_VERSION}: "
            "update it, or save the model with an older one"
        )


def read_weights(path: Path) -> WeightStore:
    """The arrays of a `.safetensors` or `.npz` file.

    Raises:
        ImportModelError: The file is damaged.
        InvalidArgumentError: The name ends in neither.
    """
    if path.suffix == ".safetensors":
        return WeightStore(read_safetensors(path))
    if path.suffix != ".npz":
        raise InvalidArgumentError(f"{path}: weights are .safetensors or .npz files")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return WeightStore({name: archive[name] for name in archive.files})
    except (ValueError, EOFError) as error:
        raise ImportModelError(f"{path}: {error}") from None


def attach_weights(module: ModuleOp, weights: WeightStore) -> None:
    """Check that every weight of the module is there with its type and, where known, digest.

    Raises:
        ImportModelError: One is missing or differs.
    """
    mappings = mappings_of(weights.values())
    for op in weights_in(module):
        name = op.id.data
        give_back(mappings)
        if name not in weights:
            raise ImportModelError(f"the weight {name!r} is missing; there are {len(weights)}")
        if weights.type_of(name) != logical(op.type):
            raise ImportModelError(
                f"the weight {name!r} is {weights.type_of(name)}, the module says {op.type}"
            )
        if op.digest is not None and digest_of(weights[name]) != op.digest.data:
            raise ImportModelError(f"the weight {name!r} differs from the one that was saved")
    give_back(mappings)


def weights_in(module: ModuleOp) -> list[WeightOp]:
    """The `torsh.weight` ops of a module."""
    return [op for op in module.walk() if isinstance(op, WeightOp)]


def module_text(module: ModuleOp) -> str:
    """A module as text, with locations."""
    stream = StringIO()
    Printer(stream=stream, print_debuginfo=True).print_op(module)
    return f"{stream.getvalue()}\n"


def _weights_file(module: ModuleOp, path: Path) -> Path | None:
    name = module.attributes.get(WEIGHTS_KEY)
    if name is None:
        if any(True for _ in weights_in(module)):
            raise ImportModelError(
                f"{path} has weights, but no {WEIGHTS_KEY} attribute says in which file they are"
            )
        return None
    file = str_of(name)
    if file != Path(file).name or file in ("", ".", ".."):
        raise ImportModelError(f"{path}: weights must lie beside the module, not at {file!r}")
    return path.with_name(file)


def _weights_in(file: Path) -> WeightStore:
    try:
        return read_weights(file)
    except FileNotFoundError:
        raise ImportModelError(f"{file} is missing: it holds the weights") from None


def _main(module: ModuleOp, path: Path) -> FuncOp:
    for op in module.ops:
        if isinstance(op, FuncOp) and op.sym_name.data == "main":
            return op
    raise ImportModelError(f"{path} has no function @main")


def _state_attribute(state: State) -> DictionaryAttr:
    return DictionaryAttr(
        {
            "name": text(state.name),
            "input": integer(state.input),
            "output": integer(state.output),
            "weight": text(state.weight),
        }
    )


def _state(attribute: Attribute) -> State:
    if not isinstance(attribute, DictionaryAttr):
        raise VerificationError(f"{STATE_KEY} holds {attribute}, which is no dictionary")
    row = attribute.data
    if missing := sorted({"name", "input", "output", "weight"} - set(row)):
        raise VerificationError(f"{STATE_KEY} has an entry without {', '.join(missing)}")
    return State(
        str_of(row["name"]), int_of(row["input"]), int_of(row["output"]), str_of(row["weight"])
    )


def _array(attribute: Attribute | None) -> tuple[Attribute, ...]:
    return tuple(attribute) if isinstance(attribute, ArrayAttr) else ()  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
