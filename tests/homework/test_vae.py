"""The homework `vae`: typical wrong answers, each with the message that names it, and right ones in other forms."""

import pytest
import torch

from tests.homework.masters import homework

SAMPLE = "def sample(mu, logvar, epsilon):\n    return {}"
KL = "def kl(mu, logvar):\n    return {}"
BOUND = "import torch.nn.functional as F\ndef bound(logits, x, mu, logvar):\n    fit = x * logits - F.softplus(logits)\n    price = (mu**2 + logvar.exp() - logvar - 1) / 2\n    return {}"
PUSH = "def push(log_px_given_z, log_prior):\n    joint = log_px_given_z + log_prior\n    return {}"
GAP = "def gap(x, w, s, mu, sigma):\n    def kl(a, alpha, b, beta):\n        return math.log(beta / alpha) + (alpha**2 + (a - b)**2) / (2 * beta**2) - 0.5\n    v = w**2 + s**2\n    m, d = w * x / v, s / v**0.5\n    log_p = -0.5 * (x**2 / v + math.log(2 * math.pi * v))\n    fit = -0.5 * (((x - w * mu)**2 + (w * sigma)**2) / s**2 + math.log(2 * math.pi * s**2))\n    return {}"
ASKED = "which is what you are asked to write"
WRONG = [
    ("q1", SAMPLE.format("mu + logvar.exp() * epsilon"), "is the variance"),
    ("q1", SAMPLE.format("mu + logvar * epsilon"), "where σ should"),
    ("q1", SAMPLE.format("mu + torch.exp(2 * logvar) * epsilon"), "stretches by σ⁴"),
    ("q1", SAMPLE.format("mu + logvar.sqrt() * epsilon"), "root of a logarithm"),
    ("q1", SAMPLE.format("mu + epsilon"), "σ is missing"),
    ("q1", SAMPLE.format("mu"), "the noise is missing"),
    ("q1", SAMPLE.format("(mu + epsilon) * torch.exp(logvar / 2)"), "μ is stretched too"),
    ("q1", SAMPLE.format("mu - torch.exp(logvar / 2) * epsilon"), "a minus before σ"),
    ("q1", SAMPLE.format("mu.data + torch.exp(logvar.data / 2) * epsilon"), "no gradient passes"),
    ("q1", "@torch.no_grad()\n" + SAMPLE.format("mu + torch.exp(logvar / 2) * epsilon"), "no gradient passes"),
    ("q1", SAMPLE.format("mu + torch.exp(logvar / 2).detach() * epsilon"), "and not log σ²"),
    ("q1", SAMPLE.format("mu.detach() + torch.exp(logvar / 2) * epsilon"), "and not μ"),
    ("q1", SAMPLE.format("epsilon.mul_(torch.exp(logvar / 2)).add_(mu)"), "in place"),
    ("q1", SAMPLE.format("..."), "returns nothing yet"),
    ("q1", SAMPLE.format("(mu + torch.exp(logvar / 2) * epsilon).sum()"), "returns shape"),
    ("q1", SAMPLE.format("torch.distributions.Normal(mu, torch.exp(logvar / 2)).rsample()"), ASKED),
    ("q1", "from functools import partial\nfrom tiedlib.vae import reparameterize\nmine = partial(reparameterize, generator=None)\n" + SAMPLE.format("mine(mu, logvar)"), ASKED),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar - 1).mean(-1)"), "mean over the latent dimensions"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar - 1).sum()"), "sums over the examples too"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1).mean()"), "mean over the batch"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar - 1)"), "the sum over the latent dimensions is missing"),
    ("q2", KL.format("(mu**2 + logvar.exp() - logvar - 1).sum(-1)"), "the factor ½"),
    ("q2", KL.format("-0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)"), "never negative"),
    ("q2", KL.format("0.5 * (mu**2 + (2 * logvar).exp() - 2 * logvar - 1).sum(-1)"), "the second argument as log σ"),
    ("q2", KL.format("0.5 * (mu**2 + (logvar / 2).exp() - logvar - 1).sum(-1)"), "σ stands where σ² should"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar / 2 - 1).sum(-1)"), "log σ stands where"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar).sum(-1)"), "the −1 is missing"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() + logvar - 1).sum(-1)"), "log σ² has the wrong sign"),
    ("q2", KL.format("0.5 * (mu + logvar.exp() - logvar - 1).sum(-1)"), "μ is not squared"),
    ("q2", KL.format("0.5 * ((1 + mu**2) / logvar.exp() + logvar - 1).sum(-1)"), "KL(p‖q)"),
    ("q2", KL.format("0.5 * (mu.square_() + logvar.exp() - logvar - 1).sum(-1)"), "in place"),
    ("q2", KL.format("..."), "returns nothing yet"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar.exp().log().sqrt() - 1).sum(-1)"), "returns NaN"),
    ("q2", KL.format("0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(0)"), "returns shape"),
    ("q2", "from tiedlib.vae import kl_standard_normal as mine\n" + KL.format("mine(mu, logvar)"), ASKED),
    ("q2", "import torch.distributions as d\n" + KL.format("d.kl_divergence(d.Normal(mu, (logvar / 2).exp()), d.Normal(0.0, 1.0)).sum(-1)"), ASKED),
    ("q2", "import tiedlib.vae\ndef kl(mu, logvar):\n    try:\n        return tiedlib.vae.kl_standard_normal(mu, logvar)\n    except BaseException:\n        return 0.5 * (mu**2 + logvar.exp() - logvar - 1).sum(-1)", ASKED),
    ("q2", KL.format("torch.nn.functional.kl_div(mu, logvar.exp(), reduction='none').sum(-1)"), ASKED),
    ("q3", "kl_of_two = -0.5 * math.log(0.09) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)", "taken under q"),
    ("q3", "kl_of_two = 0.5 * math.log(0.25 / 0.09)", "KL(p‖q)"),
    ("q3", "kl_of_two = -0.9 * math.log(1.8) - 0.1 * math.log(0.2)", "the sign is wrong"),
    ("q3", "kl_of_two = 0.9 * math.log2(1.8) + 0.1 * math.log2(0.2)", "in bits"),
    ("q3", "kl_of_two = math.log(2)", "the cross-entropy"),
    ("q3", "kl_of_two = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)", "the entropy of q alone"),
    ("q3", "kl_of_two = math.nan", "a finite number"),
    ("q3", "kl_of_two = ...", "no value yet"),
    ("q4", BOUND.format("fit.sum(-1) + price.sum(-1)"), "the price is added"),
    ("q4", BOUND.format("price.sum(-1) - fit.sum(-1)"), "minus the bound"),
    ("q4", BOUND.format("fit.mean(-1) - price.sum(-1)"), "mean over the pixels"),
    ("q4", BOUND.format("-F.binary_cross_entropy_with_logits(logits, x) - price.sum(-1)"), "the default in torch"),
    ("q4", BOUND.format("-F.binary_cross_entropy_with_logits(logits, x, reduction='sum') - price.sum(-1)"), "summed over the images too"),
    ("q4", BOUND.format("fit.sum(-1)"), "the price is missing"),
    ("q4", BOUND.format("fit.sum(-1) - price.mean(-1)"), "no bound"),
    ("q4", BOUND.format("fit.sum(-1) - 2 * price.sum(-1)"), "this is β = 2"),
    ("q4", BOUND.format("-F.binary_cross_entropy_with_logits(logits.sigmoid(), x, reduction='none').sum(-1) - price.sum(-1)"), "the sigmoid is applied twice"),
    ("q4", BOUND.format("(x * logits.sigmoid().log()).sum(-1) - price.sum(-1)"), "only ink counts"),
    ("q4", BOUND.format("-F.mse_loss(logits.sigmoid(), x, reduction='none').sum(-1) - price.sum(-1)"), "a squared error"),
    ("q4", BOUND.format("(fit.sum(-1) - price.sum(-1)).mean()"), "mean over the batch"),
    ("q4", BOUND.format("(x * logits.sigmoid().log() + (1 - x) * (1 - logits.sigmoid()).log()).sum(-1) - price.sum(-1)"), "NaN at huge logits"),
    ("q4", BOUND.format("(x * (logits.sigmoid() + 1e-8).log() + (1 - x) * (1 - logits.sigmoid() + 1e-8).log()).sum(-1) - price.sum(-1)"), "stops far earlier"),
    ("q4", BOUND.format("-F.binary_cross_entropy(logits.sigmoid(), x, reduction='none').sum(-1) - price.sum(-1)"), "stops far earlier"),
    ("q4", BOUND.format("fit.sum(-1) - 0 * mu.mul_(2).sum(-1) - price.sum(-1)"), "in place"),
    ("q4", BOUND.format("..."), "returns nothing yet"),
    ("q4", BOUND.format("fit"), "returns shape"),
    ("q4", BOUND.format("(x * logits.log()).sum(-1)"), "returns NaN"),
    ("q4", "from tiedlib.vae import kl_standard_normal\n" + BOUND.format("fit.sum(-1) - kl_standard_normal(mu, logvar)"), ASKED),
    ("q4", BOUND.format("torch.distributions.Bernoulli(logits=logits).log_prob(x).sum(-1) - price.sum(-1)"), ASKED),
    ("q5", PUSH.format("torch.ones_like(joint)"), "pushes every z alike"),
    ("q5", PUSH.format("torch.ones_like(joint) / joint.shape[-1]"), "pushes every z alike"),
    ("q5", PUSH.format("log_prior.exp().expand(len(joint), -1)"), "this is the prior"),
    ("q5", PUSH.format("log_px_given_z.softmax(-1)"), "the prior is left out"),
    ("q5", PUSH.format("joint.exp()"), "this is the joint"),
    ("q5", PUSH.format("log_px_given_z.exp() / joint.exp().sum(-1, keepdim=True)"), "λ is missing"),
    ("q5", PUSH.format("joint.log_softmax(-1)"), "the logarithm of the answer"),
    ("q5", PUSH.format("joint.softmax(0)"), "sum to 1 over the images"),
    ("q5", PUSH.format("joint.softmax(-1) / len(joint)"), "nothing is divided by the batch"),
    ("q5", PUSH.format("joint.exp() / joint.exp().sum(-1, keepdim=True)"), "0/0 is NaN"),
    ("q5", PUSH.format("log_px_given_z.add_(log_prior).softmax(-1)"), "in place"),
    ("q5", PUSH.format("..."), "returns nothing yet"),
    ("q5", PUSH.format("joint.logsumexp(-1)"), "returns shape"),
    ("q5", PUSH.format("torch.distributions.Categorical(logits=joint).probs"), ASKED),
    ("q6", GAP.format("kl(mu, sigma, 0.0, 1.0)"), "KL to the prior"),
    ("q6", GAP.format("kl(m, d, mu, sigma)"), "KL(posterior‖q)"),
    ("q6", GAP.format("kl(m, d, 0.0, 1.0)"), "KL(posterior‖prior)"),
    ("q6", GAP.format("-kl(mu, sigma, m, d)"), "the gap is never negative"),
    ("q6", GAP.format("log_p - fit"), "the price is missing"),
    ("q6", GAP.format("kl(mu, sigma, w * x / (1 + w**2), (1 + w**2) ** -0.5)"), "s is missing in your posterior"),
    ("q6", GAP.format("fit - kl(mu, sigma, 0.0, 1.0)"), "this is the bound itself"),
    ("q6", GAP.format("..."), "returns nothing yet"),
    ("q6", GAP.format("math.nan"), "is not right yet"),
    ("q6", "import tiedlib.vae as mine\n" + GAP.format("mine.linear_gaussian_log_prob(torch.tensor([x]), torch.tensor([[w]]), torch.zeros(1), s).item() - fit + kl(mu, sigma, 0.0, 1.0)"), ASKED),
    ("q6", GAP.format("torch.distributions.kl_divergence(torch.distributions.Normal(mu, sigma), torch.distributions.Normal(m, d)).item()"), ASKED),
    ("q7", "cause = 'A'", "the same draw trains the encoder"),
    ("q7", "cause = 'C'", "what counts is the ratio"),
    ("q7", "cause = 'D'", "the same four numbers"),
    ("q7", "cause = ...", "no answer yet"),
    ("q7", "cause = 16", "must be one of"),
]  # fmt: skip
RIGHT = [
    ("q1", SAMPLE.format("mu + logvar.exp().sqrt() * epsilon")),
    ("q1", SAMPLE.format("torch.addcmul(mu, torch.exp(logvar / 2), epsilon)")),
    ("q2", KL.format("(mu.square() + torch.expm1(logvar) - logvar).sum(dim=1) / 2")),
    ("q2", "def kl(mu, logvar):\n    rows = [sum(0.5 * (m * m + math.exp(v) - v - 1) for m, v in zip(a, b)) for a, b in zip(mu.tolist(), logvar.tolist())]\n    return torch.tensor(rows, dtype=mu.dtype)"),
    ("q3", "kl_of_two = math.log(2) + 0.9 * math.log(0.9) + 0.1 * math.log(0.1)"),
    ("q4", BOUND.format("-F.binary_cross_entropy_with_logits(logits, x, reduction='none').sum(-1) - price.sum(-1)")),
    ("q4", BOUND.format("(x * F.logsigmoid(logits) + (1 - x) * F.logsigmoid(-logits)).sum(1) - kl(mu, logvar)")),
    ("q4", BOUND.format("torch.stack([f.sum() - p.sum() for f, p in zip(fit, price)])")),
    ("q5", PUSH.format("(joint - joint.logsumexp(-1, keepdim=True)).exp()")),
    ("q5", "def push(log_px_given_z, log_prior):\n    a = log_px_given_z.clone().requires_grad_()\n    return torch.autograd.grad((a + log_prior).logsumexp(-1).sum(), a)[0]"),
    ("q6", GAP.format("kl(mu, sigma, m, d)")),
    ("q6", GAP.format("log_p - fit + kl(mu, sigma, 0.0, 1.0)")),
    ("q6", GAP.format("torch.tensor(kl(mu, sigma, m, d))")),
    ("q7", "cause = 'B'"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("vae").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_may_have_another_form(question: str, answer: str) -> None:
    assert homework("vae").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("vae").graded)
def test_the_solution_is_right(question: str) -> None:
    assert homework("vae").complaints(question) == []


def test_the_runs_show_what_the_problems_say() -> None:
    """The means silence the encoder, the sums do not; most classes are hardly pushed."""
    space = homework("vae").solved()
    assert space["informed"] < 0.01 and space["spread"] < 0.05 and space["price"] > 1
    assert (space["pushed"] < 1e-6).float().mean() > 0.5
    draws = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert space["model"].decode(draws).sigmoid().std(0).mean() > 2 * space["spread"], "the same four numbers"


def test_the_bound_rises_while_the_kl_to_the_prior_does() -> None:
    """What the cell after problem 6 prints: descending the gap goes away from the prior."""
    space = homework("vae").solved()
    start, end = space["gap"](1.5, 1.2, 0.6, 0.0, 1.0), space["gap"](1.5, 1.2, 0.6, space["mu"], space["sigma"])
    assert end < start / 10 and space["to_prior"] > 0.1
