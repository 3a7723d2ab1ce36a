"""Each function against an independent oracle: scipy for ranks, autograd and closed forms for penalties and losses."""

import math

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tiedlib.tying
from tests.ideas.calls import LOGITS, NOT_NEGATIVE, POSITIVE, TARGET, Call
from tiedlib.lab.notebook.agreement import agree
from tiedlib.recurrent import LanguageModel
from tiedlib.tying import (
    PRESETS,
    TiedSoftmax,
    augmented_loss,
    embedding_similarity,
    linear_cross_entropy,
    projection_penalty,
    rank_correlation,
    word_similarity,
)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_readers_find_what_they_need_in_one_place():
    assert tiedlib.tying.LanguageModel is LanguageModel
    assert tiedlib.tying.linear_cross_entropy is linear_cross_entropy


# -- TiedSoftmax ---------------------------------------------------------------------------------------------------------


def test_tied_softmax_is_the_same_parameter_and_the_same_numbers():
    embedding = nn.Embedding(6, 4)
    layer = TiedSoftmax(embedding)
    assert layer.weight is embedding.weight
    both = nn.ModuleList([embedding, layer])
    assert sum(p.numel() for p in both.parameters()) == 6 * 4 + 6
    agree(
        lambda h: layer.double()(h),
        lambda h: torch.einsum("btd,vd->btv", h, embedding.weight),
        draw(2, 3, 4),
    )


def test_tied_softmax_without_bias_and_with_unequal_sizes():
    embedding = nn.Embedding(6, 4)
    assert [name for name, _ in TiedSoftmax(embedding, bias=False).named_parameters()] == ["weight"]
    with pytest.raises(ValueError, match="h has 5 features and the embedding 4"):
        TiedSoftmax(embedding)(torch.zeros(2, 5))


@pytest.mark.usefixtures("unchecked")
def test_tied_softmax_wants_an_embedding():
    with pytest.raises(TypeError, match="embedding is a Linear"):
        TiedSoftmax(nn.Linear(2, 2))


# -- projection_penalty --------------------------------------------------------------------------------------------------


def test_each_reading_of_the_penalty_has_its_gradient():
    p = draw(4, 3).requires_grad_()
    u, s, vh = torch.linalg.svd(p.detach())
    expected = {
        "frobenius": (0.15 * s.square().sum().sqrt(), 0.15 * p.detach() / s.square().sum().sqrt()),
        "spectral": (0.15 * s[0], 0.15 * torch.outer(u[:, 0], vh[0])),
        "squared": (0.15 * s.square().sum(), 0.30 * p.detach()),
        "code": (s.square().sum() / (2 * 6.5 * 20), p.detach() / (6.5 * 20)),
    }
    for form, (value, gradient) in expected.items():
        penalty = projection_penalty(p, form=form, batch_size=20)
        torch.testing.assert_close(penalty, value)
        torch.testing.assert_close(torch.autograd.grad(penalty, p)[0], gradient)


def test_penalty_at_zero_has_finite_gradient():
    p = torch.zeros(3, 3, requires_grad=True)
    for form in ("frobenius", "squared", "code"):
        assert torch.equal(torch.autograd.grad(projection_penalty(p, form=form, batch_size=1), p)[0], torch.zeros(3, 3))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"form": "l2"}, "form is 'l2'"),
        ({"form": "code"}, "batch_size is None"),
        ({"form": "code", "batch_size": 0}, "batch_size is 0"),
        ({"strength": -1.0}, "strength is -1.0"),
        ({"strength": float("nan")}, "strength is nan"),
    ],
)
def test_penalty_names_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        projection_penalty(torch.ones(2, 2), **options)


# -- augmented_loss ------------------------------------------------------------------------------------------------------


@given(tau=st.floats(0.1, 50), alpha=st.floats(0, 5))
def test_augmented_loss_is_the_formula(tau, alpha):
    z, embedding, o = draw(5, 7), draw(7, 3, seed=1), torch.tensor([0, 6, 2, 2, 5])
    total = 0.0
    for row, target in zip(z, o, strict=True):
        soft = [math.exp(v) for v in (embedding @ embedding[target] / tau).tolist()]
        soft = [v / sum(soft) for v in soft]
        hat = [math.exp(v / tau) for v in row.tolist()]
        hat = [v / sum(hat) for v in hat]
        kl = sum(p * math.log(p / q) for p, q in zip(soft, hat, strict=True) if p > 0)
        total += -row[target].item() + math.log(sum(math.exp(v) for v in row.tolist())) + alpha * kl
    ours = augmented_loss(z, o, embedding, alpha=alpha, tau=tau)
    assert ours.item() == pytest.approx(total / 5, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tau", [0.5, 20.0])
def test_augmented_gradient_at_the_logits_and_none_through_the_target(tau):
    z, embedding, o = draw(5, 7).requires_grad_(), draw(7, 3, seed=1).requires_grad_(), torch.tensor([0, 6, 2, 2, 5])
    augmented_loss(z, o, embedding, alpha=2.0, tau=tau, reduction="sum").backward()
    fixed = embedding.detach()
    soft = torch.softmax(fixed[o] @ fixed.T / tau, -1)
    expected = torch.softmax(z, -1) - F.one_hot(o, 7) + 2.0 / tau * (torch.softmax(z / tau, -1) - soft)
    torch.testing.assert_close(z.grad, expected.detach())
    assert embedding.grad is None


def test_augmented_loss_without_the_term_is_cross_entropy_and_shapes_are_kept():
    z, embedding, o = draw(2, 5, 7), draw(7, 3, seed=1), torch.randint(7, (2, 5))
    each = augmented_loss(z, o, embedding, alpha=0.0, tau=1.0, reduction="none")
    torch.testing.assert_close(each, F.cross_entropy(z.transpose(1, 2), o, reduction="none"))
    assert torch.isfinite(augmented_loss(1e4 * z, o, 1e3 * embedding, alpha=1.0, tau=1e-3)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tau": 0.0, "alpha": 1.0}, "tau is 0.0"),
        ({"tau": float("nan"), "alpha": 1.0}, "tau is nan"),
        ({"tau": 1.0, "alpha": -0.5}, "alpha is -0.5"),
        ({"tau": 1.0, "alpha": 1.0, "reduction": "max"}, "reduction is 'max'"),
    ],
)
def test_augmented_loss_names_bad_input(options, words):
    with pytest.raises(ValueError, match=words):
        augmented_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), torch.zeros(3, 2), **options)


@pytest.mark.usefixtures("unchecked")
def test_augmented_loss_wants_an_embedding_for_every_class():
    with pytest.raises(ValueError, match="embedding has 4 rows and logits 3"):
        augmented_loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), torch.zeros(4, 2), alpha=1.0, tau=1.0)


# -- similarities --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-3, 3)), min_size=2, max_size=40))
def test_rank_correlation_equals_scipys_with_ties(pairs):
    a, b = (torch.tensor(x, dtype=torch.float64) for x in zip(*pairs, strict=True))
    ours = rank_correlation(a, b)
    if len(a.unique()) == 1 or len(b.unique()) == 1:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(scipy.stats.spearmanr(a, b).statistic, abs=1e-12)


def test_embedding_similarity_equals_scipys_and_sees_no_axes():
    a, b = draw(20, 6), draw(20, 4, seed=1)
    i, j = torch.triu_indices(20, 20, 1)
    cosines = [F.cosine_similarity(x[i], x[j]) for x in (a, b)]
    assert embedding_similarity(a, b) == pytest.approx(scipy.stats.spearmanr(*cosines).statistic, abs=1e-12)
    rotation = torch.linalg.qr(draw(6, 6, seed=2))[0]
    assert embedding_similarity(a, 3.0 * a @ rotation) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.claim("word-similarity-protocol")
def test_word_similarity_is_spearman_of_cosines_and_blind_to_monotone_ratings():
    embedding, pairs = draw(30, 8), torch.randint(30, (50, 2), generator=torch.Generator().manual_seed(3))
    ratings = draw(50, seed=4)
    rho = word_similarity(embedding, pairs, ratings)
    cosines = F.cosine_similarity(embedding[pairs[:, 0]], embedding[pairs[:, 1]])
    assert rho == pytest.approx(scipy.stats.spearmanr(cosines, ratings).statistic, abs=1e-12)
    assert word_similarity(embedding, pairs, ratings.exp()) == pytest.approx(rho, abs=1e-12)


def test_similarities_name_bad_input():
    with pytest.raises(ValueError, match=r"a has shape \(1,\)"):
        rank_correlation(torch.ones(1), torch.ones(1))
    with pytest.raises(ValueError, match="a has 2 rows"):
        embedding_similarity(torch.ones(2, 2), torch.ones(2, 2))


@pytest.mark.usefixtures("unchecked")
def test_unequal_lengths_are_named():
    with pytest.raises(ValueError, match=r"a has shape \(3,\) and b \(2,\)"):
        rank_correlation(torch.ones(3), torch.ones(2))
    with pytest.raises(ValueError, match="a has 3 rows and b 4"):
        embedding_similarity(torch.ones(3, 2), torch.ones(4, 2))


# -- presets -------------------------------------------------------------------------------------------------------------


@pytest.mark.claim("large-dropout-small-none")
@pytest.mark.claim("same-hyperparameters")
def test_presets_hold_the_authors_hyper_parameters():
    small, medium, large = (PRESETS[name] for name in ("small", "medium", "large"))
    assert (small.hidden, medium.hidden, large.hidden) == (200, 650, 1500)
    assert all(p.dim == p.hidden and p.layers == 2 and p.batch == 20 and p.lr == 1.0 for p in PRESETS.values())
    assert (small.init_range, medium.init_range, large.init_range) == (0.1, 0.05, 0.04)
    assert (small.unroll, medium.unroll, large.unroll) == (20, 35, 35)
    assert (small.clip, medium.clip, large.clip) == (5, 5, 10)
    assert (small.constant_epochs, medium.constant_epochs, large.constant_epochs) == (4, 6, 14)
    assert (small.epochs, medium.epochs, large.epochs) == (13, 39, 55)
    assert (small.decay, medium.decay, large.decay) == (0.5, 0.8, 1 / 1.15)
    assert (small.dropout, medium.dropout, large.dropout) == (0.0, 0.5, 0.65)


# Half precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", ["frobenius", "spectral", "squared", "code"])
@pytest.mark.parametrize("size", [0.0, 6e-8, 1e-3, 1.0, 300.0, 6e4])
def test_the_penalty_of_a_matrix_in_half_precision_is_that_of_float64(form, dtype, size):
    p = (torch.eye(3) * 0.8 * size + size / 8).to(dtype).requires_grad_()
    wide = p.detach().double().requires_grad_()
    found, expected = (projection_penalty(x, form=form, batch_size=2) for x in (p, wide))
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-12)
    (gradient,), (exact,) = torch.autograd.grad(found, p), torch.autograd.grad(expected, wide)
    torch.testing.assert_close(gradient.double(), exact, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1e-7, 1.0, 300.0])
def test_the_augmented_loss_in_half_precision_is_that_of_float64(dtype, size):
    """u · u of 300-long embeddings is 9e4, more than float16 holds."""
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 6, generator=g).to(dtype).requires_grad_()
    embedding, target = (size * torch.randn(6, 3, generator=g)).to(dtype), torch.tensor([0, 5, 2, 2])
    found = augmented_loss(logits, target, embedding, alpha=0.5, tau=10.0)
    expected = augmented_loss(logits.detach().double(), target, embedding.double(), alpha=0.5, tau=10.0)
    assert found.dtype is dtype
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-3)
    assert torch.isfinite(torch.autograd.grad(found, logits)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_similarities_in_half_precision(dtype):
    g = torch.Generator().manual_seed(1)
    a, b = (
        (3e4 * torch.randn(8, 4, generator=g).clamp(-2, 2)).to(dtype),
        (1e-6 * torch.randn(8, 4, generator=g)).to(dtype),
    )
    assert embedding_similarity(a, b) == pytest.approx(embedding_similarity(a.double(), b.double()), abs=1e-9)
    pairs, ratings = torch.tensor([[0, 1], [2, 3], [4, 5]]), torch.tensor([6e4, 1.0, 6e-8], dtype=dtype)
    expected = word_similarity(a.double(), pairs, ratings.double())
    assert word_similarity(a, pairs, ratings) == pytest.approx(expected, abs=1e-9)


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "TiedSoftmax": Call(lambda: {"embedding": nn.Embedding(5, 2)}),
    "augmented_loss": Call(
        lambda: {
            "logits": LOGITS,
            "target": TARGET,
            "embedding": torch.ones(3, 4),
            "alpha": 0.5,
            "tau": 1.0,
            "reduction": "mean",
        },
        alpha=NOT_NEGATIVE,
        tau=POSITIVE,
    ),
    "embedding_similarity": Call(lambda: {"a": torch.randn(6, 3), "b": torch.randn(6, 4)}),
    "projection_penalty": Call(
        lambda: {"weight": torch.eye(3), "strength": 0.15, "form": "frobenius"}, strength=NOT_NEGATIVE
    ),
    "rank_correlation": Call(lambda: {"a": torch.randn(6), "b": torch.randn(6)}),
    "word_similarity": Call(
        lambda: {
            "embedding": torch.randn(6, 3),
            "pairs": torch.tensor([[0, 1], [2, 3], [4, 5]]),
            "ratings": torch.tensor([1.0, 2.0, 3.0]),
        }
    ),
}
