"""What `tiedlib train` shows in a terminal: a bar while it trains, a line for each epoch, a summary."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from tiedlib.lab.runs.run import Begun
from tiedlib.training_loop import Step

__all__ = ["Bar", "print_summary"]


class Bar:
    """A bar for each epoch and a line after it. Told of steps, it reads no loss, so the device need not wait."""

    def __init__(self, epochs: int, out: Path) -> None:
        self.epochs, self.out = epochs, out
        self.bar: Any = None
        self.steps = self.tokens = 0

    def __call__(self, event: Any) -> None:
        if isinstance(event, Begun):
            self.steps, self.tokens = event.steps, event.items_per_step
            self._begin(event)
        elif isinstance(event, Step):
            if self.bar is None:  # disable=None: no bar where standard error is no terminal
                at = event.progress
                self.bar = tqdm(
                    desc=f"epoch {at.epoch + 1}/{self.epochs}",
                    initial=(at.step - 1) * self.tokens,
                    unit=" tokens",
                    total=self.steps * self.tokens,
                    unit_scale=True,
                    leave=False,
                    disable=None,
                    dynamic_ncols=True,
                )
            self.bar.update(self.tokens)
        else:
            self.close()
            print(
                f"epoch {event['epoch'] + 1}/{self.epochs}  lr {event['lr']:.4g}  "
                f"perplexity {event['train_perplexity']:.2f} train, {event['valid_perplexity']:.2f} valid  "
                f"{event['tokens_per_second']:,.0f} tokens/s",
                flush=True,
            )

    def _begin(self, start: Any) -> None:
        at = start.progress
        for note in start.notes:
            print(note)
        if start.finished:
            print(f"{self.out} is finished; nothing is left to do")
        elif at.epoch or at.step:
            print(f"going on in {self.out} at epoch {at.epoch + 1}, step {at.step + 1} of {start.steps}", flush=True)
        else:
            size = f"{start.parameters:,} parameters, {start.steps:,} steps an epoch"
            print(f"training in {self.out}: {size}", flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def print_summary(record: dict[str, Any], out: Path) -> None:
    """Print the figures of a finished run, and where its files are."""
    found = {part: record.get(f"{part}_perplexity") for part in ("train", "valid", "test")}
    parts = [f"{value:.2f} {part}" for part, value in found.items() if value is not None]
    rates = [epoch["tokens_per_second"] for epoch in record["epochs"]]
    rate, memory = sum(rates) / len(rates), record["peak_memory_mb"]
    print(f"perplexity of the final model: {', '.join(parts)}")
    print(f"{rate:,.0f} tokens/s, {memory:,.0f} MB of memory at most, {record['seconds']:,.0f} s in all")
    print(f"{out / 'checkpoint.pt'}  {out / 'record.json'}")
