"""Signatures and trust: who signed a package, and whether to believe them."""

from torsh_package.trust.keys import PrivateKey, PublicKey, SignatureAlgorithm
from torsh_package.trust.model_signing import export_model_signing
from torsh_package.trust.package_files import VerifiedFile, WithDetached, sign_file, verify_file
from torsh_package.trust.policy import Revocation, RevocationReason, Role, RootPolicy
from torsh_package.trust.report import SignerReport, TrustReport, TrustStatus, UntrustedError
from torsh_package.trust.signer import PackageSignature, PackageSigner, join_signatures
from torsh_package.trust.store import TrustStore

__all__ = [
    "PackageSignature",
    "PackageSigner",
    "PrivateKey",
    "PublicKey",
    "Revocation",
    "RevocationReason",
    "Role",
    "RootPolicy",
    "SignatureAlgorithm",
    "SignerReport",
    "TrustReport",
    "TrustStatus",
    "TrustStore",
    "UntrustedError",
    "VerifiedFile",
    "WithDetached",
    "export_model_signing",
    "join_signatures",
    "sign_file",
    "verify_file",
]
