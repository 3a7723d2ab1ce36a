"""The homework `gumbel_softmax`: typical wrong answers, each with the message that names it, and right ones in other forms."""

import pytest

from tests.homework.masters import homework

NOISE = "def gumbel_noise(u):\n    return {}"
DRAW = "def draw(weights, noise):\n    return {}"
SOFT = "def relaxed(logits, noise, tau, hard):\n    y = torch.softmax({}, dim=-1)\n    return torch.eye(y.shape[-1], dtype=y.dtype)[y.argmax(-1)] + y - y.detach() if hard else y"
HARD = "def relaxed(logits, noise, tau, hard):\n    y = torch.softmax((logits + noise) / tau, dim=-1)\n    onehot = torch.eye(y.shape[-1], dtype=y.dtype)[y.argmax(-1)]\n    return {} if hard else y"
REINFORCE = "def reinforce(logits, drawn, rewards, baseline):\n    pi, e = logits.softmax(-1), torch.eye(len(logits), dtype=logits.dtype)[drawn]\n    return {}"
BOUND = "def exact_bound(logits, log_px_each):\n    q, k = logits.softmax(-1), logits.shape[-1]\n    price = torch.special.xlogy(q, q).sum(-1) + math.log(k)\n    return {}"
ASKED = "which is what you are asked to write"
WRONG = [
    ("q1", NOISE.format("-torch.log(-torch.log(u))"), "must count as 2⁻⁵⁴"),
    ("q1", NOISE.format("-torch.log(-torch.log(u + 1e-20) + 1e-20)"), "where the noise ends"),
    ("q1", NOISE.format("-torch.log(-torch.log(u.clamp_min(torch.finfo(u.dtype).tiny)))"), "where the noise ends"),
    ("q1", NOISE.format("torch.log(-torch.log(u))"), "a minus is missing"),
    ("q1", NOISE.format("torch.log(-torch.log(u.clamp_min(2.0**-54)))"), "a minus is missing"),
    ("q1", NOISE.format("-torch.log(u)"), "exponential noise"),
    ("q1", NOISE.format("-torch.log(u.clamp(min=2.0**-54))"), "exponential noise"),
    ("q1", NOISE.format("u"), "the uniform number itself"),
    ("q1", NOISE.format("u.clamp_min(2.0**-54)"), "the uniform number itself"),
    ("q1", NOISE.format("-torch.log(-torch.log(1 - u))"), "it is F⁻¹(1 − u)"),
    ("q1", NOISE.format("-torch.log(-torch.log1p(-u.clamp_min(2.0**-54)))"), "it is F⁻¹(1 − u)"),
    ("q1", NOISE.format("torch.exp(-torch.exp(-u))"), "asked is its inverse"),
    ("q1", NOISE.format("-u.clamp_min_(2.0**-54).log_().neg().log()"), "in place"),
    ("q1", NOISE.format("-(-u.log()).log().mean()"), "returns shape"),
    ("q1", NOISE.format("..."), "returns nothing yet"),
    ("q1", NOISE.format("torch.full_like(u, math.nan)"), "returns NaN"),
    ("q1", "from tiedlib.gumbel_softmax import sample_gumbel as mine\n" + NOISE.format("mine(u.shape)"), ASKED),
    ("q1", NOISE.format("torch.distributions.Gumbel(0.0, 1.0).icdf(u)"), ASKED),
    ("q2", DRAW.format("(weights + noise).argmax(-1)"), "added in vain"),
    ("q2", DRAW.format("(weights / weights.sum(-1, keepdim=True) + noise).argmax(-1)"), "noise to probabilities"),
    ("q2", DRAW.format("(weights.softmax(-1) + noise).argmax(-1)"), "their softmax is another law"),
    ("q2", DRAW.format("(weights.log_softmax(-1) + noise).argmax(-1)"), "added in vain"),
    ("q2", DRAW.format("weights.log().argmax(-1)"), "the noise is missing"),
    ("q2", DRAW.format("(weights.log() - noise).argmax(-1)"), "the noise is subtracted"),
    ("q2", DRAW.format("(weights * noise).argmax(-1)"), "not multiplied with w"),
    ("q2", DRAW.format("(weights.log() + noise).argmax(0)"), "runs over the rows"),
    ("q2", DRAW.format("(weights.log() + noise).argmax()"), "one index for the whole table"),
    ("q2", DRAW.format("torch.nn.functional.one_hot((weights.log() + noise).argmax(-1), 5)"), "these are one-hot vectors"),
    ("q2", DRAW.format("(weights.log_().add_(noise)).argmax(-1)"), "in place"),
    ("q2", DRAW.format("..."), "returns nothing yet"),
    ("q2", "from tiedlib.gumbel_softmax import gumbel_max as mine\n" + DRAW.format("mine(weights.log())"), ASKED),
    ("q2", DRAW.format("torch.multinomial(weights, 1)[:, 0]"), ASKED),
    ("q2", DRAW.format("torch.distributions.Categorical(probs=weights).sample()"), ASKED),
    ("q3", "probability = 1 / (1 + math.exp(-2))", "noise of scale one"),
    ("q3", "probability = 1 / (1 + math.exp(-4))", "wrong way round"),
    ("q3", "probability = 1 / (1 + math.exp(1))", "category 2"),
    ("q3", "probability = 0.5", "the scores still count"),
    ("q3", "probability = math.e", "the odds"),
    ("q3", "probability = math.nan", "a finite number"),
    ("q3", "probability = ...", "no value yet"),
    ("q4", HARD.format("y"), "its value must be the one-hot"),
    ("q4", HARD.format("onehot + y"), "must be zero in value"),
    ("q4", HARD.format("y.argmax(-1)"), "an index comes back"),
    ("q4", HARD.format("onehot"), "an argmax has no slope"),
    ("q4", HARD.format("(onehot + y - y.detach()).detach()"), "an argmax has no slope"),
    ("q4", HARD.format("onehot + y - y"), "the gradient is zero"),
    ("q4", HARD.format("onehot + y.detach() - y"), "wrong sign"),
    ("q4", SOFT.format("logits + noise"), "the temperature is missing"),
    ("q4", SOFT.format("(logits + noise) * tau"), "a low τ must sharpen"),
    ("q4", SOFT.format("logits / tau + noise"), "only the logits are divided"),
    ("q4", SOFT.format("logits + noise / tau"), "only the noise is divided"),
    ("q4", SOFT.format("logits / tau"), "the noise is missing"),
    ("q4", SOFT.format("(logits.softmax(-1) + noise) / tau"), "added to the probabilities"),
    ("q4", SOFT.format("((logits + noise) / tau).detach()"), "stay with torch's operations"),
    ("q4", SOFT.replace("dim=-1", "dim=0").format("(logits + noise) / tau"), "runs over the rows"),
    ("q4", SOFT.replace("torch.softmax({}, dim=-1)", "((logits + noise) / tau).exp()\n    y = y / y.sum(-1, keepdim=True)"), "a large logit overflows"),
    ("q4", HARD.format("..."), "returns nothing yet"),
    ("q4", HARD.format("y[0]"), "returns shape"),
    ("q4", "from tiedlib.gumbel_softmax import relax\ndef relaxed(logits, noise, tau, hard):\n    return relax(logits + noise, tau, hard)", ASKED),
    ("q4", "import functools\nmine = functools.partial(torch.nn.functional.gumbel_softmax, dim=-1)\ndef relaxed(logits, noise, tau, hard):\n    return mine(logits, tau, hard)", ASKED),
    ("q4", "def relaxed(logits, noise, tau, hard):\n    try:\n        return torch.nn.functional.gumbel_softmax(logits, tau, hard)\n    except AssertionError:\n        return torch.softmax((logits + noise) / tau, -1)", ASKED),
    ("q5", REINFORCE.format("(rewards - baseline)[:, None] * e"), "the normaliser is forgotten"),
    ("q5", REINFORCE.format("(rewards - baseline)[:, None] * (pi - e)"), "the sign is wrong"),
    ("q5", REINFORCE.format("((rewards - baseline) * pi[drawn])[:, None] * (e - pi)"), "derivative of π_k"),
    ("q5", REINFORCE.format("rewards[:, None] * (e - pi)"), "the baseline is not used"),
    ("q5", REINFORCE.format("(rewards + baseline)[:, None] * (e - pi)"), "the baseline is added"),
    ("q5", REINFORCE.format("rewards[:, None] * (e - pi) - baseline"), "taken off the product"),
    ("q5", REINFORCE.format("((rewards - baseline)[:, None] * (e - pi)).mean(0)"), "mean of the draws"),
    ("q5", REINFORCE.format("(rewards - baseline)[:, None] * e * (1 - pi)"), "other categories must fall"),
    ("q5", REINFORCE.replace("logits.softmax(-1)", "logits.exp() / logits.exp().sum()").format("(rewards - baseline)[:, None] * (e - pi)"), "a large logit overflows"),
    ("q5", REINFORCE.format("(rewards.sub_(baseline))[:, None] * (e - pi)"), "in place"),
    ("q5", REINFORCE.format("..."), "returns nothing yet"),
    ("q5", REINFORCE.format("rewards - baseline"), "returns shape"),
    ("q5", REINFORCE.format("(rewards - baseline) * (e - pi)"), "raised RuntimeError"),
    ("q5", REINFORCE.format("tiedlib.gumbel_softmax.reinforce_gradients(lambda y: y.sum(-1), logits, 7, baseline=baseline)").replace("def", "import tiedlib.gumbel_softmax\ndef", 1), ASKED),
    ("q5", REINFORCE.format("torch.autograd.grad(torch.distributions.Categorical(logits=logits.requires_grad_()).log_prob(drawn).sum(), logits)[0]"), ASKED),
    ("q6", "cause = 'A'", "keeps the law"),
    ("q6", "cause = 'B'", "not zero"),
    ("q6", "cause = 'D'", "same test digits"),
    ("q6", "cause = ...", "no answer yet"),
    ("q6", "cause = 'mixtures'", "must be one of"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) + price"), "the KL is added"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) - price + math.log(k)"), "log K is missing"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1)"), "the price is missing"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) - math.log(k) + price"), "this takes off the entropy"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) + q.log().mean(-1) + math.log(k)"), "wrong way round"),
    ("q7", BOUND.format("log_px_each.logsumexp(-1) - math.log(k)"), "log p(x) itself"),
    ("q7", BOUND.format("(logits.log_softmax(-1) + log_px_each).logsumexp(-1) - price"), "the logarithm stands inside"),
    ("q7", BOUND.format("log_px_each.gather(-1, logits.argmax(-1, keepdim=True))[:, 0] - price"), "the most probable symbol only"),
    ("q7", BOUND.format("((q * log_px_each).sum(-1) - price).mean()"), "one number for each image"),
    ("q7", BOUND.format("(q * (log_px_each - (k * q).log())).sum(-1)"), "0 · log 0"),
    ("q7", BOUND.format("..."), "returns nothing yet"),
    ("q7", BOUND.format("q * log_px_each"), "returns shape"),
    ("q7", "from tiedlib.gumbel_softmax import kl_uniform\n" + BOUND.format("(q * log_px_each).sum(-1) - kl_uniform(logits)"), ASKED),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) - math.log(k) + torch.distributions.Categorical(logits=logits).entropy()"), ASKED),
]  # fmt: skip
RIGHT = [
    ("q1", NOISE.format("-torch.where(u == 0, torch.tensor(2.0**-54, dtype=u.dtype), u).log().neg().log()")),
    ("q1", "def gumbel_noise(u):\n    out = [-math.log(-math.log(max(v, 2.0**-54))) for v in u.tolist()]\n    return torch.tensor(out, dtype=u.dtype)"),
    ("q2", DRAW.format("torch.stack([(w.log() + g).argmax() for w, g in zip(weights, noise)])")),
    ("q2", DRAW.format("((weights / weights.sum(-1, keepdim=True)).log() + noise).max(dim=1).indices")),
    ("q2", DRAW.format("(weights * noise.exp()).argmax(-1)")),
    ("q3", "probability = torch.sigmoid(torch.tensor(1.0))"),
    ("q4", SOFT.format("(logits + noise) / tau")),
    ("q4", HARD.format("(onehot - y).detach() + y")),
    ("q4", "def relaxed(logits, noise, tau, hard):\n    s = (logits + noise) / tau\n    y = (s - s.logsumexp(-1, keepdim=True)).exp()\n    top = torch.nn.functional.one_hot(y.argmax(-1), y.shape[-1])\n    return top + (y - y.detach()) if hard else y"),
    ("q5", REINFORCE.format("torch.stack([(r - baseline) * (f - pi) for f, r in zip(e, rewards)])")),
    ("q5", "def reinforce(logits, drawn, rewards, baseline):\n    z = logits.clone().requires_grad_()\n    rows = [torch.autograd.grad(z.log_softmax(-1)[k], z)[0] * (r - baseline) for k, r in zip(drawn, rewards)]\n    return torch.stack(rows)"),
    ("q6", "cause = ' C '"),
    ("q7", BOUND.format("(q * log_px_each).sum(-1) - price")),
    ("q7", BOUND.format("(q * (log_px_each - math.log(k))).sum(-1) + torch.special.entr(q).sum(-1)")),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("gumbel_softmax").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_may_have_another_form(question: str, answer: str) -> None:
    assert homework("gumbel_softmax").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("gumbel_softmax").graded)
def test_the_solution_is_right(question: str) -> None:
    assert homework("gumbel_softmax").complaints(question) == []


def test_the_run_shows_what_the_problem_says() -> None:
    """A high temperature gives the better objective and the worse model, and the exact bound says so too."""
    space = homework("gumbel_softmax").solved()
    low, high = space["seen"][0.5], space["seen"][5.0]
    assert high[0] > low[0] + 1 and high[0] - high[1] > 5 > low[0] - low[1] and high[1] < low[1] - 5
