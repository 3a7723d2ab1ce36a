"""Runs as data: the recorded runs of an experiment by variant and seed, and what tables and sentences make of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tiedlib.lab.resources import resource
from tiedlib.lab.runs.configuration import completed
from tiedlib.lab.runs.records import RecordError, read

__all__ = [
    "Spread",
    "load_benchmarks",
    "load_runs",
    "origins",
    "paired",
    "run_name",
    "spread",
    "table",
    "to_cells",
    "to_markdown",
]

Runs = Mapping[str, Mapping[int, Mapping[str, Any]]]


def run_name(variant: str, seed: int) -> str:
    """How the file of a run is called: "tied-s0"."""
    return f"{variant}-s{seed}"


def load_runs(experiment: str) -> dict[str, dict[int, dict[str, Any]]]:
    """The recorded runs of an experiment: variant → seed → record, both in order; empty where there is none. Raises RecordError for
    a damaged record, and for one that names no variant or two of one variant and seed."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, record in _records(experiment).items():
        if record.get("experiment") != experiment or not {"variant", "seed"} <= record.keys():
            raise RecordError(f"{name} does not say that it is a run of {experiment!r}, and of which variant and seed")
        seeds = found.setdefault(record["variant"], {})
        if record["seed"] in seeds:
            raise RecordError(f"{name} is the second record of {record['variant']!r} with seed {record['seed']}")
        seeds[record["seed"]] = record
    return {variant: dict(sorted(found[variant].items())) for variant in sorted(found)}


def load_benchmarks(name: str) -> list[dict[str, Any]]:
    """What a benchmark recorded, one record for each processor; empty where there is none."""
    return list(_records(name).values())


def _records(folder: str) -> dict[str, dict[str, Any]]:
    try:
        root = resource(f"results/{folder}")
    except FileNotFoundError:
        return {}
    files = [path for path in sorted(root.glob("*.json")) if not path.stem.endswith(("embeddings", ".unfinished"))]
    return {f"results/{folder}/{path.name}": read(path) for path in files}


class Spread(NamedTuple):
    """A figure over seeds. sd: the sample standard deviation, None for one value. Formatted as "101.3 ± 0.4"."""

    mean: float
    sd: float | None
    values: tuple[float, ...]

    def __format__(self, spec: str) -> str:
        text = format(self.mean, spec)
        return text if self.sd is None else f"{text} ± {format(self.sd, spec.lstrip('+'))}"


def spread(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation. Raises ValueError where there is no value."""
    kept = tuple(values)
    if not kept:
        raise ValueError("values is empty; it must hold a figure of one run or more")
    return Spread(statistics.fmean(kept), statistics.stdev(kept) if len(kept) > 1 else None, kept)


def paired(runs: Runs, variant: str, other: str, figure: str) -> Spread:
    """figure(variant) − figure(other), seed by seed, over the seeds that both have. Raises ValueError for a variant that has no
    run, and where the two have no seed in common."""
    for name, value in (("variant", variant), ("other", other)):
        if value not in runs:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(runs)}")
    seeds = [seed for seed in runs[variant] if seed in runs[other]]
    if not seeds:
        raise ValueError(f"variant is {variant!r}, other {other!r}; they must have a seed in common")
    return spread(runs[variant][seed][figure] - runs[other][seed][figure] for seed in seeds)


def origins(runs: Runs) -> str:
    """A sentence on where the records come from: from how many sources of the library, and from which processors."""
    records = [record for seeds in runs.values() for record in seeds.values()]
    sources = {(record.get("source") or {}).get("sha256") for record in records}
    unnamed = sum((record.get("source") or {}).get("sha256") is None for record in records)
    processors = sorted({record["machine"]["processor"] for record in records})
    parts = [f"{len(records)} run{'s' if len(records) > 1 else ''}"]
    if len(records) > unnamed:
        named = len(sources - {None})
        parts.append(f"made by {'one state' if named == 1 else f'{named} states'} of the library’s source")
    if unnamed:
        who = "all" if unnamed == len(records) > 1 else "" if len(records) == 1 else f"{unnamed} of them"
        parts.append(f"{who} made before records named their source".lstrip())
    many = f"on {len(processors)} processors ({'; '.join(processors)}), whose rounding may differ"
    parts.append(many if len(processors) > 1 else f"on one processor ({processors[0]})")
    return ", ".join(parts) + "."


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


def to_cells(rows: Sequence[Mapping[str, Any]], digits: int = 1) -> tuple[list[str], list[list[str]]]:
    """Heads and cells of rows of `table`, mean ± standard deviation over the seeds."""
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
    heads, lines = to_cells(rows, digits)
    return "\n".join("| " + " | ".join(line) + " |" for line in [heads, ["---"] * len(heads), *lines])
