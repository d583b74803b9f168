"""What a foreign file holds, whatever its format was: the input of every package writer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.errors import ConversionError
from torsh_package.requirement_syntax import DependencySpec

from .arrays import Array
from .checkpoint import Fact, Harvest, Skipped


class PackageFormat(StrEnum):
    """Formats that are told apart by content."""

    PYTORCH = "pytorch"  # torch.save, torch.package, torch.export, TorchScript
    SAFETENSORS = "safetensors"
    NPZ = "npz"
    ONNX = "onnx"
    HUGGINGFACE = "huggingface"
    MLFLOW = "mlflow"
    TORSH = "torsh"

    # Guide B's spellings.
    PyTorch = PYTORCH
    SafeTensors = SAFETENSORS
    Npz = NPZ
    Onnx = ONNX
    HuggingFace = HUGGINGFACE
    MLflow = MLFLOW
    ToRSh = TORSH


@dataclass
class Contents:
    """Everything that a reader took out of a file or folder.

    Args:
        format: The format.
        flavour: Which kind of it, for people: "torch.package", "torch.save (ZIP)".
        weights: Tensors of the model by name.
        extra: Other tensors (optimizer states, averages).
        files: Further entries as bytes: texts, configurations, graphs. Never executed.
        sources: Python sources by their path in the original.
        dependencies: What the original says that it needs.
        skipped: What was left out, with reasons.
        facts: Plain values found beside the tensors.
        modules: Class of each module by its path.
        environment: Versions that the original says it was written with.
        companions: Files beside the original that belong to it (ONNX external data).
        config: What the model's own configuration says (inputs, outputs, operators).
        notes: Differences that a user should know.
    """

    format: PackageFormat
    flavour: str
    weights: dict[str, Array] = field(default_factory=dict[str, Array])
    extra: dict[str, Array] = field(default_factory=dict[str, Array])
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    sources: dict[str, str] = field(default_factory=dict[str, str])
    dependencies: list[DependencySpec] = field(default_factory=list[DependencySpec])
    skipped: list[Skipped] = field(default_factory=list[Skipped])
    facts: dict[str, Fact] = field(default_factory=dict[str, Fact])
    modules: dict[str, str] = field(default_factory=dict[str, str])
    environment: dict[str, str] = field(default_factory=dict[str, str])
    companions: list[str] = field(default_factory=list[str])
    config: JsonObject = field(default_factory=dict[str, JsonValue])
    notes: list[str] = field(default_factory=list[str])

    def absorb(self, found: Harvest, prefix: str = "") -> None:
        """Add the tensors and facts of one pickle, under `prefix`."""
        _merge(self.weights, found.weights, prefix)
        _merge(self.extra, found.extra, prefix)
        self.skipped += found.skipped
        self.facts.update({prefix + path: value for path, value in found.facts.items()})
        self.modules.update(
            {(prefix + path).rstrip("."): name for path, name in found.modules.items()}
        )
        if found.root:
            self.notes.append(f"the model was found at {found.root!r} of the checkpoint")


def rename_tensors(tensors: Mapping[str, Array], mapping: Mapping[str, str]) -> dict[str, Array]:
    """`tensors` with names mapped: a key of `mapping` is a whole name, or a module's path.

    `{"fc1": "layers.0"}` turns `fc1.weight` into `layers.0.weight`; a whole name counts first,
    then the longest path.

    Raises:
        ConversionError: when a key fits no tensor, or two tensors get one name.
    """
    unused, found = set(mapping), dict[str, Array]()
    for name, array in tensors.items():
        parts = name.split(".")
        prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        key = next((prefix for prefix in prefixes if prefix in mapping), None)
        target = name if key is None else mapping[key] + name[len(key) :]
        unused.discard(key or "")
        if not target:
            raise ConversionError(f"tensor {name[:80]!r} is mapped to an empty name")
        if target in found:
            raise ConversionError(f"two tensors are mapped to {target[:80]!r}")
        found[target] = array
    if unused:
        known = ", ".join(sorted(tensors)[:8])
        raise ConversionError(f"there is no tensor for {min(unused)[:80]!r}; there are {known}")
    return found


def _merge(target: dict[str, Array], source: Mapping[str, Array], prefix: str) -> None:
    for name, array in source.items():
        if prefix + name in target:
            raise ConversionError(f"two tensors are named {(prefix + name)[:200]!r}")
        target[prefix + name] = array
