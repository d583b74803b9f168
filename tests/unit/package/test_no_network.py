"""No network, no telemetry: under a filter that kills the process at its first socket."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import torsh_package

FILTER = """
import ctypes, platform, struct
# (architecture of audit.h, system calls: socket, socketpair, connect, bind, sendto, sendmsg)
ARCH, CALLS = {
    "x86_64": (0xC000003E, (41, 53, 42, 49, 44, 46)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 206, 211)),
}[platform.machine()]
KILL, ALLOW = 0x80000000, 0x7FFF0000
code = [(0x20, 0, 0, 4), (0x15, 1, 0, ARCH), (0x06, 0, 0, KILL), (0x20, 0, 0, 0)]
for i, call in enumerate(CALLS):
    code.append((0x15, len(CALLS) - i, 0, call))
code += [(0x06, 0, 0, ALLOW), (0x06, 0, 0, KILL)]
program = b"".join(struct.pack("HBBI", *line) for line in code)
buffer = ctypes.create_string_buffer(program, len(program))
fprog = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
if libc.prctl(22, 2, fprog, 0, 0) != 0:
    raise SystemExit(77)
"""

WORK = """
import sys, numpy as np
from pathlib import Path
import torsh_package
from torsh_package import *
package = Package("m", "1.0.0")
package.set_compression(CompressionAlgorithm.Zstd, CompressionLevel.Fast)
package.add_resource("w", {"a": np.zeros(3 << 20, np.float32)}, ResourceType.ModelWeights)
package.add_dependency_spec("torsh-nn", "^0.1.0")
signer = PackageSigner(SignatureAlgorithm.Ed25519)
package.set_signature(signer.sign(serialize_package(package)))
package.save("m.torshpkg")
loaded = Package.load("m.torshpkg", trust=signer.store())
loaded.get_resource("w").tensor("a")
Package.load("m.torshpkg", lazy=True).get_resource("w").tensor("a")
decode(encode({"a": np.zeros(3)}))
encryptor = PackageEncryptor(EncryptionAlgorithm.Aes256Gcm)
sealed = encryptor.encrypt_package(loaded, "password")
sealed.save("e.torshpkg")
Package.load("e.torshpkg", password="password").get_resource("w").tensor("a")
from tools.torsh_package import main
for verb in (["inspect"], ["verify"], ["extract", "-o", "out"]):
    assert main([verb[0], "m.torshpkg", *verb[1:], "--quiet"]) == 0
print("done")
"""


def run(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": str(Path(torsh_package.__file__).parents[1])}
    command = [sys.executable, "-c", FILTER + code.replace("from torsh_package import *", NAMES)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


NAMES = (
    "from torsh_package import (Package, ResourceType, CompressionAlgorithm, CompressionLevel,"
    " PackageSigner, SignatureAlgorithm, PackageEncryptor, EncryptionAlgorithm, encode, decode,"
    " serialize_package)"
)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="system call numbers are not listed"
)
def test_no_socket_is_ever_opened(tmp_path: Path) -> None:
    control = run("import socket; socket.socket(); print('alive')", tmp_path)
    if control.returncode == 77:
        pytest.skip("seccomp filters are not allowed here")
    assert control.returncode == -signal.SIGSYS
    assert "alive" not in control.stdout
    found = run(WORK, tmp_path)
    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("\ndone\n")
