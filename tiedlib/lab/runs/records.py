"""Records of runs: one JSON file a run, with all that is needed to repeat it and to print a table from it.

Fields: format, kind (of the run), seed, config, data (sha256 of each file read), source (the library's files that computed
it), versions, machine, started and finished (UTC), seconds (wall), parameters, peak_memory_mb, weights_sha256, epochs, and
what the kind of run measures; with an experiment's run also experiment and variant. The record of another configuration is
never overwritten.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from tiedlib.lab.data import Dataset
from tiedlib.lab.files import set_aside, write_atomic
from tiedlib.lab.runs.configuration import RunConfig, completed, differences, kind_named
from tiedlib.lab.runs.provenance import machine, now, peak_memory_mb, source, versions, weights_sha256

__all__ = ["FORMAT", "DamagedRecordError", "RecordError", "make_record", "read", "refuse_other", "save_record"]

FORMAT = 1


class RecordError(RuntimeError):
    """A record that is missing, damaged, or of another configuration; the message names the file."""


class DamagedRecordError(RecordError):
    """A file that is no record."""


def make_record(
    config: RunConfig, dataset: Dataset, model: nn.Module, results: Mapping[str, Any], *, started: str, seconds: float
) -> dict[str, Any]:
    """The record of a run that ends now: `results` (figures, epochs, …) and what describes the run."""
    return {
        "format": FORMAT,
        "kind": config.kind,
        "seed": config.seed,
        "config": dataclasses.asdict(config),
        **results,
        "started": started,
        "finished": now(),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "data": dict(dataset.sha256),
        "data_partial": dataset.partial,
        "weights_sha256": weights_sha256(model.state_dict()),
        "source": source(config.run.partition(":")[0]),
        "versions": versions(),
        "machine": machine(),
    }


def save_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, whole or not at all. Raises RecordError where `path` holds one of another configuration, or a
    damaged one; CheckpointError where the disk refuses."""
    refuse_other(path, record["config"])
    text = json.dumps(_finite(record), indent=1, allow_nan=False, ensure_ascii=False)
    write_atomic(path, (text + "\n").encode())


def refuse_other(path: Path, config: Any) -> None:
    """Raise RecordError where `path` holds anything but a record of this configuration, a dataclass or all its fields."""
    if path.exists() and (differ := differences(read(path)["config"], config)):
        raise RecordError(f"{path} is the record of another configuration: {', '.join(differ)}; it is left as it is")


def set_aside_if_damaged(path: Path, config: Any) -> str | None:
    """As `refuse_other`; but a damaged record gets another name, and what happened is returned."""
    try:
        refuse_other(path, config)
    except DamagedRecordError:
        return f"{path} is damaged; it is now {set_aside(path).name}"
    return None


def read(path: Path) -> dict[str, Any]:
    """The record in the file `path`, its configuration with every field. Raises RecordError where it cannot be read,
    DamagedRecordError where it is no record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordError(f"{path} could not be read: {error.strerror}") from error
    except ValueError as error:
        raise DamagedRecordError(f"{path} is damaged ({error}); move it away or run it again") from error
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise DamagedRecordError(f"{path} is damaged: it is no record of a run; move it away or run it again")
    if content.get("format") != FORMAT:
        raise RecordError(f"{path} has format {content.get('format')!r}, this program reads {FORMAT}")
    return {**content, "config": completed(content["config"], kind_named(content.get("kind")))}


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null in their place."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
