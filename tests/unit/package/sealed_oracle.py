"""A second implementation of both forms of sealed resources, after FORMAT.md, section 9.

It shares nothing with the package but the bare AEADs of `cryptography`.
"""

import hmac
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

MIB = 1 << 20
AEADS = {
    "aes-256-gcm": (b"AEAD_AES_256_GCM", AESGCM),
    "chacha20-poly1305": (b"AEAD_CHACHA20_POLY1305", ChaCha20Poly1305),
}


def expand(key: bytes, info: bytes, size: int, hash_name: str) -> bytes:
    """HKDF-Expand (RFC 5869, section 2.3)."""
    out, block, counter = b"", b"", 1
    while len(out) < size:
        block = hmac.digest(key, block + info + bytes([counter]), hash_name)
        out, counter = out + block, counter + 1
    return out[:size]


def _stream(key: bytes, algorithm: str, salt: bytes, context: bytes):
    """Cipher, nonce prefix and commitment of a message of schema 2."""
    name, cipher = AEADS[algorithm]
    info = b"torshpkg/v2/stream/1048576\0" + name + b"\0" + salt + context
    okm = expand(key, info, 71, "sha512")
    return cipher(okm[:32]), okm[32:39], okm[39:]


def seal_stream(
    key: bytes, algorithm: str, context: bytes, plain: bytes, salt: bytes = bytes(32)
) -> bytes:
    """STREAM with chunks of 1 MiB (schema 2)."""
    cipher, prefix, out = _stream(key, algorithm, salt, context)
    out = salt + out
    for i in range(len(plain) // MIB + 1):
        last = i == len(plain) // MIB
        nonce = prefix + i.to_bytes(4, "big") + (b"\1" if last else b"\0")
        out += cipher.encrypt(nonce, plain[i * MIB : (i + 1) * MIB], None)
    return out


def open_stream(key: bytes, algorithm: str, context: bytes, sealed: bytes) -> bytes:
    """The plaintext of a message of schema 2."""
    cipher, prefix, commitment = _stream(key, algorithm, sealed[:32], context)
    assert commitment == sealed[32:64]
    body, plain, index = sealed[64:], b"", 0
    while len(body) >= MIB + 16:
        plain += cipher.decrypt(prefix + index.to_bytes(4, "big") + b"\0", body[: MIB + 16], None)
        body, index = body[MIB + 16 :], index + 1
    return plain + cipher.decrypt(prefix + index.to_bytes(4, "big") + b"\1", body, None)


def open_chunked(key: bytes, algorithm: str, context: bytes, sealed: bytes) -> bytes:
    """The plaintext of a message of schema 1: C2SP chunked-encryption v1."""
    name, cipher = AEADS[algorithm]
    info = b"c2sp.org/chunked-encryption@v1+" + name + b"\0" + sealed[:24] + context
    okm = expand(key, info, 76, "sha512")
    assert okm[44:] == sealed[24:56]
    base, plain = int.from_bytes(okm[32:44], "big"), b""
    for index, at in enumerate(range(56, len(sealed), 16400)):
        nonce = (base ^ index).to_bytes(12, "big")
        plain += cipher(okm[:32]).decrypt(nonce, sealed[at : at + 16400], None)
    return plain


def facts_context(entry: dict, document: bool) -> bytes:
    """What a resource is bound to, from its entry in the manifest."""
    facts = {
        "codec": entry["codec"],
        "document": document,
        "mediaType": entry["media_type"],
        "name": entry["name"],
        "plainSize": entry["plain_size"],
        "type": entry["type"],
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return b"torshpkg/v1/resource\0" + text.encode()
