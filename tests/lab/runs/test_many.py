"""tiedlib.lab.runs.many: what one run says and leaves, whatever it finds (`test_reproduce` and `test_sweep` look at many)."""

import dataclasses
import json

import pytest

from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.files import locked
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs import records
from tiedlib.lab.runs.checkpoints import DamagedError
from tiedlib.lab.runs.many import Task, make, one

TINY = TrainConfig(
    corpus="toy_language", tokens=400, vocabulary_size=50, dim=6, hidden=6, layers=1, epochs=1, batch=4, unroll=10,
    threads=1,
)  # fmt: skip


def task(folder, **fields):
    return Task(dataclasses.replace(TINY, **fields), folder / "run", folder / "run" / "record.json")


def test_a_damaged_checkpoint_is_said_and_the_run_made(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK")
    lines = []
    record = one("a", task(tmp_path), 1, lines.append)
    assert record["config"] == dataclasses.asdict(TINY)
    assert lines[0].startswith("a: ") and "checkpoint.pt is damaged" in lines[0] and "checkpoint.pt.damaged" in lines[0]
    assert lines[1].startswith("a, epoch 1: ") and (tmp_path / "run" / "checkpoint.pt.damaged").read_bytes() == b"PK"


def test_of_the_other_kind_too(tmp_path):
    config = VAEConfig(images="digits", held_out=300, hidden=8, latent=2, epochs=1, bound_samples=2, threads=1)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK")
    lines = []
    record = one("a", Task(config, tmp_path / "run", tmp_path / "a.json"), 1, lines.append)
    assert record["config"] == dataclasses.asdict(config) and records.read(tmp_path / "a.json")["config"]["latent"] == 2
    assert lines[0].endswith("it is now checkpoint.pt.damaged, and the run begins anew") and lines[1].startswith(
        "a, epoch 1: "
    )


def test_what_goes_wrong_is_a_text(tmp_path):
    assert one("a", task(tmp_path, lr=1e38, clip=1e30), 1, print).startswith("FloatingPointError: ")
    with locked(tmp_path / "run"):
        assert "is in use by another run" in one("a", task(tmp_path), 1, print)


def test_a_folder_in_use_is_waited_for(tmp_path):
    """The lock is dropped after a moment: with patience the run is made, without it is refused."""
    import threading

    held, go = threading.Event(), threading.Event()

    def hold():
        with locked(tmp_path / "run"):
            held.set()
            go.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    threading.Timer(0.3, go.set).start()
    assert one("a", task(tmp_path), 1, print, patience=60.0)["config"] == dataclasses.asdict(TINY)
    other.join()


def test_a_damaged_record_is_made_again_and_kept(tmp_path):
    wanted, lines = {"a": task(tmp_path)}, []
    record = train(TINY, tmp_path / "run")
    wanted["a"].record.write_text("no record")

    def outcomes(missing):
        assert list(missing) == ["a"]
        for run in missing:
            yield run, one(run, missing[run], 1, lines.append)

    assert make("x", wanted, outcomes, lines.append)
    assert lines[0] == f"a: {wanted['a'].record} is damaged; it is now record.json.damaged, and the run is made again"
    assert json.loads(wanted["a"].record.read_text())["weights_sha256"] == record["weights_sha256"]
    assert (tmp_path / "run" / "record.json.damaged").read_text() == "no record"
    assert make("x", wanted, lambda missing: iter(()), lines.append) and lines[-1] == "x: 1 runs chosen, 0 to do"


def test_a_damaged_file_is_an_error_of_its_own(tmp_path):
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(records.DamagedRecordError, match="it is no record of a run"):
        records.read(tmp_path / "record.json")
    assert issubclass(DamagedError, RuntimeError) and issubclass(records.DamagedRecordError, records.RecordError)
