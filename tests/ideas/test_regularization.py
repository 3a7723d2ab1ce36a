"""Penalties against autograd, singular values and scikit-learn; steps against brute force; torch's own decay and renorm."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.linear_model import Lasso, Ridge
from torch import nn

from tests.ideas.calls import NOT_NEGATIVE, POSITIVE, Call, X
from tiedlib.lab.grid import grid
from tiedlib.optimizers import RuleOptimizer
from tiedlib.regularization import (
    frobenius_norm,
    l1_penalty,
    l2_penalty,
    matrices,
    max_norm,
    max_norm_,
    penalized,
    penalty_groups,
    proximal_sgd,
    soft_threshold,
)

HALVES = [torch.float16, torch.bfloat16]


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# Penalties and norms


def test_penalties_by_hand():
    params = [torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([-4.0])]
    assert l2_penalty(params).item() == 1 + 4 + 9 + 16
    assert l1_penalty(params).item() == 1 + 2 + 3 + 4
    assert l2_penalty(params[0]).item() == 14 and l1_penalty(params[1]).item() == 4
    assert l2_penalty(iter(params)).item() == 30 and l2_penalty([params[1]] * 2).item() == 32


def test_the_squared_frobenius_norm_in_five_ways():
    W = drawn(5, 7)
    ways = [
        l2_penalty(W),
        frobenius_norm(W) ** 2,
        torch.linalg.norm(W, "fro") ** 2,
        torch.linalg.svdvals(W).square().sum(),
        torch.trace(W.T @ W),
    ]
    for way in ways:
        torch.testing.assert_close(way, ways[0], rtol=1e-13, atol=0)


def test_gradients_are_2_theta_and_sign():
    W = drawn(3, 4).requires_grad_()
    (g,) = torch.autograd.grad(l2_penalty(W), W)
    assert torch.equal(g, 2 * W)
    with torch.no_grad():
        W[0, 0] = 0
    (g,) = torch.autograd.grad(l1_penalty(W), W)
    assert torch.equal(g, W.sign()) and g[0, 0] == 0
    (g,) = torch.autograd.grad(frobenius_norm(W), W)
    torch.testing.assert_close(g, W.detach() / W.detach().norm(), rtol=1e-13, atol=0)
    assert torch.autograd.gradcheck(frobenius_norm, (drawn(3, 4, seed=1).requires_grad_(),))


@pytest.mark.parametrize("scale", [1e-30, 1e-4, 1.0, 1e4, 1e30])
def test_the_norm_neither_overflows_nor_vanishes(scale):
    W = (drawn(4, 5) * scale).float()
    norm = frobenius_norm(W)
    assert norm.dtype == torch.float32 and norm.item() == pytest.approx(W.double().norm().item(), rel=1e-6)


def test_the_norm_of_nothing_and_of_zeros():
    zero = torch.zeros(3, 2, requires_grad=True)
    frobenius_norm(zero).backward()
    assert torch.equal(zero.grad, torch.zeros(3, 2))
    assert frobenius_norm(torch.zeros(0, 3)).item() == 0 and l2_penalty(torch.zeros(0)).item() == 0
    assert l1_penalty([torch.zeros(0), torch.ones(2)]).item() == 2
    assert frobenius_norm(drawn(2, 3, 4)).item() == pytest.approx(drawn(2, 3, 4).flatten().norm().item(), rel=1e-14)


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_is_summed_in_float32(dtype):
    W = torch.full((100, 100), 30.0, dtype=dtype)  # Σθ² = 9e6 is beyond float16
    assert l2_penalty(W).dtype == torch.float32 and l2_penalty(W).item() == 9e6 and l1_penalty(W).item() == 3e5
    assert l2_penalty(torch.full((1,), 1e4, dtype=dtype)).item() == pytest.approx(1e8, rel=1e-2)
    assert frobenius_norm(W).dtype == dtype and frobenius_norm(W).item() == pytest.approx(3000, rel=1e-2)


def test_penalties_of_views_and_nan():
    W = drawn(4, 6)
    torch.testing.assert_close(l2_penalty(W.T[1::2]), l2_penalty(W.T[1::2].contiguous()))
    assert frobenius_norm(W.T).item() == pytest.approx(frobenius_norm(W).item(), rel=1e-14)
    W[1, 1] = math.nan
    assert all(math.isnan(f(W).item()) for f in (l1_penalty, l2_penalty, frobenius_norm))


# penalized


def test_penalized_is_the_sum_and_has_its_gradient():
    x, y = drawn(6, 3), drawn(6, 2, seed=1)
    W, V = drawn(4, 3, seed=2).requires_grad_(), drawn(2, 4, seed=3).requires_grad_()

    def objective(W, V):
        data = (torch.tanh(x @ W.T) @ V.T - y).square().sum()
        return penalized(penalized(data, W, l1=0.3, l2=0.1), [V], l2=0.7)

    hand = (
        (torch.tanh(x @ W.T) @ V.T - y).square().sum() + 0.3 * W.abs().sum() + 0.1 * (W**2).sum() + 0.7 * (V**2).sum()
    )
    torch.testing.assert_close(objective(W, V), hand, rtol=1e-14, atol=0)
    assert torch.autograd.gradcheck(objective, (W, V))


def test_penalized_without_strengths_is_the_loss():
    loss = torch.tensor(2.5)
    assert penalized(loss, torch.full((2,), math.inf)) is loss
    assert penalized(loss, torch.ones(2), l1=torch.tensor(0.0)).item() == 2.5


def test_dtypes_of_the_penalized_loss():
    one = torch.ones(3)
    assert penalized(torch.tensor(1.0), one, l2=torch.tensor(0.1, dtype=torch.float64)).dtype == torch.float32
    assert penalized(torch.tensor(1.0), one.double(), l2=0.1).dtype == torch.float64
    half = penalized(torch.tensor(1.0).half(), torch.full((10_000,), 30.0).half(), l2=0.1)
    assert half.dtype == torch.float32 and half.item() == pytest.approx(9e5, rel=1e-5)


def test_torchs_weight_decay_is_twice_the_strength():
    lam, sides = 0.05, [drawn(4, 3).requires_grad_() for _ in range(2)]
    x, y = drawn(8, 3, seed=5), drawn(8, 4, seed=6)
    steppers = torch.optim.SGD([sides[0]], lr=0.1), torch.optim.SGD([sides[1]], lr=0.1, weight_decay=2 * lam)
    for _ in range(20):
        for k, (W, stepper) in enumerate(zip(sides, steppers, strict=True)):
            stepper.zero_grad()
            loss = (x @ W.T - y).square().mean()
            (loss if k else penalized(loss, W, l2=lam)).backward()
            stepper.step()
    torch.testing.assert_close(*(W.detach() for W in sides), rtol=1e-13, atol=1e-14)


def test_the_minimiser_is_scikit_learns_ridge_at_n_times_the_strength():
    """mean + λ‖w‖² = (Σ + Nλ‖w‖²) / N: scikit-learn's alpha is Nλ for a mean of squares."""
    X, y, lam = drawn(30, 5), drawn(30, seed=1), 0.2
    w = torch.linalg.solve(X.T @ X / 30 + lam * torch.eye(5, dtype=torch.float64), X.T @ y / 30).requires_grad_()
    (g,) = torch.autograd.grad(penalized((X @ w - y).square().mean(), w, l2=lam), w)
    assert g.abs().max() < 1e-14
    reference = Ridge(alpha=30 * lam, fit_intercept=False).fit(X.numpy(), y.numpy()).coef_
    np.testing.assert_allclose(w.detach().numpy(), reference, rtol=1e-12)


# The proximal step


@pytest.mark.parametrize("x", [-3.0, -0.5, -0.2, 0.0, 0.2, 0.49999, 0.5, 0.50001, 7.0])
@pytest.mark.parametrize("t", [0.0, 0.5, 2.0])
def test_soft_threshold_is_the_minimiser(x, t):
    """Against a fine grid around, and against scipy's search."""
    found = soft_threshold(torch.tensor(x, dtype=torch.float64), t).item()
    u = np.linspace(-8, 8, 160_001)
    assert abs(found - u[np.argmin((u - x) ** 2 / 2 + t * np.abs(u))]) <= 1.001e-4
    searched = minimize_scalar(lambda v: (v - x) ** 2 / 2 + t * abs(v), bounds=(-9, 9), options={"xatol": 1e-10})
    assert found == pytest.approx(searched.x, abs=1e-6)
    assert (found == 0) == (abs(x) <= t)


@given(
    x=st.lists(st.floats(-1e4, 1e4, width=16), max_size=6),
    t=st.sampled_from([0.0, 1e-8, 0.5, 1.0, 100.0, 1e5]),
    dtype=st.sampled_from([torch.float64, torch.float32, *HALVES]),
)
def test_soft_threshold_shrinks_and_keeps_signs(x, t, dtype):
    x = torch.tensor(x, dtype=dtype)
    found = soft_threshold(x, t)
    assert found.dtype == dtype and found.shape == x.shape and torch.isfinite(found).all()
    assert (found.abs() <= x.abs()).all() and (found * x.sign() >= 0).all()
    assert torch.equal(found == 0, x.abs() <= torch.tensor(t, dtype=dtype)) or t == 1e-8  # below a unit of rounding
    formula = x.double().sign() * (x.double().abs() - t).clamp(min=0)
    torch.testing.assert_close(
        found.double(), formula, rtol=8 * torch.finfo(dtype).eps, atol=1e-7 + t * 1e-2 * (dtype in HALVES)
    )


def test_thresholds_may_be_tensors():
    x = drawn(3, 4)
    t = torch.tensor([[0.1], [0.5], [9.0]], dtype=torch.float32)
    assert torch.equal(
        soft_threshold(x, t), torch.cat([soft_threshold(row[None], v.item()) for row, v in zip(x, t, strict=True)])
    )
    assert torch.equal(soft_threshold(x.T, t.T), soft_threshold(x, t).T)
    assert soft_threshold(x.float(), t.double()).dtype == torch.float32
    x = x.requires_grad_()
    soft_threshold(x, 0.5).sum().backward()
    assert torch.equal(x.grad, (x.abs() > 0.5).double())


def lasso(X, y, lam, steps=4000):
    lr = 1 / torch.linalg.eigvalsh(X.T @ X / len(X)).max().item()
    w = torch.zeros(X.shape[1], dtype=X.dtype)
    losses = []
    for _ in range(steps):
        residual = X @ w - y
        losses.append((residual.square().mean() / 2 + lam * w.abs().sum()).item())
        step, state = proximal_sgd(X.T @ residual / len(X), {}, w, lr=lr, l1=lam)
        assert state == {}
        w = w + step
    return w, losses


@pytest.mark.parametrize("lam", [0.01, 0.1, 0.5])
def test_proximal_descent_finds_scikit_learns_lasso(lam):
    X = drawn(60, 20) @ (torch.eye(20, dtype=torch.float64) + 0.2 * drawn(20, 20, seed=2))
    y = X[:, :3] @ torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64) + drawn(60, seed=1)
    w, losses = lasso(X, y, lam)
    reference = Lasso(alpha=lam, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X.numpy(), y.numpy()).coef_
    np.testing.assert_allclose(w.numpy(), reference, atol=1e-7)
    assert np.array_equal(w.numpy() == 0, reference == 0)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(losses))
    pull = X.T @ (y - X @ w) / 60
    torch.testing.assert_close(pull[w != 0], lam * w[w != 0].sign(), rtol=1e-6, atol=0)
    assert (pull[w == 0].abs() <= lam).all()


@given(
    theta=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=5),
    grad=st.floats(-1e4, 1e4, width=32),
    lr=st.floats(1e-6, 10),
    l1=st.floats(0, 100),
)
def test_theta_plus_step_is_exactly_zero(theta, grad, lr, l1):
    theta = torch.tensor(theta)
    grad = torch.full_like(theta, grad)
    step, _ = proximal_sgd(grad, {}, theta, lr=lr, l1=l1)
    zeros = (theta - lr * grad).abs() <= torch.tensor(lr * l1)
    assert torch.isfinite(step).all() and ((theta + step)[zeros] == 0).all()


def test_without_a_strength_it_is_sgd():
    p, g = drawn(5), drawn(5, seed=1)
    torch.testing.assert_close(proximal_sgd(g, {}, p, lr=0.3)[0], -0.3 * g, rtol=1e-14, atol=1e-15)


def test_as_an_optimizer_and_in_a_grid():
    """The rule serves RuleOptimizer with parameter groups, and a grid whose strengths are tensors."""
    data = drawn(40, 6, dtype=torch.float32), drawn(40, 3, seed=1, dtype=torch.float32)

    def loss(model, batch, l2=0.0):
        return penalized((model(batch[0]) - batch[1]).square().mean(), matrices(model), l2=l2)

    def rule(grad, state, param, *, lr, l1):
        return proximal_sgd(grad, state, param, lr=lr, l1=l1 if param.dim() > 1 else 0.0)

    strengths = {"l1": [0.01, 0.2], "l2": [0.0, 0.1]}
    found = grid(
        lambda: nn.Linear(6, 3), data, rule, loss=loss, hyper={"lr": [0.1], **strengths}, seeds=[0, 1], steps=50
    )
    for k, setting in enumerate(found.settings):
        torch.manual_seed(1)
        model = nn.Linear(6, 3)
        stepper = RuleOptimizer(penalty_groups(model, l1=setting["l1"]), proximal_sgd, lr=0.1, l1=0.0)
        for _ in range(50):
            stepper.zero_grad()
            loss(model, data, l2=setting["l2"]).backward()
            stepper.step()
        for name, p in model.named_parameters():
            torch.testing.assert_close(found.params[name][k, 1], p.detach(), rtol=1e-5, atol=1e-6)
            assert torch.equal(found.params[name][k, 1] == 0, p.detach() == 0)
    zeros = [(found.params["weight"][k] == 0).sum().item() for k in range(4)]
    assert zeros[2] > zeros[0] and (found.params["bias"] != 0).all()


# Max-norm


@pytest.mark.parametrize(("shape", "dim"), [((5, 3), 0), ((5, 3), 1), ((5, 3), -1), ((4, 3, 2), 0), ((4, 3, 2), 1)])
@pytest.mark.parametrize("limit", [0.1, 1.5, 100.0])
def test_max_norm_is_torchs_renorm(shape, dim, limit):
    W = drawn(*shape)
    torch.testing.assert_close(max_norm(W, limit, dim), torch.renorm(W, 2, dim, limit), rtol=2e-6, atol=0)
    others = [d for d in range(W.dim()) if d != dim % W.dim()]
    assert (max_norm(W, limit, dim).square().sum(others).sqrt() <= limit * (1 + 1e-14)).all()


def test_max_norm_is_the_nearest_point():
    """No point with ‖w‖ ≤ c lies nearer: 2,000 of them, drawn."""
    w, limit = torch.tensor([[3.0, 4.0]], dtype=torch.float64), 2.0
    found = max_norm(w, limit)
    torch.testing.assert_close(found, torch.tensor([[1.2, 1.6]], dtype=torch.float64), rtol=1e-14, atol=0)
    others = drawn(2000, 2)
    others = others * (limit * torch.rand(2000, 1, dtype=torch.float64) / others.norm(dim=1, keepdim=True))
    assert ((others - w).norm(dim=1) >= (found - w).norm()).all()


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([0.0, 1e-38, 1e-4, 1.0, 1e4, 1e38]), min_size=1, max_size=4),
    limit=st.sampled_from([1e-3, 1, 3.0, math.inf]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_max_norm_stays_finite(sizes, limit, dtype):
    W = torch.tensor(sizes, dtype=dtype)[:, None] * torch.tensor([[1.0, -1.0, 0.5]], dtype=dtype)
    found = max_norm(W, limit)
    eps = 4 * torch.finfo(dtype).eps
    assert found.dtype == dtype and torch.isfinite(found).all()
    assert (found.double().square().sum(1).sqrt() <= limit * (1 + eps)).all()
    inside = W.double().square().sum(1).sqrt() < limit * (1 - eps)
    assert torch.equal(found[inside], W[inside])


def test_max_norm_in_place_with_tensors_and_nothing():
    W = nn.Parameter(drawn(3, 4))
    expected = max_norm(W.detach(), 0.5)
    assert max_norm_(W, 0.5) is W and torch.equal(W.detach(), expected) and W.grad_fn is None
    limits = torch.tensor([0.5, 2.0], dtype=torch.float64)
    batched = torch.func.vmap(max_norm, in_dims=(None, 0))(drawn(3, 4, dtype=torch.float32), limits)
    for k, limit in enumerate((0.5, 2.0)):
        torch.testing.assert_close(batched[k], max_norm(drawn(3, 4, dtype=torch.float32), limit))
    assert max_norm(torch.zeros(0, 3), 1.0).shape == (0, 3) and max_norm(torch.zeros(2, 0), 1.0).shape == (2, 0)
    half = max_norm(torch.full((1, 100), 100.0).half(), 2.0)
    assert half.dtype == torch.float16 and half.float().norm().item() == pytest.approx(2, rel=2e-3)
    torch.testing.assert_close(max_norm(drawn(4, 3).T, 0.5), max_norm(drawn(4, 3).T.contiguous(), 0.5))


# Which parameters


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.norm, self.output = nn.Embedding(5, 3), nn.LayerNorm(3), nn.Linear(3, 5)
        self.output.weight = self.embedding.weight


def test_matrices_and_groups():
    model = Tied()
    assert [p is model.embedding.weight for p in matrices(model)] == [True]
    first, second = penalty_groups(model, weight_decay=0.1)
    assert first["weight_decay"] == 0.1 and second["weight_decay"] == 0 and len(second["params"]) == 3
    conv = nn.Sequential(nn.Conv1d(2, 3, 4), nn.BatchNorm1d(3), nn.PReLU())
    assert [tuple(p.shape) for p in matrices(conv)] == [(3, 2, 4)]
    stepper = torch.optim.SGD(penalty_groups(model, weight_decay=0.5), lr=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    stepper.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.detach(), before[name] * (0.95 if p.dim() > 1 else 1))


# Bad input


@pytest.mark.parametrize("penalty", [l1_penalty, l2_penalty])
def test_bad_params_are_named(penalty, unchecked):
    with pytest.raises(ValueError, match="params is empty"):
        penalty([])
    with pytest.raises(TypeError, match=r"params holds a tensor of dtype torch\.int64"):
        penalty([torch.ones(2), torch.ones(2, dtype=torch.long)])
    with pytest.raises(TypeError, match=r"params holds Linear"):
        penalty(nn.Sequential(nn.Linear(1, 1)))
    with pytest.raises(TypeError, match=r"params is 3\.0; it must be a tensor or an iterable"):
        penalty(3.0)
    with pytest.raises(ValueError, match="sparse"):
        penalty(torch.ones(2, 2).to_sparse())
    with pytest.raises(TypeError, match="complex64"):
        penalty(torch.ones(2, dtype=torch.complex64))


def test_bad_tensors_are_named(unchecked):
    whole = torch.ones(2, 2, dtype=torch.long)
    for call in (
        lambda: frobenius_norm(whole),
        lambda: soft_threshold(whole, 1.0),
        lambda: proximal_sgd(whole, {}, torch.ones(2, 2)),
        lambda: proximal_sgd(torch.ones(2, 2), {}, whole),
        lambda: max_norm(whole, 1.0),
        lambda: max_norm_(whole, 1.0),
        lambda: penalized(whole.sum(), torch.ones(1), l2=1.0),
    ):
        with pytest.raises(
            TypeError, match=r"^(tensor|x|grad|param|weight|loss) (holds a tensor of|has) dtype torch\.int64"
        ):
            call()
    with pytest.raises(TypeError, match="loss is a float"):
        penalized(1.0, torch.ones(1))
    with pytest.raises(ValueError, match=r"loss has shape \(3,\); it must be a scalar"):
        penalized(torch.ones(3), torch.ones(1), l2=1.0)
    with pytest.raises(ValueError, match=r"grad has shape \(2,\) and param \(3,\)"):
        proximal_sgd(torch.ones(2), {}, torch.ones(3))
    for shape in ((3,), (2, 1, 1), (1, 3)):
        with pytest.raises(ValueError, match="t must broadcast to x"):
            soft_threshold(torch.ones(2, 2), torch.ones(shape))
    for shape, dim in (((3,), 0), ((3, 2), 2), ((3, 2), -3)):
        with pytest.raises(ValueError, match=f"dim is {dim}"):
            max_norm(torch.ones(shape), 1.0, dim)
    for call in (matrices, lambda m: penalty_groups(m, weight_decay=0.1)):
        with pytest.raises(TypeError, match=r"^model is 3; it must be an nn\.Module"):
            call(3)
    with pytest.raises(ValueError, match="strengths is empty"):
        penalty_groups(nn.Linear(1, 1))


ONE = torch.ones(1, 1)
NUMBERS = [
    ("l1", lambda v: penalized(ONE.sum(), ONE, l1=v), [-1.0, math.nan, math.inf]),
    ("l2", lambda v: penalized(ONE.sum(), ONE, l2=v), [-1.0, math.nan, math.inf]),
    ("t", lambda v: soft_threshold(ONE, v), [-1.0, math.nan, math.inf]),
    ("lr", lambda v: proximal_sgd(ONE, {}, ONE, lr=v), [-1e-9, -1.0, math.nan, math.inf]),
    ("l1", lambda v: proximal_sgd(ONE, {}, ONE, l1=v), [-1.0, math.nan, math.inf]),
    ("limit", lambda v: max_norm(ONE, v), [0.0, -1.0, math.nan]),
    ("limit", lambda v: max_norm_(ONE.clone(), v), [0.0, -1.0, math.nan]),
    ("weight_decay", lambda v: penalty_groups(nn.Linear(1, 1), weight_decay=v), [-1.0, math.nan, math.inf]),
]


@pytest.mark.parametrize(("name", "call", "values"), NUMBERS)
def test_bad_numbers_are_named(name, call, values, unchecked):
    for value in values:
        with pytest.raises(ValueError, match=f"^{name} is {value}; it must be"):
            call(value)
    for value in ("much", True, None):
        with pytest.raises(TypeError, match=f"^{name} is {value!r}; it must be a number"):
            call(value)


@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e30, math.inf, torch.tensor(0.5), torch.tensor(math.inf)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("rows", [[[0.0, 0.0]], [[0.0, 0.0], [3.0, 4.0]], [[1e-7, 1e-7], [0.0, 6e4]]])
def test_the_gradient_of_max_norm_is_finite(rows, dtype, limit):
    """A row of zeros, a limit of ∞, entries near the ends of float16: as in float64."""
    w = torch.tensor(rows, dtype=dtype, requires_grad=True)
    wide = w.detach().double().requires_grad_()
    found, exact = max_norm(w, limit), max_norm(wide, limit)
    torch.testing.assert_close(found.double(), exact, rtol=2e-2, atol=1e-6)
    (gradient,), (expected,) = (
        torch.autograd.grad((y * torch.tensor([1.0, 2.0])).sum(), x) for y, x in ((found, w), (exact, wide))
    )
    torch.testing.assert_close(gradient.double(), expected, rtol=3e-2, atol=1e-6)


def test_max_norm_scales_by_the_length_and_not_by_less():
    """Without its clamp at 1 a row of zeros would be divided by its length, 0."""
    w = torch.zeros(2, 3, dtype=torch.float64)
    w[1] = torch.tensor([3.0, 0.0, 4.0])
    limited = max_norm(w, 1e-300)
    assert torch.isfinite(limited).all() and not limited[0].any()
    torch.testing.assert_close(max_norm(w, 2.5)[1], w[1] / 2)


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "l1_penalty": Call(lambda: {"params": X}),
    "l2_penalty": Call(lambda: {"params": X}),
    "frobenius_norm": Call(lambda: {"tensor": X}),
    "penalized": Call(
        lambda: {"loss": torch.tensor(1.0), "params": X, "l1": 0.1, "l2": 0.1}, l1=NOT_NEGATIVE, l2=NOT_NEGATIVE
    ),
    "soft_threshold": Call(lambda: {"x": X, "t": 0.1}, t=NOT_NEGATIVE),
    "proximal_sgd": Call(
        lambda: {"grad": X, "state": {}, "param": X, "lr": 0.1, "l1": 0.1}, lr=NOT_NEGATIVE, l1=NOT_NEGATIVE
    ),
    "max_norm": Call(lambda: {"weight": torch.ones(3, 4), "limit": 1.5}, limit=POSITIVE),
    "max_norm_": Call(lambda: {"weight": torch.ones(3, 4), "limit": 1.5}, limit=POSITIVE),
    "matrices": Call(lambda: {"model": nn.Linear(2, 3)}),
    "penalty_groups": Call(lambda: {"model": nn.Linear(2, 3), "weight_decay": 0.1}, weight_decay=NOT_NEGATIVE),
}
