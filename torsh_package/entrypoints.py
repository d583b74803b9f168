"""Entry points: what can be called in a package, with which signature, on which machines.

Several entry points may use the same program and the same weight resources; nothing is stored
twice. The package knows programs and objects as bytes only.
"""

from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject
from torsh_package.schema import Fields
from torsh_package.tensors import DTYPE_BITS

_DTYPES = frozenset(DTYPE_BITS)
_MANY = 65_536


@dataclass(frozen=True)
class TensorSignature:
    """One input or output of an entry point.

    Attributes:
        name: Argument or result name.
        dtype: A key of `torsh_package.tensors.DTYPE_BITS`.
        shape: Extents; a string is a symbol, and equal symbols are equal sizes.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, fields: Fields) -> "TensorSignature":
        """Reads the JSON form."""
        shape: list[int | str] = []
        for dim in fields.array("shape", 64):
            if isinstance(dim, bool) or not isinstance(dim, int | str) or dim == "":
                raise fields.error("shape", "extents are integers or symbols")
            if isinstance(dim, int) and dim < 0:
                raise fields.error("shape", f"extent {dim} is negative")
            shape.append(dim)
        found = cls(fields.string("name"), fields.choice("dtype", _DTYPES), tuple(shape))
        fields.end()
        return found


@dataclass(frozen=True)
class CompiledObject:
    """Machine code of a program for one target.

    Attributes:
        resource: Name of the resource that holds it.
        triple: LLVM target triple.
        cpu: CPU name the code was made for, or empty.
        features: Target features that it needs, sorted.
        kind: `object` (relocatable), `shared` (library), `ptx` or `cubin`.
        abi: Version of the calling convention between the object and its host.
    """

    resource: str
    triple: str
    cpu: str = ""
    features: tuple[str, ...] = ()
    kind: str = "object"
    abi: int = 1

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "resource": self.resource,
            "triple": self.triple,
            "cpu": self.cpu,
            "features": list(self.features),
            "kind": self.kind,
            "abi": self.abi,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "CompiledObject":
        """Reads the JSON form."""
        found = cls(
            fields.string("resource"),
            fields.string("triple"),
            fields.string("cpu"),
            fields.strings("features"),
            fields.choice("kind", frozenset({"object", "shared", "ptx", "cubin"})),
            fields.integer("abi", 1),
        )
        fields.end()
        return found


@dataclass(frozen=True)
class GoldenCase:
    """Sample inputs with the outputs that they must give.

    Attributes:
        inputs: Name of a resource with one tensor for each input.
        outputs: Name of a resource with one tensor for each output.
        rtol: Relative tolerance, a decimal number such as `1e-5`.
        atol: Absolute tolerance, likewise.
    """

    inputs: str
    outputs: str
    rtol: str = "0"
    atol: str = "0"

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "rtol": self.rtol,
            "atol": self.atol,
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "GoldenCase":
        """Reads the JSON form."""
        found = cls(*(fields.string(key) for key in ("inputs", "outputs", "rtol", "atol")))
        for key, text in (("rtol", found.rtol), ("atol", found.atol)):
            if not _is_tolerance(text):
                raise fields.error(key, f"{text[:40]!r} is not a finite number of at least 0")
        fields.end()
        return found


@dataclass(frozen=True)
class EntryPoint:
    """A callable of the package.

    Attributes:
        name: Unique in the package.
        program: Name of the resource with the program text or bytecode, or None.
        weights: Names of the weight resources that it reads; may be shared with others.
        inputs: Arguments in order.
        outputs: Results in order.
        objects: Machine code per target.
        golden: Cases that prove that it still computes what it did.
        metadata: Further facts that the owner of the program needs.
    """

    name: str
    program: str | None = None
    weights: tuple[str, ...] = ()
    inputs: tuple[TensorSignature, ...] = ()
    outputs: tuple[TensorSignature, ...] = ()
    objects: tuple[CompiledObject, ...] = ()
    golden: tuple[GoldenCase, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {
            "name": self.name,
            "program": self.program,
            "weights": list(self.weights),
            "inputs": [item.to_json() for item in self.inputs],
            "outputs": [item.to_json() for item in self.outputs],
            "objects": [item.to_json() for item in self.objects],
            "golden": [item.to_json() for item in self.golden],
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, fields: Fields) -> "EntryPoint":
        """Reads the JSON form."""
        metadata = fields.nested("metadata")
        found = cls(
            fields.string("name"),
            fields.optional_string("program"),
            fields.strings("weights"),
            fields.items("inputs", _MANY, TensorSignature.from_json),
            fields.items("outputs", _MANY, TensorSignature.from_json),
            fields.items("objects", _MANY, CompiledObject.from_json),
            fields.items("golden", _MANY, GoldenCase.from_json),
            tuple((key, metadata.string(key)) for key in sorted(metadata.left)),
        )
        fields.end()
        return found

    def resources(self) -> tuple[str, ...]:
        """Names of all resources that it refers to."""
        golden = [name for case in self.golden for name in (case.inputs, case.outputs)]
        program = [] if self.program is None else [self.program]
        return (*program, *self.weights, *(o.resource for o in self.objects), *golden)


def _is_tolerance(text: str) -> bool:
    try:
        return 0 <= float(text) < float("inf") and len(text) < 40
    except ValueError:
        return False
