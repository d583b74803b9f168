#!/usr/bin/env python3
"""PyTorch's own examples of what torch.export takes (`torch._export.db.examples`), compiled.

The target defines `compile_torch(ep) -> callable(*args, **kwargs)`, as for `run_torch_ops.py`, whose
statuses these are: pass; fail; unsupported; error_compile; error_run; timeout; crash; and, not
counted, export_error (torch itself does not export the example).

    run_export_examples.py --target target.py --json out.json [--include RE]
"""

from __future__ import annotations

import argparse
import collections
import copy
import json
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from run_torch_ops import Proc, load_target, message, unsupported  # noqa: E402


def examples() -> dict[str, Any]:
    """The cases by name, those that torch says it does not support as well."""
    from torch._export.db.examples import all_examples

    return dict(sorted(all_examples().items()))


def exported(case: Any) -> Any:
    import torch

    given = copy.deepcopy((case.example_args, case.example_kwargs))
    with torch.no_grad():
        return torch.export.export(
            case.model, given[0], given[1], dynamic_shapes=case.dynamic_shapes, strict=False
        )


def judged(case: Any, compile_torch: Any) -> dict[str, str]:
    """The status of one example: the compiled program beside eager, on the example's inputs."""
    import torch
    from torch.utils import _pytree as pytree

    try:
        program = exported(case)
        args, kwargs = copy.deepcopy((case.example_args, case.example_kwargs))
        expected = pytree.tree_leaves(program.module()(*args, **kwargs))
    except Exception as error:
        return {"status": "export_error", "msg": message(error)}
    try:
        compiled = compile_torch(program)
    except Exception as error:
        return {"status": "unsupported" if unsupported(error) else "error_compile", "msg": message(error)}
    try:
        args, kwargs = copy.deepcopy((case.example_args, case.example_kwargs))
        found = pytree.tree_leaves(compiled(*args, **kwargs))
    except Exception as error:
        return {"status": "unsupported" if unsupported(error) else "error_run", "msg": message(error)}
    try:
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    except AssertionError as error:
        return {"status": "fail", "msg": message(error)}
    return {"status": "pass", "msg": ""}


def worker(target: str) -> None:
    """Answer one line of JSON for each name."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.filterwarnings("ignore")
    import logging

    logging.disable(logging.CRITICAL)
    cases, compile_torch = examples(), load_target(target).compile_torch
    print(json.dumps({"ready": list(cases)}), file=out, flush=True)
    for line in sys.stdin:
        found = judged(cases[list(cases)[int(line)]], compile_torch)
        print(json.dumps({"samples": [found]}), file=out, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", required=True)
    parser.add_argument("--json")
    parser.add_argument("--include")
    parser.add_argument("--timeout", type=float, default=180)
    parser.add_argument("--worker", action="store_true")
    given = parser.parse_args()
    if given.worker:
        return worker(given.target)
    process = Proc([sys.executable, os.path.abspath(__file__), "--worker", "--target", given.target])
    results: dict[str, Any] = {}
    for number, name in enumerate(process.names):
        if not given.include or re.search(given.include, name):
            results[name] = process.ask(number, given.timeout)["samples"][0]
            print(f"{results[name]['status']:14s} {name} {results[name]['msg'][:150]}", flush=True)
    process.kill()
    print(dict(collections.Counter(row["status"] for row in results.values())))
    if given.json:
        Path(given.json).write_text(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
