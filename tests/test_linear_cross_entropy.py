"""Against the two torch calls it stands for, a float64 log-sum-exp written out, and finite differences."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tiedlib.lab.checks import agree
from tiedlib.linear_cross_entropy import linear_cross_entropy


def by_hand(h, weight, target, bias):
    """−z_o + log Σ exp z, one example at a time, in float64."""
    losses = []
    for row, o in zip(h.double(), target, strict=True):
        z = weight.double() @ row + bias.double()
        top = z.max()
        losses.append(-z[o] + top + (z - top).exp().sum().log())
    return torch.stack(losses)


@given(n=st.integers(1, 7), dim=st.integers(1, 6), vocab=st.integers(1, 9), scale=st.sampled_from([1.0, 1e-3, 1e4]))
def test_equals_the_formula_also_for_extreme_logits(n, dim, vocab, scale):
    g = torch.Generator().manual_seed(n * 100 + dim * 10 + vocab)
    h = torch.randn(n, dim, generator=g)
    weight = scale * torch.randn(vocab, dim, generator=g)
    bias = torch.randn(vocab, generator=g)
    target = torch.randint(vocab, (n,), generator=g)
    ours = linear_cross_entropy(h, weight, target, linear_bias=bias, reduction="none")
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours.double(), by_hand(h, weight, target, bias), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_agrees_with_torch_forward_gradient_steps(reduction, label_smoothing):
    target = torch.tensor([[1, 0, -100], [4, 4, 2]])

    def reference(h, weight, bias):
        z = torch.einsum("btd,vd->btv", h, weight) + bias
        return F.cross_entropy(z.transpose(1, 2), target, reduction=reduction, label_smoothing=label_smoothing)

    def ours(h, weight, bias):
        return linear_cross_entropy(
            h, weight, target, linear_bias=bias, reduction=reduction, label_smoothing=label_smoothing
        )

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    agree(ours, reference, draw(2, 3, 4), draw(5, 4), draw(5))


def test_gradcheck_in_float64():
    h, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5, 4)))
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(
        lambda a, b, c: linear_cross_entropy(a, b, target, linear_bias=c), (h, weight, bias)
    )


def test_ignored_targets_count_for_nothing():
    h, weight = torch.randn(4, 3), torch.randn(6, 3)
    target = torch.tensor([1, -100, 5, -100])
    kept = linear_cross_entropy(h[[0, 2]], weight, target[[0, 2]])
    torch.testing.assert_close(linear_cross_entropy(h, weight, target), kept)


def test_empty_batch_sums_to_zero():
    empty = torch.empty(0, dtype=torch.long)
    assert linear_cross_entropy(torch.empty(0, 3), torch.randn(4, 3), empty, reduction="sum") == 0


H, W, T = torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((H, W, T.float()), {}, TypeError, "target has dtype"),
        ((H, torch.zeros(5, 4), T), {}, ValueError, "last size of input"),
        ((H, W, T[:1]), {}, ValueError, "target has shape"),
        ((H, W, T), {"linear_bias": torch.zeros(4)}, ValueError, "linear_bias has shape"),
        ((H, W, T), {"reduction": "max"}, ValueError, "reduction is 'max'"),
        ((H, W, T), {"label_smoothing": -0.1}, ValueError, "label_smoothing is -0.1"),
        ((H, W, T), {"label_smoothing": float("nan")}, ValueError, "label_smoothing is nan"),
        ((H, W, T + 5), {}, (ValueError, IndexError), "out of bounds|target"),
    ],
)
def test_bad_input_is_named(arguments, options, error, words, unchecked):
    with pytest.raises(error, match=words):
        linear_cross_entropy(*arguments, **options)
