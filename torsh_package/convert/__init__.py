"""Foreign model files to packages and back. Nothing foreign is executed, imported or unpickled."""

from .checkpoint import Skipped
from .contents import Contents, PackageFormat, rename_tensors
from .converter import FormatConverter
from .detect import detect_format
from .exporter import (
    export,
    export_checkpoint,
    export_npz,
    export_pytorch_weights,
    export_safetensors,
    export_torch_package,
    module_tensors,
    tensors_of,
)
from .report import ConversionReport

__all__ = [
    "Contents",
    "ConversionReport",
    "FormatConverter",
    "PackageFormat",
    "Skipped",
    "detect_format",
    "export",
    "export_checkpoint",
    "export_npz",
    "export_pytorch_weights",
    "export_safetensors",
    "export_torch_package",
    "module_tensors",
    "rename_tensors",
    "tensors_of",
]
