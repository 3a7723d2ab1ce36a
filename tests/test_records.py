"""tiedlib.lab.records: what a record holds, that none is overwritten, and the tables made from them."""

import dataclasses
import html.parser
import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.lab import records
from tiedlib.lab.checkpoints import CheckpointError
from tiedlib.lab.configuration import TrainConfig
from tiedlib.lab.data import load_corpus
from tiedlib.lab.records import RecordError, load_record, load_records, save_record, table, to_html, to_markdown
from tiedlib.lab.training import train
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
    monkeypatch.setattr(records, "resource", lambda relative: _inside(tmp_path, relative))
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
    assert load_record("slice/a-s0") == json.loads(json.dumps(record))


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
    for use in (lambda: load_record("bad"), lambda: load_records("b"), lambda: save_record(path, record)):
        with pytest.raises(
            RecordError, match=r"bad.json is damaged .*run it again|bad.json is damaged: it is no record"
        ):
            use()
    assert path.read_text() == text


def test_bytes_that_are_no_text_are_a_damaged_record(results):
    (results / "bad.json").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecordError, match=r"bad.json is damaged"):
        load_record("bad")


def test_another_format_is_refused(record, results):
    (results / "new.json").write_text(json.dumps({**record, "format": 99}))
    with pytest.raises(RecordError, match="has format 99, this program reads 1"):
        load_record("new")


@pytest.mark.parametrize("name", ["missing", "../outside", ""])
def test_an_unknown_name_is_said(name):
    with pytest.raises(RecordError, match="no recorded run is named"):
        load_record(name)


def test_records_by_prefix(record, results):
    for name in ("slice/tied-s1", "slice/tied-s0", "slice/untied-s0", "slice-2/tied-s0", "small-tied-s0"):
        save_record(results / f"{name}.json", record)
    for name in ("slice/embeddings", "small-embeddings"):  # comparisons of runs, not runs
        (results / f"{name}.json").write_text("{}")
    assert list(load_records("slice/tied")) == ["slice/tied-s0", "slice/tied-s1"]
    assert list(load_records("slice/")) == ["slice/tied-s0", "slice/tied-s1", "slice/untied-s0"]
    assert list(load_records("small-")) == ["small-tied-s0"] and load_records("none") == {}


def test_no_results_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "resource", lambda relative: _inside(tmp_path, relative))
    assert load_records("") == {}


def test_a_disk_that_refuses(record, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="a file stands where a folder is needed"):
        save_record(tmp_path / "file" / "r.json", record)


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


def test_markdown_and_html_show_mean_and_spread():
    rows = table(RUNS[:4], ["tied"], figures=["test_perplexity"], paper={(False,): {"test_perplexity": 114.5}})
    assert to_markdown(rows).splitlines() == [
        "| tied | n | test perplexity | test perplexity (paper) |",
        "| --- | --- | --- | --- |",
        "| no | 2 | 115.0 ± 1.4 | 114.5 |",
        "| yes | 2 | 112.2 ± 0.4 | – |",
    ]

    class Texts(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.found = []

        def handle_data(self, data):
            self.found.append(data)

    parser = Texts()
    parser.feed(to_html(rows, "Perplexity of <runs> & more"))
    assert parser.found[:5] == [
        "Perplexity of <runs> & more",
        "tied",
        "n",
        "test perplexity",
        "test perplexity (paper)",
    ]
    assert "115.0 ± 1.4" in parser.found and to_html(rows, "c").count('<th scope="col">') == 4


def test_empty_tables_have_no_rows():
    assert table([], ["tied"]) == [] and to_markdown([]).count("\n") == 1


# Pieces


def test_the_hash_is_of_names_and_bits():
    state = {"a": torch.ones(2), "b": torch.zeros(2)}
    first = records.weights_sha256(state)
    assert first == records.weights_sha256({k: v.clone() for k, v in state.items()})
    assert first != records.weights_sha256({"a": torch.ones(2), "c": torch.zeros(2)})
    nearly = {"a": torch.nextafter(torch.ones(2), torch.tensor(2.0)), "b": torch.zeros(2)}
    assert first != records.weights_sha256(nearly)


def test_perplexity_of_too_many_nats_is_infinite():
    assert records.perplexity(math.log(80)) == pytest.approx(80) and records.perplexity(1e4) == math.inf


def test_hashes_of_the_files_are_kept(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("a b c d e f g h\n" * 30)
    record = train(dataclasses.replace(TINY, corpus=str(text), tokens=None, vocabulary_size=None))
    assert record["data"] == load_corpus(Path(text)).sha256 and len(record["data"]["mine.txt"]) == 64


def test_a_table_for_a_page_names_its_rows_and_columns():
    text = records.html_table("a < b", ("rate", "gap"), [("1e-3", -0.5), ("SGD-like", "-1.0 ± 0.2")])
    assert "<caption>a &lt; b</caption>" in text and text.count('<th scope="col">') == 2
    assert '<th scope="row">1e-3</th><td>−0.5</td>' in text, (
        "an exponent keeps its hyphen, a negative number has a minus"
    )
    assert '<th scope="row">SGD-like</th><td>−1.0 ± 0.2</td>' in text


def test_a_table_that_no_voice_can_read_is_refused():
    with pytest.raises(ValueError, match=r"rows holds one of 1 cells, .*; heads has 2"):
        records.html_table("x", ("a", "b"), [("1",)])
    with pytest.raises(ValueError, match="every column needs a name"):
        records.html_table("x", ("a", " "), [])
