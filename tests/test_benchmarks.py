"""The arithmetic of benchmarks/page.py; what it measures is no test's business."""

import importlib.util
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

FILE = Path(__file__).resolve().parent.parent / "benchmarks" / "page.py"
if not FILE.exists():
    pytest.skip("benchmarks/ is only in a checkout", allow_module_level=True)
spec = importlib.util.spec_from_file_location("benchmarks_page", FILE)
page = importlib.util.module_from_spec(spec)
spec.loader.exec_module(page)


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
