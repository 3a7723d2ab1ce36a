"""tiedlib.lab.language_model.embeddings: scores that need the weights."""

import dataclasses
import json
import os

import pytest
import torch
from scipy.stats import spearmanr

from tiedlib.lab.data import EOS, UNK, MissingFileError, Vocabulary, load_corpus
from tiedlib.lab.language_model import embeddings
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.embeddings import (
    compare_embeddings,
    embedding_scores,
    frequent_words,
    load_embeddings,
    weight_statistics,
)
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs.records import RecordError
from tiedlib.tying import LanguageModel

needs_data = pytest.mark.skipif("TIEDLIB_DATA" not in os.environ, reason="needs the word pairs: set TIEDLIB_DATA")
TINY = TrainConfig(
    corpus="toy_language", tokens=400, vocabulary_size=50, dim=6, hidden=6, layers=1, epochs=1, batch=4, unroll=10,
    threads=1,
)  # fmt: skip


def cosines(x):
    x = x.double()
    n = x.norm(dim=1)
    return torch.stack([x[i] @ x[j] / (n[i] * n[j]) for i in range(len(x)) for j in range(i + 1, len(x))])


def alike(a, b):
    return spearmanr(cosines(a).numpy(), cosines(b).numpy()).statistic


def test_the_most_frequent_words_are_words():
    vocabulary = Vocabulary.from_tokens(["a"] * 5 + [EOS] * 4 + ["b"] * 3 + [UNK] * 2 + ["c"])
    assert [vocabulary[i] for i in frequent_words(vocabulary)] == ["a", "b", "c"]
    many = Vocabulary.from_list([f"w{i}" for i in range(1500)])
    assert frequent_words(many) == list(range(1000))


def test_scores_of_a_language_without_ratings():
    corpus = load_corpus("toy_language", tokens=400, vocabulary_size=50)
    model = LanguageModel(50, 6, 6, 1)
    scores = embedding_scores(model, corpus)
    rows = frequent_words(corpus.vocabulary)
    assert scores["input_output"] == pytest.approx(
        alike(model.embedding.weight.detach()[rows], model.output.weight.detach()[rows])
    )
    assert scores["frequent_words"] == 49 and scores["word_similarity"] is None and "not English" in scores["why"]
    assert "input_output" not in embedding_scores(LanguageModel(50, 6, 6, 1, tied=True), corpus)


def test_missing_ratings_are_said(monkeypatch):
    def absent(name):
        raise MissingFileError("there is no file of 'wordsim' here")

    monkeypatch.setattr(embeddings, "load", absent)
    corpus = load_corpus("manual", tokens=400)
    scores = embedding_scores(LanguageModel(len(corpus.vocabulary), 4, 4, 1), corpus)
    assert scores["word_similarity"] is None and scores["why"] == "there is no file of 'wordsim' here"


@needs_data
def test_scores_against_ratings():
    corpus = load_corpus("manual", vocabulary_size=2000)
    torch.manual_seed(0)
    model = LanguageModel(len(corpus.vocabulary), 8, 8, 1)
    scores = embedding_scores(model, corpus)["word_similarity"]
    assert scores.keys() == {"input", "output"}
    assert {name: entry["of"] for name, entry in scores["input"].items()} == {
        "simlex-999": 999, "verb-143": 144, "men": 3000, "rare-words": 2034, "mturk-771": 771, "ws-353": 353,
    }  # fmt: skip
    rated = embeddings.load("wordsim")["simlex-999"]
    known = [k for k, pair in enumerate(rated.pairs) if all(word in corpus.vocabulary for word in pair)]
    weight = model.output.weight.detach().double()
    ours = [
        torch.cosine_similarity(*(weight[corpus.vocabulary[w]] for w in rated.pairs[k]), dim=0).item() for k in known
    ]
    assert scores["output"]["simlex-999"]["pairs"] == len(known) > 20
    assert scores["output"]["simlex-999"]["spearman"] == pytest.approx(
        spearmanr(ours, rated.ratings[known].numpy()).statistic
    )
    tied = LanguageModel(len(corpus.vocabulary), 8, 8, 1, tied=True)
    assert embedding_scores(tied, corpus)["word_similarity"].keys() == {"tied"}


def test_too_few_known_pairs_give_no_score():
    pairs = embeddings.WordPairs("x", (("a", "b"), ("a", "z")), torch.tensor([1.0, 2.0]), (0.0, 5.0))
    assert embeddings._rated(torch.eye(2), Vocabulary.from_list(["a", "b"]), {"x": pairs}) == {
        "x": {"spearman": None, "pairs": 1, "of": 2}
    }


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Untied and tied runs of seeds 0, 1 and 3; the untied one of seed 2 alone, and seed 4 stopped before its end."""
    out = tmp_path_factory.mktemp("runs")
    for seed in (0, 1, 3):
        train(dataclasses.replace(TINY, seed=seed), out / f"untied-s{seed}")
        train(dataclasses.replace(TINY, seed=seed, tied=True), out / f"tied-s{seed}")
    train(dataclasses.replace(TINY, seed=2), out / "untied-s2")
    train(dataclasses.replace(TINY, seed=4), out / "untied-s4")
    events = []

    def stop(event):
        events.append(event)
        if len(events) == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(dataclasses.replace(TINY, seed=4, tied=True), out / "tied-s4", on_event=stop, checkpoint_seconds=0.0)
    assert (out / "tied-s4" / "checkpoint.pt").exists()
    return out


def test_embeddings_of_runs_are_compared(runs):
    found = compare_embeddings(runs)
    assert list(found["seeds"]) == ["0", "1", "3"] and list(found["baselines"]) == ["0-1"]
    untied, tied, other = (
        torch.load(runs / name / "checkpoint.pt", weights_only=True)["model"]
        for name in ("untied-s0", "tied-s0", "untied-s1")
    )
    rows = frequent_words(load_corpus("toy_language", tokens=400, vocabulary_size=50).vocabulary)
    u, v, s = untied["embedding.weight"][rows], untied["output.weight"][rows], tied["embedding.weight"][rows]
    assert found["seeds"]["0"] == {
        "input_output": pytest.approx(alike(u, v)),
        "input_tied": pytest.approx(alike(u, s)),
        "output_tied": pytest.approx(alike(v, s)),
    }
    assert found["baselines"]["0-1"].keys() == {"input_input", "output_output", "tied_tied"}
    assert found["baselines"]["0-1"]["output_output"] == pytest.approx(alike(v, other["output.weight"][rows]))
    assert found["weights_sha256"].keys() == {f"{kind}-s{seed}" for kind in ("untied", "tied") for seed in (0, 1, 3)}


def test_what_the_weights_of_finished_runs_say(runs):
    found = weight_statistics(runs)
    assert found.keys() == {f"{kind}-s{seed}" for kind in ("untied", "tied") for seed in (0, 1, 3)} | {
        "untied-s2",
        "untied-s4",
    }
    weights = torch.load(runs / "untied-s0" / "checkpoint.pt", weights_only=True)["model"]
    u, v = weights["embedding.weight"].double(), weights["output.weight"].double()
    image = u @ (torch.linalg.inv(u.T @ u) @ u.T @ v)  # the normal equations, by hand
    lstm = torch.cat([w.double().flatten() for name, w in weights.items() if name.startswith("lstm.")])
    assert found["untied-s0"] == {
        "lstm": pytest.approx(lstm.norm().item()),
        "embedding": pytest.approx(u.square().sum().sqrt().item()),
        "output": pytest.approx(v.square().sum().sqrt().item()),
        "linear_residual": pytest.approx(((v - image).square().sum() / v.square().sum()).item()),
    }
    assert found["tied-s0"].keys() == {"embedding", "lstm"} and 0 < found["untied-s0"]["linear_residual"] < 1


def test_no_runs_nothing_to_compare(tmp_path):
    assert compare_embeddings(tmp_path)["seeds"] == {}


def test_recorded_comparisons_are_read(tmp_path, monkeypatch):
    path = tmp_path / "results" / "x" / "embeddings.json"
    path.parent.mkdir(parents=True)
    monkeypatch.setattr(embeddings, "resource", lambda relative: tmp_path / relative)
    path.write_text(json.dumps({"seeds": {}}))
    assert load_embeddings("x") == {"seeds": {}}
    for text in ("{", ""):
        path.write_text(text)
        with pytest.raises(RecordError, match=r"results/x/embeddings.json could not be read"):
            load_embeddings("x")
    with pytest.raises(RecordError, match=r"results/y/embeddings.json could not be read"):
        load_embeddings("y")
