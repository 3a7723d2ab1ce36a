"""The command line `tiedlib`: data, train, generate, reproduce, sweep, homework.

Flags of `train` are made from the fields of `TrainConfig`. Whatever goes wrong gives one line on standard error and
exit code 2 (130 after Ctrl-C); nothing is overwritten. torch and the bench are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import tiedlib

__all__ = ["run"]

COMMANDS = {
    "data": "list the data sets, or fetch one",
    "train": "train a language model; the same command again goes on where it stopped",
    "generate": "continue a text with a trained model",
    "reproduce": "make the recorded runs of an experiment",
    "sweep": "seeds × settings at the same time, on this machine or a Ray cluster, and a table",
    "homework": "build a course from its masters; grade a folder of submissions, each in a process with limits",
}


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the list of all flags before them."""

    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        raise SystemExit(2)


def run(arguments: list[str]) -> int:
    """Parse and carry out one command; returns the exit code."""
    try:
        options = _parser(arguments).parse_args(arguments)
        return int(options.do(options))
    except SystemExit as ended:  # argparse has said what there is to say
        return ended.code if isinstance(ended.code, int) else 2
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has gone; Python would complain about it at the end
        return 0
    except ModuleNotFoundError as error:
        return _fail(
            f"the bench is not installed: in a checkout, pip install '.[lab]' (there is no module {error.name})"
        )
    except (ValueError, ArithmeticError, OSError, MemoryError) as error:
        return _fail(str(error) or "out of memory")
    except RuntimeError as error:
        if not _expected(error):
            raise
        if "by peer" in str(error):  # gloo's word for it
            return _fail("another process of this run has ended; the same command goes on from the last checkpoint")
        return _fail(str(error).splitlines()[0])


def _expected(error: RuntimeError) -> bool:
    """Errors that a user can do something about; any other is a mistake of ours and shows where."""
    from tiedlib.lab.data import DataError
    from tiedlib.lab.files import FileError
    from tiedlib.lab.runs.records import RecordError

    return isinstance(error, (FileError, DataError, RecordError)) or any(
        words in str(error) for words in ("can't allocate memory", "closed by peer", "reset by peer")
    )


def _fail(message: str, code: int = 2) -> int:
    which = f" (process {os.environ['RANK']})" if os.environ.get("RANK", "0") != "0" else ""  # below torchrun
    sys.stderr.write(f"tiedlib{which}: {' '.join(message.split())}\n")
    return code


def _parser(arguments: list[str]) -> _Parser:
    """The parser; only the command that is wanted gets its flags, so that `tiedlib --help` imports nothing."""
    what = "Weight tying and the craft of training neural networks."
    parser = _Parser(prog="tiedlib", description=what, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tiedlib {tiedlib.__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    fill: dict[str, Callable[[_Parser], None]] = {
        "data": _data_flags,
        "train": _train_flags,
        "generate": _generate_flags,
        "reproduce": _reproduce_flags,
        "sweep": _sweep_flags,
        "homework": _homework_flags,
    }
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        if name == wanted:
            fill[name](command)
    return parser


def _data_flags(parser: _Parser) -> None:
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all data sets: size, where they are, terms", allow_abbrev=False)
    listing.set_defaults(do=_data_list)
    fetch = actions.add_parser("fetch", help="download a data set", allow_abbrev=False)
    fetch.add_argument("name", metavar="NAME")
    fetch.set_defaults(do=_data_fetch)


def _data_list(options: argparse.Namespace) -> int:
    from tiedlib.lab.data import names

    for entry in names():
        size = f"{entry.megabytes:.1f} MB" if entry.megabytes else "–"
        print(f"{entry.name:16} {size:>9}  {entry.where}\n{'':16} {entry.description}\n{'':16} terms: {entry.terms}")
    return 0


def _data_fetch(options: argparse.Namespace) -> int:
    from tiedlib.lab.data import fetch

    files = fetch(options.name)
    print("\n".join(str(path) for path in files) or f"{options.name} needs no download")
    return 0


def _config_flags(parser: _Parser, without: tuple[str, ...] = ()) -> None:
    """The preset and a flag for each field of `TrainConfig`."""
    from tiedlib.lab.language_model.configuration import TrainConfig
    from tiedlib.lab.runs.configuration import options_of
    from tiedlib.tying import PRESETS

    what = "sizes and schedule of Press & Wolf (default: small)"
    parser.add_argument("--preset", choices=PRESETS, default="small", help=what)
    for option in (option for option in options_of(TrainConfig) if option.name not in without):
        flag, rules, kind = f"--{option.name.replace('_', '-')}", option.metadata, str(option.type)
        common: dict[str, Any] = {"dest": option.name, "default": argparse.SUPPRESS, "help": rules["help"]}
        if kind == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
        elif "choices" in rules:
            parser.add_argument(flag, choices=rules["choices"], **common)
        else:
            number = int if kind.startswith("int") else float if kind.startswith("float") else str
            parser.add_argument(flag, type=number, metavar=kind.split(" ")[0].upper(), **common)
    what = "two matrices, as --no-tied (default)"
    parser.add_argument("--untied", dest="tied", action="store_false", default=argparse.SUPPRESS, help=what)
    what = "between checkpoints within an epoch (default: 120)"
    parser.add_argument("--checkpoint-seconds", type=float, default=120.0, metavar="FLOAT", help=what)


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `TrainConfig` that flags have set."""
    from tiedlib.lab.language_model.configuration import TrainConfig

    if not options.checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint-seconds is {options.checkpoint_seconds}; it must be at least 0")
    names = {option.name for option in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in vars(options).items() if name in names}


def _train_flags(parser: _Parser) -> None:
    _config_flags(parser)
    what = "for checkpoint.pt and record.json (default: a folder below runs/)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=what)
    what = "cuda: the GPU, below torchrun one for each process (default: cpu)"
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=what)
    parser.set_defaults(do=_train)


def _train(options: argparse.Namespace) -> int:
    from tiedlib.lab.commands.console import Bar, print_summary
    from tiedlib.lab.language_model.configuration import TrainConfig
    from tiedlib.lab.language_model.training import train
    from tiedlib.lab.runs import processes as distributed
    from tiedlib.lab.runs.memory import keep_memory

    config = TrainConfig.from_preset(options.preset, **_given(options))
    kind = "tied" if config.tied else "untied"
    out = options.out or Path("runs") / f"{Path(config.corpus).stem}-{kind}-{config.digest()}"
    keep_memory()
    bar, first = Bar(config.epochs, out), distributed.rank() == 0  # of processes below torchrun, one speaks
    more: dict[str, Any] = {"on_event": bar} if first else {}
    try:
        record = train(config, out, checkpoint_seconds=options.checkpoint_seconds, device=options.device, **more)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; the same command goes on from the checkpoint in {out}") from None
    finally:
        bar.close()
    if first:
        print_summary(record, out)
    return 0


def _generate_flags(parser: _Parser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", help="where `tiedlib train` has trained a model")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the text to continue (default: a new sentence)")
    parser.add_argument("--tokens", type=int, default=100, metavar="INT", help="how many to add (default: 100)")
    what = "0: always the likeliest (default: 1)"
    parser.add_argument("--temperature", type=float, default=1.0, metavar="FLOAT", help=what)
    parser.add_argument("--top-k", type=int, metavar="INT", help="draw from the likeliest so many")
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="of the draws (default: 0)")
    parser.set_defaults(do=_generate)


def _generate(options: argparse.Namespace) -> int:
    from tiedlib.lab.language_model.generation import generate

    text = generate(
        options.folder,
        options.prompt,
        options.tokens,
        temperature=options.temperature,
        top_k=options.top_k,
        seed=options.seed,
    )
    print(text)
    return 0


def _reproduce_flags(parser: _Parser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the experiment (none: list all)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="for checkpoints (default: runs)")
    what = "for records (default: data/results of a checkout, else OUT/results)"
    parser.add_argument("--results", type=Path, metavar="DIR", help=what)
    parser.add_argument("--only", default="*", metavar="GLOB", help="runs whose name matches, such as 'tied-*'")
    parser.add_argument("--seeds", type=int, metavar="INT", help="only the first so many seeds")
    parser.add_argument("--jobs", type=int, default=1, metavar="INT", help="runs at a time (default: 1)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="what computes (default: cpu)")
    what = "stop each run after so many updates, with a partial record; the same command goes on"
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


def _sweep_flags(parser: _Parser) -> None:
    _config_flags(parser, without=("seed",))
    what = "a folder for each run; with --ray-address on storage that all workers share"
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)
    parser.add_argument("--seeds", default="0", metavar="LIST", help="such as 0-4 or 0,3,7 (default: 0)")
    what = "values of a flag, such as lr=0.5,1,2 or tied=yes,no; may be given again, for every combination"
    parser.add_argument("--vary", action="append", default=[], metavar="NAME=VALUES", help=what)
    parser.add_argument("--jobs", type=int, metavar="INT", help="runs at a time (default: one for each core)")
    what = "a Ray cluster makes the runs: auto, or HOST:PORT of its head"
    parser.add_argument("--ray-address", metavar="ADDRESS", help=what)
    parser.set_defaults(do=_sweep)


def _sweep(options: argparse.Namespace) -> int:
    from tiedlib.lab.experiments import sweep

    pairs = [sweep.varied(text) for text in options.vary]
    vary = dict(pairs)
    if len(vary) < len(pairs):
        raise ValueError(f"vary is given twice for one of {', '.join(vary)}; write all its values together")
    runs = sweep.plan(sweep.seed_list(options.seeds), vary, preset=options.preset, **_given(options))
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


def _homework_flags(parser: _Parser) -> None:
    from tiedlib.homework.command import flags  # it stands above the bench; only this command reaches up to it

    flags(parser)
