"""Each draw against torch's own with the same generator, its law against a bound with a stated error probability, moments
against scipy's quadrature and autograd."""

import math
from typing import Any

import hypothesis
import pytest
import scipy.integrate
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ideas.calls import NOT_NEGATIVE, Call, X
from tiedlib import initialization as init
from tiedlib.recurrent import LSTM

NAMES = ("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_")
SHAPES = ((3, 5), (5, 3), (4, 4), (6, 2, 3), (2, 3, 3, 5), (1, 1))
FUNCTIONS = {
    "linear": lambda y: 1.0 * y,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": lambda y: F.leaky_relu(y, 0.3),
    "selu": F.selu,
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=seeded(seed))


# -- fans and gains ------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 7), min_size=2, max_size=5))
def test_fans_are_torchs(shape):
    tensor = torch.empty(shape)
    assert init.fan_in_and_fan_out(tensor) == nn.init._calculate_fan_in_and_fan_out(tensor)


@pytest.mark.claim("fan-in-fan-out")
def test_fans_count_what_a_layer_sums_and_feeds():
    """By counting: the gradient of one output touches n_in weights of that output; an input reaches n_out outputs."""
    linear, convolution = nn.Linear(5, 3, bias=False), nn.Conv2d(2, 4, 3, bias=False)
    assert init.fan_in_and_fan_out(linear.weight) == (5, 3)
    assert init.fan_in_and_fan_out(convolution.weight) == (2 * 9, 4 * 9)
    for layer, x in ((linear, torch.ones(1, 5)), (convolution, torch.ones(1, 2, 7, 7))):
        x.requires_grad_()
        y = layer(x)
        middle = (0, 0) if y.dim() == 2 else (0, 0, 2, 2)
        (reached,) = torch.autograd.grad(y[middle], x, retain_graph=True)
        assert reached.count_nonzero() == init.fan_in_and_fan_out(layer.weight)[0]
        centre = (0, 0) if x.dim() == 2 else (0, 0, 3, 3)
        fed = sum(bool(torch.autograd.grad(one, x, retain_graph=True)[0][centre]) for one in y.flatten())
        assert fed == init.fan_in_and_fan_out(layer.weight)[1]


@pytest.mark.parametrize(
    "name", ["linear", "conv1d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_gains_are_torchs(name):
    assert init.calculate_gain(name) == pytest.approx(nn.init.calculate_gain(name), rel=1e-15)


@hypothesis.settings(max_examples=25)
@given(st.floats(-1e3, 1e3))
def test_the_gain_of_a_leaky_relu(slope):
    assert init.calculate_gain("leaky_relu", slope) == pytest.approx(nn.init.calculate_gain("leaky_relu", slope))
    f = lambda y: F.leaky_relu(y, slope)  # noqa: E731
    assert init.moment_map(f, 1.0)[0] * init.calculate_gain("leaky_relu", slope) ** 2 == pytest.approx(1.0, rel=1e-6)


# -- draws ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_generator_gives_torchs_numbers(name, dtype):
    for shape in SHAPES:
        for options in ({}, {"gain": 1.7}) if "kaiming" not in name else ({}, {"a": 0.4, "mode": "fan_out"}):
            ours, theirs = torch.empty(shape, dtype=dtype), torch.empty(shape, dtype=dtype)
            assert getattr(init, name)(ours, **options, generator=seeded(3)) is ours
            getattr(nn.init, name)(theirs, **options, generator=seeded(3))
            torch.testing.assert_close(ours, theirs, rtol=4 * torch.finfo(dtype).eps, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_and_a_view_are_filled_in_place(name):
    layer = nn.Linear(4, 6)
    before = layer.weight
    getattr(init, name)(layer.weight, generator=seeded())
    assert layer.weight is before and layer.weight.requires_grad and layer.weight.grad_fn is None
    view, plain = torch.empty(4, 6).T, torch.empty(6, 4)
    assert not view.is_contiguous()
    getattr(init, name)(view, generator=seeded(1))
    assert torch.isfinite(view).all() and view.std() > 0
    if name == "orthogonal_":
        torch.testing.assert_close(view, init.orthogonal_(plain, generator=seeded(1)))


@pytest.mark.claim("xavier-uniform-limits")
def test_xavier_uniform_keeps_its_limit_and_its_variance():
    """w²/a² lies in [0, 1] with mean 1/3 and variance 4/45. Bernstein's inequality: 60,000 draws miss a relative error of 2 %
    with probability at most 2 exp(−N ε² / (2 (4/45 + ε/3))) with ε = 0.02/3, which is below 1e-6."""
    w, limit = init.xavier_uniform_(torch.empty(200, 300, dtype=torch.float64), generator=seeded()), math.sqrt(6 / 500)
    epsilon = 0.02 / 3
    assert 2 * math.exp(-w.numel() * epsilon**2 / (2 * (4 / 45 + epsilon / 3))) < 1e-6
    assert w.abs().max() <= limit
    assert abs(w.square().mean().item() / (2 / 500) - 1) < 0.02


@pytest.mark.parametrize(
    ("fill", "variance"),
    [
        (lambda w, g: init.xavier_normal_(w, 1.5, g), 1.5**2 * 2 / 500),
        (lambda w, g: init.kaiming_normal_(w, generator=g), 2 / 300),
        (lambda w, g: init.kaiming_normal_(w, 0.5, "fan_out", generator=g), 2 / 1.25 / 200),
        (lambda w, g: init.kaiming_normal_(w, nonlinearity="tanh", generator=g), 25 / 9 / 300),
    ],
)
def test_normal_draws_have_their_variance(fill, variance):
    """Σ w² / variance is χ² with N degrees of freedom: outside 1 ± (2√(t/N) + 2t/N) with probability at most 2e⁻ᵗ (Laurent &
    Massart 2000, lemma 1); t = 14.6 makes that 1e-6."""
    w = fill(torch.empty(200, 300, dtype=torch.float64), seeded())
    n, t = w.numel(), 14.6
    assert abs(w.square().mean().item() / variance - 1) < 2 * math.sqrt(t / n) + 2 * t / n


@given(st.sampled_from(SHAPES), st.floats(0, 10), st.integers(0, 2**31))
def test_orthogonal_rows_or_columns(shape, gain, seed):
    w = init.orthogonal_(torch.empty(shape, dtype=torch.float64), gain, generator=seeded(seed)).flatten(1)
    gram = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    torch.testing.assert_close(
        gram, gain**2 * torch.eye(len(gram), dtype=torch.float64), atol=1e-12 * (1 + gain**2), rtol=0
    )


@given(
    st.sampled_from(NAMES),
    st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    st.lists(st.integers(0, 6), min_size=2, max_size=4),
    st.sampled_from([0.0, 1e-6, 1.0, 1e3, 4e3]),
)
def test_any_dtype_shape_and_gain_gives_finite_numbers(name, dtype, shape, gain):
    tensor = torch.empty(shape, dtype=dtype)
    options = {} if "kaiming" in name else {"gain": gain}
    filled = getattr(init, name)(tensor, **options, generator=seeded())
    assert filled is tensor and filled.dtype == dtype and torch.isfinite(filled).all()


def test_a_tensor_without_memory_stays_as_it_is():
    assert init.orthogonal_(torch.empty(3, 4, device="meta")).shape == (3, 4)


# -- the forget gate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lstm", [nn.LSTM(3, 4, 2, bidirectional=True), LSTM(3, 4, 2)])
def test_only_the_forget_gates_bias_changes(lstm):
    before = {name: t.clone() for name, t in [*lstm.named_parameters(), *lstm.named_buffers()]}
    assert init.forget_gate_bias_(lstm, 1.5) is lstm
    after = dict([*lstm.named_parameters(), *lstm.named_buffers()])
    pairs = [name for name in before if name.startswith("bias_ih")]
    assert len(pairs) == 2 * (1 + lstm.bidirectional)
    for name in pairs:
        total = after[name] + after[name.replace("_ih", "_hh")]
        assert torch.equal(total[4:8], torch.full((4,), 1.5))
    for name, old in before.items():
        new = after[name].detach().clone()
        if name.startswith("bias"):
            new[4:8], old[4:8] = 0.0, 0.0
        assert torch.equal(new, old), name


def test_the_cell_is_forgotten_at_the_rate_of_the_gate():
    lstm = nn.LSTM(2, 3, batch_first=True).double()
    with torch.no_grad():
        for p in lstm.parameters():
            p.zero_()
    init.forget_gate_bias_(lstm, 2.0)
    start = torch.ones(1, 1, 3, dtype=torch.float64)
    _, (_, cell) = lstm(torch.zeros(1, 20, 2, dtype=torch.float64), (torch.zeros_like(start), start))
    torch.testing.assert_close(cell, torch.full_like(cell, (1 / (1 + math.exp(-2))) ** 20))


# -- moments -------------------------------------------------------------------------------------------------------------


SELU = (1.6732632423543772, 1.0507009873554805)  # α, λ of Klambauer et al. 2017
ORACLES = {  # f and its slope, in Python's own arithmetic
    "linear": (lambda y: y, lambda y: 1.0),
    "tanh": (math.tanh, lambda y: 1 - math.tanh(y) ** 2),
    "sigmoid": (lambda y: (1 + math.tanh(y / 2)) / 2, lambda y: (1 - math.tanh(y / 2) ** 2) / 4),
    "relu": (lambda y: max(y, 0.0), lambda y: float(y > 0)),
    "leaky_relu": (lambda y: max(y, 0.3 * y), lambda y: 1.0 if y > 0 else 0.3),
    "selu": (
        lambda y: SELU[1] * (y if y > 0 else SELU[0] * math.expm1(y)),
        lambda y: SELU[1] * (1 if y > 0 else SELU[0] * math.exp(y)),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("q", [1e-6, 0.3, 1.0, 7.0, 400.0])
def test_the_moment_map_is_the_integral(name, q):
    def expected(of):
        def integrand(z):
            return of(math.sqrt(q) * z) ** 2 * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

        return sum(scipy.integrate.quad(integrand, *ends, epsabs=1e-13, limit=200)[0] for ends in ((-11, 0), (0, 11)))

    forward, backward = init.moment_map(FUNCTIONS[name], q, 1.3, 0.7)
    assert forward == pytest.approx(1.3 * expected(ORACLES[name][0]), rel=1e-6)
    assert backward == pytest.approx(0.7 * expected(ORACLES[name][1]), rel=1e-4)


def test_the_moment_map_at_its_edges_and_without_gradient_mode():
    assert init.moment_map(torch.tanh, 0.0) == (0.0, pytest.approx(1.0))
    assert init.moment_map(torch.tanh, 1e12, 1.0)[0] == pytest.approx(1.0, abs=1e-2)
    with torch.no_grad():
        assert init.moment_map(torch.relu, 3.0, 2.0) == (pytest.approx(3.0), pytest.approx(1.0))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_carried_moments_are_autograds(name):
    f = FUNCTIONS[name]
    weights, x, grad = [draw(7, 4), draw(5, 7, seed=1), draw(3, 5, seed=2)], draw(6, 4, seed=3), draw(6, 3, seed=4)
    ys, h = [], x
    for w in weights:
        ys.append((h @ w.T).requires_grad_())
        h = f(ys[-1])
    deltas = torch.autograd.grad((ys[-1] * grad).sum(), ys)
    forward, backward = init.carried_moments(weights, x, f, grad)
    torch.testing.assert_close(forward, torch.stack([y.detach().square().mean() for y in ys]))
    torch.testing.assert_close(backward, torch.stack([d.square().mean() for d in deltas]))


def test_carried_moments_are_differentiable_and_take_views_and_empty_batches():
    weights, x = [draw(3, 2).requires_grad_(), draw(2, 3, seed=1).requires_grad_()], draw(4, 2, seed=2)
    assert torch.autograd.gradcheck(lambda *w: init.carried_moments(w, x, torch.tanh), weights)
    views = [w.detach().T.contiguous().T for w in weights]
    assert not views[0].is_contiguous()
    for ours, other in zip(
        init.carried_moments(views, x, torch.tanh), init.carried_moments(weights, x, torch.tanh), strict=True
    ):
        torch.testing.assert_close(ours, other.detach())
    assert init.carried_moments(views, x[:0], torch.tanh)[0].isnan().all()


@given(st.floats(-1e4, 1e4), st.sampled_from(sorted(FUNCTIONS)))
def test_carried_moments_of_constant_and_huge_input_are_finite(value, name):
    x = torch.full((3, 4), value)
    for part in init.carried_moments([torch.eye(4), torch.eye(4)], x, FUNCTIONS[name]):
        assert torch.isfinite(part).all()


# -- bad input -----------------------------------------------------------------------------------------------------------

W, H = torch.empty(3, 4), torch.empty(3, 4, dtype=torch.float16)
BAD = {
    "fan_in_and_fan_out": [((torch.empty(3),), ValueError, r"tensor has shape \(3,\)")],
    "calculate_gain": [
        (("softmax",), ValueError, "nonlinearity is 'softmax'"),
        (("leaky_relu", math.nan), ValueError, "param is nan"),
        (("leaky_relu", "0.1"), TypeError, "param is '0.1'"),
        (("leaky_relu", True), TypeError, "param is True"),
    ],
    "forget_gate_bias_": [
        ((nn.GRU(2, 2),), TypeError, "lstm is a GRU"),
        ((nn.LSTM(2, 2, bias=False),), ValueError, "bias=False"),
        ((nn.LSTM(2, 2), math.nan), ValueError, "value is nan"),
        ((nn.LSTM(2, 2), math.inf), ValueError, "value is inf"),
    ],
    "moment_map": [
        ((torch.tanh, -1.0), ValueError, "q is -1.0"),
        ((torch.tanh, math.nan), ValueError, "q is nan"),
        ((torch.tanh, 1.0, -2.0), ValueError, "forward_gain is -2.0"),
        ((torch.tanh, 1.0, 1.0, math.inf), ValueError, "backward_gain is inf"),
    ],
    "carried_moments": [
        (([], torch.ones(2, 4), torch.tanh), ValueError, "weights is empty"),
        (([torch.ones(3, 4), torch.ones(3, 4)], torch.ones(2, 4), torch.tanh), ValueError, r"weights\[1\] takes 4"),
        (([torch.ones(3, 4)], torch.ones(2, 4), torch.tanh, torch.ones(2, 4)), ValueError, r"grad has shape \(2, 4\)"),
    ],
}
for _name in NAMES:
    BAD[_name] = [
        ((torch.empty(3),), ValueError, r"tensor has shape \(3,\)"),
        ((torch.zeros(3, 4, dtype=torch.int64),), TypeError, "tensor has dtype torch.int64"),
    ]
    if "kaiming" in _name:
        BAD[_name] += [
            ((W, math.nan), ValueError, "a is nan"),
            ((W, 0.0, "fan_avg"), ValueError, "mode is 'fan_avg'"),
            ((W, 0.0, "fan_in", "softmax"), ValueError, "nonlinearity is 'softmax'"),
        ]
    else:
        BAD[_name] += [
            ((W, math.nan), ValueError, "gain is nan"),
            ((W, -1.0), ValueError, "gain is -1.0"),
            ((W, math.inf), ValueError, "gain is inf"),
            ((H, 1e4), ValueError, "gain is 10000.0"),
        ]


def test_the_table_of_bad_input_has_every_public_callable():
    assert BAD.keys() == set(init.__all__)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "arguments", "kind", "words"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_bad_input_is_named(name, arguments, kind, words):
    with pytest.raises(kind, match=words):
        getattr(init, name)(*arguments)


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

FILL: dict[str, Any] = {"tensor": torch.ones(3, 4)}
KAIMING: dict[str, Any] = {**FILL, "a": 0.0, "mode": "fan_in", "nonlinearity": "relu"}
GOOD_CALLS = {
    "fan_in_and_fan_out": Call(lambda: {"tensor": torch.ones(3, 4)}),
    "calculate_gain": Call(lambda: {"nonlinearity": "leaky_relu", "param": 0.1}),
    "xavier_uniform_": Call(lambda: {**FILL, "gain": 1.0}, gain=NOT_NEGATIVE),
    "xavier_normal_": Call(lambda: {**FILL, "gain": 1.0}, gain=NOT_NEGATIVE),
    "orthogonal_": Call(lambda: {**FILL, "gain": 1.0}, gain=NOT_NEGATIVE),
    "kaiming_uniform_": Call(lambda: dict(KAIMING)),
    "kaiming_normal_": Call(lambda: dict(KAIMING)),
    "forget_gate_bias_": Call(lambda: {"lstm": nn.LSTM(2, 2), "value": 1.0}),
    "moment_map": Call(
        lambda: {"f": torch.tanh, "q": 1.0, "forward_gain": 1.0, "backward_gain": 1.0},
        q=NOT_NEGATIVE,
        forward_gain=NOT_NEGATIVE,
    ),
    "carried_moments": Call(lambda: {"weights": [torch.ones(5, 4)], "x": X, "f": torch.tanh}),
}
