"""The errors of `torsh_package`: one tree, each error with a code, an entry and what to do."""


class PackageError(Exception):
    """Anything wrong with a package, its use or its environment.

    Args:
        message: What is wrong, with the value and the limit it broke, and what to do.
        entry: The archive entry, resource or file that it concerns, where there is one.
        offset: Byte offset in the archive where it was found, where that is known.
    """

    code = "package"

    def __init__(self, message: str, *, entry: str | None = None, offset: int | None = None):
        self.message = message
        self.entry = entry
        self.offset = offset
        where = "".join(
            [
                f"{entry}: " if entry is not None else "",
                f"at byte {offset}: " if offset is not None else "",
            ]
        )
        super().__init__(f"{where}{message}")

    def place(self, path: str) -> None:
        """Say which file it is about, unless the message does."""
        if path not in str(self):
            self.args = (f"{path}: {self.args[0]}",)


class ContainerError(PackageError):
    """The archive is not in the canonical form (or is truncated, or is no archive)."""

    code = "container"


class ManifestError(PackageError):
    """The manifest cannot be parsed or breaks its schema."""

    code = "manifest"


class UnsupportedVersionError(ManifestError):
    """The package was written in a format version that this reader does not know."""

    code = "version"


class LimitError(PackageError):
    """A size, count or depth is over a limit of `torsh_package.limits.Limits`."""

    code = "limit"


class IntegrityError(PackageError):
    """Stored bytes do not have the digest that the manifest gives."""

    code = "integrity"


class CodecError(PackageError):
    """A compressed resource is damaged, or not what its codec says."""

    code = "codec"


class ResourceNotFoundError(PackageError, KeyError):
    """The package has no resource of that name."""

    code = "not-found"

    __str__ = Exception.__str__


class InvalidArgumentError(PackageError, ValueError):
    """A name, version, option or value that was passed in cannot be used."""

    code = "argument"


class SignatureError(PackageError):
    """A signature is missing, broken, expired, revoked or not trusted."""

    code = "signature"


class PackageEncryptedError(PackageError):
    """The package is encrypted and no password or private key was given."""

    code = "encrypted"


class DecryptionError(PackageError):
    """The password or key does not open the package, or its ciphertext was changed."""

    code = "decryption"


class CodePolicyError(PackageError):
    """Code breaks the package's intern/extern/mock/deny policy."""

    code = "code-policy"


class SandboxError(PackageError):
    """The sandbox cannot enforce what was asked for, or the code in it failed."""

    code = "sandbox"


class ConversionError(PackageError):
    """A foreign file cannot be converted safely."""

    code = "conversion"


class DependencyError(PackageError):
    """A requirement is malformed, or no set of versions satisfies all of them."""

    code = "dependency"


class LineageError(PackageError):
    """A lineage relation or provenance record is inconsistent."""

    code = "lineage"


class PolicyError(PackageError):
    """A governance, vulnerability or compliance policy refuses the package."""

    code = "policy"


class StorageError(PackageError):
    """The file system refused: no space, no permission, another writer, a vanished file."""

    code = "storage"


class UnsafePickleError(ConversionError):
    """A pickle names callables that run commands, load code or reach the file system.

    Args:
        message: What was found.
        found: The dangerous names, `module.name@offset`, in stream order.
        entry: The file or archive entry that holds the pickle.
    """

    code = "unsafe-pickle"

    def __init__(self, message: str, *, found: tuple[str, ...], entry: str | None = None):
        super().__init__(message, entry=entry)
        self.found = found


class SandboxUnavailableError(SandboxError):
    """The machine cannot enforce what the sandbox was asked to enforce; nothing was run."""

    code = "sandbox-unavailable"


class SandboxLimitError(SandboxError):
    """Sandboxed code was stopped at a limit of time, memory or output, or crashed."""

    code = "sandbox-limit"


class SandboxCodeError(SandboxError):
    """Sandboxed code raised an exception, or gave a result that cannot leave the sandbox."""

    code = "sandbox-code"
