"""Changes who can open an encrypted package. Payload, manifest and signatures stay as they are.

torsh-package rewrap sealed.torshpkg -o new.torshpkg --identity alice --add bob.pub

Somebody who was removed and kept a copy can still read that copy: to shut them out of the
content, encrypt it anew.
"""

import argparse

from torsh_package.crypto.encryptor import EncryptedPackage
from torsh_package.crypto.recipients import Identity, PasswordIdentity, X25519Identity
from torsh_package.errors import InvalidArgumentError

from . import OK, Output, read_password
from .encrypt import recipients


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("package")
    parser.add_argument("-o", "--output", metavar="FILE", help="default: the package itself")
    parser.add_argument("--password-file", metavar="FILE", help="first line opens the package")
    parser.add_argument("--identity", metavar="FILE", action="append", default=[])
    parser.add_argument("--add", metavar="FILE.pub", action="append", default=[])
    parser.add_argument("--add-password-file", metavar="FILE")
    parser.add_argument("--kdf", choices=["argon2id", "scrypt"], default="argon2id")
    parser.add_argument(
        "--remove", metavar="KEYID", action="append", default=[], help="or 'password'"
    )


def run(args: argparse.Namespace, out: Output) -> int:
    """Changes the recipients."""
    keys: list[Identity] = [X25519Identity.load(path) for path in args.identity]
    if args.password_file:
        keys.append(PasswordIdentity(read_password(args.password_file)))
    if not keys:
        raise InvalidArgumentError("give --password-file or --identity to open the package")
    added = recipients(args.add_password_file, args.kdf, args.add)
    package = EncryptedPackage.load(args.package)
    package.rewrap(keys, add=added, remove=args.remove)
    package.save(args.output or args.package)
    out.done(
        {"output": args.output or args.package, "recipients": list(package.recipients)},
        "\n".join(package.recipients),
    )
    return OK
