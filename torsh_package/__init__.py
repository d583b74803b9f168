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
    "torsh_package.replaying": ("ReplayResult", "replay"),
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
        "SandboxCodeError",
        "SandboxLimitError",
        "SandboxUnavailableError",
        "SandboxError",
        "SignatureError",
        "StorageError",
        "UnsafePickleError",
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
    "torsh_package.code": ("CodePolicy", "Sandbox", "SandboxOptions", "SandboxResult"),
    "torsh_package.convert": (
        "FormatConverter",
        "PackageFormat",
        "detect_format",
        "export_pytorch_weights",
    ),
    "torsh_package.dependencies": ("LockFile", "Resolution"),
    "torsh_package.scan": (
        "AdvisoryDatabase",
        "ScanPolicy",
        "ScanReport",
        "Severity",
        "VulnerabilityScanner",
    ),
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
    from torsh_package.code import CodePolicy as CodePolicy
    from torsh_package.code import Sandbox as Sandbox
    from torsh_package.code import SandboxOptions as SandboxOptions
    from torsh_package.code import SandboxResult as SandboxResult
    from torsh_package.codecs import CompressionAlgorithm as CompressionAlgorithm
    from torsh_package.codecs import CompressionLevel as CompressionLevel
    from torsh_package.convert import FormatConverter as FormatConverter
    from torsh_package.convert import PackageFormat as PackageFormat
    from torsh_package.convert import detect_format as detect_format
    from torsh_package.convert import export_pytorch_weights as export_pytorch_weights
    from torsh_package.crypto import EncryptedPackage as EncryptedPackage
    from torsh_package.crypto import EncryptionAlgorithm as EncryptionAlgorithm
    from torsh_package.crypto import PackageEncryptor as PackageEncryptor
    from torsh_package.crypto import PasswordRecipient as PasswordRecipient
    from torsh_package.crypto import X25519Identity as X25519Identity
    from torsh_package.crypto import X25519Recipient as X25519Recipient
    from torsh_package.dependencies import LockFile as LockFile
    from torsh_package.dependencies import Resolution as Resolution
    from torsh_package.encoding import decode as decode
    from torsh_package.encoding import encode as encode
    from torsh_package.entrypoints import CompiledObject as CompiledObject
    from torsh_package.entrypoints import EntryPoint as EntryPoint
    from torsh_package.entrypoints import GoldenCase as GoldenCase
    from torsh_package.entrypoints import TensorSignature as TensorSignature
    from torsh_package.errors import CodecError as CodecError
    from torsh_package.errors import CodePolicyError as CodePolicyError
    from torsh_package.errors import ContainerError as ContainerError
    from torsh_package.errors import ConversionError as ConversionError
    from torsh_package.errors import DecryptionError as DecryptionError
    from torsh_package.errors import DependencyError as DependencyError
    from torsh_package.errors import IntegrityError as IntegrityError
    from torsh_package.errors import InvalidArgumentError as InvalidArgumentError
    from torsh_package.errors import LimitError as LimitError
    from torsh_package.errors import LineageError as LineageError
    from torsh_package.errors import ManifestError as ManifestError
    from torsh_package.errors import PackageEncryptedError as PackageEncryptedError
    from torsh_package.errors import PackageError as PackageError
    from torsh_package.errors import PolicyError as PolicyError
    from torsh_package.errors import ResourceNotFoundError as ResourceNotFoundError
    from torsh_package.errors import SandboxCodeError as SandboxCodeError
    from torsh_package.errors import SandboxError as SandboxError
    from torsh_package.errors import SandboxLimitError as SandboxLimitError
    from torsh_package.errors import SandboxUnavailableError as SandboxUnavailableError
    from torsh_package.errors import SignatureError as SignatureError
    from torsh_package.errors import StorageError as StorageError
    from torsh_package.errors import UnsafePickleError as UnsafePickleError
    from torsh_package.errors import UnsupportedVersionError as UnsupportedVersionError
    from torsh_package.files import load_json_config as load_json_config
    from torsh_package.files import load_numpy_weights as load_numpy_weights
    from torsh_package.governance import AuditLog as AuditLog
    from torsh_package.governance import ComplianceReport as ComplianceReport
    from torsh_package.governance import GovernancePolicy as GovernancePolicy
    from torsh_package.governance import MetricsCollector as MetricsCollector
    from torsh_package.limits import DEFAULT_LIMITS as DEFAULT_LIMITS
    from torsh_package.limits import Limits as Limits
    from torsh_package.lineage import BuildProvenance as BuildProvenance
    from torsh_package.lineage import LineageRelation as LineageRelation
    from torsh_package.lineage import LineageTracker as LineageTracker
    from torsh_package.lineage import ProvenanceInfo as ProvenanceInfo
    from torsh_package.manifest import Manifest as Manifest
    from torsh_package.manifest import ResourceEntry as ResourceEntry
    from torsh_package.manifest import ResourceType as ResourceType
    from torsh_package.package import Package as Package
    from torsh_package.package import serialize_package as serialize_package
    from torsh_package.replaying import ReplayResult as ReplayResult
    from torsh_package.replaying import replay as replay
    from torsh_package.requirement_syntax import DependencySpec as DependencySpec
    from torsh_package.resource import Resource as Resource
    from torsh_package.scan import AdvisoryDatabase as AdvisoryDatabase
    from torsh_package.scan import ScanPolicy as ScanPolicy
    from torsh_package.scan import ScanReport as ScanReport
    from torsh_package.scan import Severity as Severity
    from torsh_package.scan import VulnerabilityScanner as VulnerabilityScanner
    from torsh_package.tensors import TensorEntry as TensorEntry
    from torsh_package.trust import PackageSignature as PackageSignature
    from torsh_package.trust import PackageSigner as PackageSigner
    from torsh_package.trust import PrivateKey as PrivateKey
    from torsh_package.trust import PublicKey as PublicKey
    from torsh_package.trust import SignatureAlgorithm as SignatureAlgorithm
    from torsh_package.trust import TrustReport as TrustReport
    from torsh_package.trust import TrustStatus as TrustStatus
    from torsh_package.trust import TrustStore as TrustStore
