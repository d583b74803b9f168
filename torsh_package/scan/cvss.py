"""CVSS 3 base scores (https://www.first.org/cvss/v3.1/specification-document, section 7)."""

import math

from .findings import Severity


def severity_of_score(score: float) -> Severity:
    """The qualitative rating of a CVSS 3 score."""
    for limit, severity in ((9.0, Severity.CRITICAL), (7.0, Severity.HIGH), (4.0, Severity.MEDIUM)):
        if score >= limit:
            return severity
    return Severity.LOW if score > 0 else Severity.INFO


_WEIGHTS = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2}, "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62}, "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0}, "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}  # fmt: skip
_PRIVILEGES = {False: {"N": 0.85, "L": 0.62, "H": 0.27}, True: {"N": 0.85, "L": 0.68, "H": 0.5}}


def cvss3_score(vector: str) -> float | None:
    """Base score of a CVSS 3.0 or 3.1 vector (first.org, CVSS v3.1, section 7); else None."""
    head, *parts = vector.strip().split("/")
    if head not in ("CVSS:3.0", "CVSS:3.1"):
        return None
    metrics = dict(part.split(":", 1) for part in parts if ":" in part)
    try:
        changed = {"C": True, "U": False}[metrics["S"]]
        w = {key: table[metrics[key]] for key, table in _WEIGHTS.items()}
        privileges = _PRIVILEGES[changed][metrics["PR"]]
    except KeyError:
        return None
    base = 1 - (1 - w["C"]) * (1 - w["I"]) * (1 - w["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    exploitability = 8.22 * w["AV"] * w["AC"] * privileges * w["UI"]
    if impact <= 0:
        return 0.0
    total = min((1.08 if changed else 1.0) * (impact + exploitability), 10)
    return _round_up(total)


def _round_up(value: float) -> float:
    """To one decimal, upwards, as the specification's integer arithmetic does."""
    scaled = round(value * 100_000)
    return scaled / 100_000 if scaled % 10_000 == 0 else (math.floor(scaled / 10_000) + 1) / 10
