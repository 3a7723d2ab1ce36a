"""`tiedlib reproduce NAME` makes the records that the chapters print: `reproduce`.

An experiment is a list of variants, configurations and seeds. A run whose record is there is left alone, one that was stopped
goes on from its checkpoint, so the same command can be given again at any time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tiedlib import _arguments as arguments
from tiedlib.lab import files
from tiedlib.lab.experiments import tying, vae
from tiedlib.lab.experiments.experiment import Experiment
from tiedlib.lab.language_model.embeddings import compare_embeddings
from tiedlib.lab.runs import records
from tiedlib.lab.runs.many import Task, by_processes, make
from tiedlib.lab.runs.run import run_of

__all__ = ["EXPERIMENTS", "Experiment", "reproduce", "results_folder"]

EXPERIMENTS: dict[str, Experiment] = {
    name: plan() for module in (tying, vae) for name, plan in module.EXPERIMENTS.items()
}
COMPARED = ("seeds", "baselines", "weights", "weights_sha256")  # what a comparison of embeddings says, run by run


def results_folder() -> Path | None:
    """The folder of recorded runs of a checkout; None where tiedlib is installed (its files stay)."""
    root = Path(__file__).resolve().parents[3]
    return root / "data" / "results" if (root / "pyproject.toml").exists() and (root / "data").is_dir() else None


def reproduce(
    name: str,
    out: Path,
    results: Path,
    *,
    only: str = "*",
    seeds: int | None = None,
    jobs: int = 1,
    device: str = "cpu",
    steps: int | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Make the missing records of experiment `name`: checkpoints below `out`, records in `results`, `jobs` at a time, on
    `device` "cpu" or "cuda".

    With `steps`, each run makes this number of further updates. A run that is not at its end then leaves a note of how far it
    came (see `tiedlib.lab.runs.unfinished`). report gets a line for each epoch and each run. True where all went well; a run
    that fails or is stopped is reported, and the others go on. Raises ValueError for an unknown name, for a pattern that
    matches no run, and for a device that the runs do not know.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(EXPERIMENTS)}")
    arguments.whole("jobs", jobs)
    experiment = EXPERIMENTS[name]
    chosen = experiment.chosen(only, seeds)
    if not chosen:
        raise ValueError(
            f"only is {only!r}, seeds {seeds}; they must match one of {len(experiment.planned)} runs, "
            f"such as {experiment.planned[0].name}"
        )
    tasks = {
        one.name: Task(
            one.config,
            out / name / one.name,
            results / name / f"{one.name}.json",
            {"experiment": name, "variant": one.variant},
        )
        for one in chosen
    }
    more = {key: value for key, value in (("device", device), ("steps", steps)) if value not in ("cpu", None)}
    if device != "cpu" and not all(run_of(one.config).parallel for one in chosen):
        raise ValueError(f"device is {device!r}; the runs of {name} are made on the cpu")
    good = make(name, tasks, lambda missing: by_processes(missing, jobs, report, **more), report)
    if experiment.compares_embeddings:
        _write_embeddings(out / name, results / name / "embeddings.json")
    return good


def _write_embeddings(out: Path, path: Path) -> None:
    """Compare the embeddings whose runs are in `out`; what was compared before, of runs that are not there now, stays."""
    found = compare_embeddings(out)
    if not found["weights"]:
        return
    before = _compared(path)
    parts = {part: {**before.get(part, {}), **found[part]} for part in COMPARED}
    found |= {part: dict(sorted(rows.items())) for part, rows in parts.items()}
    files.write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())


def _compared(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier comparison found, part by part."""
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {part: dict(saved[part]) for part in COMPARED}
    except (ValueError, KeyError, TypeError) as error:
        raise records.RecordError(f"{path} is damaged ({error}); move it away to make it again") from error
