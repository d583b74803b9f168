"""Converts foreign models to packages, and packages back to foreign files.

torsh-package convert model.safetensors m.torshpkg

Sources, told apart by content: torch (torch.package, torch.save, TorchScript, torch.export),
safetensors, npz, ONNX, Hugging Face and MLflow folders. Targets of packages: .safetensors, .npz,
.pt, and torch.package with --to torch.package. Nothing foreign is executed or unpickled.
"""

import argparse
from pathlib import Path

from torsh_package.convert import FormatConverter, PackageFormat, detect_format, export
from torsh_package.errors import InvalidArgumentError

from . import OK, Output, ProgressBar, add_load_arguments, open_package

FOREIGN = (".onnx", ".pt", ".pth", ".pt2", ".ckpt", ".safetensors", ".npz", ".npy", ".bin", ".pkl")
"""How names of models that are no packages end."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("source", help="file or folder")
    parser.add_argument("target", help="package, or foreign file if the source is a package")
    parser.add_argument("--name", help="package name; made from the file name by default")
    parser.add_argument("--version", default="1.0.0", help="package version")
    parser.add_argument("--root", help="path of the model inside a checkpoint, such as ema")
    parser.add_argument(
        "--embed-original", action=argparse.BooleanOptionalAction, help="keep the source file"
    )
    parser.add_argument(
        "--to",
        choices=("safetensors", "npz", "torch", "torch.package"),
        help="format of the target, if its extension does not say it",
    )
    add_load_arguments(parser)


def check_target(source: str, target: str) -> None:
    """Refuse to write a package where a model is, or under the name of one.

    Raises:
        InvalidArgumentError: The target is the source, or its name ends as a model's does.
    """
    there = Path(target).exists() and Path(target).samefile(source)
    if there or Path(target).suffix in FOREIGN:
        raise InvalidArgumentError(
            f"a package is made of {source}; give it another name, as model.torshpkg", entry=target
        )


def run(args: argparse.Namespace, out: Output) -> int:
    """Converts in the direction that the source says."""
    if detect_format(args.source) is PackageFormat.TORSH:
        with open_package(args.source, args) as package:
            export(package, args.target, args.to)
            out.done({"target": args.target}, f"wrote {args.target}")
        return OK
    converter = FormatConverter(
        name=args.name,
        version=args.version,
        root=args.root,
        embed_original=args.embed_original,
    )
    check_target(args.source, args.target)
    package = converter.convert(Path(args.source))
    with ProgressBar(out, "writing") as progress:
        package.save(args.target, progress=progress)
    report = converter.report
    if report is not None:
        out.done({**report.to_json(), "target": args.target}, report.summary)
    return OK
