"""The LSTM against torch's cell with both biases, step by step; the language model against a forward pass written out."""

import copy
import os
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ideas.calls import BELOW_ONE, Call
from tiedlib import recurrent
from tiedlib.lab.notebook.agreement import agree
from tiedlib.recurrent import LSTM, LanguageModel


def count(model):
    return sum(p.numel() for p in model.parameters())


def lstm_by_hand(lstm, x, layers):
    """i, f, g, o from the equations, one layer and one time step after another."""
    for layer in range(layers):
        w, u, b = (getattr(lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih"))
        h = c = torch.zeros(x.shape[0], u.shape[1], dtype=x.dtype)
        steps = []
        for t in range(x.shape[1]):
            i, f, g, o = (x[:, t] @ w.T + h @ u.T + b).chunk(4, dim=-1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            steps.append(h)
        x = torch.stack(steps, dim=1)
    return x


class ByHand(nn.Module):
    def __init__(self, lstm):
        super().__init__()
        for name, p in lstm.named_parameters():
            self.register_parameter(name, nn.Parameter(p.detach().clone()))

    def forward(self, x):
        return lstm_by_hand(self, x, 2)


class First(nn.Module):
    """Only the output of an LSTM, under the same parameter names."""

    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm
        for name, p in lstm.named_parameters():
            self.register_parameter(name, p)
        self._modules.clear()
        self.__dict__["call"] = lstm

    def forward(self, x):
        return self.__dict__["call"](x)[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lstm_agrees_with_the_equations(dtype):
    torch.manual_seed(3)
    lstm = LSTM(3, 4, 2).to(dtype)
    agree(First(lstm), ByHand(lstm), torch.randn(2, 5, 3, dtype=dtype))


def test_lstm_equals_torchs_with_its_second_bias_at_zero():
    ours, reference = LSTM(3, 4, 2), nn.LSTM(3, 4, 2, batch_first=True)
    state = ours.state_dict() | {f"bias_hh_l{k}": torch.zeros(16) for k in range(2)}
    reference.load_state_dict(state)
    x = torch.randn(2, 7, 3)
    out, (h, c) = ours(x)
    expected, (eh, ec) = reference(x)
    assert torch.equal(out, expected) and torch.equal(h, eh) and torch.equal(c, ec)


def test_lstm_has_one_bias_a_layer_that_trains_and_survives_copies():
    lstm = LSTM(200, 200, 2)
    assert count(lstm) == 2 * (4 * 200 * 400 + 4 * 200)
    assert not any("bias_hh" in name for name in lstm.state_dict())
    clone = copy.deepcopy(lstm)
    clone.double().float()
    x = torch.randn(1, 2, 200)
    clone(x)[0].sum().backward()
    assert all(p.grad is not None for p in clone.parameters())
    with torch.no_grad():
        clone.bias_ih_l0 += 1.0  # the copy's own bias, seen by its kernel, and not the original's
    assert not torch.equal(clone(x)[0], lstm(x)[0])
    assert torch.equal(clone.bias_hh_l0, torch.zeros(800))


@pytest.mark.parametrize("given", [False, True])
def test_the_layers_one_by_one_are_torchs_lstm(monkeypatch, given):
    """Dropout has the layers called one at a time; with a mask of ones that is the same to the last bit."""
    lstm, x = LSTM(3, 4, 3, dropout=0.5), torch.randn(2, 5, 3)
    state = (torch.randn(3, 2, 4), torch.randn(3, 2, 4)) if given else None
    dropped = []
    monkeypatch.setattr(recurrent, "_dropout", lambda x, p, training: dropped.append((p, training)) or x)
    out, (h, c) = lstm.train()(x, state)
    assert dropped == [(0.5, True), (0.5, True), (0.5, False)], "between layers, not after the last"
    expected, (eh, ec) = lstm.eval()(x, state)
    assert len(dropped) == 3
    assert torch.equal(out, expected) and torch.equal(h, eh) and torch.equal(c, ec)
    lstm.train()(x[0])  # without a batch: torch's own way
    assert len(dropped) == 3
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size"):
        lstm(torch.randn(2, 5, 7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dropout_drops_and_scales(dtype):
    n, p = 10**6, 0.3
    x = torch.ones(n, dtype=dtype, requires_grad=True)
    y = recurrent._dropout(x, p, True)
    kept = int(y.detach().count_nonzero())
    assert abs(kept - n * (1 - p)) < 5 * (n * p * (1 - p)) ** 0.5  # a false alarm with probability 6e-7
    assert set(y.detach().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert recurrent._dropout(x, p, False) is x and recurrent._dropout(x, 0.0, True) is x
    torch.manual_seed(3)
    first = recurrent._dropout(x, p, True)
    torch.manual_seed(3)
    assert torch.equal(recurrent._dropout(x, p, True), first)


def by_hand(model, tokens):
    """softmax(V P h + b) from the model's numbers, without calling its modules."""
    w = dict(model.named_parameters(remove_duplicate=False))
    h = lstm_by_hand(model.lstm, w["embedding.weight"][tokens], 2)
    if "projection.weight" in w:
        h = h @ w["projection.weight"].T + w.get("projection.bias", 0.0)
    return h @ w["output.weight"].T + w["output.bias"]


VARIANTS = [
    {},
    {"tied": True},
    {"projection": True},
    {"tied": True, "projection": True, "projection_bias": True},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_language_model_equals_the_formula(options):
    model = LanguageModel(11, 4, 4, 2, **options).double()
    tokens = torch.randint(11, (3, 5))
    torch.testing.assert_close(model(tokens)[0], by_hand(model, tokens), rtol=1e-12, atol=1e-12)
    loss, _ = model.loss(tokens[:, :-1], tokens[:, 1:])
    expected = F.cross_entropy(by_hand(model, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("sizes", "options", "parameters"),
    [
        ((10_000, 200, 200, 2), {}, 4_651_600),
        ((10_000, 200, 200, 2), {"tied": True}, 2_651_600),
        ((10_000, 200, 200, 2), {"projection": True}, 4_691_600),
        ((10_000, 200, 200, 2), {"tied": True, "projection": True}, 2_691_600),
        ((10_000, 200, 200, 2), {"tied": True, "projection": True, "projection_bias": True}, 2_691_800),
        ((10_000, 1500, 1500, 2), {}, 66_022_000),
        ((10_000, 1500, 1500, 2), {"tied": True}, 51_022_000),
    ],
)
def test_parameter_counts_of_the_paper(sizes, options, parameters):
    with torch.device("meta"):
        assert count(LanguageModel(*sizes, **options)) == parameters


@given(split=st.integers(1, 6))
def test_carried_state_makes_two_windows_one(split):
    torch.manual_seed(0)
    model = LanguageModel(9, 3, 5, 2).double()
    tokens = torch.randint(9, (2, 7))
    whole, end = model(tokens)
    left, state = model(tokens[:, :split])
    right, last = model(tokens[:, split:], state)
    torch.testing.assert_close(torch.cat([left, right], dim=1), whole)
    torch.testing.assert_close(last, end)


def test_dropout_on_non_recurrent_connections_only():
    model = LanguageModel(9, 8, 8, 1, dropout=0.9)
    tokens = torch.randint(9, (4, 6))
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    model.eval()
    assert torch.equal(model(tokens)[0], by_hand_one_layer(model, tokens))


def test_every_dropout_of_the_model_has_its_place_its_rate_and_its_time(monkeypatch):
    """Before the first layer on the embeddings, between layers, after the last on what the output reads: each seen by its size
    (dim 3, hidden 5), in training alone, and each changes the output."""
    model = LanguageModel(9, 3, 5, 2, dropout=0.25)
    tokens = torch.randint(9, (2, 4))
    calls, real = [], recurrent._dropout
    monkeypatch.setattr(
        recurrent, "_dropout", lambda x, p, training: calls.append((x, p, training)) or real(x, p, training)
    )
    model(tokens)
    acting = [(x.shape[-1], p) for x, p, training in calls if training]
    assert acting == [(3, 0.25), (5, 0.25), (5, 0.25)]
    assert torch.equal(calls[0][0], model.embedding.weight[tokens])
    calls.clear()
    model.eval()(tokens)
    assert not any(training for _, _, training in calls)
    expected = model(tokens)[0]
    for which in range(3):  # each alone, with a mask of zeros: the output changes, so none is at a place without use
        seen = []

        def zero(x, p, training, which=which, seen=seen):
            seen.append(training)
            return torch.zeros_like(x) if training and sum(seen) == which + 1 else x

        monkeypatch.setattr(recurrent, "_dropout", zero)
        found = model.train()(tokens)[0]
        assert not torch.allclose(found, expected)
        if which == 2:  # nothing of the last layer is left: the bias alone
            torch.testing.assert_close(found, model.output.bias.expand_as(found))


def by_hand_one_layer(model, tokens):
    h, _ = model.lstm(model.embedding.weight[tokens])
    return F.linear(h, model.output.weight, model.output.bias)


# -- tied means one Parameter, whatever is done to the model -------------------------------------------------------------


def tied_model():
    return LanguageModel(7, 4, 4, 1, tied=True)


def assert_tied(model):
    assert model.output.weight is model.embedding.weight
    names = [name for name, _ in model.named_parameters()]
    assert "embedding.weight" in names and "output.weight" not in names


def through_state_dict(model):
    state = model.state_dict()
    assert "output.weight" not in state, "saved once"
    fresh = tied_model()
    fresh.load_state_dict(state)
    return fresh


def through_file(model):
    import io

    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    fresh = tied_model()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return fresh


@pytest.mark.claim("weight-tying")
@pytest.mark.parametrize(
    "passage", [through_state_dict, through_file, copy.deepcopy, lambda m: m.to("cpu"), lambda m: m.double().float()]
)
def test_still_tied_after(passage):
    model = tied_model()
    tokens = torch.randint(7, (2, 3))
    before = model(tokens)[0]
    after = passage(model)
    assert_tied(after)
    assert torch.equal(after(tokens)[0], before)
    after.loss(tokens, tokens)[0].backward()
    with torch.no_grad():
        for p in after.parameters():
            p -= p.grad
    assert_tied(after)


def test_assign_loading_keeps_the_tie():
    state = tied_model().state_dict()
    model = tied_model()
    model.load_state_dict(state, assign=True)
    tokens = torch.randint(7, (2, 3))
    model.loss(tokens, tokens)[0].backward()
    assert torch.equal(model.output.weight, model.embedding.weight)


def test_loading_untied_weights_into_a_tied_model_is_refused():
    with pytest.raises(RuntimeError, match="weights of an untied model"):
        tied_model().load_state_dict(LanguageModel(7, 4, 4, 1).state_dict())


def test_data_parallel_wrapping_on_one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/{os.getpid()}", rank=0, world_size=1)
    try:
        model = tied_model()
        wrapped = nn.parallel.DistributedDataParallel(model)
        tokens = torch.randint(7, (2, 3))
        logits, _ = wrapped(tokens)
        F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        assert_tied(wrapped.module)
        plain = copy.deepcopy(model)
        plain.zero_grad()
        F.cross_entropy(plain(tokens)[0].flatten(0, 1), tokens.flatten()).backward()
        torch.testing.assert_close(wrapped.module.embedding.weight.grad, plain.embedding.weight.grad)
        fresh = tied_model()
        fresh.load_state_dict(wrapped.module.state_dict())
        assert_tied(fresh)
    finally:
        torch.distributed.destroy_process_group()


def test_functional_call_moves_both_roles():
    model = tied_model()
    tokens = torch.randint(7, (2, 3))
    params = {name: p * 2 for name, p in model.named_parameters()}
    logits, _ = torch.func.functional_call(model, params, (tokens,))
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        for p in doubled.parameters():
            p *= 2
    torch.testing.assert_close(logits, doubled(tokens)[0])


def test_tied_gradient_is_the_sum_of_both_roles():
    tied = tied_model().double()
    untied = LanguageModel(7, 4, 4, 1).double()
    state = tied.state_dict()
    untied.load_state_dict(state | {"output.weight": state["embedding.weight"].clone()})
    tokens = torch.randint(7, (2, 6))
    for model in (tied, untied):
        model.loss(tokens[:, :-1], tokens[:, 1:])[0].backward()
    total = untied.embedding.weight.grad + untied.output.weight.grad
    torch.testing.assert_close(tied.embedding.weight.grad, total, rtol=1e-12, atol=1e-14)


def test_reset_parameters_draws_from_its_generator_within_the_range():
    model = LanguageModel(50, 6, 6, 2, projection=True, projection_bias=True)
    draws = []
    for _ in range(2):
        model.reset_parameters(0.04, torch.Generator().manual_seed(5))
        draws.append({k: v.clone() for k, v in model.state_dict().items()})
    for name, value in draws[0].items():
        assert torch.equal(value, draws[1][name])
        assert (value == 0).all() if name.startswith("lstm.bias") else 0.02 < value.abs().max() <= 0.04


@dataclass
class Bad:
    options: dict
    words: str
    error: type = ValueError


@pytest.mark.parametrize(
    "bad",
    [
        Bad({"vocab_size": 0}, "vocab_size is 0"),
        Bad({"layers": 0}, "layers is 0"),
        Bad({"dim": 2.5}, "dim is 2.5", TypeError),
        Bad({"dropout": 1.0}, "dropout is 1.0"),
        Bad({"dropout": float("nan")}, "dropout is nan"),
        Bad({"projection_bias": True}, "projection_bias is True without"),
        Bad({"tied": True, "hidden": 5}, "tied is True with dim 4 and hidden 5.*projection=True"),
    ],
)
def test_bad_sizes_are_named(bad, unchecked):
    sizes = {"vocab_size": 7, "dim": 4, "hidden": 4, "layers": 1} | bad.options
    with pytest.raises(bad.error, match=bad.words):
        LanguageModel(**sizes)


def test_tied_with_a_projection_joins_unequal_sizes():
    model = LanguageModel(7, 4, 6, 1, tied=True, projection=True)
    assert model(torch.zeros(1, 2, dtype=torch.long))[0].shape == (1, 2, 7)
    with pytest.raises(ValueError, match="init_range is 0"):
        model.reset_parameters(0.0)


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "LSTM": Call(lambda: {"input_size": 2, "hidden_size": 3, "num_layers": 1, "dropout": 0.0}, dropout=BELOW_ONE),
    "LanguageModel": Call(
        lambda: {"vocab_size": 5, "dim": 2, "hidden": 2, "layers": 1, "dropout": 0.0}, dropout=BELOW_ONE
    ),
}
