"""FORMAT.md says what the code does: its program runs, its lists are the code's lists."""

import re
from pathlib import Path
from typing import Any

import numpy as np

import torsh_package
from torsh_package import Package
from torsh_package.codecs import CompressionAlgorithm, CompressionSetting
from torsh_package.crypto.algorithms import EncryptionAlgorithm
from torsh_package.crypto.formats import FORMATS
from torsh_package.manifest import LEAVES_PATH, MANIFEST_PATH, SCHEMA, UNBOUND_PATHS
from torsh_package.tensors import DTYPE_BITS

PAGE = (Path(torsh_package.__file__).parent / "FORMAT.md").read_text("utf-8")
GOLDEN = Path(__file__).parent / "golden"


def test_program_of_the_page_reads_the_golden_file(tmp_path: Path) -> None:
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert code is not None
    scope: dict[str, Any] = {}
    exec(code.group(1), scope)
    path = GOLDEN / "1.0-plain.torshpkg"
    manifest, tensors = scope["read"](path)
    package = Package.load(path)
    assert manifest == package.manifest().to_json()
    w = np.frombuffer(tensors["weights", "fc.weight"], "<f4").reshape(5, 12)
    assert np.array_equal(w, package.get_resource("weights").tensor("fc.weight"))
    assert len(tensors) == 6
    broken = bytearray(path.read_bytes())
    broken[300] ^= 1
    (tmp_path / "x").write_bytes(broken)
    try:
        scope["read"](tmp_path / "x")
    except Exception:
        return
    raise AssertionError("damage was not found")


def test_lists_of_the_page() -> None:
    listed = re.search(r"- dtypes: (.*?)\. Types under", PAGE, re.DOTALL)
    assert listed is not None
    assert sorted(re.split(r",\s+", listed.group(1))) == sorted(DTYPE_BITS)
    for path in (LEAVES_PATH, MANIFEST_PATH, *UNBOUND_PATHS):
        assert f"`{path}`" in PAGE
    assert f"version {SCHEMA[0]}.{SCHEMA[1]}" in PAGE
    for algorithm in CompressionAlgorithm:
        codec = CompressionSetting(algorithm).codec(100, None)
        assert codec is None or f"`{codec.suffix}`" in PAGE


def test_sealed_forms_of_the_page() -> None:
    """Every number and label of section 9 that a second implementation needs is the code's."""
    section = PAGE[PAGE.index("## 9. Encryption") : PAGE.index("## 10.")]
    text = " ".join(section.split())
    assert sorted(FORMATS) == [1, 2]
    for form in FORMATS.values():
        assert f"C = {form.chunk_bytes:,}, a salt of {form.salt_bytes} bytes" in text
        total = 32 + form.nonce_bytes + 32
        part = text[text.index(f"Schema {form.schema}") :]
        assert f"salt || context, {total})" in part
        assert f"At most 2^{form.max_chunks.bit_length() - 1} chunks" in part
        for algorithm in EncryptionAlgorithm:
            label, _, rest = form.label(algorithm.iana_name).partition(b"AEAD")
            assert f'"{label.rstrip(bytes(1)).decode()}"' in text
            assert rest == algorithm.iana_name[4:].encode() + b"\0"
            assert f'"{algorithm.iana_name}"' in text
