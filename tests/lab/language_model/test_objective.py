"""tiedlib.lab.language_model.objective: what a window's loss is made of."""

import dataclasses

import pytest
import torch

from tiedlib.lab.data import contiguous_batches, load_corpus, windows
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.objective import Objective, window_loss
from tiedlib.lab.language_model.training import build_model
from tiedlib.tying import augmented_loss

TINY = TrainConfig(
    corpus="toy_language", tokens=600, vocabulary_size=60, dim=8, hidden=8, layers=1, epochs=2, constant_epochs=0,
    batch=4, unroll=7, threads=1,
)  # fmt: skip
loss = window_loss(lambda total, nll: (total, nll))


def change(**fields):
    return dataclasses.replace(TINY, **fields)


def test_the_penalties_act_on_the_loss_of_a_window():
    corpus = load_corpus("toy_language", tokens=600, vocabulary_size=60)
    pair = windows(contiguous_batches(corpus.train, 4), 7)[0]
    values = {}
    for penalty in ("none", "code", "frobenius", "spectral", "squared"):
        config = change(projection=True, penalty=penalty, penalty_strength=0.4)
        model = build_model(config, 60)
        values[penalty] = loss(Objective(model, config), pair, None)[0].item()
    p = build_model(change(projection=True), 60).projection.weight.detach()
    added = {name: value - values["none"] for name, value in values.items()}
    assert added["code"] == pytest.approx(0.5 * float(p.square().sum()) / (6.5 * 4), abs=1e-5)
    assert added["frobenius"] == pytest.approx(0.4 * float(p.norm()), abs=1e-5)
    assert added["spectral"] == pytest.approx(0.4 * float(torch.linalg.svdvals(p)[0]), abs=1e-5)
    assert added["squared"] == pytest.approx(0.4 * float(p.square().sum()), abs=1e-5)


def test_the_augmented_loss_is_trained_on_and_not_reported():
    config = change(augmented_alpha=0.7, augmented_tau=2.0)
    corpus = load_corpus("toy_language", tokens=600, vocabulary_size=60)
    inputs, targets = windows(contiguous_batches(corpus.train, 4), 7)[0]
    model = build_model(config, 60)
    value, (_, nll) = loss(Objective(model, config), (inputs, targets), None)
    logits, _ = model(inputs)
    expected = augmented_loss(logits, targets, model.embedding.weight, alpha=0.7, tau=2.0, reduction="sum") / 4
    plain, _ = model.loss(inputs, targets, reduction="sum")
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
    assert nll.item() == pytest.approx(plain.item(), rel=1e-6) and value.item() > plain.item() / 4


def test_the_state_and_the_sum_are_carried_on():
    corpus = load_corpus("toy_language", tokens=600, vocabulary_size=60)
    pairs = windows(contiguous_batches(corpus.train, 4), 7)
    model = build_model(TINY, 60)
    carry, total = None, 0.0
    for pair in pairs[:3]:
        value, carry = loss(Objective(model, TINY), pair, carry)
        total += value.item() * 4
    rows = contiguous_batches(corpus.train, 4)
    whole, _ = model.loss(rows[:, :21], rows[:, 1:22], reduction="sum")
    assert carry[1].item() == pytest.approx(whole.item(), rel=1e-6) and total == pytest.approx(whole.item(), rel=1e-6)


def test_half_the_rows_have_the_penalty_of_the_whole_batch():
    """Two processes each average the penalty of their loss; it must not depend on how many rows each has."""
    model, config = build_model(change(projection=True, penalty="code"), 60), change(projection=True, penalty="code")
    rows = contiguous_batches(load_corpus("toy_language", tokens=600, vocabulary_size=60).train, 4)
    whole = loss(Objective(model, config), windows(rows, 7)[0], None)[0]
    halves = [loss(Objective(model, config), windows(half, 7)[0], None)[0] for half in rows.chunk(2)]
    torch.testing.assert_close(sum(halves) / 2, whole)
