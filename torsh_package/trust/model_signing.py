"""Export to OpenSSF model-signing v1.0: a Sigstore bundle around an in-toto statement.

The bundle is over the package file as it lies on disk, so that `model_signing verify` accepts it
without knowing packages. Its verifier takes ECDSA keys only, hence P-256.
"""

import hashlib
import json
import os
from pathlib import Path

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import InvalidArgumentError, StorageError
from torsh_package.trust.dsse import IN_TOTO, encode_base64, pae
from torsh_package.trust.keys import PrivateKey, SignatureAlgorithm
from torsh_package.trust.statement import Statement, Subject

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
MODEL_SIGNING_PREDICATE = "https://model_signing/signature/v1.0"


def export_model_signing(path: str | os.PathLike[str], key: PrivateKey) -> bytes:
    """A model-signing bundle over one file.

    Args:
        path: The package file.
        key: An ECDSA P-256 key.

    Returns:
        The JSON text of the bundle, usually saved as `<file>.sigstore.json`.

    Raises:
        InvalidArgumentError: Another kind of key.
        StorageError: The file cannot be read.
    """
    if key.public_key.algorithm is not SignatureAlgorithm.EcdsaP256:
        raise InvalidArgumentError(
            f"the key is {key.public_key.algorithm.value}; model-signing verifies ECDSA only: "
            "make one with SignatureAlgorithm.EcdsaP256"
        )
    digest = _sha256(Path(path))
    payload = _statement(Path(path).name, digest).to_bytes()
    bundle: JsonObject = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {
            "publicKey": {"hint": hashlib.sha256(key.public_key.pem).hexdigest()},
            "tlogEntries": [],
        },
        "dsseEnvelope": {
            "payload": encode_base64(payload),
            "payloadType": IN_TOTO,
            # The verifier of model-signing knows its key from elsewhere and wants no id here.
            "signatures": [{"sig": encode_base64(key.sign(pae(IN_TOTO, payload))), "keyid": ""}],
        },
    }
    return json.dumps(bundle, indent=2).encode() + b"\n"


def _statement(name: str, digest: bytes) -> Statement:
    """The statement about a model that is one file, named `.` in its own resource list."""
    root = hashlib.sha256(digest).hexdigest()
    return Statement(
        subjects=(Subject(name, root),),
        predicate_type=MODEL_SIGNING_PREDICATE,
        predicate={
            "resources": [{"algorithm": "sha256", "digest": digest.hex(), "name": "."}],
            "serialization": {
                "allow_symlinks": False,
                "hash_type": "sha256",
                "ignore_paths": [],
                "method": "files",
            },
        },
    )


def _sha256(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise StorageError(f"cannot read: {error.strerror}", entry=str(path)) from None
