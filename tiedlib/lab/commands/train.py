"""`tiedlib train`: one run of a language model."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tiedlib.lab.commands.settings import config_flags, given

__all__ = ["flags"]


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `tiedlib train`."""
    config_flags(parser)
    what = "folder for checkpoint.pt and record.json (default: a folder below runs/)"
    parser.add_argument("--out", type=Path, metavar="DIR", help=what)
    what = "what computes; with cuda below torchrun, each process has a GPU of its own (default: cpu)"
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help=what)
    parser.set_defaults(do=_train)


def _train(options: argparse.Namespace) -> int:
    from tiedlib.lab.commands.console import Bar, print_summary
    from tiedlib.lab.language_model.configuration import TrainConfig
    from tiedlib.lab.language_model.training import train
    from tiedlib.lab.runs import processes as distributed
    from tiedlib.lab.runs.memory import keep_memory

    config = TrainConfig.from_preset(options.preset, **given(options))
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
