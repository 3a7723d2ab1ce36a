"""A field that is added to a configuration leaves every record and every checkpoint valid: what is absent has its default.

Held by adding one, of each kind of value, to the configurations of the runs that were recorded before it.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.lab.runs.killed import Killed, until
from tests.places import ROOT
from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.autoencoder.training import train_vae
from tiedlib.lab.experiments import reproduce
from tiedlib.lab.experiments import sweep as sweeping
from tiedlib.lab.experiments.experiment import Experiment, Planned
from tiedlib.lab.experiments.reproduce import EXPERIMENTS
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs import checkpoints, recorded, records, unfinished
from tiedlib.lab.runs.configuration import changed, completed, differences, option, options_of

RESULTS = ROOT / "data" / "results"
RECORDED = [
    (RESULTS / name / f"{run}.json", config)
    for name, experiment in EXPERIMENTS.items()
    for run, config in experiment.runs.items()
    if (RESULTS / name / f"{run}.json").exists()
]
DEFAULTS: list[Any] = [0.25, 3, True, False, "word", None, (1, 2)]
TINY = TrainConfig(
    corpus="toy_language", tokens=600, vocabulary_size=60, dim=8, hidden=8, layers=1, epochs=2, constant_epochs=0,
    batch=4, unroll=7, threads=1,
)  # fmt: skip
TINY_VAE = VAEConfig(images="digits", held_out=237, hidden=8, latent=2, epochs=2, batch=400, bound_samples=4, threads=1)


def widened(config: Any, default: Any) -> Any:
    """The same run, by a program whose configuration has one field more."""
    kind = type(config)
    fields = [("flourish", Any, option(default, "what came later"))]
    wider: Any = dataclasses.make_dataclass(f"Wider{kind.__name__}", fields, bases=(kind,), frozen=True)
    return wider(**dataclasses.asdict(config))


def test_every_recorded_run_is_one_of_an_experiment() -> None:
    runs = {path for path, _ in RECORDED}
    for path in RESULTS.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and {"corpus", "images"} & set(content.get("config", ())):
            assert path.with_name(path.name.replace(".unfinished", "")) in runs or content.get("unfinished"), path
    assert len(runs) >= 179


def test_every_committed_record_is_accepted_by_its_experiment() -> None:
    for path, config in RECORDED:
        records.refuse_other(path, config)
        assert records.read(path)["config"] == dataclasses.asdict(config), "whoever reads it finds every field"


def test_a_committed_record_from_before_any_of_its_fields_is_accepted(tmp_path: Path) -> None:
    """Every field that has its default is taken out of the record, but for the first, which names the kind of run."""
    taken = 0
    for number, (path, config) in enumerate(RECORDED):
        old = json.loads(path.read_text(encoding="utf-8"))
        given = {**changed(config), options_of(type(config))[0].name: getattr(config, options_of(type(config))[0].name)}
        taken += len(dataclasses.asdict(config)) - len(given)
        short = tmp_path / f"{number}.json"
        short.write_text(json.dumps({**old, "config": given}), encoding="utf-8")
        records.refuse_other(short, config)
        assert records.read(short)["config"] == dataclasses.asdict(config)
    assert taken > 1000


@pytest.mark.parametrize("default", DEFAULTS, ids=repr)
def test_a_new_field_leaves_every_committed_record_valid(default: Any) -> None:
    for path, config in RECORDED:
        wider = widened(config, default)
        records.refuse_other(path, wider)
        records.refuse_other(path, dataclasses.asdict(wider))
        other = dataclasses.replace(wider, flourish="another")
        with pytest.raises(
            records.RecordError,
            match=rf"configuration: flourish {default!r} \(now 'another'\);".replace("(1, 2)", r"\(1, 2\)"),
        ):
            records.refuse_other(path, other)


@pytest.mark.parametrize("default", DEFAULTS, ids=repr)
def test_a_run_that_was_stopped_goes_on_after_a_field_was_added(default: Any, tmp_path: Path) -> None:
    whole = train(TINY)
    with pytest.raises(Killed):
        train(TINY, tmp_path, on_event=until(25), checkpoint_seconds=0.0)
    wider = widened(TINY, default)
    record = train(wider, tmp_path)
    assert record["weights_sha256"] == whole["weights_sha256"]
    assert record["config"] == {**dataclasses.asdict(TINY), "flourish": default}
    assert train(wider, tmp_path)["weights_sha256"] == whole["weights_sha256"], "the finished run is given as it is"
    with pytest.raises(checkpoints.CheckpointError, match="has another configuration: flourish"):
        train(dataclasses.replace(wider, flourish="another"), tmp_path)


def test_a_finished_run_is_given_with_every_field(tmp_path: Path) -> None:
    before = train(TINY, tmp_path)
    written = (tmp_path / "record.json").read_bytes()
    after = train(widened(TINY, 0.5), tmp_path)
    assert (
        after["config"] == {**before["config"], "flourish": 0.5} and after["weights_sha256"] == before["weights_sha256"]
    )
    assert (tmp_path / "record.json").read_bytes() == written, "the record is left as it was made"


def test_a_run_without_a_field_of_today_goes_on(tmp_path: Path) -> None:
    """A folder from before `early_clip`."""
    before = train(TINY, tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    record = json.loads((tmp_path / "record.json").read_text())
    for config in (saved["config"], saved["record"]["config"], record["config"]):
        del config["early_clip"], config["threads"], config["precision"], config["init_range"]
    checkpoints.save(tmp_path / "checkpoint.pt", saved)
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(checkpoints.CheckpointError, match=r"has another configuration: threads None \(now 1\);"):
        train(TINY, tmp_path)
    anew = dataclasses.replace(TINY, threads=None)
    assert train(anew, tmp_path)["weights_sha256"] == before["weights_sha256"]


def test_an_auto_encoder_goes_on_after_a_field_was_added(tmp_path: Path) -> None:
    whole = train_vae(TINY_VAE)

    def kill(event: Any) -> None:
        if isinstance(event, dict):
            raise Killed

    with pytest.raises(Killed):
        train_vae(TINY_VAE, tmp_path, on_event=kill)
    wider = widened(TINY_VAE, 2.5)
    record = train_vae(wider, tmp_path)
    assert record["weights_sha256"] == whole["weights_sha256"] and record["config"]["flourish"] == 2.5
    with pytest.raises(checkpoints.CheckpointError, match=r"flourish 2.5 \(now 3\)"):
        train_vae(dataclasses.replace(wider, flourish=3), tmp_path)


def nothing(tasks: Any, *_: Any, **__: Any) -> Any:
    assert not tasks, "a run that has a record was begun"
    return iter(())


@pytest.mark.parametrize("missing", ["early_clip", "flourish"])
def test_a_sweep_takes_records_from_before_a_field(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It said that nothing was to do, and left the run out of its table."""
    configs = {f"s{seed}": dataclasses.replace(TINY, epochs=1, seed=seed) for seed in range(2)}
    for run, config in configs.items():
        train(config, tmp_path / run)
    path = tmp_path / "s1" / "record.json"
    old = json.loads(path.read_text())
    old["config"].pop(missing, None)
    path.write_text(json.dumps(old))
    monkeypatch.setattr(sweeping, "by_processes", nothing)
    runs = {run: widened(config, 0.25) for run, config in configs.items()} if missing == "flourish" else configs
    lines: list[str] = []
    found, good = sweeping.sweep(runs, tmp_path, report=lines.append)
    assert good and lines[0].endswith("2 runs chosen, 0 to do") and [r["config"]["seed"] for r in found] == [0, 1]
    assert "| 2 |" in sweeping.table(found, [missing] if missing == "early_clip" else ["lr"])


def test_reproduce_leaves_records_from_before_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(TINY, tmp_path / "run")
    results = tmp_path / "results"
    records.save_record(results / "tiny" / "a-s0.json", records.read(tmp_path / "run" / "record.json"))
    before = (results / "tiny" / "a-s0.json").read_bytes()
    experiment = Experiment("tiny", "0", (Planned("a", widened(TINY, True)),))
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment)
    monkeypatch.setattr(reproduce, "by_processes", nothing)
    lines: list[str] = []
    assert reproduce.reproduce("tiny", tmp_path / "runs", results, report=lines.append)
    assert lines == ["tiny: 1 runs chosen, 0 to do"] and (results / "tiny" / "a-s0.json").read_bytes() == before


def test_tables_and_partial_records_have_every_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.asdict(TINY)
    short = {name: value for name, value in config.items() if name not in ("early_clip", "precision")}
    rows = recorded.table(
        [{"config": short, "test_perplexity": 2.0}, {"config": config, "test_perplexity": 4.0}],
        ["early_clip", "precision"],
    )
    assert [(row["early_clip"], row["precision"], row["n"], row["test_perplexity"]) for row in rows] == [
        (None, "float32", 2, 3.0)
    ]
    (tmp_path / "a.unfinished.json").write_text(
        json.dumps({"format": records.FORMAT, "unfinished": True, "config": short})
    )
    monkeypatch.setattr(unfinished, "resource", lambda name: tmp_path / Path(name).name)
    found = unfinished.load_unfinished("a")
    assert found is not None and found["config"] == config


def test_what_is_completed_and_what_is_not() -> None:
    assert completed({"corpus": "x"}) == dataclasses.asdict(TrainConfig(corpus="x"))
    assert completed({"images": "digits"}) == dataclasses.asdict(VAEConfig(images="digits"))
    assert completed({"corpus": "x", "steps": 9})["offset_lr"] == 1.0, "a start of a run"
    assert completed({"corpus": "x", "steps": 9}, TrainConfig)["steps"] == 9
    for other in ({}, {"threads": 2}, {"corpus": "x", "of_another_program": 1}):
        assert completed(other) == other
    assert (
        differences({"corpus": "ptb"}, TrainConfig())
        == differences(dataclasses.asdict(TrainConfig()), {"corpus": "ptb"})
        == []
    )
    assert differences({"corpus": "ptb", "of_another_program": None}, TrainConfig()) == [
        "of_another_program None (now 'absent')"
    ]
    assert differences({"corpus": "ptb", "lr": 1, "tied": True}, TrainConfig()) == ["tied True (now False)"]


@pytest.mark.parametrize("default", DEFAULTS, ids=repr)
def test_the_folder_of_a_run_keeps_its_name(default: Any) -> None:
    """The same command goes on with its run after a field was added; another value is another run."""
    wider = widened(TINY, default)
    assert wider.digest() == TINY.digest() == "4a10ef7d"
    assert dataclasses.replace(wider, flourish="another").digest() != TINY.digest()
    assert sweeping.plan([0], {"lr": [0.5]}).keys() == {"lr-0.5_s0"}
