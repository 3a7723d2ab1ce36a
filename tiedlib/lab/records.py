"""Records of runs: one JSON file a run, with all that is needed to repeat it and to print a table from it.

Fields: format, config, data (sha256 of each file read), versions, machine, started and finished (UTC), seconds (wall),
parameters, peak_memory_mb, weights_sha256, epochs (with the gradient's mean norm and the share of clipped steps), and what the
run measures: of a language model train_/valid_/test_perplexity of the final model (without dropout) and embeddings (scores that
need the weights), of a variational auto-encoder what `tiedlib.lab.variational` lists. Another's record is never overwritten.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tiedlib
from tiedlib.lab.checkpoints import set_aside, write_atomic
from tiedlib.lab.configuration import completed, differences
from tiedlib.lab.data import Dataset
from tiedlib.lab.resources import resource

__all__ = [
    "FORMAT",
    "DamagedRecordError",
    "RecordError",
    "load_record",
    "load_records",
    "make_record",
    "save_record",
    "table",
    "to_html",
    "to_markdown",
]

FORMAT = 1


class RecordError(RuntimeError):
    """A record that is missing, damaged, or of another configuration; the message names the file."""


class DamagedRecordError(RecordError):
    """A file that is no record."""


_NEGATIVE = re.compile(r"(?<![\w.])-(?=\d)")  # a minus, not a hyphen or an exponent


def make_record(
    config: Mapping[str, Any],
    dataset: Dataset,
    model: nn.Module,
    results: Mapping[str, Any],
    *,
    started: str,
    seconds: float,
) -> dict[str, Any]:
    """The record of a run that ends now: `results` (figures, epochs, …) and what describes the run."""
    return {
        "format": FORMAT,
        "config": dict(config),
        **results,
        "started": started,
        "finished": now(),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
        "data": dict(dataset.sha256),
        "data_partial": dataset.partial,
        "weights_sha256": weights_sha256(model.state_dict()),
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


def load_record(name: str) -> dict[str, Any]:
    """The recorded run `name`, such as "tying-slice/tied-s0". Raises RecordError where it is missing or damaged."""
    try:
        path = resource(f"results/{name}.json")
    except (FileNotFoundError, ValueError) as error:
        raise RecordError(f"no recorded run is named {name!r} ({error})") from None
    return read(path)


def load_records(prefix: str) -> dict[str, dict[str, Any]]:
    """All recorded runs whose names begin with `prefix`, by name, in alphabetical order; empty where there is none."""
    try:
        root = resource("results")
    except FileNotFoundError:
        return {}
    found = {path.relative_to(root).with_suffix("").as_posix(): path for path in sorted(root.rglob("*.json"))}
    return {
        name: read(path)
        for name, path in found.items()
        if name.startswith(prefix) and not path.stem.endswith(("embeddings", ".partial"))
    }


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
    return {**content, "config": completed(content["config"])}


def table(
    records: Iterable[Mapping[str, Any]],
    by: Sequence[str],
    *,
    figures: Sequence[str] = ("train_perplexity", "valid_perplexity", "test_perplexity"),
    paper: Mapping[tuple[Any, ...], Mapping[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """One row for each setting of the configuration's fields `by`, in order of appearance; figures over the seeds.

    A row has the fields of `by`, n (records), and for each figure its mean, `<figure>_sd` (sample standard deviation,
    None for one record) and, with `paper` (settings in the order of `by`), `<figure>_paper`. Records that lack a figure
    do not count for it. Raises ValueError for a field that the configuration lacks.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for record in records:
        config = completed(record["config"])
        if missing := [name for name in by if name not in config]:
            raise ValueError(f"by holds {missing[0]!r}; it must be a field of the configuration")
        groups.setdefault(tuple(config[name] for name in by), []).append(record)
    rows = []
    for setting, group in groups.items():
        row: dict[str, Any] = {**dict(zip(by, setting, strict=True)), "n": len(group)}
        for figure in figures:
            values = [r[figure] for r in group if r.get(figure) is not None]
            row[figure] = statistics.fmean(values) if values else None
            row[f"{figure}_sd"] = statistics.stdev(values) if len(values) > 1 else None
            if paper is not None:
                row[f"{figure}_paper"] = paper.get(setting, {}).get(figure)
        rows.append(row)
    return rows


def _cells(rows: Sequence[Mapping[str, Any]], digits: int) -> tuple[list[str], list[list[str]]]:
    keys = [k for k in (rows[0] if rows else {}) if not k.endswith("_sd")]
    heads = [k.replace("_paper", " (paper)").replace("_", " ") for k in keys]

    def cell(row: Mapping[str, Any], key: str) -> str:
        value, spread = row[key], row.get(f"{key}_sd")
        if value is None:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        text = (
            f"{value:.{digits}f}"
            if (isinstance(value, float) and f"{key}_sd" in row) or key.endswith("_paper")
            else f"{value}"
        )
        return text if spread is None else f"{text} ± {spread:.{digits}f}"

    return heads, [[cell(row, key) for key in keys] for row in rows]


def to_markdown(rows: Sequence[Mapping[str, Any]], digits: int = 1) -> str:
    """Rows of `table` as a Markdown table, mean ± standard deviation over the seeds."""
    heads, lines = _cells(rows, digits)
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines])


def to_html(rows: Sequence[Mapping[str, Any]], caption: str, digits: int = 1) -> str:
    """Rows of `table` as an HTML table with a caption, for a page."""
    return html_table(caption, *_cells(rows, digits))


def html_table(caption: str, heads: Sequence[Any], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a page: its caption, the head of each column, and rows whose first cell names the row. A cell's text is
    str of it, with the sign − before a negative number. Raises ValueError for a row of another length or an empty head."""
    text = [[_NEGATIVE.sub("−", html.escape(str(cell))) for cell in row] for row in rows]
    for row in text:
        if len(row) != len(heads):
            raise ValueError(f"rows holds one of {len(row)} cells, {row}; heads has {len(heads)}")
    if not all(str(head).strip() for head in heads):
        raise ValueError(f"heads is {list(heads)}; every column needs a name that can be read out")
    head = "".join(f'<th scope="col">{html.escape(str(one))}</th>' for one in heads)
    lines = ("".join(f"<td>{cell}</td>" for cell in row[1:]) for row in text)
    body = "".join(f'<tr><th scope="row">{row[0]}</th>{line}</tr>' for row, line in zip(text, lines, strict=True))
    return (
        f'<div class="tl-scroll"><table><caption>{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


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


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: null in their place."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(v) for key, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value
