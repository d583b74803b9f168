"""Model folders: Hugging Face (`config.json`, shards) and MLflow (`MLmodel`)."""

from pathlib import Path

from torsh_package.dependencies.requirements_file import read_requirements
from torsh_package.errors import ConversionError
from torsh_package.limits import DEFAULT_LIMITS, MIB, Limits

from .arrays import Array
from .checkpoint import Skipped
from .confined import ConfinedFolder
from .contents import Contents, PackageFormat
from .onnx_file import read_onnx
from .safetensors_file import read_safetensors
from .strict_json import load_object
from .torch_file import read_torch

_TEXTS = (".json", ".txt", ".md", ".model", ".jinja", ".yaml", ".yml", ".toml", ".tiktoken")
_MAX_TEXT = 64 * MIB
_LICENSES = ("LICENSE", "NOTICE")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")


def is_huggingface(names: list[str]) -> bool:
    """Whether a folder with these files is a Hugging Face model."""
    weights = any(name in names for name in (*_INDEXES, *_SINGLES))
    return "config.json" in names and (weights or any(n.endswith(".safetensors") for n in names))


def read_huggingface(
    path: Path, *, root: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Contents:
    """Weights of all shards, configuration, tokenizer files, sources.

    Raises:
        ConversionError: when a shard is missing, or does not hold what the index says.
    """
    folder = ConfinedFolder(path, limits=limits)
    names = folder.names()
    links = folder.links()
    if links:
        raise ConversionError(
            f"{links[0]!r} is a symbolic link, which could lead anywhere; "
            "copy the folder with its links resolved (cp -rL)",
            entry=str(path),
        )
    if not is_huggingface(names):
        raise ConversionError("has no config.json with weights beside it", entry=str(path))
    found = Contents(PackageFormat.HUGGINGFACE, "Hugging Face")
    config = load_object(folder.read("config.json"), entry="config.json", limits=limits)
    for key in ("transformers_version", "model_type", "torch_dtype", "dtype"):
        if isinstance(value := config.get(key), str):
            found.environment[key] = value[:200]
    used = _read_weights(folder, names, found, root, limits)
    _take_files(folder, [name for name in names if name not in used], found)
    return found


def _read_weights(
    folder: ConfinedFolder, names: list[str], found: Contents, root: str | None, limits: Limits
) -> set[str]:
    """Read the weights; the names of the files that hold them."""
    for index in _INDEXES:
        if index in names:
            _read_shards(folder, index, found, limits)
            return set(_shard_map(folder, index, limits).values())
    singles = [name for name in _SINGLES if name in names][:1]
    shards = singles or [name for name in names if name.endswith(".safetensors")]
    for name in shards:
        for tensor, array in _shard(folder, name, found, root, limits).items():
            if tensor in found.weights:
                raise ConversionError(f"tensor {tensor[:80]!r} is in two files", entry=name)
            found.weights[tensor] = array
    return set(shards)


def _shard_map(folder: ConfinedFolder, index: str, limits: Limits) -> dict[str, str]:
    table = load_object(folder.read(index), entry=index, limits=limits).get("weight_map")
    rows = table if isinstance(table, dict) else {}
    found = {tensor: shard for tensor, shard in rows.items() if isinstance(shard, str)}
    if not found or len(found) != len(rows):
        raise ConversionError("has no usable weight_map", entry=index)
    return found


def _read_shards(folder: ConfinedFolder, index: str, found: Contents, limits: Limits) -> None:
    table = _shard_map(folder, index, limits)
    for shard in sorted(set(table.values())):
        tensors = _shard(folder, shard, found, "", limits)
        for tensor, array in tensors.items():
            if table.get(tensor) != shard:
                raise ConversionError(
                    f"tensor {tensor[:80]!r} is in {shard[:80]!r}; the index says otherwise",
                    entry=index,
                )
            found.weights[tensor] = array
    missing = sorted(set(table) - set(found.weights))
    if missing:
        raise ConversionError(
            f"tensor {missing[0][:80]!r} is not in {table[missing[0]][:80]!r}", entry=index
        )


def _shard(
    folder: ConfinedFolder, name: str, found: Contents, root: str | None, limits: Limits
) -> dict[str, Array]:
    data = folder.map(name)
    if name.endswith(".safetensors"):
        return read_safetensors(data, entry=name, limits=limits)[0]
    inner = read_torch(folder.path / name, root=root, limits=limits)
    found.skipped += inner.skipped
    found.extra.update(inner.extra)
    return inner.weights


def _take_files(folder: ConfinedFolder, names: list[str], found: Contents) -> None:
    """Texts and sources; everything else is reported."""
    for name in names:
        size = folder.map(name).nbytes
        if name.endswith(".py"):
            found.sources[name] = folder.read(name).decode("utf-8", "strict")
        elif size <= _MAX_TEXT and (name.endswith(_TEXTS) or name.startswith(_LICENSES)):
            found.files[name] = folder.read(name, _MAX_TEXT)
        else:
            found.skipped.append(Skipped(name, "file", "not a text and not the chosen weights"))


def read_mlflow(
    path: Path, *, root: str | None = None, limits: Limits = DEFAULT_LIMITS
) -> Contents:
    """The torch or ONNX model inside an MLflow model folder, with its requirements.

    Raises:
        ConversionError: when the model has no flavour that holds tensors.
    """
    folder = ConfinedFolder(path, limits=limits)
    flavours = parse_flavours(folder.read("MLmodel", MIB).decode("utf-8", "replace"))
    names = folder.names()
    if "pytorch" in flavours:
        data = flavours["pytorch"].get("model_data", "data")
        candidates = [f"{data}/model.pth", f"{data}/model.pt", f"{data}/model.pt2"]
        inner = read_torch(_existing(folder, candidates, names), root=root, limits=limits)
        version = flavours["pytorch"].get("pytorch_version")
    elif "onnx" in flavours:
        candidates = [flavours["onnx"].get("data", "model.onnx")]
        inner = read_onnx(_existing(folder, candidates, names), limits=limits)
        version = flavours["onnx"].get("onnx_version")
    else:
        raise ConversionError(
            f"flavours {', '.join(sorted(flavours)) or '(none)'} hold no tensors that can be read; "
            "pytorch and onnx do",
            entry="MLmodel",
        )
    inner.format, inner.flavour = PackageFormat.MLFLOW, f"MLflow ({inner.flavour})"
    if version:
        inner.environment["pytorch_version" if "pytorch" in flavours else "onnx_version"] = version
    for name in names:
        if name == "MLmodel" or name.endswith((".txt", ".yaml", ".yml", ".json", ".md")):
            inner.files[name] = folder.read(name)
    if "requirements.txt" in names:
        requirements = read_requirements(folder.read("requirements.txt").decode("utf-8", "replace"))
        inner.dependencies += requirements.specs
        inner.skipped += [
            Skipped(line[:80], "requirement", reason) for line, reason in requirements.refused
        ]
    return inner


def _existing(folder: ConfinedFolder, candidates: list[str], names: list[str]) -> Path:
    for name in candidates:
        if name in names:
            folder.map(name)
            return folder.path / name
    raise ConversionError(f"has none of {', '.join(candidates)}", entry=str(folder.path))


def parse_flavours(text: str) -> dict[str, dict[str, str]]:
    """The `flavors` block of an `MLmodel`: flavour name to its plain settings.

    Only the two levels that MLflow writes are understood (`  name:` and `    key: value`).
    """
    found: dict[str, dict[str, str]] = {}
    inside, current = False, ""
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        if not stripped or stripped.startswith("#"):
            continue
        if indent == 0:
            inside, current = stripped == "flavors:", ""
        elif inside and indent == 2 and stripped.endswith(":"):
            current = stripped[:-1]
            found[current] = {}
        elif inside and indent == 4 and current and ":" in stripped:
            key, _, value = stripped.partition(":")
            found[current][key.strip()] = value.strip().strip("'\"")
    return found
