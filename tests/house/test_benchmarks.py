"""The arithmetic of benchmarks/page.py and training_step.py; what they measure is no test's business."""

import importlib.util
import math
import sys
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.places import ROOT

FILE = ROOT / "benchmarks" / "page.py"
if not FILE.exists():
    pytest.skip("benchmarks/ is only in a checkout", allow_module_level=True)
spec = importlib.util.spec_from_file_location("benchmarks_page", FILE)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)
spec = importlib.util.spec_from_file_location("benchmarks_training_step", FILE.with_name("training_step.py"))
step = sys.modules["benchmarks_training_step"] = importlib.util.module_from_spec(spec)  # dataclasses look themselves up
spec.loader.exec_module(step)


@given(st.integers(2, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))))
def test_a_walk_takes_every_step_both_ways_and_ends_where_it_began(slider):
    positions, start = slider
    way = [at for _, at in page.walk([(3, positions, start)])]
    assert len(way) >= page.WARM + page.STEPS
    pairs = list(zip([start, *way], way, strict=False))
    assert all(abs(a - b) == 1 for a, b in pairs)
    assert len(set(pairs)) == 2 * (positions - 1) and way[-1] == start


def test_sliders_are_walked_one_after_the_other():
    assert page.walk([(0, 2, 0), (2, 3, 1)])[:6] == [(0, 1), (0, 0), (2, 2), (2, 1), (2, 0), (2, 1)]


def test_sliders_that_cannot_move_are_refused():
    with pytest.raises(ValueError, match=r"sliders is \[\(0, 1, 0\)\]; one of them must have at least two positions"):
        page.walk([(0, 1, 0)])


def test_the_median_is_taken_figure_by_figure():
    rows = [{"page": "p", "a": a, "b": b} for a, b in [(1, 9), (2, None), (3, 5)]]
    assert page.median_row(rows) == {"page": "p", "runs": 3, "a": 2, "b": 7}


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=60))
def test_one_value_in_twenty_is_above_the_95th_percentile(values):
    found = page.percentile95(values)
    assert sum(v > found for v in values) <= math.ceil((len(values) - 1) / 20)
    assert sum(v >= found for v in values) >= math.floor((len(values) - 1) / 20)


def test_the_95th_percentile_lies_between_its_neighbours():
    assert page.percentile95([*range(101)]) == 95 and page.percentile95([0, 10]) == 9.5


def test_a_table_in_markdown():
    rows = [{"page": "a|b", "ms": 12.345, "bytes": 1234.5, "none": None, "n": 3}]
    assert page.markdown(rows) == (
        "| page | ms | bytes | none | n |\n| --- | --- | --- | --- | --- |\n| a\\|b | 12.3 | 1234 | – | 3 |"
    )
    assert page.markdown([]) == "|  |\n|  |"


def test_the_operations_of_a_step_are_those_of_its_products():
    """Counted from the shapes: four gates of two products in two layers, and the output; backward has two for each."""
    case = step.Case(vocab=1000, hidden=8)
    products = [(8, 32)] * 4 + [(8, 1000)]
    forward = sum(2 * a * b for a, b in products)
    assert case.operations(False) == forward and case.operations(True) == 3 * forward


def test_both_loops_start_alike_and_compute_the_same():
    case = step.Case(vocab=30, hidden=8, batch=2, tied=True)
    reference, model = step.models(case)
    assert not any(getattr(reference.lstm, f"bias_hh_l{k}").any() for k in range(2))
    pairs = [(torch.randint(30, (2, 35)), torch.randint(30, (2, 35))) for _ in range(2)]
    turns = dict(zip(("plain", "plain_eval"), step.plain(reference, case), strict=True))
    turns |= dict(zip(("ours", "ours_eval"), step.ours(model, case), strict=True))
    step._same_losses(turns, pairs, case)
    with torch.no_grad():
        model.output.bias += 0.1 * torch.arange(30)
    with pytest.raises(SystemExit, match="do not compute the same"):
        step._same_losses(turns, pairs, case)


def test_the_limit_is_that_of_the_fastest_kernel(monkeypatch):
    """Kernels of known speed, on a clock that they move: one makes a row in a second, the other in half of it."""
    now, seconds = [0.0], {"torch": 1.0, "onednn": 0.5}

    def linear(x, w, bias=None, out=None):
        now[0] += len(x) * seconds[step.matrix_products.backend()]

    monkeypatch.setattr(step, "kernels", lambda: list(seconds))
    monkeypatch.setattr(step.matrix_products, "_has_onednn", lambda: True)
    monkeypatch.setattr(step.matrix_products, "linear", linear)
    monkeypatch.setattr(step, "_same_losses", lambda *_: None)
    runs = {name: lambda batches: now.__setitem__(0, now[0] + len(batches)) for name in ("train", "valid")}
    monkeypatch.setattr(step, "plain", lambda *_: tuple(runs.values()))
    monkeypatch.setattr(step, "ours", lambda *_: tuple(runs.values()))
    case = step.Case(vocab=30, hidden=8, batch=2, threads=1)
    row = step.compare(case, blocks=3, seconds=1e-9, clock=lambda: now[0])
    assert row["limit_kernel"] == "onednn" and row["limit_gflops"] == pytest.approx(2 * 8 * 30 * 2 / 1e9)
    assert row["ratio"] == 1.0 and row["ours_tokens_per_second"] == 2 * step.UNROLL


def test_every_case_is_measured_with_both_habits_of_the_c_library(monkeypatch):
    monkeypatch.setattr(step.platform, "libc_ver", lambda: ("glibc", "2.36"))
    found = step.cases([1000, 30], threads=1)
    monkeypatch.setattr(step.platform, "libc_ver", lambda: ("", ""))
    alone = step.cases([1000, 30], threads=1)  # elsewhere there is nothing to set
    assert {case.memory for case in alone} == {"returned"} and found[: len(alone)] == alone
    assert found[len(alone) :] == [step.replace(case, memory="kept") for case in alone]


def test_a_row_is_measured_in_a_process_that_keeps_its_memory(monkeypatch):
    case = step.Case(vocab=30, hidden=8, batch=2, threads=1, memory="kept", tied=True)
    true, seen = step.subprocess.run, []
    monkeypatch.setattr(step.subprocess, "run", lambda *a, **k: seen.append(k["env"]) or true(*a, **k))
    row = step.apart(case, blocks=2, seconds=0.01, clock="process_time")
    assert step.KEEP.items() <= seen[0].items() and {"PATH"} <= seen[0].keys()
    assert {name: row[name] for name in step.asdict(case)} == step.asdict(case)
    assert row["limit_kernel"] in step.kernels() and row["limit_best"] >= row["limit_gflops"] > 0
    low, high = row["ratio_range"]
    assert 0 < low <= row["ratio"] <= high and row["ours_tokens_per_second"] > 0


@given(st.lists(st.floats(1.0, 1e8), min_size=1, max_size=5))
def test_the_chart_is_a_picture_with_every_point_in_it(values):
    points = [(str(i), {"plain": v, "ours": 2 * v, "limit": 3 * v}) for i, v in enumerate(values)]
    tree = ElementTree.fromstring(step.chart({"one": points, "two": points}))
    circles = tree.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 2 * 3 * len(values)
    size = [float(tree.get(side)) for side in ("width", "height")]
    assert all(0 < float(c.get(axis)) < limit for c in circles for axis, limit in zip(("cx", "cy"), size, strict=True))
    highest = min(circles[: 3 * len(values)], key=lambda c: float(c.get("cy")))
    assert highest.get("fill") == "#6b7280"
