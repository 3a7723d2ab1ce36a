"""The command line `tiedlib`: data, train, generate, reproduce, sweep, homework.

Flags of `train` are made from the fields of `TrainConfig`. Whatever goes wrong gives one line on standard error and
exit code 2 (130 after Ctrl-C); nothing is overwritten. torch and the bench are imported by the command that needs them.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import Any, NoReturn

import tiedlib

__all__ = ["run"]

COMMANDS = {
    "data": "list the data sets, or fetch one of them",
    "train": "train a language model; the same command again goes on where it stopped",
    "generate": "continue a text with a trained model",
    "reproduce": "make the recorded runs of an experiment again",
    "sweep": "try seeds and settings at the same time, on this machine or on a Ray cluster, and print a table",
    "homework": "build a course from its master notebooks, or grade a folder of submissions in processes with limits",
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
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, what in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what, allow_abbrev=False)
        if name == wanted:
            _module(name).flags(command)
    return parser


def _module(name: str) -> Any:
    """The module of a command. Homework imports the bench; only this command imports the homework."""
    if name == "homework":
        from tiedlib.homework import command

        return command
    return importlib.import_module(f"tiedlib.lab.commands.{name}")
