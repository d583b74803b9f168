"""A PyTorch model becomes a signed package: weights, code for this machine, lineage, audit log.

    python examples/package_migration.py [FOLDER]

The steps of `docs/package-migration.md` and `docs/package-security.md` in one go.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

import torsh_fx
from torsh_package import (
    AuditLog,
    FormatConverter,
    Package,
    PackageSigner,
    ResourceType,
    SignatureAlgorithm,
    TrustStore,
    serialize_package,
)


def main(folder: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    x = torch.randn(2, 8)

    # 1. The checkpoint, converted without unpickling; what was left out is in the report.
    torch.save(model.state_dict(), folder / "net.pt")
    converter = FormatConverter(name="acme/net", version="1.0.0")
    weights = converter.convert(folder / "net.pt")
    assert converter.report is not None
    print(converter.report.summary())

    # 2. The compiled model: a package that runs without torch.
    torsh_fx.compile(model, (x,)).save(folder / "compiled.torshpkg")
    running = torsh_fx.load(folder / "compiled.torshpkg")
    error = float((running(x) - model(x)).abs().max())
    print(f"largest difference from PyTorch: {error:.2e}")
    assert error < 1e-5

    # 3. Facts, a document, a signature.
    weights.set_author("Ada")
    weights.set_description("A small classifier")
    weights.set_license("Apache-2.0")
    weights.add_resource("readme", "# acme/net\n", ResourceType.Documentation)
    signer = PackageSigner(SignatureAlgorithm.Ed25519)
    weights.set_signature(signer.sign(serialize_package(weights)))
    log = AuditLog(folder / "audit.log")
    weights.save(folder / "net.torshpkg", observers=[log])

    # 4. Whoever loads it says whom to trust, and gets the weights as views of the mapped file.
    store = TrustStore.trusting([signer.public_key], packages=["acme/*"])
    loaded = Package.load(folder / "net.torshpkg", trust=store, observers=[log])
    tensors = loaded.get_resource("weights").tensors
    assert np.array_equal(tensors["0.weight"], model[0].weight.detach().numpy())

    # 5. Other weights of the same model, by name.
    running.load_weights(loaded.get_resource("weights"))
    assert torch.allclose(running(x), model(x), atol=1e-5)
    print(f"{log.verify().count} audit records, intact")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
