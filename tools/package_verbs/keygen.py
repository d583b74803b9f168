"""Makes a key pair: FILE (private, mode 0600) and FILE.pub.

torsh-package keygen alice --algorithm x25519

Algorithms: ed25519 signs (default), ecdsa-p256 signs for model-signing too, ml-dsa-65 signs
post-quantum, x25519 receives encrypted packages.
"""

import argparse

from torsh_package.crypto.recipients import X25519Identity
from torsh_package.trust.keys import PrivateKey, SignatureAlgorithm

from . import OK, Output, read_password

_SIGNING = {
    "ed25519": SignatureAlgorithm.Ed25519,
    "ecdsa-p256": SignatureAlgorithm.EcdsaP256,
    "ml-dsa-65": SignatureAlgorithm.MlDsa65,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("file", help="private key to write; never overwritten")
    parser.add_argument("--algorithm", choices=[*_SIGNING, "x25519"], default="ed25519")
    parser.add_argument("--passphrase-file", metavar="FILE", help="encrypts the private key")


def run(args: argparse.Namespace, out: Output) -> int:
    """Makes the key pair."""
    passphrase = read_password(args.passphrase_file) if args.passphrase_file else None
    if args.algorithm == "x25519":
        identity = X25519Identity.generate()
        identity.save(args.file, passphrase)
        key_id = identity.recipient.key_id
    else:
        key = PrivateKey.generate(_SIGNING[args.algorithm])
        key.save(args.file, passphrase)
        key_id = key.public_key.key_id
    public = f"{args.file}.pub"
    out.done(
        {"private": args.file, "public": public, "keyid": key_id, "algorithm": args.algorithm},
        f"{args.file}: {args.algorithm} key {key_id}\ngive others {public}",
    )
    return OK
