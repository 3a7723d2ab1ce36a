"""tiedlib.lab.language_model.generation: words are drawn with the model's own probabilities, and a folder is enough to do it."""

import dataclasses

import pytest
import torch

from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.generation import continue_text, generate, load_model, sample
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.checkpoints import CheckpointError
from tiedlib.tying import LanguageModel

WORDS = "the cat sat on the mat\nthe dog lay on the log\n" * 30
CONFIG = TrainConfig(dim=8, hidden=8, layers=1, epochs=1, batch=4, unroll=10, tied=True, threads=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("generation")
    (root / "mine.txt").write_text(WORDS)
    train(dataclasses.replace(CONFIG, corpus=str(root / "mine.txt")), root / "run")
    (root / "mine.txt").unlink()  # the checkpoint is enough
    return root / "run"


def random():
    return torch.Generator().manual_seed(0)


def test_draws_follow_the_softmax():
    logits, generator = torch.tensor([0.0, 1.0, 2.0, -50.0]), random()
    for temperature in (1.0, 0.5, 3.0):
        draws = torch.tensor([sample(logits, temperature=temperature, generator=generator) for _ in range(2000)])
        share = torch.bincount(draws, minlength=4) / 2000
        torch.testing.assert_close(share, torch.softmax(logits / temperature, 0), atol=0.04, rtol=0)


def test_top_k_draws_from_the_highest_alone():
    logits, generator = torch.tensor([0.0, 1.0, 0.9, -1.0, 1.1]), random()
    assert {sample(logits, top_k=2, generator=generator) for _ in range(200)} == {1, 4}
    assert {sample(logits, top_k=1, generator=generator) for _ in range(50)} == {4}
    assert {sample(logits, top_k=99, generator=generator) for _ in range(500)} == {0, 1, 2, 3, 4}


def test_the_coldest_draw_is_the_highest():
    logits = torch.tensor([1e4, 1e4 + 1, -1e4])
    for temperature in (0.0, 1e-300, 1e-3):
        assert sample(logits, temperature=temperature, generator=random()) == 1


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none(temperature):
    with pytest.raises(ValueError, match=r"temperature is .*; it must be at least 0 and finite"):
        sample(torch.zeros(3), temperature=temperature, generator=random())


def test_top_k_below_one():
    with pytest.raises(ValueError, match="top_k is 0; it must be at least 1"):
        sample(torch.zeros(3), top_k=0, generator=random())


def test_each_word_is_drawn_given_all_before_it():
    """The same draws as from reading the whole text anew for each word, without a carried state, and without dropout."""
    model = LanguageModel(12, 6, 6, 2, dropout=0.5)
    model.reset_parameters(2.0, random())
    model.train()
    prompt, generator = torch.tensor([3, 1, 4]), random()
    text = continue_text(model, prompt, 40, generator=random())
    assert model.training
    model.eval()
    for n in range(40):
        logits, _ = model(torch.cat([prompt, text[:n]])[None])
        assert int(text[n]) == sample(logits[0, -1].detach(), generator=generator)


@pytest.mark.parametrize(("prompt", "length"), [([], 3), ([1], 0)])
def test_nothing_to_continue(prompt, length):
    with pytest.raises(ValueError, match="both must be at least 1"):
        continue_text(LanguageModel(5, 2, 2, 1), torch.tensor(prompt, dtype=torch.int64), length, generator=random())


def test_the_model_of_a_folder_is_the_trained_one(folder):
    state = torch.get_rng_state()
    model, vocabulary, unit = load_model(folder)
    saved = checkpoints.load(folder / "checkpoint.pt")
    assert unit == "word" and vocabulary.to_list() == saved["vocabulary"] and "cat" in vocabulary
    assert (
        torch.equal(model.output.weight, saved["model"]["embedding.weight"])
        and model.output.weight is model.embedding.weight
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_text_goes_on_after_the_prompt(folder):
    text = generate(folder, "the cat", 20, seed=3)
    assert text.startswith("the cat ") and text == generate(folder, "the cat", 20, seed=3)
    assert text != generate(folder, "the cat", 20, seed=4) and "<eos>" not in text
    assert set(text.split()) <= set(WORDS.split()) | {"<unk>"}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_of_the_prompt_ends_as_it_did_in_training(folder, end, monkeypatch):
    begun = []
    monkeypatch.setattr(
        "tiedlib.lab.language_model.generation.continue_text",
        lambda model, given, length, **options: begun.append(given) or continue_text(model, given, length, **options),
    )
    text = generate(folder, f"\ufeffthe cat{end} {end}the dog", 5, seed=1)
    _, vocabulary, _ = load_model(folder)
    assert vocabulary.decode(begun[0]) == ["the", "cat", "<eos>", "the", "dog"]
    assert text.startswith("the cat\nthe dog ")
    assert generate(folder, f"the cat{end}", 5, seed=1).startswith("the cat\n")
    assert vocabulary.decode(begun[1]) == ["the", "cat", "<eos>"]


def test_without_a_prompt_a_sentence_begins(folder):
    assert generate(folder, "", 5) == generate(folder, "  ", 5) and not generate(folder, "", 5).startswith(" ")


def test_an_unknown_word_is_refused_where_nothing_stands_for_it(folder, tmp_path):
    saved = checkpoints.load(folder / "checkpoint.pt")
    if "<unk>" in saved["vocabulary"]:
        at = saved["vocabulary"].index("<unk>")
        saved["vocabulary"][at] = "<nothing>"
    checkpoints.save(tmp_path / "checkpoint.pt", saved)
    with pytest.raises(ValueError, match=r"'zebra'.*it must be in the vocabulary"):
        generate(tmp_path, "the zebra", 3)


def test_characters_are_joined_as_they_are(tmp_path):
    saved_text = tmp_path / "run"
    config = dataclasses.replace(CONFIG, corpus="toy_language", tokens=400, vocabulary_size=50)
    train(config, saved_text)
    saved = checkpoints.load(saved_text / "checkpoint.pt")
    letters = [chr(0x61 + i) if i < 26 else chr(0x391 + i) for i in range(50)]
    checkpoints.save(saved_text / "checkpoint.pt", {**saved, "unit": "character", "vocabulary": letters})
    text = generate(saved_text, "abc", 10)
    assert text.startswith("abc") and len(text) == 13 and set(text) <= set(letters)


@pytest.mark.parametrize("change", [{"vocabulary": ["a", "b"]}, {"config": {"dim": 8}}, {"config": {"size": 8}}])
def test_a_folder_of_something_else_is_named(folder, tmp_path, change):
    checkpoints.save(tmp_path / "checkpoint.pt", {**checkpoints.load(folder / "checkpoint.pt"), **change})
    with pytest.raises(CheckpointError, match=r"checkpoint.pt is damaged or of another tiedlib"):
        generate(tmp_path)
    with pytest.raises(CheckpointError, match=r"does not exist"):
        generate(tmp_path / "nowhere")
