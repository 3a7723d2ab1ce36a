"""Many small models: `tiedlib.lab.grid` against the loop over models, in one run, in turns.

    python benchmarks/grid.py [--models 64 --steps 100 --blocks 5 --threads 1 --out FILE.json]

The loop is what a user would write: a network, torch's own optimizer, mini-batches, one model after the other. Two
learning rates, the rest of the models are seeds. Both give the same losses, which is looked at before any time is printed.
Times are CPU seconds on one thread, and what counts is the ratio of each pair of blocks, its median and its range: on a
shared machine everything else drifts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiedlib.lab.grid import grid
from tiedlib.lab.runs import records
from tiedlib.optimizers import adam, sgd
from tiedlib.training_loop import minibatches

RULES = {"sgd": (sgd, torch.optim.SGD, [0.1, 0.3]), "adam": (adam, torch.optim.Adam, [1e-3, 3e-3])}
SIZES = {"small": (10, 16, 3), "digits": (64, 32, 10)}  # features, hidden, classes
BATCH, ROWS = 32, 1024


def network(features: int, hidden: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, classes))


def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def loop(
    make_model: Callable[[], nn.Module],
    data: tuple[Tensor, ...],
    optimizer: type,
    rates: list[float],
    seeds: range,
    steps: int,
) -> np.ndarray:
    """One model after the other; the losses (rates, seeds, steps)."""
    losses = []
    for lr in rates:
        for seed in seeds:
            torch.manual_seed(seed)
            model, generator = make_model(), torch.Generator().manual_seed(seed)
            stepper, run = optimizer(model.parameters(), lr=lr), []
            while len(run) < steps:
                for batch in minibatches(*data, batch_size=BATCH, generator=generator):
                    stepper.zero_grad()
                    value = loss(model, batch)
                    value.backward()
                    stepper.step()
                    run.append(value.detach())
                    if len(run) == steps:
                        break
            losses.append(torch.stack(run))
    return torch.stack(losses).view(len(rates), len(seeds), steps).double().numpy()


def compare(size: str, name: str, models: int, steps: int, blocks: int) -> dict[str, object]:
    """Blocks in turns: seconds of each, and the ratios loop / grid."""
    rule, optimizer, rates = RULES[name]
    features, hidden, classes = SIZES[size]
    g = torch.Generator().manual_seed(0)
    data = (torch.randn(ROWS, features, generator=g), torch.randint(classes, (ROWS,), generator=g))
    make_model = partial(network, features, hidden, classes)
    seeds = range(models // len(rates))
    seconds: dict[str, list[float]] = {"loop": [], "grid": []}
    for block in range(blocks + 1):  # the first warms up, and proves that both compute the same
        begun = time.process_time()
        expected = loop(make_model, data, optimizer, rates, seeds, steps)
        seconds["loop"].append(time.process_time() - begun)
        begun = time.process_time()
        found = grid(make_model, data, rule, loss=loss, hyper={"lr": rates}, seeds=seeds, steps=steps, batch_size=BATCH)
        seconds["grid"].append(time.process_time() - begun)
        gap = float(np.abs(found.loss - expected).max())
        if block == 0 and gap > 1e-4:
            raise SystemExit(f"the two do not compute the same: losses differ by {gap:.2e} nats")
    ratios = [a / b for a, b in zip(seconds["loop"][1:], seconds["grid"][1:], strict=True)]
    return {
        "size": size,
        "parameters": sum(p.numel() for p in make_model().parameters()),
        "rule": name,
        "models": len(rates) * len(seeds),
        "steps": steps,
        "largest_difference_of_losses": gap,
        "loop_seconds": statistics.median(seconds["loop"][1:]),
        "grid_seconds": statistics.median(seconds["grid"][1:]),
        "ratio_median": statistics.median(ratios),
        "ratio_range": [min(ratios), max(ratios)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes = itertools.product(SIZES, RULES)
    rows = [compare(size, name, options.models, options.steps, options.blocks) for size, name in sizes]
    for row in rows:
        low, high = row["ratio_range"]  # type: ignore[misc]
        print(
            f"{row['rule']:<5} {row['models']} models of {row['parameters']:,} parameters, {row['steps']} steps: "
            f"loop {row['loop_seconds']:.2f} s, grid "
            f"{row['grid_seconds']:.2f} s, {row['ratio_median']:.1f} times faster ({low:.1f} to {high:.1f}); "
            f"losses differ by at most {row['largest_difference_of_losses']:.1e}"
        )
    if options.out:
        record = {"rows": rows, "machine": records.machine(), "versions": records.versions(), "at": records.now()}
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
