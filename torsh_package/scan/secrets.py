"""Credentials in texts. Findings name the kind and the line, never the secret."""

import math
import re
from collections import Counter
from collections.abc import Iterator

from .findings import Finding, Severity

_MAX_LINE = 4_096
_MAX_PER_RULE = 20

# (rule, severity, pattern). Sources: the token formats that the issuers document.
_RULES: tuple[tuple[str, Severity, "re.Pattern[str]"], ...] = tuple(
    (f"secret-{name}", severity, re.compile(pattern))
    for name, severity, pattern in (
        ("private-key", Severity.CRITICAL,
         r"-----BEGIN (?:(?:RSA|DSA|EC|OPENSSH|ENCRYPTED) )?PRIVATE KEY-----"),
        ("age-key", Severity.CRITICAL, r"\bAGE-SECRET-KEY-1[02-9AC-HJ-NP-Z]{58}\b"),
        ("aws-key", Severity.HIGH, r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
        ("github-token", Severity.HIGH,
         r"\b(?:gh[pousr]_[0-9A-Za-z]{36,255}|github_pat_[0-9A-Za-z_]{60,255})\b"),
        ("gitlab-token", Severity.HIGH, r"\bglpat-[0-9A-Za-z_-]{20,64}\b"),
        ("huggingface-token", Severity.HIGH, r"\bhf_[0-9A-Za-z]{30,64}\b"),
        ("slack-token", Severity.HIGH, r"\bxox[abprs]-[0-9A-Za-z-]{10,128}\b"),
        ("google-key", Severity.HIGH, r"\bAIza[0-9A-Za-z_-]{35}\b"),
        ("stripe-key", Severity.HIGH, r"\b[sr]k_live_[0-9A-Za-z]{20,128}\b"),
        ("pypi-token", Severity.HIGH, r"\bpypi-[0-9A-Za-z_-]{50,512}"),
        ("openai-key", Severity.HIGH, r"\bsk-(?:proj-)?[0-9A-Za-z_-]{40,200}\b"),
        ("json-web-token", Severity.MEDIUM,
         r"\beyJ[0-9A-Za-z_-]{10,2048}\.eyJ[0-9A-Za-z_-]{10,2048}\.[0-9A-Za-z_-]{10,2048}"),
        ("url-password", Severity.HIGH,
         r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"]{1,64}:[^\s/:@'\"{}$<>]{3,128}@[^\s'\"]{3,255}"),
    )
)  # fmt: skip

_ASSIGNED = re.compile(
    r"(?i)\b[\w.-]{0,40}(?:password|passwd|secret|api_?key|access_?key|auth_?token|credential)"
    r"[\w.-]{0,20}['\"]?\s{0,8}(?::|=|:=)\s{0,8}(['\"])([^'\"\s]{8,256})\1"
)
_PLACEHOLDER = re.compile(
    r"(?i)example|changeme|change_me|placeholder|your[_-]|xxxx|\*{3}|<.*>|\$\{|\{\{|dummy|redacted"
)
_MIN_ENTROPY = 3.0  # bits per character; English words are below, random tokens above


def scan_secrets(text: str, where: str) -> Iterator[Finding]:
    """Findings in a text."""
    counts: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(), 1):
        for start in range(0, max(len(line), 1), _MAX_LINE):
            part = line[start : start + _MAX_LINE + 512]
            for rule, severity, pattern in _RULES:
                match = pattern.search(part)
                if match is None or _PLACEHOLDER.search(match[0]):
                    continue
                counts[rule] += 1
                if counts[rule] <= _MAX_PER_RULE:
                    yield Finding(rule, severity, where, _masked(rule, match[0]), number)
            yield from _assigned(part, where, number, counts)


def _assigned(part: str, where: str, number: int, counts: "Counter[str]") -> Iterator[Finding]:
    """`password = "..."` with a value that looks random."""
    for match in _ASSIGNED.finditer(part):
        value = match[2]
        if _PLACEHOLDER.search(value) or entropy(value) < _MIN_ENTROPY:
            continue
        counts["secret-assigned"] += 1
        if counts["secret-assigned"] <= _MAX_PER_RULE:
            message = f"a value of {len(value)} characters is assigned to a name of a credential"
            yield Finding("secret-assigned", Severity.MEDIUM, where, message, number)


def _masked(rule: str, value: str) -> str:
    return f"{rule.removeprefix('secret-').replace('-', ' ')} of {len(value)} characters"


def entropy(text: str) -> float:
    """Shannon entropy of the characters, in bits each."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
