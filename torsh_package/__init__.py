"""The safe container for models and compiled programs: one file, verified, signed, zero-copy.

    from torsh_package import Package, ResourceType

    package = Package("model", "1.0.0")
    package.add_resource("model_weights", weights, ResourceType.ModelWeights)
    package.save("model.torshpkg")
    weights = Package.load("model.torshpkg").get_resource("model_weights").data

Public names load on first use, so that importing this package costs nothing. The borders between
the container and signing, encryption and storage are the protocols of `torsh_package.protocols`;
FORMAT.md describes the file.
"""

import importlib
from typing import TYPE_CHECKING

_PARTS = {
    "torsh_package.package": ("Package", "serialize_package"),
    "torsh_package.resource": ("Resource",),
    "torsh_package.manifest": ("Manifest", "ResourceEntry", "ResourceType"),
    "torsh_package.tensors": ("TensorEntry",),
    "torsh_package.entrypoints": (
        "CompiledObject",
        "EntryPoint",
        "GoldenCase",
        "TensorSignature",
    ),
    "torsh_package.requirement_syntax": ("DependencySpec",),
    "torsh_package.codecs": ("CompressionAlgorithm", "CompressionLevel"),
    "torsh_package.encoding": ("decode", "encode"),
    "torsh_package.files": ("load_json_config", "load_numpy_weights"),
    "torsh_package.limits": ("DEFAULT_LIMITS", "Limits"),
    "torsh_package.errors": (
        "CodePolicyError",
        "CodecError",
        "ContainerError",
        "ConversionError",
        "DecryptionError",
        "DependencyError",
        "IntegrityError",
        "InvalidArgumentError",
        "LimitError",
        "LineageError",
        "ManifestError",
        "PackageEncryptedError",
        "PackageError",
        "PolicyError",
        "ResourceNotFoundError",
        "SandboxError",
        "SignatureError",
        "StorageError",
        "UnsupportedVersionError",
    ),
    "torsh_package.trust": (
        "PackageSignature",
        "PackageSigner",
        "PrivateKey",
        "PublicKey",
        "SignatureAlgorithm",
        "TrustReport",
        "TrustStatus",
        "TrustStore",
    ),
    "torsh_package.crypto": (
        "EncryptedPackage",
        "EncryptionAlgorithm",
        "PackageEncryptor",
        "PasswordRecipient",
        "X25519Identity",
        "X25519Recipient",
    ),
    "torsh_package.lineage": (
        "BuildProvenance",
        "LineageRelation",
        "LineageTracker",
        "ProvenanceInfo",
    ),
    "torsh_package.governance": (
        "AuditLog",
        "ComplianceReport",
        "GovernancePolicy",
        "MetricsCollector",
    ),
    "torsh_package.code": ("CodePolicy",),
    "torsh_package.sandbox": ("Sandbox",),
    "torsh_package.convert": (
        "FormatConverter",
        "PackageFormat",
        "detect_format",
        "export_pytorch_weights",
    ),
    "torsh_package.dependencies": ("DependencyResolver",),
    "torsh_package.scan": ("VulnerabilityScanner",),
}
_HOME = {name: module for module, names in _PARTS.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'torsh_package' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from torsh_package.codecs import CompressionAlgorithm as CompressionAlgorithm
    from torsh_package.codecs import CompressionLevel as CompressionLevel
    from torsh_package.encoding import decode as decode
    from torsh_package.encoding import encode as encode
    from torsh_package.entrypoints import CompiledObject as CompiledObject
    from torsh_package.entrypoints import EntryPoint as EntryPoint
    from torsh_package.entrypoints import GoldenCase as GoldenCase
    from torsh_package.entrypoints import TensorSignature as TensorSignature
    from torsh_package.errors import *  # noqa: F403
    from torsh_package.files import load_json_config as load_json_config
    from torsh_package.files import load_numpy_weights as load_numpy_weights
    from torsh_package.limits import DEFAULT_LIMITS as DEFAULT_LIMITS
    from torsh_package.limits import Limits as Limits
    from torsh_package.manifest import Manifest as Manifest
    from torsh_package.manifest import ResourceEntry as ResourceEntry
    from torsh_package.manifest import ResourceType as ResourceType
    from torsh_package.package import Package as Package
    from torsh_package.package import serialize_package as serialize_package
    from torsh_package.requirement_syntax import DependencySpec as DependencySpec
    from torsh_package.resource import Resource as Resource
    from torsh_package.tensors import TensorEntry as TensorEntry
