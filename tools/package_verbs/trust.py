"""Makes, shows and changes a trust store: who may sign which packages.

torsh-package trust STORE --allow 'acme/*' --key alice.pub --key bob.pub --threshold 2
torsh-package trust STORE --revoke KEYID --reason compromised
torsh-package trust STORE --root root.pub --sign-update update.sig --root-key root
torsh-package trust STORE --update update.sig
"""

import argparse
from pathlib import Path

from torsh_package.errors import InvalidArgumentError
from torsh_package.small_files import read_file, replace_file
from torsh_package.trust.dsse import MAX_SIGNATURES_BYTES
from torsh_package.trust.keys import PrivateKey, PublicKey
from torsh_package.trust.policy import RevocationReason, Role, RootPolicy
from torsh_package.trust.store import TrustStore

from ..arguments import whole
from ..tables import table
from . import OK, Output


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("store", help="file of the store; made where there is none")
    parser.add_argument(
        "--allow", metavar="PATTERN", action="append", default=[], help="packages of the role"
    )
    parser.add_argument("--role", default="publisher", help="name of the role")
    parser.add_argument("--key", metavar="FILE.pub", action="append", default=[])
    parser.add_argument(
        "--threshold",
        metavar="N",
        type=whole(1),
        help="keys of the role that must sign; default: 1",
    )
    parser.add_argument(
        "--min-sequence", metavar="N", type=whole(), help="oldest release to accept"
    )
    parser.add_argument("--revoke", metavar="KEYID", action="append", default=[])
    parser.add_argument(
        "--reason", choices=[r.value for r in RevocationReason], default="compromised"
    )
    parser.add_argument("--root", metavar="FILE.pub", action="append", default=[])
    parser.add_argument("--root-threshold", metavar="N", type=whole(1), default=1)
    parser.add_argument("--sign-update", metavar="FILE", help="write the store as signed update")
    parser.add_argument("--root-key", metavar="FILE", action="append", default=[])
    parser.add_argument("--update", metavar="FILE", help="apply a signed update")


def run(args: argparse.Namespace, out: Output) -> int:
    """Changes and shows the store."""
    there = Path(args.store).exists()
    old = TrustStore.load(args.store) if there else TrustStore(version=0)
    store = old
    for change in (_update, _allow, _revoke, _root):
        store = change(store, args)
    if not there and store == old:
        raise InvalidArgumentError(
            "there is no such store; make one with --allow", entry=args.store
        )
    changed = store != old
    if changed:
        store.save(args.store)
    if args.sign_update:
        keys = [PrivateKey.load(path) for path in args.root_key]
        replace_file(args.sign_update, store.signed_update(keys))
    (out.done if changed or args.sign_update else out.result)(
        {"version": store.version, "roles": [role.to_json() for role in store.roles]},
        lambda: _text(store),
    )
    return OK


def _update(store: TrustStore, args: argparse.Namespace) -> TrustStore:
    if not args.update:
        return store
    return store.updated(read_file(args.update, MAX_SIGNATURES_BYTES))


def _allow(store: TrustStore, args: argparse.Namespace) -> TrustStore:
    if not args.allow:
        if args.key or args.threshold is not None or args.min_sequence is not None:
            raise InvalidArgumentError(
                "--key, --threshold and --min-sequence describe a role; give --allow PATTERN too"
            )
        return store
    keys = [PublicKey.load(path) for path in args.key]
    role = Role(
        name=args.role,
        packages=tuple(args.allow),
        key_ids=tuple(dict.fromkeys(key.key_id for key in keys)),
        threshold=1 if args.threshold is None else args.threshold,
        min_sequence=args.min_sequence,
    )
    return store.with_role(role, keys)


def _revoke(store: TrustStore, args: argparse.Namespace) -> TrustStore:
    for prefix in args.revoke:
        found = [key.key_id for key in store.keys if key.key_id.startswith(prefix)]
        if len(found) != 1:
            raise InvalidArgumentError(f"{len(found)} keys of the store begin with {prefix!r}")
        store = store.revoke(found[0], reason=RevocationReason(args.reason))
    return store


def _root(store: TrustStore, args: argparse.Namespace) -> TrustStore:
    if not args.root:
        return store
    keys = [PublicKey.load(path) for path in args.root]
    ids = tuple(dict.fromkeys(key.key_id for key in keys))
    return store.with_root(RootPolicy(ids, args.root_threshold), keys)


def _text(store: TrustStore) -> str:
    rows = [
        (
            f"role {role.name}",
            " ".join(role.packages),
            f"{role.threshold} of {' '.join(key_id[:16] for key_id in role.key_ids)}",
        )
        for role in store.roles
    ]
    rows += [("revoked", entry.key_id[:16], entry.reason.value) for entry in store.revoked]
    if store.root is not None:
        keys = " ".join(key_id[:16] for key_id in store.root.key_ids)
        rows.append(("root", "", f"{store.root.threshold} of {keys}"))
    return "\n".join([f"version {store.version}", table(rows)]).strip()
