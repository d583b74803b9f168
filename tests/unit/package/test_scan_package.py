"""What a scan finds, what it leaves alone, and policies that refuse."""

import io
import json
import os
import pickle
import zipfile
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

from torsh_package import Package, ResourceType
from torsh_package.convert import FormatConverter
from torsh_package.errors import InvalidArgumentError, PolicyError, StorageError
from torsh_package.scan import (
    AdvisoryDatabase,
    Exemption,
    Finding,
    ScanPolicy,
    ScanReport,
    Severity,
    VulnerabilityScanner,
)
from torsh_package.scan.secrets import scan_secrets
from torsh_package.scan.sources import scan_source

DATA = Path(__file__).parent / "data"


def rules(package: Package) -> dict[str, Severity]:
    report = VulnerabilityScanner(AdvisoryDatabase([])).scan(package)
    assert report.not_scanned == ()
    return {f.rule: f.severity for f in report.findings if f.rule != "unsigned"}


def holding(data: bytes, name: str = "blob") -> Package:
    package = Package("m", "1.0.0")
    package.add_resource(name, data, ResourceType.Data)
    return package


class Command:
    def __reduce__(self):
        return os.system, ("touch /nonexistent/mark",)


def torch_bytes(value: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def nested_zip(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner/data.bin", data)
    return buffer.getvalue()


EVIL = {
    **{f"protocol {p}": pickle.dumps(Command(), p) for p in range(6)},
    "torch zip": torch_bytes({"w": Command()}),
    "torch legacy": torch_bytes({"w": Command()}, zipped=False),
    "zip in zip": nested_zip(torch_bytes(Command())),
    "deflated": nested_zip(pickle.dumps(Command())),
    "broken after the call": pickle.dumps(Command())[:-1] + b"\xff",
    "second of two": pickle.dumps([1]) + pickle.dumps(Command()),
    "inside loads": pickle.dumps([1])[:-1] + b"0cpickle\nloads\n(B"
    + len(pickle.dumps(Command(), 2)).to_bytes(4, "little") + pickle.dumps(Command(), 2) + b"tR.",
}  # fmt: skip


@pytest.mark.parametrize("name", EVIL)
def test_attacking_pickles(name: str) -> None:
    found = rules(holding(EVIL[name]))
    assert found["pickle-dangerous"] is Severity.CRITICAL
    assert ("pickle-malformed" in found) == (name == "broken after the call")


@pytest.mark.parametrize("type_", list(ResourceType))
def test_in_every_kind_of_resource(type_: ResourceType) -> None:
    package = Package("m", "1.0.0")
    package.add_resource("x", pickle.dumps(Command()), type_)
    assert "pickle-dangerous" in rules(package)


def test_honest_checkpoints_are_low() -> None:
    found = rules(holding(torch_bytes({"w": torch.ones(2), "n": np.ones(2)})))
    assert found == {"pickle": Severity.LOW}
    for path in DATA.glob("*.pt"):
        found = rules(FormatConverter().convert(path))
        assert max(found.values(), default=Severity.INFO) <= Severity.LOW, path.name


def test_code_carriers_and_unknown_classes() -> None:
    carried = b"\x80\x02ccloudpickle.cloudpickle\n_make_function\n."
    assert rules(holding(carried))["pickle-code"] is Severity.HIGH
    assert rules(holding(b"\x80\x02cultra.nn\nModel\n."))["pickle-unknown-class"] is Severity.LOW
    assert rules(holding(b"\x80\x02cbuiltins\ngetattr\n."))["pickle-getattr"] is Severity.MEDIUM


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"(",
        b"plain text (c) 2024.",
        b"[1, 2, 3]\n",
        b"c",
        bytes(1000),
        np.arange(999.0).tobytes(),
        b'{"a": 1}',
        b"PK\x05\x06" + bytes(18),
        b"lots of text\n" * 500,
    ],
)
def test_other_data_is_quiet(data: bytes) -> None:
    assert rules(holding(data)) == {}


@pytest.mark.parametrize("head", [b"\x7fELF\x02\x01\x01", b"MZ\x90\x00", b"\xcf\xfa\xed\xfe"])
def test_native_code_must_be_declared(head: bytes) -> None:
    from torsh_package import EntryPoint

    package = Package("m", "1.0.0")
    compiled = package.add_object("code.o", head + bytes(64), triple="x86_64-linux-gnu")
    assert rules(package)["native-code"] is Severity.HIGH
    package.add_entrypoint(EntryPoint("forward", objects=(compiled,)))
    assert rules(package) == {}


# Secrets. The samples are put together here, so that no scanner takes this file for a leak.

SECRETS = {
    "private-key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "aws-key": "AKIA" + "IOSFODNN7ABCDEFG",
    "github-token": "ghp_" + "a1B2" * 9,
    "gitlab-token": "glpat-" + "abcDEF123" * 3,
    "huggingface-token": "hf_" + "AbCdEf1234" * 4,
    "slack-token": "xoxb-" + "1234567890-abc",
    "google-key": "AIza" + "SyA1b2C3d4E" * 3 + "xy",
    "stripe-key": "sk_live_" + "a1B2" * 7,
    "pypi-token": "pypi-" + "AgEIcHlw" * 8,
    "json-web-token": "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
    "url-password": "postgres://user:" + "hunter2pw@db.internal/x",
    "openai-key": "sk-proj-" + "aB3" * 16,
    "age-key": "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2,
    "assigned": 'api_key = "' + 'q8Zt4Lm2Xv9Rk1Pw"',
}
SECRETS["age-key"] = SECRETS["age-key"][: 16 + 58]
SECRETS["json-web-token"] = "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0In0." + "c2lnbmF0dXJlMTIz"


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_and_not_repeated(kind: str) -> None:
    secret = SECRETS[kind]
    package = Package("m", "1.0.0")
    package.add_resource("settings", f"first line\nx: {secret}\n", ResourceType.Text)
    found = [f for f in VulnerabilityScanner().scan(package).findings if f.rule != "unsigned"]
    assert f"secret-{kind}" in {f.rule for f in found}
    assert all(f.line == 2 for f in found)
    core = secret.split('"')[1] if '"' in secret else secret
    assert all(core not in str(f) for f in found)


@pytest.mark.parametrize(
    "text",
    [
        'password = "changeme123"',
        'api_key: "${API_KEY}"',
        'token = "<your-token-here>"',
        'secret = "aaaaaaaaaaaaaa"',
        "https://example.org/path",
        'password = ""',
        "AKIA is a prefix",
        "postgres://user:${PASSWORD}@host/db",
        "tokenizer_class = 'PreTrainedTokenizerFast'",
        "ghp_EXAMPLE" + "x" * 36,
        "passwords are never stored",
    ],
)
def test_placeholders_are_no_secrets(text: str) -> None:
    assert list(scan_secrets(text, "x")) == []


def test_secrets_in_the_manifest_and_long_lines() -> None:
    package = Package("m", "1.0.0")
    package.metadata["note"] = SECRETS["aws-key"]
    assert "secret-aws-key" in rules(package)
    long = "x " * 50_000 + SECRETS["github-token"] + " y" * 50_000
    assert len(list(scan_secrets(long, "x"))) >= 1


# Sources

SOURCES = {
    "crypto-weak-hash": [
        "import hashlib\nhashlib.md5(x)",
        "from hashlib import sha1\nsha1(x)",
        "import hashlib as h\nh.new('MD5')",
        "from cryptography.hazmat.primitives import hashes\nhashes.SHA1()",
    ],
    "crypto-weak-cipher": [
        "from Crypto.Cipher import DES\nDES.new(k)",
        "from cryptography.hazmat.primitives.ciphers import algorithms as algorithms\n"
        "algorithms.ARC4(k)",
    ],
    "crypto-ecb": ["from cryptography.hazmat.primitives.ciphers import modes\nmodes.ECB()"],
    "crypto-weak-random": [
        "import random\ntoken = random.randint(0, 9)",
        "import random as r\nself.api_key = str(r.random())",
    ],
    "tls-unverified": [
        "import requests\nrequests.get(u, verify=False)",
        "import ssl\nssl._create_unverified_context()",
    ],
    "code-eval": ["eval(x)", "exec(open(f).read())"],
    "code-unpickle": [
        "import pickle\npickle.load(f)",
        "import torch\ntorch.load(f)",
        "import numpy as np\nnp.load(f, allow_pickle=True)",
        "import torch as t\nt.load(f)",
        "from pickle import loads as innocent\ninnocent(b)",
    ],
    "code-unsafe-yaml": ["import yaml\nyaml.load(f)"],
    "code-command": ["import os\nos.system(c)", "from subprocess import Popen as P\nP(c)"],
    "code-shell": ["run(c, shell=True)"],
    "code-native": ["import ctypes\nctypes.CDLL(p)"],
    "code-network": ["import urllib.request\nurllib.request.urlopen(u)"],
    "source-malformed": ["def f(:"],
}
QUIET = [
    "import hashlib\nhashlib.sha256(x)\nhashlib.md5(x, usedforsecurity=False)",
    "import torch\ntorch.load(f, weights_only=True)",
    "import yaml\nyaml.load(f, Loader=yaml.SafeLoader)\nyaml.safe_load(f)",
    "import random\nshuffle = random.random()",
    "import secrets\ntoken = secrets.token_hex()",
    "model.eval()",
    "import numpy as np\nnp.load(f)",
    "re.compile(p)",
    "x = 'eval(1)'  # eval(x)",
]


@pytest.mark.parametrize(("rule", "text"), [(r, t) for r, texts in SOURCES.items() for t in texts])
def test_sources(rule: str, text: str) -> None:
    assert rule in {finding.rule for finding in scan_source(text, "x.py")}


@pytest.mark.parametrize("text", QUIET)
def test_good_sources_are_quiet(text: str) -> None:
    assert list(scan_source(text, "x.py")) == []


def test_sources_in_packages_have_lines() -> None:
    package = Package("m", "1.0.0")
    package.add_source_file("net", "import os\n\n\ndef f(c):\n    os.system(c)\n")
    found = [f for f in VulnerabilityScanner().scan(package).findings if f.rule == "code-command"]
    assert [(f.where, f.line, f.severity) for f in found] == [("code/net.py", 5, Severity.HIGH)]


# Policies

REPORT = ScanReport((
    Finding("a", Severity.CRITICAL, "x", "m"), Finding("b", Severity.HIGH, "y", "m"),
    Finding("c", Severity.LOW, "z", "m"),
))  # fmt: skip


def violated(policy: ScanPolicy, report: ScanReport = REPORT) -> list[str]:
    return [finding.rule for finding in policy.violations(report, date(2025, 1, 1))]


def test_policies_refuse() -> None:
    assert violated(ScanPolicy()) == ["a", "b"]
    assert violated(ScanPolicy(Severity.CRITICAL)) == ["a"]
    assert violated(ScanPolicy(Severity.INFO)) == ["a", "b", "c"]
    assert violated(ScanPolicy(deny=frozenset({"c"}))) == ["a", "b", "c"]
    with pytest.raises(PolicyError, match=r"2 violation\(s\)") as caught:
        ScanPolicy().enforce(REPORT)
    assert "CRITICAL a x: m" in str(caught.value)
    ScanPolicy().enforce(ScanReport((REPORT.findings[2],)))


def test_exemptions_need_reasons_and_end() -> None:
    accepted = Exemption("a", "reviewed", until=date(2025, 1, 1))
    assert violated(ScanPolicy(exemptions=(accepted,))) == ["b"]
    assert violated(ScanPolicy(exemptions=(Exemption("a", "old", until=date(2024, 12, 31)),))) == [
        "a",
        "b",
    ]
    assert violated(ScanPolicy(exemptions=(Exemption("a", "other place", where="y"),))) == [
        "a",
        "b",
    ]
    with pytest.raises(InvalidArgumentError, match="no reason"):
        ScanPolicy(exemptions=(Exemption("a", " "),))


def test_what_was_not_scanned_is_refused_too() -> None:
    package = Package("m", "1.0.0")
    package.add_requirements("numpy>=1")
    report = VulnerabilityScanner().scan(package)
    assert report.not_scanned == ("dependencies: no advisory database was given",)
    with pytest.raises(PolicyError, match="could not be scanned"):
        ScanPolicy().enforce(report)
    ScanPolicy(require_complete=False).enforce(report)


def test_enforce_on_a_package() -> None:
    scanner = VulnerabilityScanner()
    with pytest.raises(PolicyError, match="pickle-dangerous"):
        scanner.enforce(holding(pickle.dumps(Command())), ScanPolicy())
    assert scanner.enforce(holding(b"fine"), ScanPolicy()).worst is Severity.INFO


def test_policy_files(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({
        "fail_on": "critical", "deny": ["c"], "require_complete": False,
        "exemptions": [{"rule": "a", "reason": "known", "until": "2030-01-01"}],
    }))  # fmt: skip
    assert violated(ScanPolicy.load(path)) == ["c"]
    for bad in ({"fail_on": "awful"}, {"extra": 1}, {"exemptions": [{"rule": "a"}]}, {"deny": "a"},
                {"exemptions": [{"rule": "a", "reason": "r", "until": "soon"}]},
                {"require_complete": "no"}):  # fmt: skip
        path.write_text(json.dumps(bad))
        with pytest.raises(InvalidArgumentError):
            ScanPolicy.load(path)
    with pytest.raises(StorageError):
        ScanPolicy.load(tmp_path / "none.json")


def test_reports() -> None:
    report = VulnerabilityScanner().scan(holding(pickle.dumps(Command())))
    assert report.worst is Severity.CRITICAL
    assert report.findings[0].severity is Severity.CRITICAL
    value = report.to_json()
    assert json.loads(json.dumps(value))["counts"]["critical"] == 1
    assert value["scanned"] == {"resources": 1, "pickles": 1}
    assert "CRITICAL pickle-dangerous blob" in report.summary()
