"""`tiedlib sweep`: seeds × settings at the same time, and a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from tiedlib.lab.commands.settings import config_flags, given

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tiedlib sweep`."""
    config_flags(parser, without=("seed",))
    what = "folder in which each run has a folder; with --ray-address, it must be on storage that all workers share"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)
    parser.add_argument("--seeds", default="0", metavar="LIST", help="seeds, such as 0-4 or 0,3,7 (default: 0)")
    what = "values of a flag, such as lr=0.5,1,2 or tied=yes,no; given several times, every combination is tried"
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUES", help=what)
    parser.add_argument("--jobs", type=int, metavar="INT", help="number of runs at a time (default: one for each core)")
    what = "address of a Ray cluster that makes the runs: auto, or HOST:PORT of its head"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=what)
    parser.set_defaults(do=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from tiedlib.lab.experiments import sweep

    pairs = [sweep.varied(text) for text in options.vary]
    vary = dict(pairs)
    if len(vary) < len(pairs):
        raise ValueError(f"vary is given twice for one of {', '.join(vary)}; write all its values together")
    runs = sweep.plan(sweep.seed_list(options.seeds), vary, preset=options.preset, **given(options))
    try:
        found, good = sweep.sweep(
            runs,
            options.out,
            jobs=options.jobs,
            ray_address=options.ray_address,
            checkpoint_seconds=options.checkpoint_seconds,
            report=lambda line: print(line, flush=True),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the same command goes on with what is missing in {options.out}") from None
    print(f"\n{sweep.table(found, list(vary))}" if found else "no run has a record")
    if len(found) < len(runs):
        print(f"{len(runs) - len(found)} of {len(runs)} runs have no record; the same command goes on with them")
    return 0 if good else 1
