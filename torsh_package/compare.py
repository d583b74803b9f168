"""Comparing two packages: what differs (`diff`), and by how much tensors differ (`compare`)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torsh_package.canonical_json import JsonObject, JsonValue
from torsh_package.contents import PackageContents
from torsh_package.errors import InvalidArgumentError
from torsh_package.package import Package
from torsh_package.tensors import TensorEntry
from torsh_package.writing import Progress

if TYPE_CHECKING:
    import numpy

    Array = numpy.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """One thing in which two packages differ.

    Attributes:
        where: Manifest field, or `resource NAME`.
        left: What the first has; None if it has nothing.
        right: What the second has.
    """

    where: str
    left: str | None
    right: str | None

    def to_json(self) -> JsonObject:
        """The JSON form."""
        return {"where": self.where, "left": self.left, "right": self.right}


_FACTS = (
    "name", "version", "created", "description", "authors", "license", "metadata",
    "entrypoints", "dependencies", "code", "lineage", "sbom", "migrated_from",
)  # fmt: skip


def diff(left: Package, right: Package) -> list[Difference]:
    """Differences of facts and contents; codec, order and encryption do not count."""
    found: list[Difference] = []
    a, b = left.manifest().to_json(), right.manifest().to_json()
    for key in _FACTS:
        if a[key] != b[key]:
            found.append(Difference(key, _short(a[key]), _short(b[key])))
    for key in sorted({*left.extensions, *right.extensions}):
        if left.extensions.get(key) != right.extensions.get(key):
            values = _short(left.extensions.get(key)), _short(right.extensions.get(key))
            found.append(Difference(key, *values))
    found += _diff_resources(left, right)
    return found


def _diff_resources(left: Package, right: Package) -> Iterator[Difference]:
    for name in sorted({*left.list_resources(), *right.list_resources()}):
        where = f"resource {name}"
        if not right.has_resource(name):
            yield Difference(where, _describe(left, name), None)
        elif not left.has_resource(name):
            yield Difference(where, None, _describe(right, name))
        else:
            a, b = left.get_resource(name), right.get_resource(name)
            facts = (a.type, a.media_type, a.table) == (b.type, b.media_type, b.table)
            if not facts or a.data != b.data:
                yield Difference(where, _describe(left, name), _describe(right, name))


def _describe(package: PackageContents, name: str) -> str:
    from torsh_package.digest import DigestSpec

    resource = package.get_resource(name)
    digest = DigestSpec().of(resource.data).hex()[:16]
    return f"{resource.type.value} {resource.media_type} {resource.size} bytes {digest}"


def _short(value: JsonValue) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."


@dataclass(frozen=True)
class TensorComparison:
    """How two tensors of one name compare.

    Attributes:
        name: `resource/tensor`.
        problem: Why they cannot be compared by value, or None.
        max_abs: Largest absolute difference.
        rms: Root of the mean squared difference.
        equal: Whether all elements are within `atol + rtol * |second|` (NaN equals NaN).
    """

    name: str
    problem: str | None
    max_abs: float
    rms: float
    equal: bool

    def to_json(self) -> JsonObject:
        """The JSON form; numbers as text, since package JSON has no floats."""
        return {
            "name": self.name,
            "problem": self.problem,
            "max_abs": repr(self.max_abs),
            "rms": repr(self.rms),
            "equal": self.equal,
        }


def compare_tensors(
    left: PackageContents,
    right: PackageContents,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    progress: Progress | None = None,
) -> list[TensorComparison]:
    """Compares all tensors of two packages by value, whatever their codec and layout.

    Differences are taken in float64 (complex128). Tensors that only one package has are problems.

    Args:
        left: First package.
        right: Second package, to whose values `rtol` is relative.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        progress: Called with "tensors", how many were compared, and of how many.

    Raises:
        InvalidArgumentError: A tolerance is negative or NaN.
    """
    if not (rtol >= 0 and atol >= 0):
        raise InvalidArgumentError(f"rtol {rtol}, atol {atol}: tolerances are at least 0")
    a, b = dict(_tensors(left)), dict(_tensors(right))
    found: list[TensorComparison] = []
    names = sorted({*a, *b})
    for number, name in enumerate(names):
        if progress is not None:
            progress("tensors", number, len(names))
        if name not in a or name not in b:
            side = "second" if name in a else "first"
            found.append(_problem(name, f"missing in the {side} package"))
            continue
        found.append(_compare(name, left, right, a[name], b[name], rtol, atol))
    return found


def _tensors(package: PackageContents) -> Iterator[tuple[str, tuple[str, TensorEntry]]]:
    for resource in package.resources():
        for row in resource.table or ():
            yield f"{resource.name}/{row.name}", (resource.name, row)


def _compare(
    name: str,
    left: PackageContents,
    right: PackageContents,
    a: tuple[str, TensorEntry],
    b: tuple[str, TensorEntry],
    rtol: float,
    atol: float,
) -> TensorComparison:
    import numpy

    if a[1].shape != b[1].shape:
        return _problem(name, f"shape {list(a[1].shape)} against {list(b[1].shape)}")
    if a[1].dtype != b[1].dtype:
        return _problem(name, f"dtype {a[1].dtype} against {b[1].dtype}")
    x = left.get_resource(a[0]).tensor(a[1].name)
    y = right.get_resource(b[0]).tensor(b[1].name)
    if not x.size:
        return TensorComparison(name, None, 0.0, 0.0, True)
    wide = numpy.complex128 if x.dtype.kind == "c" else numpy.float64
    p, q = x.astype(wide), y.astype(wide)
    with numpy.errstate(invalid="ignore"):
        gap = numpy.where((p == q) | (numpy.isnan(p) & numpy.isnan(q)), 0, numpy.abs(p - q))
    gap = numpy.where(numpy.isnan(gap), numpy.inf, gap)
    exact = x.dtype.kind in "iub" and not rtol and not atol
    close = gap <= atol + rtol * numpy.abs(q)
    equal = bool(numpy.array_equal(x, y)) if exact else bool(close.all())
    return TensorComparison(name, None, float(gap.max()), float(numpy.sqrt((gap**2).mean())), equal)


def _problem(name: str, text: str) -> TensorComparison:
    return TensorComparison(name, text, float("inf"), float("inf"), False)
