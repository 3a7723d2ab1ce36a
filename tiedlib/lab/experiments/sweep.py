"""Seeds × settings: `tiedlib sweep --out runs/x --seeds 0-4 --vary lr=0.5,1,2 --vary tied=yes,no`, and a table at the end.

The runs are made at the same time, by processes of one machine or by the workers of a Ray cluster (`tiedlib.lab.runs.cluster`).
Each has a folder below `out` with its checkpoint and its record; the table is made from the records, so that a run counts
once, however often it was stopped, taken over or asked for again.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiedlib import _arguments as arguments
from tiedlib.lab import files
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.runs import recorded, records
from tiedlib.lab.runs.configuration import RunConfig, differences, options_of
from tiedlib.lab.runs.many import Say, Task, by_processes, make

__all__ = ["plan", "seed_list", "sweep", "table", "varied"]

_FIELDS = {option.name: option for option in options_of(TrainConfig)}
_WORDS = {"yes": True, "true": True, "no": False, "false": False}


def seed_list(text: str) -> list[int]:
    """ "0-2,7" → [0, 1, 2, 7]. Raises ValueError for anything else, and for a seed that comes twice."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise ValueError(f"seeds is {text!r}; it must be like 0-4 or 0,3,7")
        seeds += range(int(match[1]), int(match[2] or match[1]) + 1)
    _refuse_twice("seeds", seeds)
    return seeds


def varied(text: str) -> tuple[str, list[Any]]:
    """ "lr=0.5,1" → ("lr", [0.5, 1.0]): a field of `TrainConfig` and values of its type (yes or no for a bool, none where a
    number may be missing). Raises ValueError for another field or value, and for a value that comes twice."""
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in _FIELDS:
        raise ValueError(f"vary is {text!r}; it must be NAME=VALUE,VALUE with NAME one of {', '.join(_FIELDS)}")
    if name == "seed":
        raise ValueError(f"vary is {text!r}; seeds have an option of their own, such as --seeds 0-4")
    found = [_value(name, value.strip()) for value in values.split(",")]
    _refuse_twice(f"vary {name}", found)
    return name, found


def _value(name: str, text: str) -> Any:
    kind = str(_FIELDS[name].type)
    if kind == "bool":
        if text.lower() not in _WORDS:
            raise ValueError(f"{name} is {text!r}; it must be yes or no")
        return _WORDS[text.lower()]
    if kind.endswith("None") and text.lower() == "none":
        return None
    if kind == "str":
        return text
    try:
        return int(text) if kind.startswith("int") else float(text)
    except ValueError:
        what = "a whole number" if kind.startswith("int") else "a number"
        raise ValueError(f"{name} is {text!r}; it must be {what}") from None


def _refuse_twice(what: str, values: Sequence[Any]) -> None:
    if twice := [value for k, value in enumerate(values) if value in values[:k]]:
        raise ValueError(f"{what} holds {twice[0]} twice; a run counts once")


def plan(
    seeds: Sequence[int], vary: Mapping[str, Sequence[Any]], *, preset: str = "small", **fields: Any
) -> dict[str, TrainConfig]:
    """Every setting with every seed, by the name of its run: `preset`, with `fields`, with one value of each of `vary`.

    Seed after seed, so that a part of the runs already has every setting. Raises ValueError for a setting that cannot be,
    before any run begins, for a field that is both given and varied, and where two settings would have one name.
    """
    if both := [name for name in vary if name in fields]:
        raise ValueError(f"{both[0]} is given and varied; leave one of the two out")
    runs: dict[str, TrainConfig] = {}
    for seed in seeds:
        for values in itertools.product(*vary.values()):
            setting = dict(zip(vary, values, strict=True))
            name = "_".join([*(f"{key}-{_word(value)}" for key, value in setting.items()), f"s{seed}"])
            if name in runs:
                raise ValueError(f"vary holds two settings that would both be called {name}; sweep them apart")
            try:
                runs[name] = TrainConfig.from_preset(preset, **fields, **setting, seed=seed)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
    return runs


def _word(value: Any) -> str:
    """A value as a part of a folder's name: a path's last part, and no sign that a shell or a file system takes amiss."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return re.sub(r"[^\w.+-]+", "-", Path(text).stem if "/" in text or "\\" in text else text)


def sweep(
    runs: Mapping[str, RunConfig],
    out: Path,
    *,
    jobs: int | None = None,
    ray_address: str | None = None,
    checkpoint_seconds: float = 120.0,
    report: Say = print,
) -> tuple[list[dict[str, Any]], bool]:
    """Make the missing runs of a plan below `out`, and give the records that are there, in the plan's order, and whether all
    went well.

    jobs            runs at a time on this machine (None: one for each core, shared by the threads a run is given)
    ray_address     a Ray cluster instead ("auto", or host:port): its workers make the runs, those of one that dies are taken over
                    by others and go on from their checkpoints. `out` must be a folder that all of them see

    Raises ValueError for jobs < 1, or jobs together with ray_address; CheckpointError where another sweep uses `out`.
    """
    if jobs is not None and ray_address is not None:
        raise ValueError(f"jobs is {jobs} with ray_address {ray_address!r}; the cluster decides how many run at a time")
    if jobs is not None:
        arguments.whole("jobs", jobs)
    out = out.absolute()
    tasks = {run: Task(config, out / run, out / run / "record.json") for run, config in runs.items()}
    options = {"checkpoint_seconds": checkpoint_seconds}
    with files.locked(out):
        if ray_address is not None:
            from tiedlib.lab.runs.cluster import by_ray

            good = make(out.name, tasks, lambda missing: by_ray(missing, out, ray_address, report, **options), report)
        else:
            threads = max(config.threads or 1 for config in runs.values())
            at_once = jobs or max(1, (os.cpu_count() or 1) // threads)
            good = make(out.name, tasks, lambda missing: by_processes(missing, at_once, report, **options), report)
        there = [(records.read(task.record), task.config) for task in tasks.values() if task.record.exists()]
    return [record for record, config in there if not differences(record["config"], config)], good


def table(found: Sequence[Mapping[str, Any]], vary: Sequence[str]) -> str:
    """Mean ± standard deviation over the seeds, a row for each setting, as a Markdown table."""
    return recorded.to_markdown(recorded.table(found, by=vary), digits=2)
