"""lit's configuration: `lit tests/filecheck`; how tests are run is in `in_process.py`."""
# ruff: noqa: F821  (lit defines `config` and `lit_config`)

import os
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from in_process import InProcess  # noqa: E402

config.name = "torsh"
config.suffixes = [".mlir"]
config.test_source_root = str(HERE)
config.test_exec_root = os.environ.get("TORSH_LIT_OUTPUT", str(ROOT / ".cache" / "lit"))
config.test_format = InProcess(lit_config.params.get("external", ""))
tools = str(Path(sys.executable).parent)
config.environment["PATH"] = tools + os.pathsep + os.environ.get("PATH", "")
config.environment["PYTHONPATH"] = str(ROOT)
for tool in ("torsh-opt", "torsh"):
    if shutil.which(tool, path=tools) is None:  # a checkout that is not installed
        module = f"tools.{tool.replace('-', '_')}"
        config.substitutions.append((rf"\b{tool}(?= )", f"{sys.executable} -m {module}"))
