"""The training step: tiedlib against the plain torch loop that a user would write, in one run, in turns.

    python benchmarks/training_step.py [--vocab 10000 33278 --blocks 5 --seconds 1 --out FILE.json]
    python benchmarks/training_step.py --growth        over vocabulary, hidden size, batch and threads instead

Absolute times drift on a shared machine, so plain loop, our loop and a bare matrix product take turns, block by block, and
what counts is the ratio within each turn: its median, and its range. Both loops start from the same weights, and their
losses are compared before any time is printed. The limit is the rate that the best kernel of this machine (each has its
turns) keeps up on the output layer's own product; the fraction of it counts every multiplication of the model, output layer
and LSTM, and nothing else. Where products are taken in bfloat16, ours is also set against the plain loop in float32, which is
what a user leaves for it. Peak memory is that of a process of its own for each loop.

A part of what the plain loop loses is not arithmetic: the C library hands matrices above 32 MB back to the system when they
are freed, and the next step gets them again page by page. Every comparison is therefore made twice, the second time in a
process that is told to keep its memory (KEEP), which any user of glibc can do. Writes a JSON record and a chart (SVG).
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tiedlib import _matrix_products as matrix_products
from tiedlib.lab.language_model.configuration import has_bfloat16
from tiedlib.lab.runs import records
from tiedlib.linear_cross_entropy import BLOCK
from tiedlib.optimizers import SGD
from tiedlib.recurrent import LanguageModel
from tiedlib.training_loop import Step, evaluate, fit

UNROLL, CLIP, LR, LAYERS = 35, 5.0, 1.0, 2
KEEP = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_THRESHOLD_": str(2**40)}
Batches = list[tuple[Tensor, Tensor]]
Run = Callable[[Batches], list[float]]


@dataclass(frozen=True)
class Case:
    """What is compared; the defaults are the small model of Press & Wolf at 35 steps."""

    vocab: int = 10_000
    hidden: int = 200
    batch: int = 20
    threads: int = 2
    tied: bool = False
    dtype: str = "float32"
    memory: str = "returned"  # by the C library to the system when it is freed; or "kept"

    def products(self) -> Any:
        """Where products are taken in the case's dtype."""
        return torch.autocast("cpu", torch.bfloat16) if self.dtype == "bfloat16" else nullcontext()

    def operations(self, training: bool) -> float:
        """Multiplications and additions of a token: forward, and twice as many for the gradients of both factors."""
        forward = 2 * self.hidden * self.vocab + LAYERS * 2 * 4 * self.hidden * 2 * self.hidden
        return (3 if training else 1) * forward


class Plain(nn.Module):
    """The model as a user writes it, of torch's own layers."""

    def __init__(self, vocab: int, hidden: int, tied: bool) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, hidden)
        self.lstm = nn.LSTM(hidden, hidden, LAYERS, batch_first=True)
        self.output = nn.Linear(hidden, vocab)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h, state = self.lstm(self.embedding(tokens), state)
        return self.output(h), state


def plain(model: Plain, case: Case) -> tuple[Run, Run]:
    """The loops that a user writes, of training and of evaluation."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)

    def train(batches: Batches) -> list[float]:
        losses, state = [], None
        model.train()
        for tokens, targets in batches:
            optimizer.zero_grad()
            with case.products():
                logits, state = model(tokens, state)
                loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) * UNROLL
            state = (state[0].detach(), state[1].detach())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            losses.append(loss.item() / UNROLL)
        return losses

    @torch.no_grad()
    def valid(batches: Batches) -> list[float]:
        losses, state = [], None
        model.eval()
        for tokens, targets in batches:
            with case.products():
                logits, state = model(tokens, state)
                losses.append(F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item())
        return [statistics.fmean(losses)]

    return train, valid


def ours(model: LanguageModel, case: Case) -> tuple[Run, Run]:
    """The same through `tiedlib.training_loop`."""
    optimizer = SGD(model.parameters(), lr=LR)

    def window(model: Any, batch: Any, state: Any) -> Any:
        with case.products():
            value, state = model.loss(*batch, state)
        return value * UNROLL, state

    def mean(model: Any, batch: Any, state: Any) -> Any:
        with case.products():
            return model.loss(*batch, state)

    def train(batches: Batches) -> list[float]:
        events = fit(model, batches, optimizer, loss=window, epochs=1, clip=CLIP, stateful=True)
        losses = [event.loss for event in events if isinstance(event, Step)]
        return [float(value) / UNROLL for value in losses]

    def valid(batches: Batches) -> list[float]:
        return [evaluate(model, batches, loss=mean, stateful=True)]

    return train, valid


def models(case: Case) -> tuple[Plain, LanguageModel]:
    """Both with the same weights; torch's second bias is kept at zero, as ours has one."""
    torch.manual_seed(0)
    reference = Plain(case.vocab, case.hidden, case.tied)
    model = LanguageModel(case.vocab, case.hidden, case.hidden, LAYERS, tied=case.tied)
    with torch.no_grad():
        for k in range(LAYERS):
            getattr(reference.lstm, f"bias_hh_l{k}").zero_().requires_grad_(False)
        for p in reference.parameters():
            p.uniform_(-0.1, 0.1) if p.requires_grad else None
    model.load_state_dict({k: v for k, v in reference.state_dict().items() if "bias_hh" not in k})
    return reference, model


def products(case: Case) -> tuple[dict[str, Run], int]:
    """The output layer's product in blocks as large as ours, with each kernel of this machine; its "losses" are nothing. And
    how many rows it takes for a batch."""
    blocks = -(-case.batch * UNROLL * case.vocab * 4 // BLOCK["cpu"])
    rows = -(-case.batch * UNROLL // blocks)
    x, w = torch.randn(rows, case.hidden), torch.randn(case.vocab, case.hidden)
    x, w = (x.bfloat16(), w.bfloat16()) if case.dtype == "bfloat16" else (x, w)

    def run(name: str, batches: Batches) -> list[float]:
        with matrix_products.using(name):
            place = matrix_products.room(rows, x, w)
            for _ in range(len(batches) * blocks):
                matrix_products.linear(x, w, None, place)
        return []

    return {f"limit {name}": partial(run, name) for name in kernels()}, rows * blocks


def kernels() -> list[str]:
    """What this machine can multiply with; the other kernels are mixtures of these two."""
    found = []
    for name in ("torch", "onednn"):
        with matrix_products.using(name):
            found += [name] if matrix_products.backend() == name else []
    return found


def compare(case: Case, blocks: int, seconds: float, clock: Callable[[], float] = time.perf_counter) -> dict[str, Any]:
    """Blocks in turns; tokens a second of each loop, and the ratios within a turn."""
    torch.set_num_threads(case.threads)
    reference, model = models(case)
    turns = dict(zip(("plain", "plain_eval"), plain(reference, case), strict=True))
    turns |= dict(zip(("ours", "ours_eval"), ours(model, case), strict=True))
    if case.dtype != "float32":
        turns["float32"] = plain(models(case)[0], replace(case, dtype="float32"))[0]
    limits, limit_rows = products(case)
    turns |= limits
    tokens = case.batch * UNROLL
    text = torch.randint(case.vocab, (6, case.batch, UNROLL + 1))
    batches = [(w[:, :-1], w[:, 1:]) for w in text]
    _same_losses(turns, batches[:2], case)
    steps = {name: _steps(run, batches, seconds) for name, run in turns.items()}
    speed: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(blocks):
        for name, run in turns.items():
            work = [batches[k % len(batches)] for k in range(steps[name])]
            begun = clock()
            run(work)
            done = len(work) * (limit_rows if name in limits else tokens)
            speed[name].append(done / (clock() - begun))
    best = max(limits, key=lambda name: statistics.median(speed[name]))
    flops = [2 * case.hidden * case.vocab * s for s in speed[best]]
    row: dict[str, Any] = {
        **asdict(case),
        "limit_kernel": best.removeprefix("limit "),
        "limit_gflops": statistics.median(flops) / 1e9,
        "limit_best": max(flops) / 1e9,
    }
    for kind, training in (("", True), ("_eval", False)):
        row |= {f"{who}{kind}_tokens_per_second": statistics.median(speed[f"{who}{kind}"]) for who in ("plain", "ours")}
        row |= _ratio(f"ratio{kind}", speed[f"plain{kind}"], speed[f"ours{kind}"])
        for who in ("plain", "ours"):
            parts = [case.operations(training) * s / f for s, f in zip(speed[f"{who}{kind}"], flops, strict=True)]
            row[f"{who}{kind}_fraction"] = statistics.median(parts)
    if "float32" in speed:
        row |= _ratio("ratio_float32", speed["float32"], speed["ours"])
    return row


def _ratio(name: str, theirs: list[float], ours: list[float]) -> dict[str, Any]:
    """Of our speed to theirs, turn by turn: median and range."""
    ratios = [b / a for a, b in zip(theirs, ours, strict=True)]
    return {name: statistics.median(ratios), f"{name}_range": [min(ratios), max(ratios)]}


def _same_losses(turns: dict[str, Run], batches: Batches, case: Case) -> None:
    """Before any time counts, and warming up both: two steps, then the evaluation of what they led to."""
    allowed = 1e-3 if case.dtype == "float32" else 5e-2
    for kind in ("", "_eval"):
        gap = max(
            abs(a - b) for a, b in zip(turns[f"plain{kind}"](batches), turns[f"ours{kind}"](batches), strict=True)
        )
        if not gap <= allowed:
            raise SystemExit(f"the two do not compute the same: losses differ by {gap:.2e} nats ({case})")


def _steps(run: Run, batches: Batches, seconds: float) -> int:
    begun = time.perf_counter()
    run(batches[:1])
    return max(1, math.ceil(seconds / (time.perf_counter() - begun)))


def apart(case: Case, blocks: int, seconds: float, clock: str) -> dict[str, Any]:
    """`compare` in a process that keeps its memory."""
    command = [sys.executable, __file__, "--row", json.dumps(asdict(case)), "--blocks", str(blocks)]
    command += ["--seconds", str(seconds), *(["--cpu-time"] if clock == "process_time" else [])]
    command += ["--threads", str(case.threads)]
    done = subprocess.run(command, env={**os.environ, **KEEP}, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def memory(case: Case) -> dict[str, float]:
    """Peak megabytes of a process that takes three steps, one process for each loop."""
    found = {}
    for who in ("plain", "ours"):
        command = [sys.executable, __file__, "--peak", who, json.dumps(asdict(case))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[f"{who}_peak_mb"] = float(done.stdout.split()[-1])
    return {**found, "memory_ratio": found["ours_peak_mb"] / found["plain_peak_mb"]}


def peak(who: str, case: Case) -> None:
    """What `memory` starts."""
    torch.set_num_threads(case.threads)
    reference, model = models(case)
    train, _ = plain(reference, case) if who == "plain" else ours(model, case)
    del reference, model  # the other one is given up
    text = torch.randint(case.vocab, (3, case.batch, UNROLL + 1))
    train([(w[:, :-1], w[:, 1:]) for w in text])
    status = Path("/proc/self/status")  # rusage would tell the peak of the process that started this one
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    marks = [float(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    print(marks[0] if marks else records.peak_memory_mb())


def cases(vocabularies: list[int], threads: int) -> list[Case]:
    dtypes = ["float32", "bfloat16"] if has_bfloat16() else ["float32"]
    return [
        Case(vocab=v, tied=tied, dtype=dtype, threads=threads, memory=kept)
        for kept, dtype, v, tied in itertools.product(("returned", "kept"), dtypes, vocabularies, (False, True))
        if kept == "returned" or platform.libc_ver()[0] == "glibc"
    ]


def growth(threads: int) -> dict[str, list[Case]]:
    """One size at a time; the others stay."""
    start = Case(tied=True, threads=threads)
    return {
        "vocab": [replace(start, vocab=v) for v in (1_000, 3_000, 10_000, 33_278, 100_000)],
        "hidden": [replace(start, hidden=h) for h in (100, 200, 400, 800)],
        "batch": [replace(start, batch=b) for b in (5, 10, 20, 40, 80)],
        "threads": [replace(start, threads=t) for t in range(1, (os.cpu_count() or 1) + 1)],
    }


def chart(panels: dict[str, list[tuple[str, dict[str, float]]]]) -> str:
    """Tokens a second (logarithmic) as an SVG picture: a panel for each entry, a line for each name in its points."""
    colours = {"plain": "#c2410c", "ours": "#1d4ed8", "limit": "#6b7280"}
    height, left = 300, 56
    width = left + 76 * max(4, *map(len, panels.values()))  # room for the words below each point
    parts = []
    for k, (title, points) in enumerate(panels.items()):
        values = [v for _, figures in points for v in figures.values()]
        low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05

        def across(i: int, n: int = len(points), k: int = k) -> float:
            return k * width + left + (width - left - 30) * (i / max(n - 1, 1))

        def up(value: float, low: float = low, high: float = high) -> float:
            return height - 60 - (height - 110) * (math.log10(value) - low) / (high - low)

        parts.append(f'<text x="{k * width + left}" y="24" font-weight="bold">{title}</text>')
        for mark in (m * 10**e for e in range(9) for m in (1, 2, 5)):
            if low <= math.log10(mark) <= high:
                parts.append(
                    f'<text x="{k * width + left - 8}" y="{up(mark) + 4:.1f}" text-anchor="end">{mark:,}</text>'
                )
        for i, (label, _) in enumerate(points):
            parts.append(
                f'<text x="{across(i):.1f}" y="{height - 38}" text-anchor="middle" font-size="9">{label}</text>'
            )
        for name in points[0][1]:
            line = " ".join(f"{across(i):.1f},{up(figures[name]):.1f}" for i, (_, figures) in enumerate(points))
            parts.append(f'<polyline points="{line}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
            dots = (pair.split(",") for pair in line.split())
            parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colours[name]}"/>' for x, y in dots]
    for i, (name, colour) in enumerate(colours.items()):
        parts.append(f'<text x="{left + 90 * i}" y="{height - 10}" fill="{colour}">{name}</text>')
    parts.append(f'<text x="{left + 300}" y="{height - 10}">tokens a second</text>')
    size = f'width="{width * len(panels)}" height="{height}"'
    style = 'font-family="sans-serif" font-size="11"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n' + "\n".join(parts) + "\n</svg>\n"


def figures(row: dict[str, Any]) -> dict[str, float]:
    """What the chart shows of a row: both loops, and where the limit would be."""
    case = Case(**{k: row[k] for k in Case.__dataclass_fields__})
    limit = row["limit_gflops"] * 1e9 / case.operations(True)
    return {"plain": row["plain_tokens_per_second"], "ours": row["ours_tokens_per_second"], "limit": limit}


def show(row: dict[str, Any]) -> None:
    kind = f"{row['vocab']:>7,} words {'tied' if row['tied'] else 'untied':<6} {row['dtype']:<8} "
    print(
        f"{kind} H {row['hidden']} B {row['batch']} threads {row['threads']}  "
        f"limit {row['limit_gflops']:.0f} GFLOP/s ({row['limit_kernel']}), memory {row['memory']}"
    )
    for what in ("", "_eval"):
        speeds = [f"{who} {row[f'{who}{what}_tokens_per_second']:>9,.0f}" for who in ("plain", "ours")]
        parts = [f"{who} {row[f'{who}{what}_fraction']:.0%}" for who in ("plain", "ours")]
        low, high = row[f"ratio{what}_range"]
        print(
            f"    {'evaluate' if what else 'train':<9} {' '.join(speeds)} tokens/s  ratio {row[f'ratio{what}']:.2f} "
            f"({low:.2f} to {high:.2f})  of the limit: {', '.join(parts)}"
        )
    if "ratio_float32" in row:
        low, high = row["ratio_float32_range"]
        print(f"    against the plain loop in float32: {row['ratio_float32']:.2f} ({low:.2f} to {high:.2f})")
    if "memory_ratio" in row:
        print(
            f"    peak MB   plain {row['plain_peak_mb']:.0f} ours {row['ours_peak_mb']:.0f}  ratio {row['memory_ratio']:.2f}"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vocab", type=int, nargs="+", default=[10_000, 33_278])
    parser.add_argument("--growth", action="store_true", help="how cost grows with each size instead")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each loop in a block, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    what = "count processor seconds, which other programs disturb less; only with --threads 1, as waiting threads count too"
    parser.add_argument("--cpu-time", action="store_true", help=what)
    parser.add_argument("--out", type=Path, help="default: _build/training-step.json, or _build/training-growth.json")
    parser.add_argument("--row", metavar="CASE", help=argparse.SUPPRESS)
    parser.add_argument("--peak", nargs=2, metavar=("LOOP", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cpu_time and options.threads != 1:
        parser.error(f"threads is {options.threads}; with --cpu-time it must be 1")
    if options.peak:
        return peak(options.peak[0], Case(**json.loads(options.peak[1])))
    clock = time.process_time if options.cpu_time else time.perf_counter
    if options.row:
        print(json.dumps(compare(Case(**json.loads(options.row)), options.blocks, options.seconds, clock)))
        return None
    rows: list[dict[str, Any]] = []
    panels: dict[str, list[tuple[str, dict[str, float]]]] = {}
    wanted = (
        growth(options.threads)
        if options.growth
        else {
            f"memory {kind}": list(group)
            for kind, group in itertools.groupby(cases(options.vocab, options.threads), key=lambda case: case.memory)
        }
    )
    for over, group in wanted.items():
        panels[over] = []
        for case in group:
            if case.memory == "kept":
                row = apart(case, options.blocks, options.seconds, clock.__name__)
            else:
                row = compare(case, options.blocks, options.seconds, clock)
                row |= {"over": over} if options.growth else memory(case)
            show(row)
            rows.append(row)
            kind = f"{case.vocab // 1000}k {'tied' if case.tied else 'untied'} {case.dtype[0]}{case.dtype[-2:]}"
            label = f"{getattr(case, over):,}" if options.growth else kind
            panels[over].append((label, figures(row)))
    out = options.out or Path("_build") / ("training-growth.json" if options.growth else "training-step.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    about = {
        "format": records.FORMAT,
        "config": {
            "benchmark": out.stem,
            "blocks": options.blocks,
            "seconds": options.seconds,
            "threads": options.threads,
            "clock": clock.__name__,
        },
        "kernel": matrix_products.backend(),
        "machine": records.machine(),
        "versions": records.versions(),
        "finished": records.now(),
    }
    out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    out.with_suffix(".svg").write_text(chart(panels), encoding="utf-8")
    print(f"{out} and {out.with_suffix('.svg')}")
    return None


if __name__ == "__main__":
    main()
