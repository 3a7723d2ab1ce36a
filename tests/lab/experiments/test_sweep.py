"""tiedlib.lab.experiments.sweep: which runs a sweep is, that each is made once, and what it says of them at the end."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.lab.commands.main import run as tiedlib
from tiedlib.lab.experiments import sweep as module
from tiedlib.lab.experiments.sweep import plan, seed_list, sweep, table, varied
from tiedlib.lab.files import FileError, locked
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs.many import one

SMALL = {
    "corpus": "toy_language", "tokens": 400, "vocabulary_size": 50, "dim": 6, "hidden": 6, "layers": 1, "epochs": 1,
    "batch": 4, "unroll": 10, "threads": 1,
}  # fmt: skip


def flags(fields):
    """The same on the command line."""
    return [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]


FLAGS = flags(SMALL)


@pytest.fixture
def here(monkeypatch):
    """Runs in this process, which is quicker; the tests of real processes do without."""
    begun = []

    def outcomes(tasks, jobs, report, **options):
        for run, task in tasks.items():
            begun.append(run)
            yield run, one(run, task, 1, report, **options)

    monkeypatch.setattr(module, "by_processes", outcomes)
    return begun


def records_of(out):
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(out.glob("*/record.json"))}


# The plan


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5)), min_size=1, max_size=5))
def test_seeds_as_people_write_them(ranges):
    wanted = [s for first, more in ranges for s in range(first, first + more + 1)]
    text = ",".join(f"{first}-{first + more}" if more else f"{first}" for first, more in ranges)
    if len(set(wanted)) == len(wanted):
        assert seed_list(text) == wanted
    else:
        with pytest.raises(ValueError, match=r"seeds holds \d+ twice"):
            seed_list(text)


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "3-1", "1,,2", "0.5", "1 2"])
def test_what_are_no_seeds(text):
    with pytest.raises(ValueError, match=r"seeds is .*; it must be like 0-4 or 0,3,7"):
        seed_list(text)


def test_values_have_the_fields_type():
    assert varied("lr=0.5,1") == ("lr", [0.5, 1.0]) and varied("dim=3, 4") == ("dim", [3, 4])
    assert varied("tied=yes,no") == ("tied", [True, False]) and varied("output-bias=true") == ("output_bias", [True])
    assert varied("tokens=100,none") == ("tokens", [100, None])
    assert varied("optimizer=sgd,adam") == ("optimizer", ["sgd", "adam"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate=1", "vary is 'rate=1'; it must be NAME=VALUE,VALUE with NAME one of corpus, tokens"),
        ("lr", "vary is 'lr'; it must be NAME=VALUE"),
        ("seed=1,2", "seeds have an option of their own"),
        ("tied=maybe", "tied is 'maybe'; it must be yes or no"),
        ("dim=1.5", "dim is '1.5'; it must be a whole number"),
        ("lr=", "lr is ''; it must be a number"),
        ("lr=none", "lr is 'none'; it must be a number"),
        ("lr=1,1.0", "vary lr holds 1.0 twice; a run counts once"),
    ],
)
def test_what_cannot_be_varied(text, words):
    with pytest.raises(ValueError, match=words):
        varied(text)


def test_a_plan_is_every_setting_with_every_seed():
    runs = plan([0, 3], {"lr": [0.5, 2.0], "tied": [True, False]}, **SMALL)
    assert list(runs) == [f"lr-{lr}_tied-{tied}_s{s}" for s in (0, 3) for lr in ("0.5", "2") for tied in ("yes", "no")]
    assert runs["lr-2_tied-no_s3"] == TrainConfig.from_preset("small", **SMALL, lr=2.0, tied=False, seed=3)
    assert len(set(runs.values())) == 8 and list(plan([1], {}, **SMALL)) == ["s1"]


def test_numbers_that_print_alike_have_folders_of_their_own():
    names = list(plan([0], {"lr": [0.1, 0.1000001, 1e-7]}, **SMALL))
    assert names == ["lr-0.1_s0", "lr-0.1000001_s0", "lr-1e-07_s0"]


@pytest.mark.parametrize(
    ("vary", "fields", "words"),
    [
        ({"lr": [1.0]}, {"lr": 2.0}, "lr is given and varied; leave one of the two out"),
        ({"lr": [1.0, -1.0]}, {}, "lr--1_s0: lr is -1.0; it must be more than 0.0"),
        ({"tied": [False, True]}, {"dim": 5}, "tied-yes_s0: tied is True with dim 5 and hidden 6"),
        ({"corpus": ["a/x.txt", "b/x.txt"]}, {}, "two settings that would both be called corpus-x_s0"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_anything_runs(vary, fields, words):
    base = {name: value for name, value in {**SMALL, **fields}.items() if name != "corpus" or "corpus" not in vary}
    with pytest.raises(ValueError, match=words):
        plan([0], vary, **base)


# The runs


def test_a_sweep_makes_its_runs_once_and_ends_with_a_table(here, tmp_path, capsys):
    command = ["sweep", "--out", str(tmp_path / "x"), "--seeds", "0-1", "--vary", "lr=0.5,1", *FLAGS]
    assert tiedlib(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "x: 4 runs chosen, 4 to do" and here == ["lr-0.5_s0", "lr-1_s0", "lr-0.5_s1", "lr-1_s1"]
    found = records_of(tmp_path / "x")
    assert sorted(found) == sorted(here)
    assert lines[-4] == "| lr | n | train perplexity | valid perplexity | test perplexity |"
    for line, lr in zip(lines[-2:], ("0.5", "1"), strict=True):
        tests = [found[f"lr-{lr}_s{seed}"]["test_perplexity"] for seed in (0, 1)]
        assert line.endswith(f"| {statistics.fmean(tests):.2f} ± {statistics.stdev(tests):.2f} |")
        assert line.startswith(f"| {float(lr)} | 2 |")
    before = {path: path.read_bytes() for path in (tmp_path / "x").rglob("record.json")}
    assert tiedlib(command) == 0 and len(here) == 4  # nothing is left to do
    assert capsys.readouterr().out.splitlines()[-4:] == lines[-4:]
    wider = [*command[:4], "0-2", *command[5:]]
    assert tiedlib(wider) == 0 and here[4:] == ["lr-0.5_s2", "lr-1_s2"]
    assert {path: path.read_bytes() for path in before} == before


def test_the_numbers_are_those_of_train(here, tmp_path):
    runs = plan([1], {"tied": [True]}, **SMALL)
    (record,), good = sweep(runs, tmp_path / "x", report=lambda line: None)
    out = tmp_path / "alone"
    assert good and tiedlib(["train", *FLAGS, "--tied", "--seed", "1", "--out", str(out)]) == 0
    assert json.loads((out / "record.json").read_text())["weights_sha256"] == record["weights_sha256"]


def test_a_run_that_fails_is_named_and_the_table_is_of_the_others(here, tmp_path, capsys):
    command = ["sweep", "--out", str(tmp_path), "--vary", "lr=1,1e38", "--clip", "1e30", *FLAGS]
    assert tiedlib(command) == 1
    lines = capsys.readouterr().out.splitlines()
    (failed,) = [line for line in lines if line.startswith("[2/2]")]
    assert (
        "lr-1e+38_s0: FloatingPointError: " in failed and "gradient norm" in failed and "lower the learning" in failed
    )
    assert lines[-2].startswith("| 1.0 | 1 |") and lines[-1].startswith("1 of 2 runs have no record")


def test_a_damaged_record_and_a_damaged_checkpoint_are_set_aside(here, tmp_path):
    runs, lines = plan([0, 1], {}, **SMALL), []
    first, _ = sweep(runs, tmp_path, report=lines.append)
    (tmp_path / "s0" / "record.json").write_bytes((tmp_path / "s0" / "record.json").read_bytes()[:-100])
    (tmp_path / "s0" / "checkpoint.pt").write_bytes(b"PK")
    lines.clear()
    again, good = sweep(runs, tmp_path, report=lines.append)
    assert good and lines[0].startswith(f"s0: {tmp_path / 's0' / 'record.json'} is damaged; it is now record.json.dam")
    assert any("checkpoint.pt is damaged" in line and "it is now checkpoint.pt.damaged" in line for line in lines)
    assert [r["weights_sha256"] for r in again] == [r["weights_sha256"] for r in first] and len(again) == 2


def test_a_record_of_other_settings_is_left_and_does_not_count(here, tmp_path):
    sweep(plan([0, 1], {}, **SMALL), tmp_path, report=lambda line: None)
    before, lines = (tmp_path / "s0" / "record.json").read_bytes(), []
    shutil.rmtree(tmp_path / "s1")
    found, good = sweep(plan([0, 1], {}, **{**SMALL, "lr": 0.3}), tmp_path, report=lines.append)
    assert not good and "another configuration: lr 1.0 (now 0.3); it is left as it is" in lines[0]
    assert [record["config"]["seed"] for record in found] == [1]
    assert (tmp_path / "s0" / "record.json").read_bytes() == before


def test_two_sweeps_in_one_folder(tmp_path):
    with locked(tmp_path), pytest.raises(FileError, match="is in use by another run"):
        sweep(plan([0], {}, **SMALL), tmp_path)
    assert not (tmp_path / "s0").exists()


def test_a_table_without_settings_has_one_row(here, tmp_path):
    found, _ = sweep(plan([0, 1], {}, **SMALL), tmp_path, report=lambda line: None)
    assert table(found, []).splitlines()[2].startswith("| 2 | ")


# Real processes


def test_killed_in_the_middle_it_goes_on_and_nothing_counts_twice(tmp_path):
    """kill -9 for the whole sweep while both of its runs are being made; the same command ends in the same bits."""
    out, fields = tmp_path / "x", {**SMALL, "epochs": 40}
    command = [sys.executable, "-m", "tiedlib", "sweep", "--out", str(out), "--vary", "lr=0.5,2", "--jobs", "2"]
    command += [*FLAGS, "--epochs", str(fields["epochs"])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    running = set()
    for line in process.stdout:
        if ", epoch 2:" in line:
            running.add(line.split(",")[0])
        if len(running) == 2:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    early = {run for run in running if not (out / run / "record.json").exists()}
    assert early, "too late: both had ended"
    done = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {line.split(":")[0] for line in done if ": going on at epoch " in line} >= early
    runs = plan([0], {"lr": [0.5, 2.0]}, **fields)
    found = records_of(out)
    assert list(found) == list(runs) and [line.split(" | ")[1] for line in done[-2:]] == ["1", "1"]
    for name, config in runs.items():
        assert found[name]["weights_sha256"] == train(config)["weights_sha256"]
        assert [row["epoch"] for row in found[name]["epochs"]] == list(range(40))
