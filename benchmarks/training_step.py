"""The training step: tiedlib against the plain torch loop that a user would write, in one run, in turns.

    python benchmarks/training_step.py [--vocab 10000 --hidden 200 --blocks 5 --steps 10 --out FILE.json]

Absolute times drift on a shared machine, so the two take turns, block by block, and what counts is the ratio of each pair
of blocks: its median, and its range. Both start from the same weights, and the losses are compared before any time is
printed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiedlib.lab import records
from tiedlib.optimizers import SGD
from tiedlib.recurrent import LanguageModel
from tiedlib.training_loop import Step, fit

BATCH, UNROLL, CLIP, LR = 20, 35, 5.0, 1.0
Run = Callable[[list[tuple[Tensor, Tensor]]], list[float]]


class Plain(nn.Module):
    """The model as a user writes it, of torch's own layers."""

    def __init__(self, vocab: int, hidden: int, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, 2, batch_first=True)
        self.output = nn.Linear(hidden, vocab)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, state = self.lstm(self.embedding(tokens), state)
        return self.output(h), state


def plain(model: Plain) -> Run:
    """The loop that a user writes."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def run(batches: list[tuple[Tensor, Tensor]]) -> list[float]:
        losses, state = [], None
        for tokens, targets in batches:
            optimizer.zero_grad()
            logits, state = model(tokens, state)
            state = (state[0].detach(), state[1].detach())
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) * UNROLL
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item() / UNROLL)
        return losses

    return run


def ours(model: LanguageModel) -> Run:
    """The same through `tiedlib.training_loop.fit`."""
    optimizer = SGD(model.parameters(), lr=LR)

    def loss(model, batch, state):  # type: ignore[no-untyped-def]
        value, state = model.loss(*batch, state)
        return value * UNROLL, state

    def run(batches: list[tuple[Tensor, Tensor]]) -> list[float]:
        events = fit(model, batches, optimizer, loss=loss, epochs=1, clip=CLIP, stateful=True)
        losses = [event.loss for event in events if isinstance(event, Step)]
        return [float(value) / UNROLL for value in losses]

    return run


def compare(vocab: int, hidden: int, tied: bool, blocks: int, steps: int) -> dict[str, object]:
    """Blocks of steps in turns; tokens a second of each, and the ratios ours / plain."""
    torch.manual_seed(0)
    reference, model = Plain(vocab, hidden, tied), LanguageModel(vocab, hidden, hidden, 2, tied=tied)
    state = {k: v for k, v in reference.state_dict().items() if "bias_hh" not in k}
    with torch.no_grad():
        for k in range(2):
            getattr(reference.lstm, f"bias_hh_l{k}").zero_().requires_grad_(False)
    model.load_state_dict(state)
    turns = {"plain": plain(reference), "ours": ours(model)}
    text = torch.randint(vocab, (blocks + 1, steps, BATCH, UNROLL + 1))
    speed: dict[str, list[float]] = {name: [] for name in turns}
    for block in range(blocks + 1):  # the first warms up, and proves that both compute the same
        batches = [(w[:, :-1], w[:, 1:]) for w in text[block]]
        losses = {}
        for name, run in turns.items():
            begun = time.perf_counter()
            losses[name] = run(batches)
            speed[name].append(steps * BATCH * UNROLL / (time.perf_counter() - begun))
        gap = max(abs(a - b) for a, b in zip(losses["plain"], losses["ours"], strict=True))
        if block == 0 and gap > 1e-3:  # later, at rate 1, rounding alone leads apart
            raise SystemExit(f"the two do not compute the same: losses differ by {gap:.2e} nats in block {block}")
    ratios = [b / a for a, b in zip(speed["plain"][1:], speed["ours"][1:], strict=True)]
    return {
        "vocab": vocab,
        "hidden": hidden,
        "tied": tied,
        "plain_tokens_per_second": statistics.median(speed["plain"][1:]),
        "ours_tokens_per_second": statistics.median(speed["ours"][1:]),
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def limit(vocab: int, hidden: int) -> float:
    """What this machine reaches on the output layer's own matrix product, in GFLOP/s."""
    h, weight = torch.randn(BATCH * UNROLL, hidden), torch.randn(vocab, hidden)
    times = []
    for _ in range(10):
        begun = time.perf_counter()
        F.linear(h, weight)
        times.append(time.perf_counter() - begun)
    return 2 * BATCH * UNROLL * vocab * hidden / min(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vocab", type=int, nargs="+", default=[10_000])
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for vocab in options.vocab:
        print(f"{vocab:,} words: matrix product {limit(vocab, options.hidden):.0f} GFLOP/s")
        for tied in (False, True):
            row = compare(vocab, options.hidden, tied, options.blocks, options.steps)
            rows.append(row)
            low, high = row["ratio_range"]  # type: ignore[misc]
            print(
                f"  {'tied' if tied else 'untied':<7} plain {row['plain_tokens_per_second']:>8,.0f}  ours "
                f"{row['ours_tokens_per_second']:>8,.0f} tokens/s  ratio {row['ratio_median']:.2f} ({low:.2f} to {high:.2f})"
            )
    print(f"peak memory of this process: {records.peak_memory_mb():.0f} MB")
    if options.out:
        record = {"rows": rows, "machine": records.machine(), "versions": records.versions(), "at": records.now()}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
