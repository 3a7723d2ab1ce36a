"""`tiedlib reproduce`: the recorded runs of an experiment, made again."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tiedlib reproduce`."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the experiment (none: all are listed)")
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR", help="folder for checkpoints (default: runs)"
    )
    what = "folder for records (default: data/results of a checkout, otherwise OUT/results)"
    parser.add_argument("--results", type=Path, metavar="DIR", help=what)
    parser.add_argument(
        "--only",
        default="*",
        metavar="GLOB",
        help="make only the runs whose names match, such as 'tied-*'",
    )
    parser.add_argument("--seeds", type=int, metavar="INT", help="make only this number of seeds, the first ones")
    parser.add_argument("--jobs", type=int, default=1, metavar="INT", help="number of runs at a time (default: 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what computes (default: cpu)")
    what = "stop each run after this number of updates, with a note of how far it came; the same command goes on"
    parser.add_argument("--steps", type=int, metavar="INT", help=what)
    parser.set_defaults(do=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from tiedlib.lab.experiments.reproduce import EXPERIMENTS, reproduce, results_folder

    if options.name is None:
        for name, experiment in EXPERIMENTS.items():
            cost = f"{len(experiment.runs)} runs, {experiment.hours} hours on two cores"
            print(f"{name:21} {cost}: {experiment.description}")
        return 0
    results = options.results or results_folder() or options.out / "results"
    good = reproduce(
        options.name,
        options.out,
        results,
        only=options.only,
        seeds=options.seeds,
        jobs=options.jobs,
        device=options.device,
        steps=options.steps,
        report=lambda line: print(line, flush=True),
    )
    return 0 if good else 1
