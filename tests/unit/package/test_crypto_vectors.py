"""The primitives, as the package calls them, against the vectors of `cryptography-vectors`."""

import json
import re
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from torsh_package.crypto import recipients
from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.kdf import Argon2idParams, ScryptParams

ROOT = Path(cryptography_vectors.__file__).parent


def blocks(path: str) -> list[dict[str, str]]:
    """The records of a NIST-like vector file, separated by blank lines."""
    text = re.sub(r"(?m)^(#.*|\[.*\])$", "", (ROOT / path).read_text())
    found = []
    for block in re.split(r"\n\s*\n", text):
        pairs = re.findall(r"(?m)^(\w+)[ \t]*=[ \t]*(.*?)\s*$", block)
        if pairs:
            found.append({key.lower(): value for key, value in pairs})
    return found


def aead(algorithm: EncryptionAlgorithm, v: dict[str, str], names: dict[str, str]) -> bytes:
    get = {k: bytes.fromhex(v.get(names.get(k, k), "")) for k in ("key", "iv", "aad", "ct", "tag")}
    out = bytearray(len(get["ct"]))
    cipher = algorithm.cipher(get["key"])
    cipher.decrypt_into(get["iv"], get["ct"] + get["tag"], get["aad"] or None, out)
    return bytes(out)


def test_aes_256_gcm_decrypt_vectors():
    vectors = [v for v in blocks("ciphers/AES/GCM/gcmDecrypt256.rsp") if len(v.get("iv", "")) == 24]
    vectors = [v for v in vectors if len(v["tag"]) == 32]
    assert len(vectors) > 200
    refused = 0
    for vector in vectors:
        if "pt" in vector:
            plain = aead(EncryptionAlgorithm.Aes256Gcm, vector, {})
            assert plain == bytes.fromhex(vector["pt"])
        else:
            refused += 1
            with pytest.raises(InvalidTag):
                aead(EncryptionAlgorithm.Aes256Gcm, vector, {})
    assert refused > 50


def test_chacha20_poly1305_vectors():
    vectors = blocks("ciphers/ChaCha20Poly1305/openssl.txt")
    vectors = [v for v in vectors if len(v.get("iv", "")) == 24 and len(v["tag"]) == 32]
    assert len(vectors) >= 3
    names, refused = {"ct": "ciphertext"}, 0
    for vector in vectors:
        if "result" in vector:
            refused += 1
            with pytest.raises(InvalidTag):
                aead(EncryptionAlgorithm.ChaCha20Poly1305, vector, names)
        else:
            plain = aead(EncryptionAlgorithm.ChaCha20Poly1305, vector, names)
            assert plain == bytes.fromhex(vector["plaintext"])
    assert refused


def test_scrypt_vectors():
    checked = 0
    for v in blocks("KDF/scrypt.txt"):
        n, r, p = (int(v[name]) for name in ("n", "r", "p"))
        if n > 1 << 14:
            continue  # a gigabyte of memory
        derived = ScryptParams(n, r, p).derive(v["password"].encode(), v["salt"].encode())
        # scrypt ends in PBKDF2: a shorter output is the beginning of a longer one.
        assert derived == bytes.fromhex(v["derived_key"])[:32]
        checked += 1
    assert checked >= 3


def test_argon2id_vectors():
    checked = 0
    for v in blocks("KDF/argon2id.txt"):
        if v["length"] != "32" or v.get("secret") or v.get("ad"):
            continue
        params = Argon2idParams(int(v["memcost"]), int(v["iter"]), int(v["lanes"]))
        if params.memory_kib > 1 << 16:
            continue
        salt, secret = bytes.fromhex(v["salt"]), bytes.fromhex(v["pass"])
        assert params.derive(secret, salt) == bytes.fromhex(v["output"])
        checked += 1
    assert checked >= 2


def test_hpke_vectors_of_our_suite():
    """RFC 9180, appendix A.2: DHKEM(X25519), HKDF-SHA256, ChaCha20-Poly1305, base mode."""
    vectors = json.loads((ROOT / "HPKE" / "test-vectors.json").read_text())
    ours = [
        v for v in vectors if (v["mode"], v["kem_id"], v["kdf_id"], v["aead_id"]) == (0, 0x20, 1, 3)
    ]
    assert ours
    for v in ours:
        private = X25519PrivateKey.from_private_bytes(bytes.fromhex(v["skRm"]))
        first = v["encryptions"][0]
        # The vectors carry associated data, which the public one-shot call leaves empty.
        plain = rust_openssl.hpke._decrypt_with_aad(
            recipients._SUITE,
            bytes.fromhex(v["enc"]) + bytes.fromhex(first["ct"]),
            private,
            bytes.fromhex(v["info"]),
            bytes.fromhex(first["aad"]),
        )
        assert plain == bytes.fromhex(first["pt"])


def test_x25519_rfc7748_iterated():
    """RFC 7748, section 5.2, through the key type that identities hold."""
    k = u = bytes.fromhex("09" + "00" * 31)
    for _ in range(1000):
        private = X25519PrivateKey.from_private_bytes(k)
        k, u = private.exchange(X25519PublicKey.from_public_bytes(u)), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"
