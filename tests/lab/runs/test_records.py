"""tiedlib.lab.runs.records: what a record holds, that none is overwritten, and the tables made from them."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from tiedlib.lab.data import load_corpus
from tiedlib.lab.files import FileError
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs import provenance, recorded, records
from tiedlib.lab.runs.recorded import load_runs
from tiedlib.lab.runs.records import RecordError, save_record
from tiedlib.tying import LanguageModel

TINY = TrainConfig(
    corpus="toy_language", tokens=400, vocabulary_size=50, dim=6, hidden=6, layers=1, epochs=1, batch=4, unroll=10,
    threads=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def record():
    return train(TINY)


@pytest.fixture
def results(tmp_path, monkeypatch):
    """A folder of results in the place of the library's own."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(recorded, "resource", lambda relative: _inside(tmp_path, relative))
    return folder


def _inside(root, relative):
    if not (root / relative).exists():
        raise FileNotFoundError(relative)
    return root / relative


def test_a_record_says_what_is_needed_to_repeat_the_run(record):
    assert record["config"] == dataclasses.asdict(TINY) and record["format"] == records.FORMAT
    assert record["data"] == {} and record["data_partial"] is None  # toy_language reads no file
    assert record["parameters"] == sum(p.numel() for p in LanguageModel(50, 6, 6, 1).parameters())
    assert record["versions"].keys() == {"python", "torch", "tiedlib", "numpy"}
    assert type(record["versions"]["torch"]) is str
    assert record["machine"].keys() == {"processor", "system", "cores", "threads"} and record["machine"]["threads"] == 1
    assert record["started"] <= record["finished"] and record["started"].endswith("+00:00")
    assert 0 < record["epochs"][0]["seconds"] < record["seconds"] and record["peak_memory_mb"] > 50
    (epoch,) = record["epochs"]
    assert epoch["train_perplexity"] == pytest.approx(math.exp(epoch["train_loss"]))
    assert epoch["tokens_per_second"] == pytest.approx(4 * 99 / epoch["seconds"])
    assert record["valid_perplexity"] == epoch["valid_perplexity"] and len(record["weights_sha256"]) == 64


def test_a_round_trip_through_json(record, results):
    save_record(results / "slice" / "a-s0.json", record)
    assert records.read(results / "slice" / "a-s0.json") == json.loads(json.dumps(record))


def test_numbers_that_json_lacks_become_null(record, tmp_path):
    save_record(tmp_path / "r.json", {**record, "x": [math.inf, {"y": math.nan}], "z": (1.5,)})
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["x"] == [None, {"y": None}] and found["z"] == [1.5]


def test_a_record_of_another_configuration_is_never_overwritten(record, tmp_path):
    path = tmp_path / "r.json"
    save_record(path, record)
    before = path.read_bytes()
    save_record(path, {**record, "seconds": 1.0})  # the same configuration may be written again
    assert json.loads(path.read_text())["seconds"] == 1.0
    path.write_bytes(before)
    other = {**record, "config": {**record["config"], "lr": 0.3}}
    with pytest.raises(RecordError, match=r"r.json is the record of another configuration: lr 1.0 \(now 0.3\)"):
        save_record(path, other)
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"config": 3}', '{"format": 1}', "\x00"])
def test_a_damaged_record_is_named_and_left(record, results, text):
    path = results / "bad.json"
    path.write_text(text)
    for use in (lambda: records.read(path), lambda: load_runs("."), lambda: save_record(path, record)):
        with pytest.raises(
            RecordError, match=r"bad.json is damaged .*run it again|bad.json is damaged: it is no record"
        ):
            use()
    assert path.read_text() == text


def test_bytes_that_are_no_text_are_a_damaged_record(results):
    (results / "bad.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecordError, match=r"bad.json is damaged"):
        records.read(results / "bad.json")


def test_another_format_is_refused(record, results):
    (results / "new.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(RecordError, match="has format 99, this program reads 1"):
        records.read(results / "new.json")


def test_a_disk_that_refuses(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="a file stands where a folder is needed"):
        save_record(tmp_path / "file" / "r.json", record)


# Pieces


def test_the_hash_is_of_names_and_bits():
    state = {"a": torch.ones(2), "b": torch.zeros(2)}
    first = provenance.weights_sha256(state)
    assert first == provenance.weights_sha256({k: v.clone() for k, v in state.items()})
    assert first != provenance.weights_sha256({"a": torch.ones(2), "c": torch.zeros(2)})
    nearly = {"a": torch.nextafter(torch.ones(2), torch.tensor(2.0)), "b": torch.zeros(2)}
    assert first != provenance.weights_sha256(nearly)


def test_perplexity_of_too_many_nats_is_infinite():
    assert provenance.perplexity(math.log(80)) == pytest.approx(80) and provenance.perplexity(1e4) == math.inf


def test_hashes_of_the_files_are_kept(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("a b c d e f g h\n" * 30)
    record = train(dataclasses.replace(TINY, corpus=str(text), tokens=None, vocabulary_size=None))
    assert record["data"] == load_corpus(Path(text)).sha256 and len(record["data"]["mine.txt"]) == 64
