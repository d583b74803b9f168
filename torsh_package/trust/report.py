"""The typed outcome of a trust decision."""

import datetime as dt
import enum
from dataclasses import dataclass

from torsh_package.canonical_json import JsonObject
from torsh_package.errors import SignatureError
from torsh_package.times import format_time


class TrustStatus(enum.Enum):
    """Why a package, or one signature of it, is trusted or not."""

    TRUSTED = "trusted"
    UNSIGNED = "unsigned"
    STRIPPED = "stripped"
    UNKNOWN_SIGNER = "unknown-signer"
    NOT_AUTHORISED = "not-authorised"
    THRESHOLD = "threshold"
    INVALID = "invalid"
    WRONG_SUBJECT = "wrong-subject"
    DOWNGRADED = "downgraded"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    REVOKED = "revoked"
    REPLAYED = "replayed"
    STORE_EXPIRED = "store-expired"

    @property
    def explanation(self) -> str:
        """One sentence with what to do."""
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    TrustStatus.TRUSTED: "enough authorised keys signed exactly this package",
    TrustStatus.UNSIGNED: "the package has no signature; have its publisher sign it",
    TrustStatus.STRIPPED: (
        "the package has no signature although the trust store requires one for its name; "
        "the signatures were removed or never made: fetch it again from its publisher"
    ),
    TrustStatus.UNKNOWN_SIGNER: (
        "the package is signed, but by no key of the trust store; "
        "do not use it unless its publisher confirms the key"
    ),
    TrustStatus.NOT_AUTHORISED: "the key is trusted, but not for packages of this name",
    TrustStatus.THRESHOLD: "too few different authorised keys signed the package",
    TrustStatus.INVALID: "a signature does not fit its bytes: it was changed or forged",
    TrustStatus.WRONG_SUBJECT: "the signature is over another package or another state of this one",
    TrustStatus.DOWNGRADED: "the envelope is not of the kind that a package signature must be",
    TrustStatus.EXPIRED: "the signature or its role has expired; have the package signed anew",
    TrustStatus.NOT_YET_VALID: "the signature or its role is not valid yet; check the clock",
    TrustStatus.REVOKED: "the key was revoked; have the package signed by a valid key",
    TrustStatus.REPLAYED: "an older release than the trust store allows; fetch the current one",
    TrustStatus.STORE_EXPIRED: "the trust store has expired; update it",
}


@dataclass(frozen=True)
class SignerReport:
    """What became of one signature.

    Args:
        key_id: Id that the envelope gives; only for known keys is it proven.
        status: `TRUSTED`, or why the signature does not count.
        algorithm: Of the trusted key, None for an unknown one.
        roles: Roles of the trust store that the signature counts for.
        issued: When it was made, as the signer says.
        expires: When it ends, None for never.
        detail: The value and the limit it broke.
    """

    key_id: str
    status: TrustStatus
    algorithm: str | None = None
    roles: tuple[str, ...] = ()
    issued: dt.datetime | None = None
    expires: dt.datetime | None = None
    detail: str = ""

    def to_json(self) -> JsonObject:
        """For scripts."""
        return {
            "keyid": self.key_id,
            "status": self.status.value,
            "algorithm": self.algorithm,
            "roles": list(self.roles),
            "issued": None if self.issued is None else format_time(self.issued),
            "expires": None if self.expires is None else format_time(self.expires),
            "detail": self.detail,
        }


@dataclass(frozen=True)
class TrustReport:
    """Outcome of verifying one package against a trust store.

    Args:
        status: The verdict.
        package: Name in the manifest.
        version: Version in the manifest.
        manifest_sha256: Digest that signatures must name. The manifest binds every other byte of
            the package, so a trusted manifest covers all of it.
        role: The role that is satisfied, None if none is.
        threshold: Signatures by different keys that the role needs (the nearest one, if none is
            satisfied; 0 if no role names the package).
        counted: Different authorised keys that signed validly.
        signers: One entry per signature.
        expires: When the first of the counted signatures ends, None for never.
        detail: The value and the limit it broke.
    """

    status: TrustStatus
    package: str | None
    version: str | None
    manifest_sha256: str
    role: str | None = None
    threshold: int = 0
    counted: int = 0
    signers: tuple[SignerReport, ...] = ()
    expires: dt.datetime | None = None
    detail: str = ""

    @property
    def trusted(self) -> bool:
        """Whether the trust store's policy is satisfied."""
        return self.status is TrustStatus.TRUSTED

    def require(self) -> "TrustReport":
        """Itself, or `UntrustedError` with this report."""
        if not self.trusted:
            raise UntrustedError(self)
        return self

    def to_json(self) -> JsonObject:
        """For scripts."""
        return {
            "status": self.status.value,
            "trusted": self.trusted,
            "package": self.package,
            "version": self.version,
            "manifest": self.manifest_sha256,
            "role": self.role,
            "threshold": self.threshold,
            "counted": self.counted,
            "signers": [signer.to_json() for signer in self.signers],
            "expires": None if self.expires is None else format_time(self.expires),
            "detail": self.detail,
        }


class UntrustedError(SignatureError):
    """The package is not trusted; `report` says why, signature by signature."""

    code = "untrusted"

    def __init__(self, report: TrustReport):
        self.report = report
        detail = f" ({report.detail})" if report.detail else ""
        name = f"{report.package} {report.version}" if report.package else "package"
        super().__init__(
            f"{name} is not trusted: {report.status.value}: {report.status.explanation}{detail}"
        )
