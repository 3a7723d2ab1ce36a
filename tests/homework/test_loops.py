"""The bench that student's loops run on: it sees modes, graphs, steps, and the order of backward passes."""

import subprocess
import sys

import torch

from tiedlib.homework.loops import Bench


def test_the_bench_counts_what_a_loop_does() -> None:
    bench = Bench(0, (4, 1, 3), training=False)
    assert all(p.grad is not None for p in bench.model.parameters()), "gradients are left over from before"
    kept = [bench.loss(bench.model, part) for part in bench.parts]
    assert (bench.alive, bench.late, bench.longest, bench.steps) == (2, 2, 4, 0)
    assert bench.modes == [(False, True)] * 3
    torch.stack(kept).sum().backward()
    assert bench.back == 3
    del kept
    before = bench.weights().clone()
    bench.optimizer.step()
    assert bench.steps == 1 and not torch.equal(before, bench.weights())


def test_the_bench_sees_that_a_graph_is_gone() -> None:
    bench = Bench(1, (2, 2, 2))
    for part in bench.parts:
        value = bench.loss(bench.model, part)
        value.backward()
    assert bench.alive <= 1 and bench.late == 0
    with torch.no_grad():
        bench.loss(bench.model.eval(), bench.parts[0])
    assert bench.modes[-1] == (False, False) and len(bench.marks) == 3


def test_one_seed_is_one_bench() -> None:
    one, two, three = Bench(5, (3, 2)), Bench(5, (3, 2)), Bench(6, (3, 2))
    assert torch.equal(one.weights(), two.weights()) and not torch.equal(one.weights(), three.weights())
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one.parts, two.parts, strict=True))


def test_a_right_update_passes_where_no_optimizer_has_been_used_before() -> None:
    """The first use of an optimizer makes torch import modules that start threads, which the watch would refuse."""
    code = """
from tiedlib.homework.loops import check_update

def update(model, parts, optimizer, loss):
    rows, total = sum(len(x) for x, _ in parts), 0.0
    optimizer.zero_grad()
    for part in parts:
        value = loss(model, part) * len(part[0]) / rows
        value.backward()
        total += value.item()
    optimizer.step()
    return total

check_update(update)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
