"""Encrypts the content of a package for a password or for X25519 keys.

torsh-package encrypt m.torshpkg -o sealed.torshpkg --recipient alice.pub

Names, types, sizes and shapes stay readable; with --hide only name, version and total size do.
On a terminal without --password-file and --recipient the password is asked for. Sign the result
to let others verify it without a key.
"""

import argparse
import getpass
import sys
from collections.abc import Sequence

from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.encryptor import PackageEncryptor
from torsh_package.crypto.kdf import Argon2idParams, KdfParams, ScryptParams
from torsh_package.crypto.recipients import PasswordRecipient, Recipient, X25519Recipient
from torsh_package.errors import InvalidArgumentError
from torsh_package.package import Package

from . import OK, Output, ProgressBar, read_password

_KDFS: dict[str, KdfParams] = {"argon2id": Argon2idParams(), "scrypt": ScryptParams()}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("-o", "--output", metavar="FILE", required=True)
    parser.add_argument(
        "--algorithm", choices=[a.value for a in EncryptionAlgorithm], default="aes-256-gcm"
    )
    parser.add_argument(
        "--hide", action="store_true", help="encrypt names, sizes and tensor tables too; in memory"
    )
    add_recipient_arguments(parser)


def add_recipient_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds who will be able to open the package."""
    parser.add_argument("--password-file", metavar="FILE", help="its first line is a password")
    parser.add_argument("--kdf", choices=list(_KDFS), default="argon2id")
    parser.add_argument(
        "--recipient", metavar="FILE.pub", action="append", default=[], help="X25519 public key"
    )


def recipients(password_file: str | None, kdf: str, keys: Sequence[str]) -> list[Recipient]:
    """The recipients that the arguments stand for."""
    found: list[Recipient] = [X25519Recipient.load(path) for path in keys]
    if password_file:
        found.append(PasswordRecipient(read_password(password_file), _KDFS[kdf]))
    return found


def run(args: argparse.Namespace, out: Output) -> int:
    """Encrypts the package."""
    found = recipients(args.password_file, args.kdf, args.recipient)
    if not found:
        found = [PasswordRecipient(_ask(), _KDFS[args.kdf])]
    package = Package.load(args.package, lazy=True)
    out.noted.subject = f"{package.name} {package.version}"
    encryptor = PackageEncryptor(EncryptionAlgorithm(args.algorithm))
    encrypted = encryptor.encrypt_package(package, found, hide=args.hide)
    with ProgressBar(out, "encrypting") as progress:
        encrypted.save(args.output, progress=progress)
    out.done(
        {"output": args.output, "algorithm": args.algorithm, "recipients": len(found)},
        f"{args.output}: encrypted for {len(found)} recipient{'s'[: len(found) > 1]}",
    )
    return OK


def _ask() -> str:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidArgumentError("nobody could open it; give --password-file or --recipient")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise InvalidArgumentError("the two passwords differ")
    return password
