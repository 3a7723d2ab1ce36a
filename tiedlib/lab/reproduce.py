"""Experiments of many runs, by name: `tiedlib reproduce NAME` makes the records that the chapters print.

An experiment is a list of run names and configurations. A run whose record is there is left alone, one that was stopped
goes on from its checkpoint, so the same command can be given again at any time.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlib.lab import checkpoints, records
from tiedlib.lab.configuration import TrainConfig, VAEConfig
from tiedlib.lab.embeddings import compare_embeddings
from tiedlib.lab.runs import Config, Task, by_processes, make

__all__ = ["EXPERIMENTS", "Experiment", "reproduce", "results_folder"]


@dataclass(frozen=True)
class Experiment:
    """Runs in the order in which they are made: what is needed most comes first. prefix: of the records' names."""

    description: str
    hours: str  # on two cores
    prefix: str
    runs: Mapping[str, Config]

    def chosen(self, only: str = "*", seeds: int | None = None) -> dict[str, Config]:
        """The runs whose name matches the pattern `only`, of the first `seeds` seeds."""
        return {
            name: config
            for name, config in self.runs.items()
            if fnmatch.fnmatchcase(name, only) and (seeds is None or config.seed < seeds)
        }


def _seeds(variants: Mapping[str, Any], seeds: Iterable[int]) -> dict[str, Any]:
    """Seed after seed, so that a part of the runs already has every variant."""
    return {f"{name}-s{s}": dataclasses.replace(c, seed=s) for s in seeds for name, c in variants.items()}


def _tying_slice() -> Experiment:
    """100,000 tokens of PTB and 2,000 words: small enough for the chapter itself, large enough that tying shows."""
    untied = TrainConfig(
        corpus="ptb", tokens=100_000, vocabulary_size=2000, dim=64, hidden=64, layers=1, lr=1.0, clip=5.0, batch=20,
        unroll=20, epochs=4, constant_epochs=2, decay=0.5, threads=1,
    )  # fmt: skip
    new = dataclasses.replace
    tied = new(untied, tied=True)
    pr = {f"{name}-pr": new(c, projection=True, penalty="code") for name, c in (("untied", untied), ("tied", tied))}

    def pair(prefix: str, **change: Any) -> dict[str, TrainConfig]:
        return {f"{prefix}-untied": new(untied, **change), f"{prefix}-tied": new(tied, **change)}

    core = {"untied": untied, "tied": tied, **pr, **pair("adam", optimizer="adam", lr=0.003)}
    controls = {
        "tied-p": new(tied, projection=True),
        "untied-frozen": new(untied, freeze_input=True),
        "untied-small": new(untied, projection=True, dim=32),  # about as many parameters as tied
        "tied-nobias": new(tied, output_bias=False),
        "tied-pr-bias": new(pr["tied-pr"], projection_bias=True),
        **pair("adam-0.01", optimizer="adam", lr=0.01),  # Adam's best rate here
    }
    others = {f"tied-pr-{f}": new(tied, projection=True, penalty=f) for f in ("frobenius", "spectral", "squared")}
    for lr in (0.5, 2.0):
        others |= pair(f"lr-{lr:g}", lr=lr)
    others |= pair("adam-0.001", optimizer="adam", lr=0.001)
    for alpha, tau in ((1.0, 1.0), (10.0, 20.0)):  # the second is the paper's temperature, alpha = tau / 2
        others |= pair(f"augmented-{tau:g}", augmented_alpha=alpha, augmented_tau=tau)
    runs = {**_seeds(core, range(5)), **_seeds(controls, range(5)), **_seeds(others, range(3))}
    return Experiment(
        "tying on a slice of the Penn Treebank: variants, controls, optimizers", "1", "tying-slice/", runs
    )


def _press_wolf_small() -> Experiment:
    """Table 6 of Press & Wolf: the small model on all of PTB; P without and with a bias, as in their code."""
    new = dataclasses.replace
    untied = TrainConfig.from_preset("small", corpus="ptb")
    tied = new(untied, tied=True)
    variants = {"untied": untied, "tied": tied}
    for name, config in (("untied", untied), ("tied", tied)):
        for penalty in ("code", "frobenius"):
            for bias in (False, True):
                end = "-bias" if bias else ""
                variants[f"{name}-pr-{penalty}{end}"] = new(
                    config, projection=True, projection_bias=bias, penalty=penalty
                )
    runs = _seeds(variants, range(3))
    return Experiment(
        "Press & Wolf 2016, table 6: the small model on the Penn Treebank", "6 to 15", "press-wolf-small-", runs
    )


def _vae_mnist() -> Experiment:
    """784-400-20 as in the example of PyTorch's makers, on bits (drawn once, or anew each epoch) and on grey pixels."""
    static = VAEConfig(threads=1)
    new = dataclasses.replace
    grey = new(static, pixels="grey", held_out=0, epochs=10)  # that example's ten epochs over all training images
    variants = {"static": static, "dynamic": new(static, pixels="dynamic"), "grey": grey}
    runs = {"plane-s0": new(static, latent=2), **_seeds(variants, range(3))}
    return Experiment("a variational auto-encoder on MNIST: bits, grey pixels, a latent plane", "1", "vae-mnist/", runs)


EXPERIMENTS: dict[str, Experiment] = {
    "tying-slice": _tying_slice(),
    "press-wolf-small": _press_wolf_small(),
    "vae-mnist": _vae_mnist(),
}


def results_folder() -> Path | None:
    """The folder of recorded runs of a checkout; None where tiedlib is installed (its files stay)."""
    root = Path(__file__).resolve().parents[2]
    return root / "data" / "results" if (root / "pyproject.toml").exists() and (root / "data").is_dir() else None


def reproduce(
    name: str,
    out: Path,
    results: Path,
    *,
    only: str = "*",
    seeds: int | None = None,
    jobs: int = 1,
    report: Callable[[str], None] = print,
) -> bool:
    """Make the missing records of experiment `name`: checkpoints below `out`, records in `results`, `jobs` at a time.

    report gets a line for each epoch and each run. True where all went well; a run that fails is
    reported, and the others go on. Raises ValueError for an unknown name or a pattern that matches no run.
    """
    if name not in EXPERIMENTS:
        raise ValueError(f"name is {name!r}; it must be one of {', '.join(EXPERIMENTS)}")
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be at least 1")
    experiment = EXPERIMENTS[name]
    chosen = experiment.chosen(only, seeds)
    if not chosen:
        some = next(iter(experiment.runs))
        raise ValueError(
            f"only is {only!r}, seeds {seeds}; they must match one of {len(experiment.runs)} runs, such as {some}"
        )
    tasks = {
        run: Task(config, out / name / run, results / f"{experiment.prefix}{run}.json")
        for run, config in chosen.items()
    }
    good = make(name, tasks, lambda missing: by_processes(missing, jobs, report), report)
    _write_embeddings(experiment, out / name, results)
    return good


def _write_embeddings(experiment: Experiment, out: Path, results: Path) -> None:
    """Compare the embeddings whose runs are in `out`; a comparison over more seeds, made elsewhere, stays."""
    if not all(isinstance(config, TrainConfig) for config in experiment.runs.values()):
        return  # no model of text has words to compare
    found, path = compare_embeddings(out), results / f"{experiment.prefix}embeddings.json"
    if found["seeds"] and not (path.exists() and len(_seeds_compared(path)) > len(found["seeds"])):
        checkpoints.write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())


def _seeds_compared(path: Path) -> list[str]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["seeds"])
    except (ValueError, KeyError, TypeError) as error:
        raise records.RecordError(f"{path} is damaged ({error}); move it away to make it again") from error
