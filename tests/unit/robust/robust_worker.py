"""Runs mutants in a process of its own: `robust_worker.py ours|theirs [CORPUS]`.

Takes a line of JSON (a plan, the engine, a file for outputs) and answers with one: how it ended.
Outputs are pickled into the file. The engine `ours` is the compiler; `onnxruntime` and `reference`
(`onnx.reference`) are what it is compared with. A process that dies or is silent is the finding.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from robust_mutants import Mutant, Plan, mutant_of

MEMORY = 12 << 30
"""Bytes of address space that a process may take."""

LARGE = 1 << 28
"""Bytes of intermediate values above which a mutant is only compiled."""

NUDGE = 1e-6
"""Relative change of inputs that shows how far a model magnifies rounding."""

Answer = dict[str, Any]


def ours(mutant: Mutant) -> tuple[Answer, list[Any]]:
    """Compile and run; errors of the compiler are an answer, all others are a finding."""
    from torsh_dialect.errors import TorshError
    from torsh_fx.compiler import compile as compile_model

    try:
        compiled = compile_model(mutant.model, cache=False, threads=1)
        if mutant.inputs is None or mutant.is_random() or is_large(compiled, mutant.inputs):
            return {"kind": "compiled"}, []
        results = compiled.run({name: mutant.inputs[name] for name in compiled.input_names})
        return {"kind": "ran"}, list(results)
    except TorshError as error:
        return {"kind": "refused", "error": type(error).__name__, "text": str(error)}, []


def is_large(compiled: Any, inputs: Mapping[str, Any]) -> bool:
    """Whether a run would take more than the machine's patience: mutants ask for any extent."""
    from torsh_fx.memory import memory_plan

    if hasattr(compiled, "host_ops"):
        return False  # host functions run a part of it
    shapes = [np.shape(inputs[name]) for name in compiled.input_names]
    return memory_plan(compiled, shapes).total > LARGE


def onnxruntime(mutant: Mutant) -> tuple[Answer, list[Any]]:
    """Run without its optimisations, then with inputs nudged; it refuses many mutants."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    inputs = dict(mutant.inputs or {})
    try:
        session = ort.InferenceSession(mutant.data(), options, providers=["CPUExecutionProvider"])
        names = {one.name for one in session.get_inputs()}
        given = {name: array for name, array in inputs.items() if name in names}
        results = session.run(None, given)
        nudged = session.run(None, {name: _nudged(array) for name, array in given.items()})
    except Exception as error:  # its errors have no common root
        return {"kind": "refused", "text": str(error)[:300]}, []
    return {"kind": "ran"}, [list(results), list(nudged)]


def reference(mutant: Mutant) -> tuple[Answer, list[Any]]:
    """Run onnx's reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    try:
        results = ReferenceEvaluator(mutant.model).run(None, dict(mutant.inputs or {}))
    except Exception as error:  # its errors have no common root
        return {"kind": "refused", "text": str(error)[:300]}, []
    return {"kind": "ran"}, list(results)


def _nudged(array: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return array
    signs = np.random.default_rng(0).choice([-NUDGE, NUDGE], size=array.shape)
    return (array * (1 + signs)).astype(array.dtype)


ENGINES = {"ours": ours, "onnxruntime": onnxruntime, "reference": reference}


def answer(request: dict[str, Any], corpus: Path | None) -> Answer:
    """What becomes of one mutant; an error that is not of the engine names its kind and place."""
    mutant = mutant_of(Plan.of(request["plan"]), corpus)
    try:
        with np.errstate(all="ignore"):
            found, outputs = ENGINES[request["engine"]](mutant)
    except MemoryError:
        return {"kind": "memory"}
    except Exception as error:
        import traceback

        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return {"kind": "untyped", "text": f"{type(error).__name__} at {where}: {error}"[:400]}
    Path(request["file"]).write_bytes(pickle.dumps(outputs))
    return found


def main() -> None:
    """Answer requests until there are no more."""
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    print(json.dumps({"ready": onnx.__version__}), file=out, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), corpus)), file=out, flush=True)


if __name__ == "__main__":
    main()
