"""What made the numbers of a run: the source, the versions, the machine, the weights."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import tiedlib

__all__ = [
    "closure",
    "imported",
    "machine",
    "now",
    "peak_memory_mb",
    "perplexity",
    "source",
    "versions",
    "weights_sha256",
]


@cache
def source(module: str) -> dict[str, Any]:
    """The source that a run of the class in `module` is computed by: that file and every file of this library that it imports,
    directly or through others. sha256: of all of them, names and contents; modules: how many there are.

    Two records with one sha256 were made by the same text; where it differs, a comment may be all that was changed.
    """
    found = closure([module])
    digest = hashlib.sha256()
    for name, text in sorted(found.items()):
        digest.update(f"{name}\n{text}\n".encode())
    return {"sha256": digest.hexdigest(), "modules": len(found)}


def closure(modules: Iterable[str]) -> dict[str, str]:
    """The text of these modules and of all modules of this library that they import, directly or through others, the packages in
    which they stand among them."""
    waiting, found = list(modules), dict[str, str]()
    while waiting:
        name = waiting.pop()
        path = None if name in found else _file(name)
        if path is None:
            continue
        found[name] = path.read_text(encoding="utf-8")
        waiting += [*imported(found[name]), name.rpartition(".")[0]]
    return found


@cache
def imported(program: str) -> list[str]:
    """The names from this library that a program imports, wherever it does so; some of them are names in a module."""
    names: list[str] = []
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name for name in names if name.split(".")[0] == "tiedlib"]


def _file(name: str) -> Path | None:
    """The file of a module, None for a name that is none. Those of this library are found without being imported."""
    if name.split(".")[0] == "tiedlib":
        base = Path(tiedlib.__file__).parent.joinpath(*name.split(".")[1:])
        return next((p for p in (base / "__init__.py", base.with_suffix(".py")) if p.is_file()), None)
    spec = importlib.util.find_spec(name) if name else None
    return Path(spec.origin) if spec and spec.origin and Path(spec.origin).is_file() else None


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 of all tensors of a state_dict, with their names, in order."""
    digest = hashlib.sha256()
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def perplexity(nats: float) -> float:
    """exp(nats), infinite where that is too large for a float."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Versions of what computes the numbers."""
    import numpy

    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),  # a class of its own otherwise
        "tiedlib": tiedlib.__version__,
        "numpy": numpy.__version__,
    }


def machine() -> dict[str, Any]:
    """The processor, its cores, and the threads that torch uses."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass  # not Linux
    threads = torch.get_num_threads()
    return {"processor": model, "system": platform.system(), "cores": os.cpu_count(), "threads": threads}


def peak_memory_mb() -> float | None:
    """The most memory that this process has held, in MB (10⁶ bytes)."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource as usage

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return usage.getrusage(usage.RUSAGE_SELF).ru_maxrss * unit / 1e6
