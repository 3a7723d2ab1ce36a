"""The law against scipy, draws against exact laws with a stated error, gradients against torch and finite differences.

Statistics: seeds are fixed, and each bound is one that a correct sampler breaks with a probability below 1e-6 for a random seed.
"""

import math

import pytest
import scipy.integrate
import scipy.stats
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import tiedlib.gumbel_softmax as module
from tests.ideas.calls import LOGITS, POSITIVE, Call, X
from tiedlib.gumbel_softmax import (
    exact_gradient,
    gumbel_cdf,
    gumbel_log_density,
    gumbel_max,
    gumbel_softmax,
    gumbel_softmax_gradients,
    kl_uniform,
    log_density,
    reinforce_gradients,
    relax,
    sample_gumbel,
)
from tiedlib.lab.notebook.agreement import agree

INF = float("inf")
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
T = torch.tensor([0.9, 0.1, 0.5], dtype=torch.float64)


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=gen(seed))


def square(y):
    return (y @ T.to(y.dtype)).square()


def passes_chi_square(counts, probabilities):
    """χ² below its 1e-7 point (the χ² law is a limit; ten times stricter than the 1e-6 we state), no draw where π = 0."""
    counts, p = counts.double(), probabilities.double()
    assert counts[p == 0].sum() == 0
    expected = counts.sum() * p[p > 0]
    assert expected.min() > 100, "the limit is only good where every cell is well filled"
    statistic = ((counts[p > 0] - expected).square() / expected).sum().item()
    return statistic < scipy.stats.chi2.isf(1e-7, len(expected) - 1)


def empirical_bernstein(samples, width):
    """|mean − its expectation| stays below this but with probability 1e-7 a column (Maurer & Pontil 2009, theorem 4)."""
    n, log_term = len(samples), math.log(4 / 1e-7)
    return (2 * samples.var(0) * log_term / n).sqrt() + 7 * width * log_term / (3 * (n - 1))


# -- the law -------------------------------------------------------------------------------------------------------------


def test_density_and_cdf_are_scipys():
    x = torch.linspace(-5, 40, 200, dtype=torch.float64)
    torch.testing.assert_close(gumbel_log_density(x), torch.from_numpy(scipy.stats.gumbel_r.logpdf(x.numpy())))
    torch.testing.assert_close(gumbel_cdf(x), torch.from_numpy(scipy.stats.gumbel_r.cdf(x.numpy())))


def test_far_out_the_law_is_0_or_1_and_never_nan():
    x = torch.tensor([-1e4, 1e4])
    assert gumbel_cdf(x).tolist() == [0.0, 1.0]
    assert gumbel_log_density(x).tolist() == [-INF, -1e4]


def test_samples_have_the_law():
    n = 200_000
    x = sample_gumbel((n,), generator=gen(), dtype=torch.float64).sort().values
    steps = torch.arange(n + 1, dtype=torch.float64) / n
    cdf = gumbel_cdf(x)
    distance = torch.maximum(steps[1:] - cdf, cdf - steps[:-1]).max().item()
    assert distance < math.sqrt(math.log(2 / 1e-6) / (2 * n))  # Dvoretzky-Kiefer-Wolfowitz with Massart's constant


@pytest.mark.parametrize(
    ("u", "g"), [(0.0, 54 * math.log(2)), (1 - 2**-53, -math.log(53 * math.log(2))), (0.5, 0.36651292)]
)
def test_the_ends_of_the_uniform_numbers_give_finite_noise(monkeypatch, u, g):
    def rand(shape, *, dtype, **_):
        assert dtype == torch.float64, "from float32 numbers the right tail would end at 16.6"
        return torch.full(shape, u, dtype=dtype)

    monkeypatch.setattr(torch, "rand", rand)
    assert sample_gumbel((1,), dtype=torch.float64).item() == pytest.approx(g, rel=1e-7)
    for dtype in DTYPES:
        assert torch.isfinite(sample_gumbel((1,), dtype=dtype)).all()


def test_shape_dtype_device_and_generator():
    assert sample_gumbel((2, 0, 3)).shape == (2, 0, 3) and sample_gumbel(()).shape == ()
    assert sample_gumbel((2,)).dtype == torch.get_default_dtype()
    assert torch.equal(sample_gumbel((5,), generator=gen(3)), sample_gumbel((5,), generator=gen(3)))
    assert not torch.equal(sample_gumbel((5,), generator=gen(3)), sample_gumbel((5,), generator=gen(4)))
    before = torch.get_rng_state()
    sample_gumbel((5,), generator=gen(3))
    assert torch.equal(before, torch.get_rng_state()), "the global generator is left alone"


# -- Gumbel-max ----------------------------------------------------------------------------------------------------------


@pytest.mark.claim("gumbel-max-trick")
@pytest.mark.parametrize(
    "logits",
    [torch.zeros(4), torch.tensor([2.0, -INF, 0.0, -1.0]), torch.tensor([1e4, 1e4 + 1.0, 1e4 - 2.0]), draw(20)],
    ids=["uniform", "one impossible", "huge", "twenty"],
)
def test_gumbel_max_draws_from_the_softmax(logits):
    index = gumbel_max(logits.expand(200_000, -1), generator=gen())
    counts = index.bincount(minlength=len(logits))
    p = logits.double().softmax(-1)
    assert passes_chi_square(counts, p)
    assert not passes_chi_square(counts, (1.2 * logits.double()).softmax(-1)) or len(set(logits.tolist())) == 1
    n = int(counts.sum())
    for count, q in zip(
        counts.tolist(), p.tolist(), strict=True
    ):  # each count is binomial: no limit theorem in this one
        assert scipy.stats.binomtest(count, n, q).pvalue > 1e-6 / len(logits)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_favour_the_first_of_ties(dtype):
    logits = torch.full((50_000, 8), 1000.0, dtype=dtype)
    p = torch.full((8,), 1 / 8)
    assert passes_chi_square(gumbel_max(logits, generator=gen()).bincount(minlength=8), p)
    assert passes_chi_square(gumbel_softmax(logits, 1.0, hard=True, generator=gen()).double().sum(0), p)
    rounded = logits + sample_gumbel(logits.shape, generator=gen(), dtype=dtype)
    assert not passes_chi_square(rounded.argmax(-1).bincount(minlength=8), p), "the test must see what it is about"


def test_shapes_of_gumbel_max():
    assert gumbel_max(torch.zeros(2, 3, 5)).shape == (2, 3)
    assert gumbel_max(torch.zeros(5)).shape == ()
    assert gumbel_max(torch.zeros(0, 5)).shape == (0,)
    assert gumbel_max(torch.tensor([[-INF, 0.0]]).expand(100, 2)).unique().tolist() == [1]


# -- relaxation ----------------------------------------------------------------------------------------------------------


@pytest.mark.claim("gumbel-softmax")
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("tau", "dim"), [(1.0, -1), (0.3, 0), (7.0, 1)])
def test_equals_torchs_under_the_same_noise(monkeypatch, tau, dim, hard):
    logits = draw(4, 3, 5)
    torch.manual_seed(1)
    noise = -torch.empty_like(logits).exponential_().log()
    monkeypatch.setattr(module, "sample_gumbel", lambda shape, **_: noise.movedim(dim, -1))

    def torchs(x):
        torch.manual_seed(1)
        return F.gumbel_softmax(x, tau, hard, dim=dim)

    agree(lambda x: gumbel_softmax(x, tau, hard, dim), torchs, logits, rtol=1e-11)
    agree(lambda x: relax(x + noise, tau, hard, dim), torchs, logits, rtol=1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_score_and_no_temperature_overflows(dtype):
    scores = torch.tensor([[1e4, -1e4, 9e3], [0.0, -INF, -INF]], dtype=dtype)
    for tau in (1e-36, 1e-3, 1e36):
        y = relax(scores, tau)
        assert torch.isfinite(y).all() and y.dtype == dtype
        torch.testing.assert_close(y.sum(-1).double(), torch.ones(2).double(), rtol=0, atol=1e-2)
        assert y[0].argmax() == 0 and (y[0].tolist() == [1, 0, 0] or tau > 1)
    if dtype != torch.float64:
        with pytest.raises(ValueError, match="tau is 1e-40; the temperature must lie in 1e-38"):
            relax(scores, 1e-40)


def test_relax_has_the_gradient_of_finite_differences():
    z = draw(3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: relax(x, 0.5), z)
    assert torch.autograd.gradcheck(lambda x: gumbel_softmax(x, 0.5, dim=0, generator=gen()), z)


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=2).map(tuple),
    classes=st.integers(1, 6),
    dtype=st.sampled_from(DTYPES),
    scale=st.sampled_from([0.0, 1.0, 1e4]),
    tau=st.sampled_from([1e-30, 1e-3, 1.0, 1e4, 1e30]),
    hard=st.booleans(),
    holes=st.booleans(),
    seed=st.integers(0, 99),
)
def test_extreme_input_gives_points_of_the_simplex(shape, classes, dtype, scale, tau, hard, holes, seed):
    logits = (scale * draw(classes, *shape, seed=seed).clamp(-1, 1)).to(dtype).movedim(0, -1)  # not contiguous
    if holes:  # one-hot probabilities: every logit but one is log 0
        logits = torch.where(torch.arange(classes) == seed % classes, logits, -INF)
    x = logits.detach().requires_grad_()
    y = gumbel_softmax(x, tau, hard, generator=gen(seed))
    assert y.shape == x.shape and y.dtype == dtype and torch.isfinite(y).all()
    total = y.double().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=8 * torch.finfo(dtype).eps)
    assert torch.equal(y[x == -INF], torch.zeros_like(y[x == -INF]))
    weights = draw(*x.shape, seed=1).to(dtype)
    gradient = torch.autograd.grad((y.float() * weights.float()).sum(), x)[0]
    assert torch.isfinite(gradient).all() or tau < 1e-3, "∂y/∂z grows as 1/τ: only far below 1e-3 can it overflow"
    index = gumbel_max(x, generator=gen(seed))
    if hard:
        assert torch.equal(y, F.one_hot(index, classes).to(dtype)), "same noise, same category, exactly one-hot"
    elif tau <= 1:
        assert (y.gather(-1, index[..., None])[..., 0] >= y.amax(-1) * (1 - 1e-2)).all()
    kl = kl_uniform(x)
    slack = 64 * torch.finfo(dtype).eps
    assert ((kl >= -slack) & (kl <= math.log(classes) * (1 + slack) + slack)).all()
    assert torch.isfinite(torch.autograd.grad(kl.float().sum(), x)[0]).all()


def test_not_contiguous_is_the_same_as_contiguous():
    x = draw(5, 4).T
    assert not x.is_contiguous()
    assert torch.equal(gumbel_softmax(x, generator=gen()), gumbel_softmax(x.contiguous(), generator=gen()))
    assert torch.equal(gumbel_softmax(x, dim=0, generator=gen()), gumbel_softmax(x.T, dim=1, generator=gen()).T)


@pytest.mark.claim("gumbel-softmax-low-temperature")
@pytest.mark.claim("gumbel-softmax-high-temperature")
def test_both_ends_of_the_temperature():
    logits = draw(1000, 6)
    cold, hot = (gumbel_softmax(logits, tau, generator=gen()) for tau in (1e-6, 1e6))
    assert (cold.amax(-1) > 1 - 1e-6).double().mean() > 0.99
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 6), rtol=0, atol=1e-4)
    assert torch.equal(cold.argmax(-1), hot.argmax(-1)), "the category does not depend on the temperature"


def test_a_constant_added_to_the_logits_changes_nothing():
    logits = draw(50, 6)
    shifted = gumbel_softmax(logits + 7.0, 0.5, generator=gen())
    torch.testing.assert_close(shifted, gumbel_softmax(logits, 0.5, generator=gen()))


# -- density -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_density_is_torchs_and_integrates_to_one(tau):
    logits, y = draw(4), torch.softmax(draw(10, 4, seed=1), -1)
    theirs = torch.distributions.RelaxedOneHotCategorical(torch.tensor(tau, dtype=torch.float64), logits=logits)
    torch.testing.assert_close(log_density(y, logits, tau), theirs.log_prob(y))
    torch.testing.assert_close(log_density(y, logits + 3.0, tau), log_density(y, logits, tau))
    two = torch.tensor([0.4, -0.3], dtype=torch.float64)

    def density(s):  # with y = sigmoid(s), dy = y (1 − y) ds
        y = 1 / (1 + math.exp(-s))
        point = torch.tensor([y, 1 - y], dtype=torch.float64)
        return log_density(point, two, tau).exp().item() * y * (1 - y)

    assert scipy.integrate.quad(density, -35, 35, points=[0.0])[0] == pytest.approx(1.0, abs=1e-6)


# -- KL ------------------------------------------------------------------------------------------------------------------


def test_kl_is_scipys_with_its_gradient():
    logits = draw(7, 5)
    q = logits.softmax(-1).numpy()
    expected = torch.from_numpy(scipy.stats.entropy(q, [[0.2] * 5] * 7, axis=-1))
    torch.testing.assert_close(kl_uniform(logits), expected)
    assert torch.autograd.gradcheck(kl_uniform, logits.requires_grad_())
    assert kl_uniform(torch.tensor([0.0, -INF, -INF])).item() == pytest.approx(math.log(3))


# -- gradients -----------------------------------------------------------------------------------------------------------


def test_exact_gradient_is_the_derivative_of_the_mean():
    x, step = draw(3), 1e-6

    def mean(logits):
        return sum(p * square(e) for p, e in zip(logits.softmax(-1), torch.eye(3, dtype=torch.float64), strict=True))

    numeric = torch.stack([(mean(x + step * e) - mean(x - step * e)) / (2 * step) for e in torch.eye(3).double()])
    torch.testing.assert_close(exact_gradient(square, x), numeric, rtol=1e-7, atol=1e-9)


@pytest.mark.claim("gumbel-softmax-differentiable-sample")
@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_reinforce_is_unbiased(baseline):
    x = draw(3)
    each = reinforce_gradients(square, x, 50_000, baseline=baseline, generator=gen())
    onehot = F.one_hot(gumbel_max(x.expand(50_000, 3), generator=gen()), 3).double()
    torch.testing.assert_close(each, (square(onehot) - baseline)[:, None] * (onehot - x.softmax(-1)))
    gap = (each.mean(0) - exact_gradient(square, x)).abs()
    assert (gap < empirical_bernstein(each, width=2.0)).all()
    assert (gap < 0.02).all()


def test_gumbel_softmax_gradients_are_of_the_relaxed_mean():
    """Against quadrature for two categories: y = σ((x₁ − x₂ + L)/τ) with L logistic, the difference of two Gumbels."""
    x, tau, t = torch.tensor([0.7, 0.0], dtype=torch.float64), 1.0, torch.tensor([0.9, 0.2], dtype=torch.float64)
    each = gumbel_softmax_gradients(lambda y: (y @ t).square(), x, 50_000, tau=tau, generator=gen())
    torch.testing.assert_close(each.sum(-1), torch.zeros(50_000, dtype=torch.float64))

    def integrand(noise):
        y = 1 / (1 + math.exp(-(0.7 + noise) / tau))
        return scipy.stats.logistic.pdf(noise) * 2 * (0.9 * y + 0.2 * (1 - y)) * 0.7 * y * (1 - y) / tau

    relaxed = scipy.integrate.quad(integrand, -40, 40, points=[-0.7])[0]
    gap = abs(each[:, 0].mean().item() - relaxed)
    assert gap < empirical_bernstein(each, width=2 / tau)[0] < 0.02
    exact = exact_gradient(lambda y: (y @ t).square(), x)[0].item()
    assert abs(relaxed - exact) > 0.01, "and this is not the gradient of the discrete mean"


def test_straight_through_gradients_use_the_onehot_value():
    x = draw(3)
    seen = []

    def spy(y):
        seen.append(y.detach().clone())
        return square(y)

    each = gumbel_softmax_gradients(spy, x, 10, tau=0.7, hard=True, generator=gen())
    (onehot,) = seen
    assert torch.equal(onehot, F.one_hot(gumbel_max(x.expand(10, 3), generator=gen()), 3).double())
    rows = x.expand(10, 3).clone().requires_grad_()
    y = gumbel_softmax(rows, 0.7, generator=gen())
    expected = torch.autograd.grad((y * (2 * (onehot @ T)[:, None] * T)).sum(), rows)[0]
    torch.testing.assert_close(each, expected)


# -- bad input -----------------------------------------------------------------------------------------------------------

TAKES_LOGITS = {
    "gumbel_max": gumbel_max,
    "gumbel_softmax": gumbel_softmax,
    "relax": relax,
    "kl_uniform": kl_uniform,
    "exact_gradient": lambda x: exact_gradient(square, x),
    "reinforce_gradients": lambda x: reinforce_gradients(square, x, 5),
    "gumbel_softmax_gradients": lambda x: gumbel_softmax_gradients(square, x, 5),
    "log_density": lambda x: log_density(torch.full(x.shape, 0.5), x, 1.0),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("call", TAKES_LOGITS.values(), ids=TAKES_LOGITS)
@pytest.mark.parametrize(
    ("logits", "error", "words"),
    [
        (torch.tensor([1, 2, 3]), TypeError, "dtype torch.int64; it must be a floating-point"),
        (torch.tensor(1.0), ValueError, r"has shape \(\)"),
        (torch.zeros(0), ValueError, "at least one category"),
        (torch.tensor([0.0, float("nan"), 1.0]), ValueError, "a row with NaN"),
        (torch.tensor([0.0, INF, 1.0]), ValueError, r"\+inf"),
        (torch.tensor([-INF, -INF]), ValueError, "nothing but -inf"),
    ],
    ids=["integers", "scalar", "no category", "nan", "inf", "nothing possible"],
)
def test_bad_logits_are_named(call, logits, error, words):
    with pytest.raises(error, match=words):
        call(logits)


@pytest.mark.parametrize("tau", [0.0, -1.0, float("nan"), INF, -INF])
@pytest.mark.parametrize(
    "call",
    [
        lambda tau: gumbel_softmax(torch.zeros(3), tau),
        lambda tau: relax(torch.zeros(3), tau),
        lambda tau: log_density(torch.full((3,), 1 / 3), torch.zeros(3), tau),
        lambda tau: gumbel_softmax_gradients(square, torch.zeros(3), 2, tau=tau),
    ],
    ids=["gumbel_softmax", "relax", "log_density", "gumbel_softmax_gradients"],
)
def test_a_bad_temperature_is_named(call, tau):
    with pytest.raises(ValueError, match=rf"tau is {tau}; it must be positive and finite"):
        call(tau)


@pytest.mark.usefixtures("unchecked")
def test_other_bad_input_is_named():
    for call, error, words in (
        (lambda: gumbel_softmax(torch.zeros(2, 3), dim=2), ValueError, r"dim is 2; logits has shape \(2, 3\)"),
        (lambda: relax(torch.zeros(2, 3), dim=-3), ValueError, r"dim is -3; scores has shape \(2, 3\)"),
        (lambda: sample_gumbel((2, -1)), ValueError, r"shape is \(2, -1\)"),
        (lambda: sample_gumbel((2,), dtype=torch.int64), TypeError, "dtype is torch.int64"),
        (lambda: reinforce_gradients(square, torch.zeros(3), 0), ValueError, "samples is 0"),
        (lambda: gumbel_softmax_gradients(square, torch.zeros(3), -2), ValueError, "samples is -2"),
        (
            lambda: log_density(torch.full((3,), 0.3), torch.zeros(4), 1.0),
            ValueError,
            r"y has shape \(3,\) and logits \(4,\)",
        ),
    ):
        with pytest.raises(error, match=words):
            call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.tensor([2.0, 0.0, -1.0], device="cuda", dtype=torch.float16)
    counts = gumbel_max(logits.expand(200_000, 3), generator=generator).bincount(minlength=3).cpu()
    assert passes_chi_square(counts, logits.cpu().double().softmax(-1))
    assert sample_gumbel((2,), generator=generator).device.type == "cuda"
    assert gumbel_softmax(logits, 1e-3, True, generator=generator).sum().item() == 1


# A temperature for each row; log y; where no value can be seen


def test_a_temperature_for_each_row():
    logits, tau = torch.randn(3, 4), torch.tensor([[0.1], [1.0], [10.0]])
    g = lambda: torch.Generator().manual_seed(2)  # noqa: E731
    together = gumbel_softmax(logits, tau, generator=g())
    for row, one in enumerate(tau):
        alone = gumbel_softmax(logits, one.item(), generator=g())[row]
        torch.testing.assert_close(together[row], alone)
    columns = gumbel_softmax(logits.T, tau.T, dim=0, generator=g())
    torch.testing.assert_close(columns.T, together)
    grad = torch.autograd.grad(gumbel_softmax(logits, tau.requires_grad_()).square().sum(), tau)[0]
    assert grad.shape == tau.shape and torch.isfinite(grad).all()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "bad", [torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[-1.0], [1.0], [1.0]]), torch.ones(2, 1)]
)
def test_a_bad_temperature_for_a_row_is_refused(bad):
    with pytest.raises(ValueError, match=r"^tau "):
        gumbel_softmax(torch.zeros(3, 4), bad)
    with pytest.raises(TypeError, match=r"^tau "):
        gumbel_softmax(torch.zeros(3, 4), torch.ones(3, 1, dtype=torch.int64))


def test_the_logarithm_of_a_sample_is_its_logarithm():
    logits = torch.randn(5, 4)
    y, log_y = (
        gumbel_softmax(logits, 0.7, log=log, generator=torch.Generator().manual_seed(0)) for log in (False, True)
    )
    torch.testing.assert_close(log_y, y.log())
    with pytest.raises(ValueError, match="log is True with hard"):
        gumbel_softmax(logits, hard=True, log=True)


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.03, 0.01])
def test_the_density_of_our_own_samples_is_that_of_float64(tau):
    """In float32 most entries of a cold sample are 0; their logarithms are not."""
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    log_y = gumbel_softmax(logits, tau, log=True, generator=torch.Generator().manual_seed(3))
    found, exact = (
        log_density(log_y, logits, tau, log=True),
        log_density(log_y.double(), logits.double(), tau, log=True),
    )
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-2)
    y = gumbel_softmax(logits, tau, generator=torch.Generator().manual_seed(3)).requires_grad_()
    rounded = log_density(y, logits, tau)
    assert torch.isfinite(rounded).all()
    assert not torch.autograd.grad(rounded.sum(), y)[0].isnan().any()  # 1/y of the smallest y is no number of float32
    if tau == 1.0:
        torch.testing.assert_close(rounded, found, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_the_density_in_half_precision_is_finite(dtype, tau):
    logits = torch.tensor([[0.0, 8.0, -8.0], [1.0, 1.0, 1.0]], dtype=dtype)
    y = gumbel_softmax(logits, tau, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(log_density(y, logits, tau)).all()
    assert torch.isfinite(kl_uniform(logits)).all()


def test_a_y_that_is_none_is_refused():
    for y, log in (([[0.5, 1.5]], False), ([[-0.1, 1.1]], False), ([[0.1, -1.0]], True)):
        with pytest.raises(ValueError, match=r"^y holds"):
            log_density(torch.tensor(y), torch.zeros(1, 2), 1.0, log=log)


@pytest.mark.usefixtures("unchecked")
def test_where_no_value_can_be_seen():
    logits = torch.randn(3, 4)
    assert gumbel_softmax(logits.to("meta"), hard=True).shape == (3, 4)
    rows = torch.func.vmap(lambda z: gumbel_softmax(z, 0.5), randomness="different")(logits)
    torch.testing.assert_close(rows.sum(-1), torch.ones(3))
    assert not torch.equal(*torch.func.vmap(gumbel_softmax, randomness="different")(torch.zeros(2, 4)))
    assert torch.func.vmap(gumbel_max, randomness="different")(logits).shape == (3,)
    y = torch.compile(lambda z: gumbel_softmax(z, 0.5), fullgraph=True, backend="eager")(logits)
    torch.testing.assert_close(y.sum(-1), torch.ones(3))


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "sample_gumbel": Call(lambda: {"shape": (2, 3)}),
    "gumbel_cdf": Call(lambda: {"x": X}),
    "gumbel_log_density": Call(lambda: {"x": X}),
    "gumbel_max": Call(lambda: {"logits": LOGITS}),
    "gumbel_softmax": Call(lambda: {"logits": LOGITS, "tau": 1.0, "dim": -1}, tau=POSITIVE),
    "relax": Call(lambda: {"scores": LOGITS, "tau": 1.0, "dim": -1}, tau=POSITIVE),
    "log_density": Call(lambda: {"y": torch.full((5, 3), 1 / 3), "logits": LOGITS, "tau": 1.0}, tau=POSITIVE),
    "kl_uniform": Call(lambda: {"logits": LOGITS}),
    "exact_gradient": Call(lambda: {"objective": lambda y: y.sum(-1), "logits": LOGITS[0]}),
    "reinforce_gradients": Call(
        lambda: {
            "objective": lambda y: y.sum(-1),
            "logits": LOGITS[0],
            "samples": 4,
            "baseline": 0.0,
        }
    ),
    "gumbel_softmax_gradients": Call(
        lambda: {
            "objective": lambda y: y.sum(-1),
            "logits": LOGITS[0],
            "samples": 4,
            "tau": 1.0,
        },
        tau=POSITIVE,
    ),
}
