"""Masks against enumeration of every mask, against torch under torch's own mask, and against bounds with a stated error
probability; LSTMs against nn.LSTM; what cannot be is named."""

import copy
import io
import math
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import vmap
from torch.nn.utils import prune, rnn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from tests.ideas.calls import BELOW_ONE, TARGET, Call
from tests.ideas.calls import X as GIVEN
from tiedlib import dropout as d
from tiedlib import gumbel_softmax, vae
from tiedlib.dropout import (
    Dropout,
    EmbeddingDropout,
    VariationalDropout,
    WeightDropLSTM,
    apply_mask,
    classic_dropout,
    drop_connect,
    dropout,
    embedding_dropout,
    every_mask,
    keep_mask,
    masked_lstm,
    monte_carlo,
)

RATES = (0.0, 0.1, 0.5, 0.65, 0.9)
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


def far(n, t=14.6):
    """A mean of n values in [0, 1] misses its expectation by more than this with probability ≤ 2e⁻ᵗ < 1e-6 (Hoeffding)."""
    assert 2 * math.exp(-t) < 1e-6
    return math.sqrt(t / (2 * n))


# -- masks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.0, 0.03, 0.35, 0.5, 0.65, 0.97])
def test_a_share_p_is_dropped(p):
    n = 1_000_000
    dropped = 1 - keep_mask((1000, 1000), p, generator=seeded()).double().mean().item()
    assert abs(dropped - p) <= (far(n) if p else 0.0)


def test_entries_are_independent():
    """Pairs of neighbours, along rows and along columns: both kept with probability r². Hoeffding over disjoint pairs."""
    keep = keep_mask((1000, 1000), 0.3, generator=seeded()).double()
    for pairs in ((keep[:, ::2] * keep[:, 1::2]), (keep[::2] * keep[1::2])):
        assert abs(pairs.mean().item() - 0.7**2) < far(pairs.numel())


def test_small_rates_are_not_rounded_away():
    """A million entries at p = 2e-5: Poisson(20); outside 1 … 60 with probability below 1e-7."""
    dropped = (~keep_mask((1_000_000,), 2e-5, generator=seeded())).sum().item()
    assert 1 <= dropped <= 60


def test_where_masks_are_drawn():
    with torch.device("meta"):
        assert keep_mask((2,), 0.5).device.type == "meta"
        assert keep_mask((2,), 0.5, generator=seeded()).device.type == "cpu"
    assert dropout(torch.ones(2, device="meta"), 0.5).device.type == "meta"


def test_every_mask_counts_the_law():
    for n in (0, 1, 5):
        masks, probabilities = every_mask(n, 0.3)
        assert len({tuple(m.tolist()) for m in masks}) == 2**n == len(probabilities)
        assert probabilities.sum() == pytest.approx(1)
        brute = [math.prod(0.7 if kept else 0.3 for kept in m.tolist()) for m in masks]
        assert probabilities.tolist() == pytest.approx(brute)
    masks, probabilities = every_mask(4, 0.0)
    assert probabilities[masks.all(1)] == 1 and probabilities.sum() == 1


@pytest.mark.parametrize("p", [0.2, 0.5])
def test_what_is_drawn_has_the_law_of_every_mask(p):
    """χ² over the 16 masks of four units, 80,000 draws: 15 degrees of freedom, above 62 with probability below 2e-7."""
    n = 80_000
    masks, probabilities = every_mask(4, p)
    drawn = keep_mask((n, 4), p, generator=seeded())
    weight = 2 ** torch.arange(3, -1, -1)
    counts = torch.bincount((drawn * weight).sum(1), minlength=16)[(masks * weight).sum(1)].double()
    assert ((counts - n * probabilities) ** 2 / (n * probabilities)).sum() < 62


# -- dropout -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_under_torchs_mask_it_is_torchs(p, dtype):
    """torch's mask is read off a tensor of ones with the same seed: masks need not come from the same stream."""
    x = draw(40, 30).to(dtype).requires_grad_()
    torch.manual_seed(1)
    keep = F.dropout(torch.ones_like(x), p) != 0
    torch.manual_seed(1)
    theirs = F.dropout(x, p)
    ours = apply_mask(x, keep, p)
    torch.testing.assert_close(ours, theirs)
    up = torch.randn_like(x)
    torch.testing.assert_close(
        *(torch.autograd.grad(y, x, up, retain_graph=True)[0] for y in (ours, theirs)), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_survivors_are_divided_by_r_and_the_rest_is_zero(p):
    x = draw(50, 60)
    keep = keep_mask(x.shape, p, generator=seeded(4))
    y = dropout(x, p, generator=seeded(4))
    assert torch.equal(y[keep], x[keep] / (1 - p)) and not y[~keep].any() and 0 < keep.sum() < keep.numel()


@given(st.floats(0, 0.95), st.integers(1, 6), st.integers(0, 99))
def test_mean_and_variance_over_every_mask(p, n, seed):
    x = draw(n, seed=seed)
    masks, probabilities = every_mask(n, p)
    y = apply_mask(x.expand(len(masks), n), masks, p)
    mean = probabilities @ y
    variance = probabilities @ (y - mean) ** 2
    torch.testing.assert_close(mean, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(variance, x**2 * p / (1 - p), rtol=1e-8, atol=1e-9)


@given(st.floats(0, 0.95), st.integers(1, 5))
def test_the_classic_form_has_one_mean_in_training_and_after(p, n):
    x = draw(n)
    masks, probabilities = every_mask(n, p)
    torch.testing.assert_close(probabilities @ (x * masks), classic_dropout(x, p, False), rtol=1e-9, atol=1e-9)


def test_the_classic_form_draws_and_scales():
    x = draw(30, 40)
    keep = keep_mask(x.shape, 0.4, generator=seeded(2))
    assert torch.equal(classic_dropout(x, 0.4, generator=seeded(2)), x * keep)
    assert torch.equal(classic_dropout(x, 0.4, training=False), x * 0.6)
    torch.testing.assert_close(dropout(x, 0.4, generator=seeded(2)) * 0.6, x * keep)


@pytest.mark.parametrize("shared", [(), (0,), (1,), (0, 2), (-1,)])
def test_along_shared_axes_one_mask(shared):
    keep = dropout(torch.ones(40, 50, 60), 0.5, generator=seeded(), shared=shared) != 0
    for axis in range(3):
        same = (keep == keep.select(axis, 0).unsqueeze(axis)).all()
        assert bool(same) == (axis in [a % 3 for a in shared])


def test_off_is_the_input_itself_and_draws_nothing():
    x, g = draw(3), seeded()
    before = g.get_state()
    assert dropout(x, 0.5, False, g) is x and dropout(x, 0.0, True, g) is x
    assert torch.equal(g.get_state(), before)


def test_the_generator_decides_and_the_default_one_too():
    x = torch.ones(1000)
    assert torch.equal(dropout(x, 0.5, generator=seeded(1)), dropout(x, 0.5, generator=seeded(1)))
    assert not torch.equal(dropout(x, 0.5, generator=seeded(1)), dropout(x, 0.5, generator=seeded(2)))
    torch.manual_seed(5)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(5)
    assert torch.equal(first, dropout(x, 0.5)) and not torch.equal(first, second)


def test_a_rate_for_each_run_of_a_grid():
    rates = torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64)
    y = vmap(lambda x, p: dropout(x, p), randomness="different")(torch.ones(3, 50_000), rates)
    assert y.dtype is torch.float32 and (y[0] == 1).all()
    for row, p in zip(y[1:], rates[1:], strict=True):
        assert row.unique().tolist() == [0.0, pytest.approx(1 / (1 - p.item()))]
        assert abs((row == 0).double().mean().item() - p.item()) < far(50_000)


@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), min_size=0, max_size=3),
    st.sampled_from(RATES),
    st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
)
def test_any_shape_and_dtype(dtype, shape, p, scale):
    x = torch.full(shape, scale, dtype=dtype).requires_grad_()
    for y in (dropout(x, p), classic_dropout(x, p), classic_dropout(x, p, False)):
        assert y.shape == x.shape and y.dtype == dtype and torch.isfinite(y).all()
    dropout(x, p).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_views_infinities_and_the_graph():
    x = draw(4, 6).T
    assert not x.is_contiguous()
    assert torch.equal(dropout(x, 0.5, generator=seeded()), dropout(x.contiguous(), 0.5, generator=seeded()))
    wild = torch.tensor([1.0, math.inf, math.nan], requires_grad=True)
    y = apply_mask(wild, torch.tensor([True, False, False]), 0.5)
    y.sum().backward()
    assert y.tolist() == [2, 0, 0] and wild.grad.tolist() == [2, 0, 0]
    keep = keep_mask((3, 4), 0.3, generator=seeded())
    assert torch.autograd.gradcheck(lambda z: apply_mask(z, keep, 0.3), draw(3, 4).requires_grad_())


# -- DropConnect ---------------------------------------------------------------------------------------------------------


def test_one_mask_of_weights_for_each_row():
    x, weight, bias = draw(5, 3), draw(4, 3, seed=1), draw(4, seed=2)
    keep = keep_mask((5, 4, 3), 0.4, generator=seeded(3))
    y = drop_connect(x, weight, 0.4, bias, generator=seeded(3))
    loop = torch.stack([(keep[b] * weight / 0.6) @ x[b] + bias for b in range(5)])
    torch.testing.assert_close(y, loop)
    assert len({tuple(k.flatten().tolist()) for k in keep}) == 5
    assert torch.equal(drop_connect(x, weight, 0.4, bias, training=False), F.linear(x, weight, bias))
    assert torch.equal(drop_connect(x, weight, 0.0), F.linear(x, weight))
    assert drop_connect(x[:0], weight, 0.4).shape == (0, 4) and drop_connect(x[0], weight, 0.4).shape == (4,)


def test_its_gradient():
    x, weight = draw(2, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: drop_connect(*a, 0.4, generator=seeded(3)), (x, weight))


def test_same_mean_and_variance_as_dropout_but_no_covariance():
    """All masks of units (2³) and of weights (2⁶)."""
    p, x, weight = 0.3, draw(3), draw(2, 3, seed=1)
    units, chance = every_mask(3, p)
    y = apply_mask(x.expand(8, 3), units, p) @ weight.T
    entries, chances = every_mask(6, p)
    z = torch.einsum("mij,j->mi", apply_mask(weight.expand(64, 2, 3), entries.view(64, 2, 3), p), x)
    moments = []
    for values, weights in ((y, chance), (z, chances)):
        mean = weights @ values
        moments.append((mean, (values - mean).T @ (weights[:, None] * (values - mean))))
    torch.testing.assert_close(moments[0][0], moments[1][0])
    torch.testing.assert_close(moments[0][1].diag(), moments[1][1].diag())
    torch.testing.assert_close(moments[0][1][0, 1], p / (1 - p) * (weight[0] * weight[1] * x**2).sum())
    assert abs(moments[1][1][0, 1]) < 1e-12 < abs(moments[0][1][0, 1])


# -- words ---------------------------------------------------------------------------------------------------------------

TOKENS = torch.tensor([[1, 2, 1, 3, 0], [2, 1, 4, 4, 1]])


@pytest.mark.parametrize("per_sequence", [False, True])
def test_a_dropped_word_is_gone_wherever_it_stands(per_sequence):
    weight = draw(5, 3).requires_grad_()
    found = set()
    for seed in range(40):
        weight.grad = None
        y = embedding_dropout(TOKENS, weight, 0.4, generator=seeded(seed), per_sequence=per_sequence)
        y.sum().backward()
        gone = (y == 0).all(-1)
        kept = weight[TOKENS[~gone]] / 0.6
        assert torch.equal(y[~gone], kept)
        where = range(2) if per_sequence else [slice(None)]
        for b in where:
            for word in range(5):
                fates = gone[b][TOKENS[b] == word]
                assert len(set(fates.tolist())) <= 1
        found.add(bool(gone[0, 0] == gone[1, 1]))  # word 1 in both sequences
        times = torch.bincount(TOKENS[~gone], minlength=5)
        torch.testing.assert_close(weight.grad, (times[:, None] / 0.6).expand(5, 3).double())
    assert found == ({True, False} if per_sequence else {True})


def test_the_share_of_dropped_words_is_p():
    tokens, weight = torch.arange(20_000), torch.ones(20_000, 1)
    gone = embedding_dropout(tokens, weight, 0.3, generator=seeded()) == 0
    assert abs(gone.double().mean().item() - 0.3) < far(20_000)


def test_embedding_dropout_off_and_odd_tokens():
    weight = draw(5, 3)
    assert torch.equal(embedding_dropout(TOKENS, weight, 0.4, training=False), weight[TOKENS])
    assert torch.equal(embedding_dropout(TOKENS, weight, 0.0), weight[TOKENS])
    assert embedding_dropout(TOKENS[:0], weight, 0.4).shape == (0, 5, 3)
    small = embedding_dropout(TOKENS.to(torch.int32), weight, 0.4, generator=seeded())
    assert torch.equal(small, embedding_dropout(TOKENS, weight, 0.4, generator=seeded()))


def test_the_module_has_the_embedding_itself():
    embedding = nn.Embedding(5, 3)
    module = EmbeddingDropout(embedding, 0.5, generator=seeded())
    assert [p is embedding.weight for p in module.parameters()] == [True]
    output = nn.Linear(3, 5, bias=False)
    output.weight = embedding.weight
    before = embedding.weight.detach().clone()
    y = module(torch.arange(5))
    assert 0 < (y == 0).all(1).sum() < 5 and torch.equal(output.weight, before)
    assert torch.equal(module.eval()(torch.arange(5)), embedding.weight)
    padded = EmbeddingDropout(nn.Embedding(5, 3, padding_idx=2), 0.5, generator=seeded())
    for _ in range(8):
        padded(torch.arange(5)).sum().backward()
    assert not padded.embedding.weight.grad[2].any() and padded.embedding.weight.grad[[0, 1, 3, 4]].all()
    many = EmbeddingDropout(nn.Embedding(50, 3), 0.5, per_sequence=True, generator=seeded()).train()
    y = many(torch.arange(50).expand(2, 50))
    assert not torch.equal(y[0] == 0, y[1] == 0)


# -- sequences -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
def test_one_mask_a_sequence(batch_first):
    module = VariationalDropout(0.5, batch_first=batch_first, generator=seeded())
    x = torch.ones(8, 7, 100)
    y = module(x) if batch_first else module(x.transpose(0, 1)).transpose(0, 1)
    assert (y == y[:, :1]).all() and set(y.unique().tolist()) == {0.0, 2.0}
    assert len({tuple(row.tolist()) for row in y[:, 0]}) == 8
    assert abs((y[:, 0] == 0).double().mean().item() - 0.5) < far(800)
    assert not torch.equal(module(x), module(x)) and module.eval()(x) is x


@pytest.mark.parametrize("bias", [True, False])
def test_without_masks_it_is_nn_lstm(bias):
    lstm = nn.LSTM(3, 4, batch_first=True, bias=bias).double()
    x = draw(2, 6, 3)
    torch.testing.assert_close(masked_lstm(x, lstm), lstm(x)[0])
    ones = torch.ones(2, 1, 4, dtype=torch.float64)
    torch.testing.assert_close(masked_lstm(x, lstm, ones[..., :3], ones), lstm(x)[0])
    assert masked_lstm(x[:, :0], lstm).shape == (2, 0, 4) and masked_lstm(x[:0], lstm).shape == (0, 6, 4)


def test_a_locked_mask_drops_columns_of_the_weights():
    """(h ⊙ b) W_hhᵀ = h (W_hh diag b)ᵀ: nn.LSTM with columns zeroed is the oracle, one sequence at a time."""
    lstm = nn.LSTM(3, 4, batch_first=True).double()
    x = draw(3, 6, 3)
    a = dropout(torch.ones(3, 1, 3, dtype=torch.float64), 0.4, generator=seeded(1))
    b = dropout(torch.ones(3, 1, 4, dtype=torch.float64), 0.4, generator=seeded(2))
    ours = masked_lstm(x, lstm, a, b)
    for k in range(3):
        other = copy.deepcopy(lstm)
        with torch.no_grad():
            other.weight_ih_l0 *= a[k, 0]
            other.weight_hh_l0 *= b[k, 0]
        torch.testing.assert_close(ours[k], other(x[k])[0])
    assert not torch.allclose(ours, masked_lstm(x, lstm))


def test_a_mask_for_each_step():
    lstm = nn.LSTM(3, 4, batch_first=True).double()
    x, b = draw(2, 5, 3), dropout(torch.ones(2, 5, 4, dtype=torch.float64), 0.5, generator=seeded())
    cell = nn.LSTMCell(3, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in lstm.state_dict().items()})
    h = c = torch.zeros(2, 4, dtype=torch.float64)
    for t in range(5):
        h, c = cell(x[:, t], (h * b[:, t], c))
        torch.testing.assert_close(masked_lstm(x, lstm, None, b)[:, t], h)
    weights = [draw(*w.shape, seed=k).requires_grad_() for k, w in enumerate(lstm.parameters())]

    def through(*weights):
        with torch.no_grad():
            names = [name for name, _ in lstm.named_parameters()]
        return torch.func.functional_call(
            _Masked(lstm, b), {f"lstm.{n}": w for n, w in zip(names, weights, strict=True)}, (x,)
        )

    assert torch.autograd.gradcheck(through, weights)


class _Masked(nn.Module):
    def __init__(self, lstm, mask):
        super().__init__()
        self.lstm, self.mask = lstm, mask

    def forward(self, x):
        return masked_lstm(x, self.lstm, None, self.mask)


OPTIONS = ({}, {"num_layers": 2}, {"bidirectional": True, "batch_first": True}, {"bias": False}, {"proj_size": 2})


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_off_the_weight_dropped_lstm_is_nn_lstm(options):
    reference = nn.LSTM(3, 4, **options).double()
    ours = WeightDropLSTM(3, 4, p=0.5, **options).double()
    ours.load_state_dict(reference.state_dict())
    x = draw(5, 2, 3)
    for module in (copy.deepcopy(ours).eval(), WeightDropLSTM(3, 4, p=0, **options).double()):
        module.load_state_dict(reference.state_dict())
        for a, b in zip(_flat(module(x)), _flat(reference(x)), strict=True):
            assert torch.equal(a, b)
    assert not torch.equal(ours(x)[0], reference(x)[0])
    assert torch.equal(ours.eval()(x)[0], reference(x)[0])  # after a pass with masks


def _flat(out):
    return [out[0], *out[1]]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_on_it_is_nn_lstm_with_the_masked_weights(options):
    """Output, state, and the gradient of the raw weights: the masked weights' own gradient, times m / (1 − p)."""
    ours = WeightDropLSTM(3, 4, p=0.3, generator=seeded(5), **options).double()
    x = draw(5, 2, 3).requires_grad_()
    g = seeded(5)
    factors = {
        name: dropout(torch.ones_like(w), 0.3, generator=g)
        for name, w in ours.named_parameters()
        if name.startswith("weight_hh")
    }
    assert len(factors) == ours.num_layers * (1 + ours.bidirectional)
    reference = nn.LSTM(3, 4, **options).double()
    reference.load_state_dict({name: w * factors.get(name, 1.0) for name, w in ours.state_dict().items()})
    out, expected = _flat(ours(x)), _flat(reference(x))
    for a, b in zip(out, expected, strict=True):
        torch.testing.assert_close(a, b)
    sum(o.square().sum() for o in out).backward()
    mine, x.grad = x.grad, None
    sum(o.square().sum() for o in expected).backward()
    torch.testing.assert_close(mine, x.grad)
    for (name, w), other in zip(ours.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(w.grad, other.grad * factors.get(name, 1.0))
        if name in factors:
            assert (w.grad[factors[name] == 0] == 0).all() and (w.grad != 0).any()


def test_the_gradient_of_the_raw_weights_numerically():
    ours = WeightDropLSTM(2, 3, p=0.5).double()
    x, weights = draw(3, 2, 2), [w.detach().clone().requires_grad_() for w in ours.parameters()]
    names = [name for name, _ in ours.named_parameters()]

    def through(*weights):
        ours.generator = seeded(1)
        return torch.func.functional_call(ours, dict(zip(names, weights, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(through, weights)


def test_the_optimizer_moves_the_raw_weights_which_stay_whole():
    ours = WeightDropLSTM(3, 4, p=0.5, generator=seeded())
    names = dict(ours.named_parameters())
    assert names.keys() == nn.LSTM(3, 4).state_dict().keys() and all(
        isinstance(w, nn.Parameter) for w in names.values()
    )
    stepper = torch.optim.SGD(ours.parameters(), lr=0.1)
    start = ours.weight_hh_l0.detach().clone()
    for _ in range(30):
        stepper.zero_grad()
        ours(torch.ones(5, 2, 3))[0].sum().backward()
        stepper.step()
    assert ours.weight_hh_l0 is names["weight_hh_l0"] and (ours.weight_hh_l0 != start).all()
    first, second = ours(torch.ones(5, 2, 3))[0], ours(torch.ones(5, 2, 3))[0]
    assert not torch.equal(first, second), "a fresh mask each pass"


def test_copies_saving_packed_sequences_and_state_after_a_pass():
    ours = WeightDropLSTM(3, 4, p=0.5, batch_first=True, generator=seeded())
    x = torch.randn(2, 5, 3)
    ours(x)[0].sum().backward()
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(other(x)[0], copy.deepcopy(ours)(x)[0])
    buffer = io.BytesIO()
    torch.save(ours.state_dict(), buffer)
    packed = pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
    ours.generator = seeded(1)
    out, _ = ours(packed)
    ours.generator = seeded(1)
    plain, _ = ours(x)
    padded = pad_packed_sequence(out, batch_first=True)[0]
    torch.testing.assert_close(padded[0], plain[0])
    torch.testing.assert_close(padded[1, :3], plain[1, :3])
    ours.eval()
    _, half = ours(x[:, :2])
    torch.testing.assert_close(ours(x[:, 2:], half)[0], ours(x)[0][:, 2:])


def test_no_pass_leaves_masked_weights_behind():
    ours = WeightDropLSTM(3, 4, 2, p=0.5)
    ours(torch.randn(5, 2, 3))
    weights = dict(ours.named_parameters())
    assert all(w is weights[name] for name, w in zip(ours._flat_weights_names, ours._flat_weights, strict=True))


def test_an_error_inside_leaves_it_whole():
    ours = WeightDropLSTM(3, 4, p=0.5)
    with pytest.raises((RuntimeError, ValueError)):
        ours(torch.zeros(5, 2, 7))
    copy.deepcopy(ours)
    assert all(isinstance(w, nn.Parameter) for w in ours.parameters())


# -- averaging over masks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [Dropout, nn.Dropout])
def test_monte_carlo_is_the_average_over_every_mask(layer):
    """A net of four hidden units: 2⁴ masks. Probabilities lie in [0, 1], so Hoeffding's bound holds; three of them."""
    one, two = nn.Linear(2, 4).double(), nn.Linear(4, 3).double()
    model = nn.Sequential(one, nn.Tanh(), layer(0.5), nn.BatchNorm1d(4).double(), two, nn.Softmax(-1))
    x = draw(1, 2)
    model[3].eval()
    masks, probabilities = every_mask(4, 0.5)
    with torch.no_grad():
        exact = probabilities @ torch.softmax(
            two(model[3](apply_mask(torch.tanh(one(x)).expand(16, 4), masks, 0.5))), -1
        )
    model.train()
    samples = monte_carlo(model, x, samples=4000)
    assert samples.shape == (4000, 1, 3) and not samples.requires_grad
    assert model.training and model[3].training and model[2].training
    assert (samples.mean(0)[0] - exact).abs().max() < far(4000, 15.7)  # 3 · 2e⁻ᵗ < 1e-6
    model.eval()
    assert len(monte_carlo(model, x, samples=20).unique(dim=0)) > 1 and not model[2].training
    assert torch.equal(model(x), model(x))


def test_monte_carlo_sees_every_kind_of_dropout():
    class Words(nn.Module):
        def __init__(self, embedding, lstm):
            super().__init__()
            self.embedding, self.lstm = embedding, lstm

        def forward(self, tokens):
            return self.lstm(self.embedding(tokens))[0]

    plain = nn.Embedding(20, 3)
    for embedding, lstm in (
        (EmbeddingDropout(plain, 0.5), nn.LSTM(3, 4)),
        (plain, WeightDropLSTM(3, 4)),
        (nn.Sequential(plain, VariationalDropout(0.5)), nn.LSTM(3, 4)),
    ):
        samples = monte_carlo(Words(embedding, lstm).eval(), torch.arange(20).view(20, 1), samples=5)
        assert len(samples.unique(dim=0)) == 5


# -- what cannot be ------------------------------------------------------------------------------------------------------

X, W = torch.ones(2, 3), torch.ones(4, 3)
RATE_TAKERS = {
    "keep_mask": lambda p: keep_mask((2,), p),
    "apply_mask": lambda p: apply_mask(X, X > 0, p),
    "dropout": lambda p: dropout(X, p),
    "dropout, off": lambda p: dropout(X, p, False),
    "classic_dropout": lambda p: classic_dropout(X, p),
    "classic_dropout, off": lambda p: classic_dropout(X, p, False),
    "drop_connect": lambda p: drop_connect(X, W, p),
    "drop_connect, off": lambda p: drop_connect(X, W, p, training=False),
    "embedding_dropout": lambda p: embedding_dropout(TOKENS, torch.ones(5, 2), p),
    "embedding_dropout, off": lambda p: embedding_dropout(TOKENS, torch.ones(5, 2), p, False),
    "every_mask": lambda p: every_mask(2, p),
    "Dropout": Dropout,
    "VariationalDropout": VariationalDropout,
    "EmbeddingDropout": lambda p: EmbeddingDropout(nn.Embedding(3, 2), p),
    "WeightDropLSTM": lambda p: WeightDropLSTM(2, 3, p=p),
}


@pytest.mark.parametrize("name", RATE_TAKERS)
def test_rates_that_cannot_be(name, unchecked):
    for p in (1.0, 1, -0.1, 1.5, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=rf"p is {p}.*\[0, 1\)"):
            RATE_TAKERS[name](p)
    for p in ("0.5", None, True, [0.5]):
        with pytest.raises(TypeError, match="p is"):
            RATE_TAKERS[name](p)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: dropout(torch.ones(3, dtype=torch.int64), 0.5), TypeError, "x has dtype torch.int64"),
        (lambda: dropout(torch.ones(3, dtype=torch.bool), 0.5, False), TypeError, "x has dtype torch.bool"),
        (lambda: classic_dropout(torch.ones(3, dtype=torch.int64), 0.5), TypeError, "x has dtype"),
        (lambda: apply_mask(torch.ones(3, dtype=torch.int64), torch.ones(3) > 0, 0.5), TypeError, "x has dtype"),
        (lambda: apply_mask(X, torch.ones(3, 3) > 0, 0.5), ValueError, r"keep has shape \(3, 3\) and x \(2, 3\)"),
        (lambda: apply_mask(X, torch.ones(1, 2, 3) > 0, 0.5), ValueError, "keep has shape"),
        (lambda: dropout(X, 0.5, shared=(2,)), ValueError, "shared names axis 2"),
        (lambda: dropout(X, 0.5, False, shared=(-3,)), ValueError, "shared names axis -3"),
        (lambda: drop_connect(X, torch.ones(4, 2), 0.5), ValueError, r"x has shape \(2, 3\) and weight \(4, 2\)"),
        (lambda: embedding_dropout(torch.tensor([5]), torch.ones(5, 2), 0.5), ValueError, "tokens holds 5"),
        (lambda: embedding_dropout(torch.tensor([-1]), torch.ones(5, 2), 0.5, False), ValueError, "tokens holds -1"),
        (lambda: embedding_dropout(torch.tensor([1.0]), torch.ones(5, 2), 0.5), TypeError, "tokens has dtype"),
        (lambda: embedding_dropout(torch.tensor([True]), torch.ones(5, 2), 0.5), TypeError, "tokens has dtype"),
        (
            lambda: embedding_dropout(torch.tensor([1]), torch.ones(5, 2), 0.5, per_sequence=True),
            ValueError,
            r"tokens has shape \(1,\)",
        ),
        (lambda: VariationalDropout()(X), ValueError, r"x has shape \(2, 3\)"),
        (lambda: masked_lstm(X, nn.LSTM(3, 4)), ValueError, r"x has shape \(2, 3\).*time, 3"),
        (lambda: masked_lstm(torch.ones(2, 5, 2), nn.LSTM(3, 4)), ValueError, r"x has shape \(2, 5, 2\)"),
        (lambda: monte_carlo(nn.Linear(3, 2), X), ValueError, "without a dropout module"),
        (lambda: monte_carlo(nn.Dropout(), X, samples=0), ValueError, "samples is 0"),
        (lambda: every_mask(21, 0.5), ValueError, "n is 21"),
        (lambda: every_mask(-1, 0.5), ValueError, "n is -1"),
    ],
)
def test_what_cannot_be_is_named(unchecked, call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_all_that_is_public_is_listed_and_documented():
    assert sorted(d.__all__) == sorted(
        name for name, one in vars(d).items() if getattr(one, "__module__", "") == d.__name__ and name[0] != "_"
    )
    assert all(getattr(d, name).__doc__ for name in d.__all__)


# Every module of torch that drops


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, 0.5, batch_first=True), 2)

    def forward(self, x):
        return self.decoder(x, x)


class Functional(nn.Module):
    """A number `dropout`, as torch's own modules have it, and F.dropout."""

    def __init__(self, seen=True):
        super().__init__()
        self.linear, self.dropout = nn.Linear(8, 8), 0.5 if seen else None

    def forward(self, x):
        return F.dropout(self.linear(x), 0.5, self.training)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.left_out = nn.Dropout(0.5)

    def forward(self, x):
        return 2 * x


def encoder_layer(batch_first=True):
    return nn.TransformerEncoderLayer(8, 2, 16, 0.5, batch_first=batch_first)


DRAW = {
    "encoder": lambda: nn.TransformerEncoder(encoder_layer(), 2),
    "encoder, time first": lambda: nn.TransformerEncoder(encoder_layer(False), 2, enable_nested_tensor=False),
    "encoder layer": encoder_layer,
    "decoder": Decoder,
    "attention": Attention,
    "lstm": lambda: nn.LSTM(8, 8, 2, dropout=0.5, batch_first=True),
    "gru": lambda: nn.GRU(8, 8, 2, dropout=0.5, batch_first=True),
    "rnn": lambda: nn.RNN(8, 8, 2, dropout=0.5, batch_first=True),
    "dropout": lambda: nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.BatchNorm1d(4)),
    "dropout 1d": lambda: nn.Dropout1d(0.5),
    "alpha": lambda: nn.AlphaDropout(0.5),
    "feature alpha": lambda: nn.FeatureAlphaDropout(0.5),
    "ours": lambda: nn.Sequential(nn.Linear(8, 8), d.Dropout(0.5)),
    "ours with a generator": lambda: d.Dropout(0.5, generator=torch.Generator().manual_seed(1)),
    "weight drop": lambda: d.WeightDropLSTM(8, 8, p=0.5, batch_first=True),
    "a number": Functional,
}
SILENT = {
    "nothing": lambda: nn.Linear(8, 8),
    "a rate of 0": lambda: nn.Sequential(nn.Dropout(0.0), nn.LSTM(8, 8, 2, dropout=0.0)),
    "no place for it": lambda: nn.Sequential(nn.LSTM(8, 8, 1, dropout=0.0)),
    "out of sight": lambda: Functional(seen=False),
    "not on the way": Unused,
}
SENTENCES = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", DRAW)
def test_monte_carlo_draws_for_every_module_that_drops(kind):
    model = DRAW[kind]().eval()
    states = copy.deepcopy(dict(model.named_buffers()))
    fast = torch.backends.mha.get_fastpath_enabled()
    found = d.monte_carlo(model, SENTENCES, samples=6)
    out = found[0] if isinstance(found, tuple) else found
    assert out.shape == (6, 2, 4, 8) and (out.std(0) > 0).any()
    assert not any(module.training for module in model.modules()), "modes are put back"
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert all(torch.equal(buffer, states[name]) for name, buffer in model.named_buffers()), (
        "nothing else is in training"
    )


@pytest.mark.parametrize("kind", SILENT)
def test_monte_carlo_never_gives_equal_samples_in_silence(kind):
    with pytest.raises(ValueError, match="nothing to average over"):
        d.monte_carlo(SILENT[kind](), SENTENCES, samples=3)


def test_monte_carlo_puts_modes_back_after_an_error():
    model = DRAW["encoder"]().train()
    model.layers[0].eval()
    modes = [module.training for module in model.modules()]
    with pytest.raises(AssertionError):
        d.monte_carlo(model, torch.ones(2, 4, 7), samples=2)
    assert [module.training for module in model.modules()] == modes and torch.backends.mha.get_fastpath_enabled()


# WeightDropLSTM: what others read never changes


def test_two_threads_share_a_weight_drop_lstm():
    lstm = d.WeightDropLSTM(8, 8, p=0.5)
    raw, errors, rounds = lstm.weight_hh_l0.detach().clone(), [], 40

    def work():
        try:
            for _ in range(rounds):
                lstm(SENTENCES)[0].sum().backward()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and isinstance(lstm.weight_hh_l0, nn.Parameter) and torch.equal(lstm.weight_hh_l0, raw)


def replica(lstm):
    """As nn.DataParallel makes it: no Parameters, plain tensors in their places."""
    twin = lstm._replicate_for_data_parallel()
    twin._parameters = {}
    for name, p in lstm.named_parameters():
        setattr(twin, name, p * 1)
    return twin


def normed(lstm):
    return nn.utils.weight_norm(lstm, "weight_hh_l0")


def parametrized(lstm):
    return nn.utils.parametrizations.weight_norm(lstm, "weight_hh_l0")


def pruned(lstm):
    prune.l1_unstructured(lstm, "weight_hh_l0", 0.3)
    return lstm


def assigned(lstm):
    lstm.load_state_dict({name: value.clone() for name, value in lstm.state_dict().items()}, assign=True)
    return lstm


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    "change", [replica, normed, parametrized, pruned, assigned, copy.deepcopy, lambda m: m.double().float()]
)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"proj_size": 3}, {"bias": False}])
def test_a_weight_drop_lstm_drops_whatever_was_done_to_it(change, options):
    torch.manual_seed(0)
    lstm = d.WeightDropLSTM(8, 6, p=0.5, batch_first=True, **options)
    expected = lstm.eval()(SENTENCES)[0]
    model = change(lstm.train())
    first, second = model(SENTENCES)[0], model(SENTENCES)[0]
    assert not torch.equal(first, second)
    first.sum().backward()
    if change is not pruned:
        torch.testing.assert_close(model.eval()(SENTENCES)[0], expected)
    with torch.no_grad():  # and all it drops are recurrent weights: the first step, from a state of zeros, has none
        model.train()
        a, b = (model(SENTENCES)[0][:, 0] for _ in range(2))
    if not options.get("bidirectional"):
        torch.testing.assert_close(a, b)


def test_a_weight_drop_lstm_under_functional_call_and_with_packed_sequences():
    lstm = d.WeightDropLSTM(8, 6, p=0.5, batch_first=True)
    params = {name: 2 * p.detach() for name, p in lstm.named_parameters()}
    first, second = (torch.func.functional_call(lstm, params, (SENTENCES,))[0] for _ in range(2))
    assert not torch.equal(first, second)
    packed = rnn.pack_sequence([SENTENCES[0], SENTENCES[1, :2]])
    assert not torch.equal(lstm(packed)[0].data, lstm(packed)[0].data)


# A generator of one's own where torch computes twice


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "drawn",
    [
        lambda w, g: d.dropout(w, 0.5, True, g) * w,
        lambda w, g: d.classic_dropout(w, 0.5, True, g) * w,
        lambda w, g: gumbel_softmax.gumbel_softmax(w * torch.arange(50.0), generator=g).square(),
        lambda w, g: vae.reparameterize(w, w, generator=g) * w,
    ],
)
def test_a_generator_under_checkpoint_is_refused_and_torchs_own_is_right(drawn, reentrant):
    w = torch.linspace(0.5, 1.5, 50, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"generator is .* inside torch\.utils\.checkpoint it must be None"):
        checkpoint(lambda w: drawn(w, torch.Generator().manual_seed(0)), w, use_reentrant=reentrant)
    gradients = []
    for call in (lambda: checkpoint(lambda w: drawn(w, None), w, use_reentrant=reentrant), lambda: drawn(w, None)):
        torch.manual_seed(4)
        gradients.append(torch.autograd.grad(call().sum(), w)[0] if not reentrant else grad_by_backward(call, w))
    torch.testing.assert_close(*gradients)


def grad_by_backward(call, w):
    w.grad = None
    call().sum().backward()
    return w.grad


# Layouts, devices, transforms


@pytest.mark.parametrize("function", [d.dropout, d.classic_dropout])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 3, 2, 4, 4)])
def test_channels_last_stays_so(function, shape):
    last = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    x = torch.randn(shape).to(memory_format=last)
    assert function(x, 0.5).stride() == x.stride() and function(x, 0.5, False).stride() == x.stride()
    t = torch.randn(4, 6).t()
    assert function(t, 0.5).stride() == t.stride()


def test_the_rate_is_shown():
    parts = [
        d.Dropout(0.3),
        d.VariationalDropout(0.3),
        d.EmbeddingDropout(nn.Embedding(3, 2), 0.3),
        d.WeightDropLSTM(3, 2, p=0.3),
    ]
    assert all("p=0.3" in repr(part) for part in parts)


def test_one_mask_a_sequence_of_a_packed_batch():
    packed = rnn.pack_sequence([torch.ones(2, 40), torch.ones(4, 40), torch.ones(3, 40)], enforce_sorted=False)
    layer = d.VariationalDropout(0.5)
    out, lengths = rnn.pad_packed_sequence(layer(packed), batch_first=True)
    for row, length in zip(out, lengths, strict=True):
        assert set(row[0].tolist()) == {0.0, 2.0}
        assert all(torch.equal(row[0], row[t]) for t in range(int(length)))
    assert not torch.equal(out[0, 0], out[1, 0])
    assert torch.equal(layer.eval()(packed).data, packed.data)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("per_sequence", [False, True])
def test_embedding_dropout_where_no_value_can_be_seen(per_sequence):
    tokens = torch.tensor([[1, 2, 1], [3, 4, 0]])
    layer = d.EmbeddingDropout(nn.Embedding(5, 3), 0.5, per_sequence=per_sequence)
    with torch.device("meta"):
        meta = d.EmbeddingDropout(nn.Embedding(5, 3), 0.5, per_sequence=per_sequence)
    assert meta(tokens.to("meta")).shape == (2, 3, 3)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")(tokens)
    assert torch.equal(compiled[0, 0] == 0, compiled[0, 2] == 0)  # the same word
    if not per_sequence:
        assert torch.func.vmap(layer, randomness="different")(tokens).shape == (2, 3, 3)


def test_a_kept_entry_has_the_probability_that_was_asked_for():
    """1 − 10⁻⁸ is 1 in float32, where no entry would ever be dropped: the draw is in float64, seen by what it is drawn from."""
    drawn = []

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function is torch.bernoulli:
                drawn.append(args[0])
            return function(*args, **(kwargs or {}))

    with Watch():
        d.keep_mask((3,), 1e-8)
    assert drawn[0].dtype is torch.float64 and (drawn[0] == 1 - 1e-8).all()


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "keep_mask": Call(lambda: {"shape": (2, 3), "p": 0.5}, p=BELOW_ONE),
    "apply_mask": Call(lambda: {"x": GIVEN, "keep": torch.ones(3, 4, dtype=torch.bool), "p": 0.5}, p=BELOW_ONE),
    "dropout": Call(lambda: {"x": GIVEN, "p": 0.5}, p=BELOW_ONE),
    "classic_dropout": Call(lambda: {"x": GIVEN, "p": 0.5}, p=BELOW_ONE),
    "drop_connect": Call(
        lambda: {"x": GIVEN, "weight": torch.ones(5, 4), "p": 0.5, "bias": torch.ones(5)}, p=BELOW_ONE
    ),
    "embedding_dropout": Call(lambda: {"tokens": TARGET, "weight": torch.ones(3, 4), "p": 0.5}, p=BELOW_ONE),
    "masked_lstm": Call(lambda: {"x": torch.ones(2, 5, 3), "lstm": nn.LSTM(3, 4)}),
    "every_mask": Call(lambda: {"n": 3, "p": 0.5}, p=BELOW_ONE),
    "monte_carlo": Call(lambda: {"model": Dropout(0.5), "*": (GIVEN,), "samples": 3}),
    "Dropout": Call(lambda: {"p": 0.5}, p=BELOW_ONE),
    "VariationalDropout": Call(lambda: {"p": 0.5}, p=BELOW_ONE),
    "EmbeddingDropout": Call(lambda: {"embedding": nn.Embedding(5, 2), "p": 0.5}, p=BELOW_ONE),
    "WeightDropLSTM": Call(lambda: {"input_size": 2, "hidden_size": 3, "num_layers": 1, "p": 0.5}, p=BELOW_ONE),
}
