"""Signed build provenance: SLSA provenance v1 in an in-toto statement over the manifest.

The attestation lies beside the package signature, in `META/signatures.dsse.json`. Its subject is
the SHA-256 of the manifest; its predicate names the sources by digest, the tools by version, and
says how the result was compared with its source. An attestation proves nothing by itself: it is
given out only after its signature was verified with a key of a trust store.
"""

import datetime as dt
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.errors import InvalidArgumentError, LineageError, PackageError, SignatureError
from torsh_package.lineage.artifact import Artifact, tool_versions
from torsh_package.schema import Fields
from torsh_package.times import build_time, format_time
from torsh_package.trust.dsse import IN_TOTO, Envelope, dump_envelopes, load_envelopes
from torsh_package.trust.keys import PrivateKey
from torsh_package.trust.signer import join_signatures
from torsh_package.trust.statement import (
    Statement,
    Subject,
    name_and_version,
    read_optional_time,
    read_time,
)
from torsh_package.trust.store import TrustStore

SLSA_PREDICATE = "https://slsa.dev/provenance/v1"
BUILDER = "https://torsh.dev/builder/v1"
BUILD_TYPE = "https://torsh.dev/build/{}/v1"
MAX_SOURCES = 4096


@dataclass(frozen=True)
class Source:
    """Something that went into a build: a name, its URI if it has one, and its digest."""

    name: str
    digest: str
    uri: str | None = None

    def __post_init__(self) -> None:
        Artifact(self.name, self.digest)


@dataclass(frozen=True)
class EqualityVerdict:
    """How the outputs of a converted model were compared with those of its source.

    Args:
        equal: Whether they were found equal within the tolerance.
        inputs: How many inputs were tried.
        seed: Seed of the inputs.
        max_error: Largest absolute difference, in units of the output.
        tolerance: Largest difference that was allowed.
        reference: What it was compared with (`torch 2.13.0, float64`).
    """

    equal: bool
    inputs: int
    seed: int
    max_error: float
    tolerance: float
    reference: str

    def __post_init__(self) -> None:
        if not (self.tolerance >= 0 and self.max_error >= 0 and math.isfinite(self.tolerance)):
            raise InvalidArgumentError(
                f"max_error {self.max_error} and tolerance {self.tolerance} must be numbers >= 0"
            )
        if self.equal != (self.max_error <= self.tolerance):
            raise InvalidArgumentError(
                f"verdict {self.equal} contradicts max_error {self.max_error} and "
                f"tolerance {self.tolerance}"
            )

    def to_json(self) -> JsonObject:
        """The JSON form; numbers as decimal text, which canonical JSON can carry exactly."""
        return {
            "equal": self.equal,
            "inputs": self.inputs,
            "seed": self.seed,
            "maxError": repr(self.max_error),
            "tolerance": repr(self.tolerance),
            "reference": self.reference,
        }

    @classmethod
    def from_fields(cls, fields: Fields) -> "EqualityVerdict":
        """Read the JSON form."""
        verdict = cls(
            equal=fields.boolean("equal"),
            inputs=fields.integer("inputs"),
            seed=fields.integer("seed"),
            max_error=_number(fields, "maxError"),
            tolerance=_number(fields, "tolerance"),
            reference=fields.string("reference"),
        )
        fields.end()
        return verdict


def _number(fields: Fields, key: str) -> float:
    text = fields.string(key)
    try:
        return float(text)
    except ValueError:
        raise fields.error(key, f"{text[:40]!r} is not a number") from None


@dataclass(frozen=True)
class BuildProvenance:
    """How a package was built.

    Args:
        action: `convert`, `compile`, `quantize`, ...
        sources: What went in, by digest.
        parameters: What was asked for.
        tools: Versions of everything that shaped the result.
        started: When the build began.
        finished: When it ended.
        equality: How the result was compared with its source, None if it was not.
    """

    action: str
    sources: tuple[Source, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    tools: Mapping[str, str] = field(default_factory=tool_versions)
    started: dt.datetime = field(default_factory=build_time)
    finished: dt.datetime | None = None
    equality: EqualityVerdict | None = None

    def __post_init__(self) -> None:
        if not self.action.isidentifier():
            raise InvalidArgumentError(f"action {self.action[:40]!r}: use one word")

    def statement(self, manifest: bytes) -> Statement:
        """The statement about a package, given the bytes of its manifest."""
        name, _ = name_and_version(manifest)
        subject = Subject(name or "", hashlib.sha256(manifest).hexdigest())
        return Statement((subject,), SLSA_PREDICATE, self.to_json())

    def to_json(self) -> JsonObject:
        """The SLSA predicate, with `torsh_equality` as extension."""
        sources: list[JsonValue] = [
            {
                "name": source.name,
                "digest": {"sha256": source.digest.removeprefix("sha256:")},
                **({} if source.uri is None else {"uri": source.uri}),
            }
            for source in self.sources
        ]
        finished = {} if self.finished is None else {"finishedOn": format_time(self.finished)}
        return {
            "buildDefinition": {
                "buildType": BUILD_TYPE.format(self.action),
                "externalParameters": dict(self.parameters),
                "resolvedDependencies": sources,
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": dict(self.tools)},
                "metadata": {"startedOn": format_time(self.started), **finished},
            },
            "torsh_equality": None if self.equality is None else self.equality.to_json(),
        }

    @classmethod
    def from_json(cls, value: JsonValue) -> "BuildProvenance":
        """Read a predicate that `to_json` made; `ManifestError` if it is another one."""
        fields = Fields(value, "predicate")
        definition, run = fields.nested("buildDefinition"), fields.nested("runDetails")
        builder, times = run.nested("builder"), run.nested("metadata")
        equality = fields.optional_nested("torsh_equality")
        builder.choice("id", frozenset({BUILDER}))
        build_type = definition.string("buildType")
        found = cls(
            action=build_type.removeprefix(BUILD_TYPE.split("{")[0]).removesuffix("/v1"),
            sources=definition.items("resolvedDependencies", MAX_SOURCES, _read_source),
            parameters=_strings(definition.nested("externalParameters")),
            tools=_strings(builder.nested("version")),
            started=read_time(times, "startedOn"),
            finished=read_optional_time(times, "finishedOn") if times.has("finishedOn") else None,
            equality=None if equality is None else EqualityVerdict.from_fields(equality),
        )
        for part in (fields, definition, run, builder, times):
            part.end()
        return found


def _strings(fields: Fields) -> dict[str, str]:
    return {key: fields.string(key) for key in sorted(fields.left)}


def _read_source(fields: Fields) -> Source:
    digest = fields.nested("digest")
    source = Source(
        name=fields.string("name"),
        digest="sha256:" + digest.hexadecimal("sha256", 32).hex(),
        uri=fields.string("uri") if fields.has("uri") else None,
    )
    digest.end()
    fields.end()
    return source


@dataclass(frozen=True)
class Attestation:
    """Signed build provenance; `package.set_signature(attestation)` puts it into a package."""

    envelope: Envelope

    def to_bytes(self) -> bytes:
        """As a detached file: an array of one envelope."""
        return dump_envelopes([self.envelope])

    def added_to(self, signatures: bytes | None) -> bytes:
        """A signature file with this attestation among the others."""
        return join_signatures(signatures, self.to_bytes())


def attest(manifest: bytes, provenance: BuildProvenance, key: PrivateKey) -> Attestation:
    """Sign build provenance.

    Args:
        manifest: Exact bytes of the package's manifest (`serialize_package(package)`).
        provenance: How the package was built.
        key: Of the builder.
    """
    return Attestation(provenance.statement(manifest).envelope().signed(key))


def verified_provenance(
    manifest: bytes, signatures: bytes | None, store: TrustStore
) -> list[BuildProvenance]:
    """The build provenance that keys of a trust store attest to.

    Args:
        manifest: Exact bytes of the package's manifest.
        signatures: Bytes of `META/signatures.dsse.json`, or None.
        store: Whom to believe. Revoked keys count no longer.

    Raises:
        SignatureError: An attestation by a known key does not verify, or is about another package.
        LineageError: A verified attestation is malformed.
    """
    envelopes = load_envelopes(signatures) if signatures else ()
    return [
        found
        for envelope in envelopes
        if (found := _verified(envelope, manifest, store)) is not None
    ]


def _verified(envelope: Envelope, manifest: bytes, store: TrustStore) -> BuildProvenance | None:
    keys = [store.key(signature.key_id) for signature in envelope.signatures]
    known = [key for key in keys if key is not None and store.revocation(key.key_id) is None]
    if not known or envelope.payload_type != IN_TOTO:
        return None
    if not any(envelope.is_signed_by(key) for key in known):
        raise SignatureError(f"an attestation of key {known[0].key_id[:16]} does not verify")
    try:
        statement = Statement.parse(envelope.payload)
        if statement.predicate_type != SLSA_PREDICATE:
            return None
        digests = [subject.sha256 for subject in statement.subjects]
        found = BuildProvenance.from_json(statement.predicate)
    except PackageError as error:
        raise LineageError(f"attested provenance is malformed: {error}") from None
    if digests != [hashlib.sha256(manifest).hexdigest()]:
        raise SignatureError("the attested provenance is that of another package")
    return found
