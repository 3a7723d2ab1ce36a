"""The settings of a language model's run as flags: those of `train` and of `sweep`."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

__all__ = ["config_flags", "given"]


def config_flags(parser: argparse.ArgumentParser, without: tuple[str, ...] = ()) -> None:
    """The preset and a flag for each field of `TrainConfig`."""
    from tiedlib.lab.language_model.configuration import TrainConfig
    from tiedlib.lab.runs.configuration import options_of
    from tiedlib.tying import PRESETS

    what = "model of Press & Wolf whose sizes and schedule are the defaults of all other flags (default: small)"
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
    what = "use two matrices; the same as --no-tied (default)"
    parser.add_argument("--untied", dest="tied", action="store_false", default=argparse.SUPPRESS, help=what)
    what = "seconds between two checkpoints within an epoch (default: 120)"
    parser.add_argument("--checkpoint-seconds", type=float, default=120.0, metavar="FLOAT", help=what)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of `TrainConfig` that flags have set."""
    from tiedlib.lab.language_model.configuration import TrainConfig

    if not options.checkpoint_seconds >= 0:
        raise ValueError(f"checkpoint-seconds is {options.checkpoint_seconds}; it must be at least 0")
    names = {option.name for option in dataclasses.fields(TrainConfig)}
    return {name: value for name, value in vars(options).items() if name in names}
