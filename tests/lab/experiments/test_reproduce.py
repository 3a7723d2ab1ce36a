"""tiedlib.lab.experiments.reproduce: which runs there are, that only missing ones are made, and what happens when one fails."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from tests.lab.experiments.tiny import experiment
from tests.places import ROOT
from tiedlib.lab.experiments import reproduce as module
from tiedlib.lab.experiments.reproduce import EXPERIMENTS, reproduce, results_folder
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.embeddings import load_embeddings
from tiedlib.lab.language_model.first_steps import FirstStepsConfig
from tiedlib.lab.runs.many import one
from tiedlib.lab.runs.recorded import load_runs, run_name
from tiedlib.lab.runs.records import RecordError

TINY = TrainConfig(
    corpus="toy_language", tokens=400, vocabulary_size=50, dim=6, hidden=6, layers=1, epochs=1, batch=4, unroll=10,
    threads=1,
)  # fmt: skip
RUNS = {
    f"{kind}-s{seed}": dataclasses.replace(TINY, tied=kind == "tied", seed=seed)
    for seed in range(2)
    for kind in ("untied", "tied")
}


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment(RUNS))


@pytest.fixture
def here(monkeypatch):
    """Runs in this process, which is quicker; `test_runs_have_processes_of_their_own` does without."""

    def outcomes(tasks, jobs, report, **options):
        for run, task in tasks.items():
            yield run, one(run, task, 1, lambda line: None, **options)

    monkeypatch.setattr(module, "by_processes", outcomes)


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.json"))


def test_the_slice_has_the_runs_that_the_chapter_needs():
    runs = EXPERIMENTS["tying-slice"].runs
    seeds = Counter(one.variant for one in EXPERIMENTS["tying-slice"].planned)
    for variant in ("untied", "tied", "untied-pr", "tied-pr", "adam-untied", "adam-tied", "tied-p", "untied-frozen",
                    "untied-small", "tied-nobias", "tied-pr-bias"):  # fmt: skip
        assert seeds[variant] == 5, variant
    assert all(count >= 3 for count in seeds.values())
    assert len({json.dumps(dataclasses.asdict(c), sort_keys=True) for c in runs.values()}) == len(runs)  # no run twice
    assert all(name.endswith(f"-s{config.seed}") for name, config in runs.items())


def test_one_factor_at_a_time():
    """Each variant differs from untied or tied in what its name says, and in nothing else."""
    runs = EXPERIMENTS["tying-slice"].runs

    def differences(name, base):
        a, b = (dataclasses.asdict(runs[f"{n}-s0"]) for n in (name, base))
        return {key: a[key] for key in a if a[key] != b[key]}

    assert differences("tied", "untied") == {"tied": True}
    assert differences("tied-pr", "tied") == {"projection": True, "penalty": "code"}
    assert differences("tied-p", "tied") == {"projection": True}
    assert differences("tied-pr-bias", "tied-pr") == {"projection_bias": True}
    assert differences("tied-pr-spectral", "tied-p") == {"penalty": "spectral"}
    assert differences("untied-frozen", "untied") == {"freeze_input": True}
    assert differences("untied-small", "untied") == {"projection": True, "dim": 32}
    assert differences("tied-nobias", "tied") == {"output_bias": False}
    assert differences("adam-tied", "tied") == {"optimizer": "adam", "lr": 0.003}
    assert differences("adam-0.01-tied", "adam-tied") == {"lr": 0.01}
    assert differences("lr-0.5-untied", "untied") == {"lr": 0.5}
    assert differences("augmented-1-tied", "tied") == {"augmented_alpha": 1.0}
    assert differences("augmented-20-untied", "untied") == {"augmented_alpha": 10.0, "augmented_tau": 20.0}


def test_the_small_model_is_the_papers():
    runs = EXPERIMENTS["press-wolf-small"].runs
    assert len(runs) == 57 and runs["untied-s0"] == TrainConfig.from_preset("small", corpus="ptb")
    assert runs["tied-s2"] == TrainConfig.from_preset("small", corpus="ptb", tied=True, seed=2)
    bias = runs["tied-pr-code-bias-s1"]
    assert (bias.tied, bias.projection, bias.projection_bias, bias.penalty, bias.seed) == (True, True, True, "code", 1)
    for end in ("", "-bias"):  # one factor each
        whole = runs[f"tied-pr-code{end}-s1"]
        assert runs[f"tied-p{end}-s1"] == dataclasses.replace(whole, penalty="none")
        assert runs["tied-clip-1-s1"] == dataclasses.replace(runs["tied-s1"], clip=1.0)
        assert runs[f"tied-pr-code{end}-clip-1-s1"] == dataclasses.replace(whole, clip=1.0)
    for name, clip in (("tied", 1.0), ("tied-pr-code", 1.0), ("tied-pr-code", 2.0)):
        assert runs[f"{name}-early-clip-{clip:g}-s1"] == dataclasses.replace(runs[f"{name}-s1"], early_clip=clip)
    early = runs["untied-decay-early-s1"]
    assert early == dataclasses.replace(runs["untied-s1"], constant_epochs=3)
    assert [early.lr_factor(i) for i in range(3, 6)] == [1.0, 0.5, 0.25]  # four epochs at full rate, then half of it


def test_the_large_model_is_the_papers():
    """Table 5: dropout 0.65 and 55 epochs; sizes, schedule and start as in the code it rests on."""
    runs = EXPERIMENTS["press-wolf-large"].runs
    assert list(runs)[:2] == ["untied-s0", "tied-s0"] and len(runs) == 8
    large = runs["untied-s0"]
    assert (
        large == TrainConfig.from_preset("large", corpus="ptb") and runs["tied-s2"].tied and runs["tied-s2"].seed == 2
    )
    assert (large.dropout, large.epochs, large.hidden, large.dim, large.layers) == (0.65, 55, 1500, 1500, 2)
    assert (large.init_range, large.unroll, large.clip, large.lr, large.batch) == (0.04, 35, 10.0, 1.0, 20)
    assert [large.lr_factor(i) for i in (0, 14)] == [1.0, 1.0] and large.lr_factor(16) == pytest.approx(1.15**-2)
    for name, config in runs.items():
        assert config.precision == ("bfloat16" if "bfloat16" in name else "float32"), name
        assert config.tied == name.startswith("tied") and not config.projection, name


def test_wikitext_has_the_small_model():
    runs = EXPERIMENTS["press-wolf-wikitext2"].runs
    small = EXPERIMENTS["press-wolf-small"].runs
    assert list(runs)[:2] == ["untied-s0", "tied-s0"] and len(runs) == 6
    assert runs == {name: dataclasses.replace(small[name], corpus="wikitext-2") for name in runs}


def test_starts_differ_in_one_factor():
    """Three seeds of each; whatever is called after the offset differs from the wild start in that alone."""
    runs = EXPERIMENTS["press-wolf-start"].runs
    assert set(Counter(one.variant for one in EXPERIMENTS["press-wolf-start"].planned).values()) == {3}
    assert all(type(config) is FirstStepsConfig and name.endswith(f"-s{config.seed}") for name, config in runs.items())

    def differences(name, base):
        a, b = (dataclasses.asdict(runs[f"{n}-s1"]) for n in (name, base))
        return {key: a[key] for key in a if a[key] != b[key]}

    wild = "tied-p-code-bias"
    assert differences(wild, "tied-p-code") == {"projection_bias": True}
    assert differences("tied-p-code", "tied") == {"projection": True, "penalty": "code"}
    for name, base in (("tied", "untied"), ("tied-p-code", "untied-p-code"), (wild, "untied-p-code-bias")):
        assert differences(name, base) == {"tied": True}
    assert [differences(f"offset-lr-{f}", wild) for f in ("0", "0.05", "0.25")] == [
        {"offset_lr": f} for f in (0.0, 0.05, 0.25)
    ]
    assert differences("offset-zero", wild) == {"offset_zero": True}
    assert differences("offset-penalty", wild) == {"offset_penalty": 1.0}
    assert differences("identity-bias", wild) == {
        "identity": True,
        "penalty": "none",
    }  # P stays, a penalty does nothing
    assert differences("clip-1", wild) == {"clip": 1.0}
    assert differences("tied-p-frobenius-bias", wild) == {"penalty": "frobenius"}
    small = dataclasses.asdict(EXPERIMENTS["press-wolf-small"].runs["tied-pr-code-bias-s1"])
    assert {k: v for k, v in dataclasses.asdict(runs[f"{wild}-s1"]).items() if small.get(k, v) != v} == {"threads": 1}


def test_a_start_is_made_as_any_run(here, tmp_path, monkeypatch):
    tiny = FirstStepsConfig(**{f.name: getattr(TINY, f.name) for f in dataclasses.fields(TINY)}, steps=5)
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment({"tied-s0": tiny, "untied-s0": tiny}, False))
    lines = []
    assert reproduce("tiny", tmp_path / "out", tmp_path / "results", report=lines.append)
    assert names(tmp_path / "results") == ["tiny/tied-s0.json", "tiny/untied-s0.json"] and "loss " in lines[1]
    record = json.loads((tmp_path / "results" / "tiny" / "tied-s0.json").read_text())
    assert record["config"] == dataclasses.asdict(tiny) and len(record["first"]) == 5


@pytest.mark.parametrize("name", ["press-wolf-start", "vae-mnist"])
def test_a_device_that_the_runs_do_not_know_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"device is 'cuda'; the runs of {name} are made on the cpu"):
        reproduce(name, tmp_path, tmp_path, device="cuda")
    assert list(tmp_path.iterdir()) == []


def test_the_device_and_steps_reach_the_runs(tiny, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "by_processes", lambda tasks, jobs, report, **options: iter([seen.append(options)][:0]))
    reproduce("tiny", tmp_path, tmp_path / "r", report=lambda line: None)
    reproduce("tiny", tmp_path, tmp_path / "r", device="cuda", steps=4, report=lambda line: None)
    assert seen == [{}, {"device": "cuda", "steps": 4}]


def test_runs_are_chosen_by_pattern_and_seed():
    one = experiment(RUNS)
    assert [run.name for run in one.chosen()] == list(RUNS)
    assert [run.name for run in one.chosen("tied-*")] == ["tied-s0", "tied-s1"]
    assert [run.name for run in one.chosen("*", 1)] == ["untied-s0", "tied-s0"] and one.chosen("TIED*") == []


def test_only_missing_runs_are_made(tiny, here, tmp_path):
    out, results, lines = tmp_path / "out", tmp_path / "results", []
    assert reproduce("tiny", out, results, only="untied-*", report=lines.append)
    assert names(results) == ["tiny/embeddings.json", "tiny/untied-s0.json", "tiny/untied-s1.json"]
    assert lines[0] == "tiny: 2 runs chosen, 2 to do" and lines[1].startswith("[1/2] untied-s0: perplexity ")
    before = (results / "tiny" / "untied-s0.json").read_bytes()
    lines.clear()
    assert reproduce("tiny", out, results, report=lines.append)
    assert lines[0] == "tiny: 4 runs chosen, 2 to do" and (results / "tiny" / "untied-s0.json").read_bytes() == before
    compared = json.loads((results / "tiny" / "embeddings.json").read_text())
    assert list(compared["seeds"]) == ["0", "1"] and list(compared["baselines"]) == ["0-1"]


def test_comparisons_of_runs_made_in_other_places_come_together(tiny, here, tmp_path):
    """Seed after seed on machines of their own: each adds what it made, and says nothing of what it did not."""
    results, path = tmp_path / "results", tmp_path / "results" / "tiny" / "embeddings.json"
    assert reproduce("tiny", tmp_path / "one", results, seeds=1, report=lambda line: None)
    first = json.loads(path.read_text())
    assert list(first["seeds"]) == ["0"] and sorted(first["weights"]) == ["tied-s0", "untied-s0"]
    assert reproduce("tiny", tmp_path / "two", results, only="tied-*", report=lambda line: None)  # no pair of its own
    found = json.loads(path.read_text())
    assert sorted(found["weights"]) == ["tied-s0", "tied-s1", "untied-s0"] and found["seeds"] == first["seeds"]
    assert reproduce("tiny", tmp_path / "two", results, report=lambda line: None)
    found = json.loads(path.read_text())
    assert list(found["seeds"]) == ["0", "1"] and found["seeds"]["0"] == first["seeds"]["0"]
    assert not found["baselines"]  # the two seeds were never in one place
    assert found["weights_sha256"]["tied-s0"] == first["weights_sha256"]["tied-s0"]
    assert reproduce("tiny", tmp_path / "nowhere", results, report=lambda line: None)  # with nothing to compare
    assert json.loads(path.read_text()) == found
    path.write_text("{")
    with pytest.raises(RecordError, match=r"embeddings.json is damaged .*; move it away"):
        reproduce("tiny", tmp_path / "two", results, report=lambda line: None)


@pytest.mark.parametrize("name", ["tying-slice", "press-wolf-small"])
def test_recorded_comparisons_are_of_the_weights_of_recorded_runs(name):
    compared = load_embeddings(name)
    runs = {run_name(v, seed): record for v, seeds in load_runs(name).items() for seed, record in seeds.items()}
    assert compared["seeds"] and set(compared["weights"]) == set(runs)
    for run, sha in compared["weights_sha256"].items():
        assert runs[run]["weights_sha256"] == sha, run
    pairs = {f"{kind}-s{seed}" for seed in compared["seeds"] for kind in ("untied", "tied")}
    assert pairs == set(compared["weights_sha256"])


def test_records_are_those_of_the_configuration(tiny, here, tmp_path):
    reproduce("tiny", tmp_path / "out", tmp_path / "results", only="tied-s1", report=lambda line: None)
    record = json.loads((tmp_path / "results" / "tiny" / "tied-s1.json").read_text())
    assert record["config"] == dataclasses.asdict(RUNS["tied-s1"])


def test_a_run_that_fails_is_reported_and_the_others_go_on(here, tmp_path, monkeypatch):
    bad = dataclasses.replace(TINY, corpus=str(tmp_path / "missing.txt"))
    runs = {"bad-s0": bad, "good-s0": TINY}
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment(runs))
    lines = []
    assert not reproduce("tiny", tmp_path / "out", tmp_path / "results", report=lines.append)
    assert lines[1].startswith("[1/2] bad-s0: MissingFileError: there is no file") and "good-s0: perplexity" in lines[2]
    assert names(tmp_path / "results") == ["tiny/embeddings.json", "tiny/good-s0.json"]


def test_a_record_of_another_configuration_is_left(tiny, here, tmp_path):
    path, lines = tmp_path / "results" / "tiny" / "tied-s0.json", []
    reproduce("tiny", tmp_path / "out", tmp_path / "results", only="tied-s0", report=lines.append)
    record = json.loads(path.read_text())
    record["config"]["lr"] = 0.3
    path.write_text(json.dumps(record))
    lines.clear()
    assert not reproduce("tiny", tmp_path / "out", tmp_path / "results", only="tied-s*", report=lines.append)
    assert "tied-s0.json is the record of another configuration: lr 0.3 (now 1.0)" in lines[0]
    assert json.loads(path.read_text()) == record and lines[1] == "tiny: 2 runs chosen, 1 to do"


def test_runs_have_processes_of_their_own(tiny, tmp_path):
    lines = []
    assert reproduce("tiny", tmp_path / "out", tmp_path / "results", jobs=2, seeds=1, report=lines.append)
    assert names(tmp_path / "results") == ["tiny/embeddings.json", "tiny/tied-s0.json", "tiny/untied-s0.json"]
    assert {line.split(",")[0] for line in lines if ", epoch 1:" in line} == {"tied-s0", "untied-s0"}
    assert lines[-1].startswith("[2/2] ")


def test_a_killed_process_is_said_and_the_others_go_on(tmp_path, monkeypatch):
    """kill -9 for the process of one run; it has its checkpoint, so that the same command can go on with it."""
    runs = {"long-s0": dataclasses.replace(TINY, epochs=100_000), "short-s1": dataclasses.replace(TINY, seed=1)}
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment(runs))
    lines = []

    def report(line):
        lines.append(line)
        if line.startswith("long-s0, epoch 2:"):
            (process,) = multiprocessing.active_children()
            process.kill()

    assert not reproduce("tiny", tmp_path / "out", tmp_path / "results", report=report)
    assert "[1/2] long-s0: its process was killed; give the same command again to go on" in lines
    assert names(tmp_path / "results") == ["tiny/embeddings.json", "tiny/short-s1.json"]
    assert (tmp_path / "out" / "tiny" / "long-s0" / "checkpoint.pt").exists()


def test_ctrl_c_stops_every_process_and_saves(tmp_path):
    """The signal reaches the whole group, as in a terminal; the run has a checkpoint and no record."""
    long = dataclasses.asdict(dataclasses.replace(TINY, epochs=100_000))
    code = f"""
        import pathlib, sys
        from tests.lab.experiments.tiny import experiment
        from tiedlib.lab.experiments import reproduce
        from tiedlib.lab.language_model.configuration import TrainConfig

        runs = {{"long-s0": TrainConfig(**{long!r})}}
        reproduce.EXPERIMENTS["tiny"] = experiment(runs)
        root = pathlib.Path({str(tmp_path)!r})
        if __name__ == "__main__":
            reproduce.reproduce("tiny", root / "out", root / "results", report=lambda line: print(line, flush=True))
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())}, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background is born deaf to it
    )  # fmt: skip
    for line in process.stdout:
        if ", epoch 2:" in line:
            break
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=600)
    assert process.returncode != 0 and names(tmp_path / "results") == []
    assert (tmp_path / "out" / "tiny" / "long-s0" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "tying"}, "name is 'tying'; it must be one of tying-slice, press-wolf-start, press-wolf-small"),
        ({"jobs": 0}, "jobs is 0; it must be at least 1"),
        ({"only": "nothing*"}, r"only is 'nothing\*', seeds None; they must match one of \d+ runs, such as untied-s0"),
        ({"seeds": 0}, "seeds 0; they must match"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, change, message):
    arguments = {"name": "tying-slice", **change}
    with pytest.raises(ValueError, match=message):
        reproduce(arguments.pop("name"), tmp_path, tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_readme_has_every_experiment_with_its_hours():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    for name, planned in EXPERIMENTS.items():
        start = f"| `{name}` | {len(planned.runs)} | {planned.hours} |"
        assert sum(line.startswith(start) for line in lines) == 1, start


def test_records_of_a_checkout_are_in_its_data_folder():
    folder = results_folder()
    assert folder is None or folder.parts[-2:] == ("data", "results")
