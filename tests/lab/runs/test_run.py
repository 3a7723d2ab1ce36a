"""tiedlib.lab.runs.run: a kind of run that the library has never heard of (`tests.lab.runs.digits`, under 60 lines of code) has all
that the others have: it goes on to the same bits, sweeps, reproduces, and is taken over."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.lab.experiments.tiny import experiment
from tests.lab.runs.digits import DigitsConfig, DigitsRun
from tests.lab.runs.killed import Killed, until
from tests.places import ROOT
from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.experiments import reproduce as reproducing
from tiedlib.lab.experiments.reproduce import EXPERIMENTS, reproduce
from tiedlib.lab.experiments.sweep import sweep, table
from tiedlib.lab.language_model.configuration import FirstStepsConfig, TrainConfig
from tiedlib.lab.runs import checkpoints, provenance, recorded
from tiedlib.lab.runs.configuration import changed, kind_named
from tiedlib.lab.runs.run import Run, carry_out, run_of

SMALL = DigitsConfig(threads=1)


def test_the_third_kind_is_short():
    code = (ROOT / "tests/lab/runs/digits.py").read_text().splitlines()
    assert sum(bool(line.strip()) and not line.startswith(("from", "import", '"""')) for line in code) < 60


@pytest.mark.parametrize("config", [TrainConfig(), FirstStepsConfig(), VAEConfig(), SMALL], ids=lambda c: c.kind)
def test_a_configuration_names_its_run_and_a_record_its_kind(config):
    assert issubclass(run_of(config), Run) and kind_named(config.kind) is type(config)
    assert changed(type(config)()) == {} and type(config)().digest() != dataclasses.replace(config, seed=1).digest()


@pytest.mark.parametrize("step", [1, 15, 16, 31, 44])
def test_it_goes_on_to_the_same_bits_after_a_kill(tmp_path, step):
    whole = carry_out(SMALL)
    with pytest.raises(Killed):
        carry_out(SMALL, tmp_path, on_event=until(step), checkpoint_seconds=0.0)
    record = carry_out(SMALL, tmp_path)
    assert record["weights_sha256"] == whole["weights_sha256"] and record["test_accuracy"] == whole["test_accuracy"]
    assert [row["train_accuracy"] for row in record["epochs"]] == [row["train_accuracy"] for row in whole["epochs"]]
    assert record["test_accuracy"] > 0.3 and record["kind"] == "digits" and record["seed"] == 0


def test_a_real_kill(tmp_path):
    """kill -9 in the middle of an epoch, then the same command again, in new processes."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import pathlib, sys
        from tests.lab.runs.digits import DigitsConfig
        from tiedlib.lab.runs.run import carry_out
        show = lambda event: print(getattr(event, "progress", None) and event.progress.step, flush=True)
        out = pathlib.Path({str(tmp_path)!r}) / "run"
        record = carry_out(DigitsConfig(threads=1, epochs=40), out, on_event=show, checkpoint_seconds=0.0)
        print(record["weights_sha256"])
    """)
    )
    command = [sys.executable, str(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for count, _ in enumerate(first.stdout):
        if count == 100:
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "run" / "record.json").exists() and (tmp_path / "run" / "checkpoint.pt").exists()
    second = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert second.split()[-1] == carry_out(DigitsConfig(threads=1, epochs=40))["weights_sha256"]


def test_its_damaged_files_are_set_aside(tmp_path):
    whole = carry_out(SMALL, tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    (tmp_path / "record.json").write_text("[]")
    events = []
    assert carry_out(SMALL, tmp_path, on_event=events.append)["weights_sha256"] == whole["weights_sha256"]
    assert [re.search(r"it is now (\S+\.damaged)", note)[1] for note in events[0].notes] == [
        "checkpoint.pt.damaged",
        "record.json.damaged",
    ]
    with pytest.raises(checkpoints.CheckpointError, match=r"has another configuration: hidden 32 \(now 31\)"):
        carry_out(dataclasses.replace(SMALL, hidden=31), tmp_path)


def test_it_reproduces_and_stops_after_so_many_steps(tmp_path, monkeypatch):
    """In processes of their own, as `tiedlib reproduce` makes them."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs = {f"wide-s{seed}": dataclasses.replace(SMALL, seed=seed) for seed in range(2)}
    monkeypatch.setitem(EXPERIMENTS, "third", experiment(runs, compares_embeddings=False))
    out, results, lines = tmp_path / "out", tmp_path / "results", []
    assert not reproduce("third", out, results, only="*-s0", steps=20, report=lines.append)
    (left,) = (results / "third").iterdir()
    found = json.loads(left.read_text())
    assert left.name == "wide-s0.unfinished.json" and (found["epoch"], found["step"]) == (1, 5)
    assert (found["experiment"], found["variant"]) == ("third", "wide")
    assert reproduce("third", out, results, jobs=2, report=lines.append)
    assert any(line.startswith("[1/2] wide-s") and "accuracy 0." in line for line in lines), lines
    assert "wide-s0: going on at epoch 2, step 6" in lines
    monkeypatch.setattr(recorded, "resource", lambda relative: tmp_path / relative)
    made = recorded.load_runs("third")
    assert {seed: r["weights_sha256"] for seed, r in made["wide"].items()} == {
        seed: carry_out(config)["weights_sha256"] for seed, config in enumerate(runs.values())
    }
    assert made["wide"][0]["source"] == provenance.source("tests.lab.runs.digits")
    with pytest.raises(ValueError, match="device is 'cuda'; the runs of third are made on the cpu"):
        reproduce("third", out, results, device="cuda", report=lines.append)
    assert reproducing.EXPERIMENTS is EXPERIMENTS


def test_it_sweeps(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs = {f"hidden-{n}_s{s}": dataclasses.replace(SMALL, hidden=n, seed=s) for n in (4, 40) for s in (0, 1)}
    found, good = sweep(runs, tmp_path, jobs=2, report=lambda line: None)
    assert good and len(found) == 4
    few, many = (one for one in recorded.table(found, ["hidden"], figures=["test_accuracy"]))
    assert few["n"] == many["n"] == 2 and few["test_accuracy"] < many["test_accuracy"]
    assert "| 40 | 2 |" in table(found, ["hidden"])


def test_what_a_kind_does_not_know_is_refused(monkeypatch):
    with pytest.raises(
        ValueError, match="device is 'cuda'; a run of the kind digits is made by one process on the cpu"
    ):
        carry_out(SMALL, device="cuda")
    monkeypatch.setattr("tiedlib.lab.runs.processes.launched", lambda: True)
    with pytest.raises(ValueError, match="below torchrun; a run of the kind digits"):
        carry_out(SMALL)


def test_the_source_is_that_of_what_computes(tmp_path, monkeypatch):
    """All that the run's module imports; another text anywhere in it is another source."""
    before = provenance.source("tests.lab.runs.digits")
    assert re.fullmatch("[0-9a-f]{64}", before["sha256"]) and before["modules"] > 15
    assert provenance.source(DigitsRun.__module__) == before != provenance.source(VAEConfig.run.partition(":")[0])
    true = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda p, **o: true(p, **o) + ("#" if p.name == "_trees.py" else ""))
    provenance.source.cache_clear()
    assert provenance.source("tests.lab.runs.digits")["sha256"] != before["sha256"]
    provenance.source.cache_clear()
