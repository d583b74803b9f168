"""The decision whether signatures make a package trusted. No policy of its own, no I/O."""

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import Protocol

from torsh_package.errors import PackageError
from torsh_package.trust.dsse import IN_TOTO, Envelope, EnvelopeSignature, load_envelopes, pae
from torsh_package.trust.keys import PublicKey
from torsh_package.trust.policy import Revocation, Role
from torsh_package.trust.report import SignerReport, TrustReport, TrustStatus
from torsh_package.trust.statement import (
    PACKAGE_PREDICATE,
    PackageClaim,
    Statement,
    name_and_version,
)


class Policy(Protocol):
    """What the decision needs of a trust store."""

    @property
    def roles(self) -> tuple[Role, ...]:
        """All roles."""
        ...

    @property
    def expires(self) -> dt.datetime | None:
        """End of the store."""
        ...

    @property
    def clock_skew(self) -> dt.timedelta:
        """How far a signer's clock may be ahead."""
        ...

    def key(self, key_id: str) -> PublicKey | None:
        """The key of an id."""
        ...

    def revocation(self, key_id: str) -> Revocation | None:
        """The revocation of a key."""
        ...


@dataclass(frozen=True)
class _Package:
    """The facts of a manifest that signatures are compared with."""

    name: str | None
    version: str | None
    size: int
    sha256: str


def _facts(manifest: bytes) -> _Package:
    name, version = name_and_version(manifest)
    return _Package(name, version, len(manifest), hashlib.sha256(manifest).hexdigest())


def judge(
    policy: Policy, manifest: bytes, signatures: bytes | None, at: dt.datetime
) -> TrustReport:
    """See `TrustStore.evaluate`."""
    package = _facts(manifest)
    envelopes = load_envelopes(signatures) if signatures else ()
    roles = [role for role in policy.roles if role.covers(package.name or "")]
    signers = [
        report
        for envelope in envelopes
        for signature in envelope.signatures
        if (report := _judge_signature(policy, package, roles, envelope, signature, at))
    ]
    return _verdict(policy, package, roles, signers, at)


def _verdict(
    policy: Policy,
    package: _Package,
    roles: list[Role],
    signers: list[SignerReport],
    at: dt.datetime,
) -> TrustReport:
    def report(status: TrustStatus, role: Role | None, detail: str = "") -> TrustReport:
        counted = _counted(role, signers) if role else {}
        ends = [signer.expires for signer in counted.values() if signer.expires]
        trusted = status is TrustStatus.TRUSTED
        return TrustReport(
            status=status,
            package=package.name,
            version=package.version,
            manifest_sha256=package.sha256,
            role=role.name if role and trusted else None,
            threshold=role.threshold if role else 0,
            counted=len(counted),
            signers=tuple(signers),
            expires=min(ends, default=None) if trusted else None,
            detail=detail,
        )

    nearest = min(roles, key=lambda r: r.threshold - len(_counted(r, signers)), default=None)
    if policy.expires is not None and at > policy.expires:
        return report(TrustStatus.STORE_EXPIRED, nearest, f"on {policy.expires:%Y-%m-%d}")
    if not signers:
        return report(TrustStatus.STRIPPED if roles else TrustStatus.UNSIGNED, nearest)
    if nearest is not None and len(_counted(nearest, signers)) >= nearest.threshold:
        return report(TrustStatus.TRUSTED, nearest)
    status, detail = _reason(nearest, signers)
    return report(status, nearest, detail)


def _counted(role: Role, signers: list[SignerReport]) -> dict[str, SignerReport]:
    """Valid signatures for a role, one per key."""
    valid = [s for s in signers if s.status is TrustStatus.TRUSTED and role.name in s.roles]
    return {signer.key_id: signer for signer in valid}


# What is told when several signatures fail in different ways: the gravest first.
_GRAVITY = (
    TrustStatus.INVALID,
    TrustStatus.WRONG_SUBJECT,
    TrustStatus.REVOKED,
    TrustStatus.DOWNGRADED,
    TrustStatus.EXPIRED,
    TrustStatus.NOT_YET_VALID,
    TrustStatus.REPLAYED,
    TrustStatus.NOT_AUTHORISED,
    TrustStatus.THRESHOLD,
    TrustStatus.UNKNOWN_SIGNER,
)


def _reason(nearest: Role | None, signers: list[SignerReport]) -> tuple[TrustStatus, str]:
    valid = {s.key_id for s in signers if s.status is TrustStatus.TRUSTED}
    if nearest is not None and valid:
        counted = len(_counted(nearest, signers))
        others = "; ".join(s.detail for s in signers if s.detail)
        detail = f"{counted} of {nearest.threshold} for role {nearest.name!r}"
        return TrustStatus.THRESHOLD, f"{detail}; {others}" if others else detail
    worst = min(signers, key=lambda signer: _GRAVITY.index(signer.status))
    return worst.status, worst.detail


def _judge_signature(
    policy: Policy,
    package: _Package,
    roles: list[Role],
    envelope: Envelope,
    signature: EnvelopeSignature,
    at: dt.datetime,
) -> SignerReport | None:
    """What one signature is worth; None for a valid attestation that is no package signature."""
    short = signature.key_id[:16]

    def report(status: TrustStatus, detail: str = "") -> SignerReport:
        return SignerReport(signature.key_id, status, detail=f"key {short}: {detail}")

    if envelope.payload_type != IN_TOTO:
        kind = envelope.payload_type[:60]
        return report(TrustStatus.DOWNGRADED, f"payload type {kind!r} instead of {IN_TOTO!r}")
    key = policy.key(signature.key_id)
    if key is None:
        if _is_attestation(envelope):
            return None
        return report(TrustStatus.UNKNOWN_SIGNER, "is not in the trust store")
    if not key.verify(pae(envelope.payload_type, envelope.payload), signature.signature):
        return report(TrustStatus.INVALID, "the signature does not verify")
    try:
        statement = Statement.parse(envelope.payload)
        if statement.predicate_type != PACKAGE_PREDICATE:
            return None
        claim = PackageClaim.from_json(statement.predicate)
    except PackageError as error:
        return report(TrustStatus.DOWNGRADED, f"the statement is malformed: {error.message}")
    return _judge_claim(policy, package, roles, key, statement, claim, at)


def _is_attestation(envelope: Envelope) -> bool:
    """Whether an unverified envelope only says something else of the package (its lineage)."""
    try:
        return Statement.parse(envelope.payload).predicate_type != PACKAGE_PREDICATE
    except PackageError:
        return False


def _judge_claim(
    policy: Policy,
    package: _Package,
    roles: list[Role],
    key: PublicKey,
    statement: Statement,
    claim: PackageClaim,
    at: dt.datetime,
) -> SignerReport:
    mine = [role for role in roles if key.key_id in role.key_ids]
    status, detail, usable = _status(policy, package, mine, key, statement, claim, at)
    return SignerReport(
        key_id=key.key_id,
        status=status,
        algorithm=key.algorithm.value,
        roles=tuple(role.name for role in usable),
        issued=claim.issued,
        expires=claim.expires,
        detail=f"key {key.key_id[:16]}: {detail}" if detail else "",
    )


def _status(
    policy: Policy,
    package: _Package,
    mine: list[Role],
    key: PublicKey,
    statement: Statement,
    claim: PackageClaim,
    at: dt.datetime,
) -> tuple[TrustStatus, str, list[Role]]:
    """Status, detail and the roles that the signature counts for. Guards first."""
    if [subject.sha256 for subject in statement.subjects] != [package.sha256]:
        return TrustStatus.WRONG_SUBJECT, f"signed {_spelled(claim)}", []
    if (claim.name, claim.version, claim.size) != (package.name, package.version, package.size):
        return TrustStatus.WRONG_SUBJECT, f"states {_spelled(claim)}", []
    revocation = policy.revocation(key.key_id)
    if revocation is not None and revocation.voids(claim.issued):
        since = f"{revocation.reason.value} since {revocation.since:%Y-%m-%d}"
        return TrustStatus.REVOKED, since, []
    if claim.expires is not None and at > claim.expires:
        return TrustStatus.EXPIRED, f"expired on {claim.expires:%Y-%m-%d %H:%M} UTC", []
    starts = max(claim.issued, claim.not_before or claim.issued)
    if at + policy.clock_skew < starts:
        return TrustStatus.NOT_YET_VALID, f"valid from {starts:%Y-%m-%d %H:%M} UTC", []
    if not mine:
        return TrustStatus.NOT_AUTHORISED, f"not for packages named {package.name!r}", []
    problems = [(role, _role_problem(role, claim, at, policy.clock_skew)) for role in mine]
    usable = [role for role, problem in problems if problem is None]
    if not usable and problems[0][1] is not None:
        return (*problems[0][1], [])
    return TrustStatus.TRUSTED, "", usable


def _spelled(claim: PackageClaim) -> str:
    return f"{claim.name} {claim.version} ({claim.size} bytes of manifest)"


def _role_problem(
    role: Role, claim: PackageClaim, at: dt.datetime, skew: dt.timedelta
) -> tuple[TrustStatus, str] | None:
    """Why a signature does not count for a role that lists its key."""
    if role.expires is not None and at > role.expires:
        return TrustStatus.EXPIRED, f"role {role.name!r} expired on {role.expires:%Y-%m-%d}"
    if role.not_before is not None and at + skew < role.not_before:
        return TrustStatus.NOT_YET_VALID, f"role {role.name!r} starts {role.not_before:%Y-%m-%d}"
    sequence = -1 if claim.sequence is None else claim.sequence
    if role.min_sequence is not None and sequence < role.min_sequence:
        least = role.min_sequence
        return TrustStatus.REPLAYED, f"sequence {claim.sequence}, at least {least} needed"
    return None
