"""Encrypted private keys: PKCS#8 EncryptedPrivateKeyInfo, PBES2 with scrypt and AES-256-CBC.

RFC 8018 (PBES2), RFC 7914 section 7 (scrypt in it). OpenSSL and `cryptography` read it; written by
them, such files have PBKDF2 with 2,048 iterations, which a thief of the file tries through quickly.
"""

import base64
import secrets

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

# 16 MiB, five times over: OpenSSL reads no more than 32 MiB unless it is told to.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 1 << 14, 8, 5

_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_AES_256_CBC = bytes.fromhex("060960864801650304012a")
_INTEGER, _OCTETS, _SEQUENCE = 0x02, 0x04, 0x30
_KEY_BYTES = 32
_BLOCK_BITS = 128


def encrypted_pem(der: bytes, passphrase: bytes) -> bytes:
    """PEM of a PKCS#8 PrivateKeyInfo (DER), encrypted under a passphrase."""
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    kdf = Scrypt(salt=salt, length=_KEY_BYTES, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    padder = PKCS7(_BLOCK_BITS).padder()
    cipher = Cipher(AES(kdf.derive(passphrase)), CBC(iv)).encryptor()
    padded = padder.update(der) + padder.finalize()
    ciphertext = cipher.update(padded) + cipher.finalize()
    costs = b"".join(map(_integer, (SCRYPT_N, SCRYPT_R, SCRYPT_P, _KEY_BYTES)))
    derivation = _sequence(_SCRYPT, _sequence(_tagged(_OCTETS, salt), costs))
    scheme = _sequence(_AES_256_CBC, _tagged(_OCTETS, iv))
    algorithm = _sequence(_PBES2, _sequence(derivation, scheme))
    text = base64.b64encode(_sequence(algorithm, _tagged(_OCTETS, ciphertext)))
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    head, tail = b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"-----END ENCRYPTED PRIVATE KEY-----"
    return b"\n".join([head, *lines, tail, b""])


def _tagged(tag: int, content: bytes) -> bytes:
    """DER: tag, length, content."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _tagged(_SEQUENCE, b"".join(parts))


def _integer(value: int) -> bytes:
    """A positive INTEGER; one more byte where the first bit would be taken for a sign."""
    return _tagged(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))
