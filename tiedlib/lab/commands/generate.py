"""`tiedlib generate`: text from a trained model."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tiedlib generate`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder in which `tiedlib train` has trained a model")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="the text to continue (default: a new sentence)")
    parser.add_argument("--tokens", type=int, default=100, metavar="INT", help="number of tokens to add (default: 100)")
    what = "temperature of the draws; 0 always takes the likeliest token (default: 1)"
    parser.add_argument("--temperature", type=float, default=1.0, metavar="FLOAT", help=what)
    parser.add_argument(
        "--top-k", type=int, metavar="INT", help="draw from this number of the likeliest tokens (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="INT", help="seed of the draws (default: 0)")
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
