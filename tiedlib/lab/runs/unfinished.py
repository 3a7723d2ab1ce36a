"""Unfinished runs: how far a run came that was stopped on purpose after some steps.

The note of it is <record>.unfinished.json, with "unfinished": true, in the folder of the record. It is never read as a result:
`tiedlib.lab.runs.recorded.load_runs` passes them over, and the record of the finished run takes their place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tiedlib.lab import files
from tiedlib.lab.resources import resource
from tiedlib.lab.runs import checkpoints, provenance, records

__all__ = ["load_unfinished", "path_of", "remove", "save"]


def path_of(record: Path) -> Path:
    """The file of the note on the run whose record will be `record`."""
    return record.with_suffix(".unfinished.json")


def save(record: Path, folder: Path, labels: Mapping[str, str] | None = None) -> None:
    """Write what the checkpoint in `folder` says of the run so far. Raises CheckpointError for a checkpoint that cannot be
    read.

    epochs: those that are done, as in a record. epoch, step: the next update, from 0, of steps_in_epoch in each.
    objective: mean loss of this epoch so far (nats a window, any penalty included; None at its start), step_seconds: a
    step's mean time in it. seconds: wall time of all steps, evaluations and saves.
    """
    saved = checkpoints.load(folder / "checkpoint.pt")
    at = saved["progress"]
    content = {
        "format": records.FORMAT,
        "unfinished": True,
        **(labels or {}),
        "config": saved["config"],
        "epochs": saved["epochs"],
        "epoch": at["epoch"],
        "step": at["step"],
        "steps_in_epoch": saved["steps"],
        "objective": float(at["loss_sum"]) / at["weight_sum"] if at["step"] else None,
        "step_seconds": saved["clock"]["stepping"] / at["step"] if at["step"] else None,
        "seconds": saved["clock"]["seconds"],
        "started": saved["clock"]["started"],
        "saved": provenance.now(),
        "peak_memory_mb": provenance.peak_memory_mb(),
        "device": saved["device"],
        "data": saved["data"],
        "versions": provenance.versions(),
        "machine": {**provenance.machine(), "threads": saved["threads"]},
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    files.write_atomic(path_of(record), (text + "\n").encode())


def remove(record: Path) -> None:
    """Remove the note on a run whose record is there."""
    path_of(record).unlink(missing_ok=True)


def load_unfinished(name: str) -> dict[str, Any] | None:
    """What is recorded of the unfinished run `name`, such as "press-wolf-large/tied-s0"; None where there is none. Raises
    RecordError for a damaged one."""
    try:
        found = records.read(resource(f"results/{name}.unfinished.json"))
    except FileNotFoundError:
        return None
    if found.get("unfinished") is not True:
        raise records.RecordError(f"results/{name}.unfinished.json is no note on an unfinished run; move it away")
    return found
