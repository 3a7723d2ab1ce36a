"""tiedlib.lab.runs.unfinished: how far a run has come is never a result, and the note of it goes when the run ends."""

import dataclasses
import json

import pytest

from tiedlib.lab.experiments import reproduce as reproducing
from tiedlib.lab.experiments.experiment import Experiment, Planned
from tiedlib.lab.experiments.reproduce import EXPERIMENTS, reproduce
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.runs import recorded, records, unfinished
from tiedlib.lab.runs.many import one
from tiedlib.lab.runs.recorded import load_runs

TINY = TrainConfig(
    corpus="toy_language", tokens=400, vocabulary_size=50, dim=6, hidden=6, layers=1, epochs=2, batch=4, unroll=10,
    threads=1, tied=True, projection=True, penalty="code",
)  # fmt: skip
STEPS = 10  # of an epoch: 99 pairs of a row, windows of 10


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A small experiment whose runs are made in this process; its folder of results is the library's own meanwhile."""

    def outcomes(tasks, jobs, report, **options):
        for run, task in tasks.items():
            yield run, one(run, task, 1, report, **options)

    monkeypatch.setattr(reproducing, "by_processes", outcomes)
    monkeypatch.setitem(EXPERIMENTS, "tiny", Experiment("for tests", "0", (Planned("run", TINY),)))
    for module in (recorded, unfinished):
        monkeypatch.setattr(module, "resource", lambda relative: _inside(tmp_path, relative))
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def _inside(root, relative):
    if not (root / relative).exists():
        raise FileNotFoundError(relative)
    return root / relative


def tried(results, **options):
    lines = []
    return reproduce("tiny", results.parent / "out", results, report=lines.append, **options), lines


def test_a_run_of_so_many_steps_says_how_far_it_came(results):
    good, lines = tried(results, steps=13)
    assert not good and "stopped and saved in" in lines[-1]
    found = unfinished.load_unfinished("tiny/run-s0")
    assert found["unfinished"] is True and found["config"] == dataclasses.asdict(TINY)
    assert (found["epoch"], found["step"], len(found["epochs"])) == (1, 3, 1)
    assert (
        found["steps_in_epoch"] == STEPS
        and found["device"] == "cpu"
        and found["machine"]["threads"] == 1
        and found["data"] == {}
    )
    assert 0 < found["step_seconds"] < found["seconds"] and found["saved"] >= found["started"]
    assert 0 < found["objective"] / 10 < 10  # nats a window of ten steps


def test_a_partial_record_is_no_result(results):
    tried(results, steps=13)
    assert [p.name for p in (results / "tiny").iterdir()] == ["run-s0.unfinished.json"]
    assert load_runs("tiny") == {}


def test_the_finished_run_takes_its_place_and_has_the_same_numbers(results, tmp_path):
    for _ in range(2):
        tried(results, steps=7)
    assert unfinished.load_unfinished("tiny/run-s0")["step"] == 4  # 14 of 20 steps
    good, _ = tried(results)
    assert good and [p.name for p in sorted((results / "tiny").iterdir())] == ["run-s0.json"]
    assert unfinished.load_unfinished("tiny/run-s0") is None
    reproduce("tiny", tmp_path / "anew", tmp_path / "whole", report=lambda line: None)
    whole = json.loads((tmp_path / "whole" / "tiny" / "run-s0.json").read_text())
    assert whole["weights_sha256"] == load_runs("tiny")["run"][0]["weights_sha256"]
    assert whole["device"] == "cpu"


def test_at_the_end_of_an_epoch_there_is_no_objective_yet(results):
    tried(results, steps=STEPS)
    found = unfinished.load_unfinished("tiny/run-s0")
    assert (found["epoch"], found["step"], found["objective"], found["step_seconds"]) == (1, 0, None, None)
    assert len(found["epochs"]) == 1


def test_steps_beyond_the_end_finish_the_run(results):
    good, _ = tried(results, steps=100)
    assert good and unfinished.load_unfinished("tiny/run-s0") is None and list(load_runs("tiny")) == ["run"]


def test_a_damaged_one_is_named(results):
    (results / "tiny").mkdir()
    path = results / "tiny" / "run-s0.unfinished.json"
    path.write_text("{")
    with pytest.raises(records.DamagedRecordError, match=r"run-s0.unfinished.json is damaged"):
        unfinished.load_unfinished("tiny/run-s0")
    path.write_text(json.dumps({"format": records.FORMAT, "config": {}}))
    with pytest.raises(records.RecordError, match="is no note on an unfinished run; move it away"):
        unfinished.load_unfinished("tiny/run-s0")


@pytest.mark.parametrize("steps", [0, -1])
def test_steps_that_cannot_be(results, steps):
    good, lines = tried(results, steps=steps)
    assert not good and f"steps is {steps}; it must be at least 1" in lines[-1]
