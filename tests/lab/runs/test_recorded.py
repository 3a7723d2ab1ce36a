"""tiedlib.lab.runs.recorded: runs by variant and seed, what their seeds have in common, tables of them."""

import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.places import ROOT
from tiedlib.lab.experiments.reproduce import EXPERIMENTS
from tiedlib.lab.runs import recorded
from tiedlib.lab.runs.recorded import Spread, load_runs, origins, paired, run_name, spread, table, to_cells, to_markdown
from tiedlib.lab.runs.records import RecordError

RESULTS = ROOT / "data" / "results"


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder that stands for the library's recorded runs."""

    def inside(relative):
        if not (tmp_path / relative).exists():
            raise FileNotFoundError(relative)
        return tmp_path / relative

    monkeypatch.setattr(recorded, "resource", inside)
    return tmp_path / "results"


def write(path, **fields):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, "config": {}, **fields}))


# Runs are data


@pytest.mark.parametrize("experiment", sorted(EXPERIMENTS))
def test_every_recorded_run_says_which_one_it_is(experiment):
    runs = load_runs(experiment)
    planned = {(one.variant, one.config.seed): one for one in EXPERIMENTS[experiment].planned}
    for variant, seeds in runs.items():
        for seed, record in seeds.items():
            one = planned[variant, seed]
            assert record["kind"] == one.config.kind and record["config"]["seed"] == seed
            assert {"sha256"} <= record["source"].keys() and (record["source"]["sha256"] or record["source"]["note"])
            assert (RESULTS / experiment / f"{run_name(variant, seed)}.json").is_file()
    files = [p for p in (RESULTS / experiment).glob("*.json") if not p.stem.endswith(("embeddings", ".unfinished"))]
    assert sum(map(len, runs.values())) == len(files)


def test_runs_by_variant_and_seed(results):
    for variant, seed in (("tied", 10), ("tied", 2), ("a-s1", 0)):  # a variant may look like a run's name
        write(results / "x" / f"{run_name(variant, seed)}.json", experiment="x", variant=variant, seed=seed)
    (results / "x" / "embeddings.json").write_text("{}")  # a comparison of runs is no run
    write(results / "x" / "tied-s3.unfinished.json", unfinished=True)
    write(results / "x-2" / "tied-s0.json", experiment="x-2", variant="tied", seed=0)
    runs = load_runs("x")
    assert {variant: list(seeds) for variant, seeds in runs.items()} == {"a-s1": [0], "tied": [2, 10]}
    assert load_runs("none") == {}


def test_a_record_that_does_not_say_what_it_is_is_named(results):
    write(results / "x" / "a.json", experiment="x", variant="tied", seed=0)
    write(results / "x" / "b.json", experiment="x", variant="tied", seed=0)
    with pytest.raises(RecordError, match=r"b.json is the second record of 'tied' with seed 0"):
        load_runs("x")
    write(results / "x" / "b.json", experiment="y", variant="tied", seed=1)
    with pytest.raises(RecordError, match=r"b.json does not say that it is a run of 'x'"):
        load_runs("x")


# What seeds have in common


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8))
def test_mean_and_standard_deviation(values):
    found = spread(values)
    assert found.mean == pytest.approx(statistics.fmean(values)) and found.values == tuple(values)
    assert found.sd == (None if len(values) == 1 else pytest.approx(statistics.stdev(values)))


def test_a_spread_is_written_as_a_mean_and_its_deviation():
    assert f"{Spread(101.26, 0.44, ()):.1f}" == "101.3 ± 0.4"
    assert f"{Spread(1.0, 0.5, ()):+.2f}" == "+1.00 ± 0.50"
    assert f"{Spread(101.26, None, ()):.1f}" == "101.3"


def test_differences_are_taken_seed_by_seed():
    runs = {
        "a": {0: {"x": 3.0}, 2: {"x": 5.0}, 7: {"x": 0.0}},
        "b": {2: {"x": 1.0}, 0: {"x": 2.0}},
        "c": {9: {"x": 0.0}},
    }
    assert paired(runs, "a", "b", "x") == Spread(2.5, pytest.approx(statistics.stdev([1, 4])), (1.0, 4.0))
    with pytest.raises(ValueError, match="other is 'd'; it must be one of a, b, c"):
        paired(runs, "a", "d", "x")
    with pytest.raises(ValueError, match="variant is 'a', other 'c'; they must have a seed in common"):
        paired(runs, "a", "c", "x")
    with pytest.raises(ValueError, match="values is empty"):
        spread([])


def test_where_records_come_from_is_said():
    def one(sha, processor="P"):
        return {"source": {"sha256": sha}, "machine": {"processor": processor}}

    assert origins({"a": {0: one("x"), 1: one("x")}}) == (
        "2 runs, made by one state of the library’s source, on one processor (P)."
    )
    assert origins({"a": {0: one("x"), 1: one("y", "Q")}, "b": {0: one(None)}}) == (
        "3 runs, made by 2 states of the library’s source, 1 of them made before records named their source, "
        "on 2 processors (P; Q), whose rounding may differ."
    )
    assert origins({"a": {0: one(None)}}) == "1 run, made before records named their source, on one processor (P)."
    assert origins({"a": {0: one(None), 1: one(None)}}) == (
        "2 runs, all made before records named their source, on one processor (P)."
    )


# Tables


def run(seed, test, **config):
    return {"config": {"tied": False, "seed": seed, **config}, "test_perplexity": test}


RUNS = [run(0, 114.0), run(0, 112.0, tied=True), run(1, 116.0), run(1, 112.5, tied=True), run(2, None)]


def test_rows_are_means_over_seeds():
    rows = table(
        RUNS,
        ["tied"],
        figures=["test_perplexity"],
        paper={(False,): {"test_perplexity": 114.5}},
    )
    untied, tied = rows
    assert untied == {
        "tied": False, "n": 3, "test_perplexity": 115.0, "test_perplexity_sd": pytest.approx(math.sqrt(2)),
        "test_perplexity_paper": 114.5,
    }  # fmt: skip
    assert tied["test_perplexity"] == 112.25 and tied["test_perplexity_paper"] is None


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=8))
def test_the_spread_is_that_of_the_sample(values):
    (row,) = table([run(s, v) for s, v in enumerate(values)], ["tied"], figures=["test_perplexity"])
    assert row["n"] == len(values) and row["test_perplexity"] == pytest.approx(sum(values) / len(values))
    if len(values) == 1:
        assert row["test_perplexity_sd"] is None
    else:
        assert row["test_perplexity_sd"] == pytest.approx(statistics.stdev(values))


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="by holds 'size'; it must be a field of the configuration"):
        table(RUNS, ["tied", "size"])


def test_markdown_and_cells_show_mean_and_spread():
    rows = table(RUNS[:4], ["tied"], figures=["test_perplexity"], paper={(False,): {"test_perplexity": 114.5}})
    assert to_markdown(rows).splitlines() == [
        "| tied | n | test perplexity | test perplexity (paper) |",
        "| --- | --- | --- | --- |",
        "| no | 2 | 115.0 ± 1.4 | 114.5 |",
        "| yes | 2 | 112.2 ± 0.4 | – |",
    ]
    heads, cells = to_cells(rows)
    assert heads[1:3] == ["n", "test perplexity"] and cells[0] == ["no", "2", "115.0 ± 1.4", "114.5"]


def test_empty_tables_have_no_rows():
    assert table([], ["tied"]) == [] and to_markdown([]).count("\n") == 1
