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
from tiedlib.lab.starts import StartConfig

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
        "tying on a slice of the Penn Treebank: variants, controls, optimizers", "1.5", "tying-slice/", runs
    )


def _press_wolf_small() -> Experiment:
    """Table 6 of Press & Wolf: the small model on all of PTB; P without and with a bias, as in their code. The last variants
    ask what the bias does where there is no penalty, and what a tighter clip does, which leaves it a calm start: for all
    epochs, or for those at full rate alone. "decay-early" lowers the rate after four epochs, as Zaremba et al. (2014) write of
    the small model whose figure is the table's first row; their code, as the authors', keeps it for five."""
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
    for end in ("", "-bias"):
        variants[f"tied-p{end}"] = new(variants[f"tied-pr-code{end}"], penalty="none")
        variants[f"tied-pr-code{end}-clip-1"] = new(variants[f"tied-pr-code{end}"], clip=1.0)
    variants["tied-clip-1"] = new(tied, clip=1.0)
    for name, clip in (("tied-pr-code", 1), ("tied", 1), ("tied-pr-code", 2)):
        variants[f"{name}-early-clip-{clip}"] = new(variants[name], early_clip=float(clip))
    variants["untied-decay-early"] = new(untied, constant_epochs=untied.constant_epochs - 1)
    runs = _seeds(variants, range(3))
    return Experiment(
        "Press & Wolf 2016, table 6: the small model on the Penn Treebank", "20 to 58", "press-wolf-small-", runs
    )


def _press_wolf_start() -> Experiment:
    """The first steps of the small model, and what the bias of P has to do with them: one factor at a time."""
    new = dataclasses.replace
    # one thread each, so that the rounding does not depend on the machine's cores
    untied = StartConfig.from_preset("small", corpus="ptb", threads=1)
    tied = new(untied, tied=True)

    def project(config: TrainConfig, penalty: str, bias: bool) -> Any:
        return new(config, projection=True, projection_bias=bias, penalty=penalty)

    wild = project(tied, "code", True)
    variants = {"tied": tied, "tied-p-code": project(tied, "code", False), "tied-p-code-bias": wild}
    variants |= {f"offset-lr-{factor:g}": new(wild, offset_lr=factor) for factor in (0.0, 0.05, 0.25)}
    variants |= {
        "untied": untied, "untied-p-code": project(untied, "code", False),
        "untied-p-code-bias": project(untied, "code", True),
        "offset-zero": new(wild, offset_zero=True), "offset-penalty": new(wild, offset_penalty=1.0),
        "identity-bias": new(wild, identity=True, penalty="none"), "clip-1": new(wild, clip=1.0),
    }  # fmt: skip
    variants["tied-p-frobenius-bias"] = project(tied, "frobenius", True)
    return Experiment(
        "the first steps of the small model: the bias of P, one factor at a time", "0.5 to 1", "press-wolf-start/",
        _seeds(variants, range(3)),
    )  # fmt: skip


def _press_wolf_wikitext2() -> Experiment:
    """The small model on WikiText-2, for which the paper prints nothing; sizes and schedule stay those of the Penn Treebank."""
    untied = TrainConfig.from_preset("small", corpus="wikitext-2")
    variants = {"untied": untied, "tied": dataclasses.replace(untied, tied=True)}
    return Experiment(
        "the small model of Press & Wolf on WikiText-2", "15 to 30", "press-wolf-wikitext2-", _seeds(variants, range(3))
    )


def _press_wolf_large() -> Experiment:
    """Table 5 of Press & Wolf: Large and Large + WT. Drop probability 0.65 and 55 epochs are in the paper; the start in ±0.04,
    windows of 35, clip 10 and the schedule are in the code it rests on, the preset "large". The last runs multiply in bfloat16
    (torch's autocast; weights, sums and the state of SGD stay float32) and say so in their name and in their record."""
    new = dataclasses.replace
    untied = TrainConfig.from_preset("large", corpus="ptb")
    variants = {"untied": untied, "tied": new(untied, tied=True)}
    mixed = {f"{name}-bfloat16": new(config, precision="bfloat16") for name, config in variants.items()}
    return Experiment(
        "Press & Wolf 2016, table 5: the large model on the Penn Treebank (a GPU: --device cuda)", "600", "press-wolf-large-",
        {**_seeds(variants, range(3)), **_seeds(mixed, range(1))},
    )  # fmt: skip


def _vae_mnist() -> Experiment:
    """784-400-20 as in the example of PyTorch's makers, on bits (drawn once, or anew each epoch) and on grey pixels."""
    static = VAEConfig(threads=1)
    new = dataclasses.replace
    grey = new(static, pixels="grey", held_out=0, epochs=10)  # that example's ten epochs over all training images
    variants = {"static": static, "dynamic": new(static, pixels="dynamic"), "grey": grey}
    runs = {"plane-s0": new(static, latent=2), **_seeds(variants, range(3))}
    return Experiment(
        "a variational auto-encoder on MNIST: bits, grey pixels, a latent plane", "2.5", "vae-mnist/", runs
    )


EXPERIMENTS: dict[str, Experiment] = {
    "tying-slice": _tying_slice(),
    "press-wolf-start": _press_wolf_start(),
    "press-wolf-small": _press_wolf_small(),
    "press-wolf-wikitext2": _press_wolf_wikitext2(),
    "press-wolf-large": _press_wolf_large(),
    "vae-mnist": _vae_mnist(),
}


COMPARED = ("seeds", "baselines", "weights", "weights_sha256")  # what a comparison of embeddings says, run by run


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
    device: str = "cpu",
    steps: int | None = None,
    report: Callable[[str], None] = print,
) -> bool:
    """Make the missing records of experiment `name`: checkpoints below `out`, records in `results`, `jobs` at a time, on
    `device` "cpu" or "cuda".

    With `steps`, each run makes so many updates more, and one that is then not at its end leaves a partial record (see
    `tiedlib.lab.partial`). report gets a line for each epoch and each run. True where all went well; a run that fails or is
    stopped is reported, and the others go on. Raises ValueError for an unknown name or a pattern that matches no run, and for
    a device or steps where the runs know none.
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
    more = {key: value for key, value in (("device", device), ("steps", steps)) if value not in ("cpu", None)}
    if more and not all(type(config) is TrainConfig for config in chosen.values()):
        raise ValueError(
            f"{', '.join(f'{k} is {v!r}' for k, v in more.items())}; the runs of {name} know no such thing"
        )
    good = make(name, tasks, lambda missing: by_processes(missing, jobs, report, **more), report)
    _write_embeddings(experiment, out / name, results)
    return good


def _write_embeddings(experiment: Experiment, out: Path, results: Path) -> None:
    """Compare the embeddings whose runs are in `out`; what was compared before, of runs that are not there now, stays."""
    if not all(isinstance(config, TrainConfig) for config in experiment.runs.values()):
        return  # no model of text has words to compare
    found, path = compare_embeddings(out), results / f"{experiment.prefix}embeddings.json"
    if not found["weights"]:
        return
    before = _compared(path)
    parts = {part: {**before.get(part, {}), **found[part]} for part in COMPARED}
    found |= {part: dict(sorted(rows.items())) for part, rows in parts.items()}
    checkpoints.write_atomic(path, (json.dumps(found, indent=1) + "\n").encode())


def _compared(path: Path) -> dict[str, dict[str, Any]]:
    """What an earlier comparison found, part by part."""
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return {part: dict(saved[part]) for part in COMPARED}
    except (ValueError, KeyError, TypeError) as error:
        raise records.RecordError(f"{path} is damaged ({error}); move it away to make it again") from error
