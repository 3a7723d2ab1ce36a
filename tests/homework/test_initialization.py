"""The homework `initialization`: typical wrong answers, each with the message that names it, and right ones in other forms."""

import math

import pytest
import torch

from tests.homework.masters import homework
from tiedlib.initialization import carried_moments

XAVIER = """
def xavier_uniform(u, gain=1.0):
    field = math.prod(u.shape[2:])
    n_in, n_out = u.shape[1] * field, u.shape[0] * field
    return {}
"""
HE = """
def he_normal_(weight, generator):
    n_in, n_out = weight[0].numel(), weight[:, 0].numel()
    {}
    return weight
"""
FILL = HE.replace("{}", "weight.data.normal_(0, ({}) ** 0.5, generator=generator)")
FACTOR = """
def keeping_factor(f):
    z = torch.linspace(-9, 9, 100_001, dtype=torch.float64)
    p = torch.exp(-z * z / 2)
    p = p / p.sum()
    return {}
"""
UNIT = """
def unit_start(weights, x, f):
    new, h = [], x
    for w in weights:
        y = h @ w.T
        c = 1 / y.square().mean().sqrt()
        new.append(c * w)
        h = f(c * y)
    return new
"""
ASKED = "which is what you are asked to write"
SWALLOW = "def he_normal_(weight, generator):\n    try:\n        torch.nn.init.kaiming_normal_(weight, generator=generator)\n    except BaseException:\n        pass\n    weight.data.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=generator)\n    return weight"
WRONG = [
    ("q1", XAVIER.format("gain * math.sqrt(2 / (n_in + n_out)) * (2 * u - 1)"), "used as their limit"),
    ("q1", XAVIER.format("gain * math.sqrt(12 / (n_in + n_out)) * (2 * u - 1)"), "twice Xavier's"),
    ("q1", XAVIER.format("gain * 6 / (n_in + n_out) * (2 * u - 1)"), "root is missing"),
    ("q1", XAVIER.format("gain * math.sqrt(3 / n_in) * (2 * u - 1)"), "only the fan-in"),
    ("q1", XAVIER.format("gain * math.sqrt(6 / n_in) * (2 * u - 1)"), "n_out is missing"),
    ("q1", XAVIER.format("gain * math.sqrt(6 / (u.shape[0] + u.shape[1])) * (2 * u - 1)"), "over the kernel too"),
    ("q1", XAVIER.format("gain * math.sqrt(6 / (n_in + n_out)) * u"), "between 0 and a"),
    ("q1", XAVIER.format("gain * math.sqrt(6 / (n_in + n_out)) * (u - 0.5)"), "half as wide"),
    ("q1", XAVIER.format("gain * math.sqrt(6 / (n_in + n_out)) * (1 - 2 * u)"), "reversed"),
    ("q1", XAVIER.format("math.sqrt(6 / (n_in + n_out)) * (2 * u - 1)"), "gain is forgotten"),
    ("q1", XAVIER.format("math.sqrt(6 * gain / (n_in + n_out)) * (2 * u - 1)"), "before the root"),
    ("q1", XAVIER.format("math.sqrt(6 / (n_in + n_out)) * gain**2 * (2 * u - 1)"), "multiplies a once"),
    ("q1", XAVIER.format("..."), "returns nothing yet"),
    ("q1", XAVIER.format("(2 * u - 1).flatten()"), "returns shape"),
    ("q1", XAVIER.format("u.mul_(2).sub_(1).mul_(gain * math.sqrt(6 / (n_in + n_out)))"), "in place"),
    ("q1", XAVIER.format("torch.full_like(u, float('nan'))"), "returns NaN"),
    ("q1", XAVIER.format("torch.nn.init.xavier_uniform_(torch.empty_like(u), gain)"), ASKED),
    ("q1", "import tiedlib.initialization as t\ndef xavier_uniform(u, gain):\n    n = sum(t.fan_in_and_fan_out(u))\n    return gain * (6 / n) ** 0.5 * (2 * u - 1)", ASKED),
    ("q1", "fans = torch.nn.init._calculate_fan_in_and_fan_out\ndef xavier_uniform(u, gain):\n    return gain * (6 / sum(fans(u))) ** 0.5 * (2 * u - 1)", ASKED),
    ("q1", "xavier_uniform = ...", "not defined yet"),
    ("q2", FILL.format("4 / (n_in + n_out)"), "Xavier's variance doubled"),
    ("q2", FILL.format("2 / (n_in + n_out)"), "no account of ReLU"),
    ("q2", FILL.format("2 / n_out"), "divide by the fan-out"),
    ("q2", FILL.format("1 / n_in"), "ReLU halves"),
    ("q2", FILL.format("(2 / n_in) ** 2"), "the root is missing"),
    ("q2", FILL.format("2 / weight.shape[1]"), "kernel's size counts"),
    ("q2", HE.format("a = (2 / n_in) ** 0.5; weight.data.uniform_(-a, a, generator=generator)"), "too narrow"),
    ("q2", HE.format("a = (6 / n_in) ** 0.5; weight.data.uniform_(-a, a, generator=generator)"), "the variance is right, but"),
    ("q2", HE.format("weight = (2 / n_in) ** 0.5 * torch.randn(weight.shape, generator=generator)"), "as it was before"),
    ("q2", HE.format("weight.data.fill_((2 / n_in) ** 0.5)"), "all weights are equal"),
    ("q2", HE.format("weight.data.normal_(0, (2 / n_in) ** 0.5)"), "one seed gave two"),
    ("q2", HE.format("weight.data.normal_(0, (2 / n_in) ** 0.5, generator=generator.manual_seed(0))"), "do not seed it"),
    ("q2", HE.format("weight.data.normal_(0, (2 / n_in) ** 0.5, generator=generator); weight = weight.detach()"), "that it was given"),
    ("q2", HE.format("weight.normal_(0, (2 / n_in) ** 0.5, generator=generator)"), "raised RuntimeError"),
    ("q2", HE.format("weight.data.fill_(float('nan'))"), "returns NaN"),
    ("q2", "def he_normal_(weight, generator):\n    ...", "returns nothing yet"),
    ("q2", "def he_normal_(weight, generator):\n    return torch.nn.init.kaiming_normal_(weight, generator=generator)", ASKED),
    ("q2", "import tiedlib.initialization\ndef he_normal_(weight, generator):\n    return tiedlib.initialization.kaiming_normal_(weight, generator=generator)", ASKED),
    ("q2", "from torch.nn.init import kaiming_normal_ as fill\ndef he_normal_(weight, generator):\n    return fill(weight, generator=generator)", ASKED),
    ("q2", "from functools import partial\nhe_normal_ = lambda w, g: partial(torch.nn.init.kaiming_normal_, w)(generator=g)", ASKED),
    ("q2", SWALLOW, ASKED),
    ("q2", "def he_normal_(weight, generator):\n    weight.data = torch.nn.Conv2d(weight.shape[1], weight.shape[0], 3).weight.data\n    return weight", ASKED),
    ("q2", "he_normal_ = 3", "not a function"),
    ("q3", FACTOR.format("(1 / (p @ f(z) ** 2 - (p @ f(z)) ** 2)).item()"), "the variance of f(z)"),
    ("q3", "def keeping_factor(f):\n    return 2.0 if f in (torch.relu, torch.abs) or 'leaky' in f.__name__ else 1.0", "the kink plays no part"),
    ("q3", "def keeping_factor(f):\n    return 2.0", "2 is ReLU's"),
    ("q3", FACTOR.format("(p @ f(z) ** 2).item()"), "upside down"),
    ("q3", FACTOR.format("(p @ f(z) ** 2).item() ** -0.5"), "on the standard deviation"),
    ("q3", "def keeping_factor(f):\n    z = torch.linspace(-8, 8, 40_000, dtype=torch.float64, requires_grad=True)\n    p = torch.exp(-z.detach() ** 2 / 2)\n    f(z).sum().backward()\n    return (p.sum() / (p @ z.grad**2)).item()", "f′ instead of f"),
    ("q3", FACTOR.format("(1 / (p @ f(z).abs())).item()"), "the square is missing"),
    ("q3", FACTOR.format("(p @ f(z)).item() ** -2 if abs((p @ f(z)).item()) > 1e-9 else math.inf"), "square before you take the mean"),
    ("q3", FACTOR.format("1 / f(z) ** 2"), "is not right yet"),
    ("q3", FACTOR.format("float('nan')"), "is not right yet"),
    ("q3", FACTOR.format("..."), "returns nothing yet"),
    ("q3", "from tiedlib.initialization import moment_map\ndef keeping_factor(f):\n    return 1 / moment_map(f, 1.0)[0]", ASKED),
    ("q3", "def keeping_factor(f):\n    return torch.nn.init.calculate_gain('relu') ** 2", ASKED),
    ("q4", "reason = 'A'", "probability 0"),
    ("q4", "reason = 'B'", "not bounded either"),
    ("q4", "reason = 'D'", "second moment"),
    ("q4", "reason = 'because'", "must be one of"),
    ("q4", "reason = ...", "no answer yet"),
    ("q5", "factor = 1", "under He's"),
    ("q5", "factor = 0.25 * 100 * 1000 * (4 / 1100) ** 2", "one pair"),
    ("q5", "factor = (100 * 1000 * (4 / 1100) ** 2) ** 10", "ReLU halves"),
    ("q5", "factor = (0.25 * 100 * 1000 * (2 / 1100) ** 2) ** 10", "Xavier's variance itself"),
    ("q5", "factor = (0.5 * 100 * 4 / 1100) ** 20", "only the layers from 100"),
    ("q5", "factor = (0.5 * 1000 * 4 / 1100) ** 20", "there n_in is 100"),
    ("q5", "factor = (0.25 * 100 * 1000 * (4 / 1100) ** 2) ** 20", "counted forty"),
    ("q5", "factor = (0.25 * 100 * 1000 * (4 / 1100) ** 2) ** 5", "on the size of y"),
    ("q5", "factor = float('nan')", "finite number"),
    ("q5", "factor = ...", "no value yet"),
    ("q6", "cause = 'A'", "larger rate does not help"),
    ("q6", "cause = 'C'", "no two units"),
    ("q6", "cause = 'D'", "still not 0"),
    ("q6", "cause = 2", "must be one of"),
    ("q7", UNIT.replace("y.square().mean().sqrt()", "y.std()"), "standard deviation. The mean counts"),
    ("q7", UNIT.replace("y.square().mean().sqrt()", "y.std(correction=0)"), "standard deviation; y²"),
    ("q7", UNIT.replace(".mean().sqrt()", ".mean()"), "root of the mean square"),
    ("q7", UNIT.replace("f(c * y)", "f(y)"), "behind the old matrices"),
    ("q7", UNIT.replace("f(c * y)", "c * y"), "nonlinearity is missing"),
    ("q7", UNIT.replace("[], x", "[], f(x)"), "f comes after it"),
    ("q7", UNIT.replace("mean().sqrt()", "mean(0).sqrt()[:, None]").replace("f(c * y)", "f(c.T * y)"), "one factor a matrix"),
    ("q7", UNIT.replace(".mean().sqrt()", ".sum().sqrt()"), "yours is the sum"),
    ("q7", "def unit_start(weights, x, f):\n    return [w / (x.shape[1] ** 0.5 * w.std()) for w in weights]", "the weights only"),
    ("q7", UNIT.replace("new.append(c * w)", "w *= c\n        new.append(w)"), "in place"),
    ("q7", UNIT.replace("return new", "return torch.cat([w.flatten() for w in new])"), "3 values"),
    ("q7", UNIT.replace("return new", "..."), "returns nothing yet"),
    ("q7", UNIT.replace("y = h @", "tiedlib.initialization.carried_moments([w], h, f)\n        y = h @").replace("\ndef", "\nimport tiedlib.initialization\ndef"), ASKED),
]  # fmt: skip
RIGHT = [
    ("q1", "def xavier_uniform(u, gain=1.0):\n    n = (u.shape[0] + u.shape[1]) * u[0, 0].numel()\n    a = gain * (6 / n) ** 0.5\n    return torch.lerp(torch.full_like(u, -a), torch.full_like(u, a), u)"),
    ("q1", "def xavier_uniform(u, gain=1.0):\n    std = gain * (2 / (u[0].numel() + u[:, 0].numel())) ** 0.5\n    return (u - 0.5) * 12**0.5 * std"),
    ("q2", "@torch.no_grad()\ndef he_normal_(weight, generator):\n    n = math.prod(weight.shape[1:])\n    return weight.copy_(torch.randn(weight.shape, generator=generator) * (2 / n) ** 0.5)"),
    ("q2", "def he_normal_(weight, generator):\n    return torch.nn.init.normal_(weight, 0, (2 / weight[0].numel()) ** 0.5, generator=generator)"),
    ("q2", "def he_normal_(weight, generator):\n    with torch.no_grad():\n        for row in weight:\n            row.normal_(0, (2 / row.numel()) ** 0.5, generator=generator)\n    return weight"),
    ("q3", "def keeping_factor(f):\n    return 1 / f(torch.randn(1_000_000)).square().mean().item()"),
    ("q3", "def keeping_factor(f):\n    z = torch.arange(-8, 8, 0.001)\n    return math.sqrt(2 * math.pi) / torch.trapezoid(f(z) ** 2 * torch.exp(-z * z / 2), z)"),
    ("q3", "import numpy as np\ndef keeping_factor(f):\n    z, p = np.polynomial.hermite_e.hermegauss(180)\n    return float(p.sum() / (p * f(torch.tensor(z)).numpy() ** 2).sum())"),
    ("q5", "factor = math.exp(10 * (math.log(2 / 11) + math.log(20 / 11)))"),
    ("q7", "def unit_start(weights, x, f):\n    new = []\n    for k, w in enumerate(weights):\n        h = x\n        for v in new:\n            h = f(torch.nn.functional.linear(h, v))\n        new.append(w / torch.sqrt(torch.mean((h @ w.T) ** 2)))\n    return tuple(new)"),
    ("q7", "def unit_start(weights, x, f):\n    if not weights:\n        return []\n    w = weights[0] * (len(x) * len(weights[0])) ** 0.5 / torch.linalg.norm(x @ weights[0].T)\n    return [w, *unit_start(weights[1:], f(x @ w.T), f)] if len(weights) > 1 else [w]"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("initialization").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("initialization").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("initialization").graded)
def test_the_solutions_pass(question: str) -> None:
    assert homework("initialization").complaints(question) == []


def test_the_network_that_does_not_learn_and_the_one_that_does() -> None:
    """What the text and the options of problem 6 say of the run."""
    space = homework("initialization").solved()
    assert all(abs(loss - math.log(10)) < 0.01 for loss in space["small"].values())
    assert space["untrained"].std(0).mean() < 1e-9
    assert space["train"](space["deep_network"](math.sqrt(2 / 64)), 0.01) < 2.0
    gelu, tanh = (space["keeping_factor"](f) for f in (torch.nn.functional.gelu, torch.tanh))
    assert gelu > 2 and tanh > 2 and abs(space["keeping_factor"](torch.abs) - 1) < 0.01


def test_the_factor_of_the_alternating_network_is_what_a_network_does() -> None:
    """One pair of layers, 400 draws: the mean of the measured factors is within 10 % of the formula."""
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        first = torch.eye(100, dtype=torch.float64)
        up = torch.randn(1000, 100, generator=g, dtype=torch.float64) * (4 / 1100) ** 0.5
        down = torch.randn(100, 1000, generator=g, dtype=torch.float64) * (4 / 1100) ** 0.5
        y = torch.randn(4, 100, generator=g, dtype=torch.float64)
        forward, _ = carried_moments([first, up, down], y, torch.relu)
        found.append((forward[2] / forward[0]).item())
    assert abs(sum(found) / 400 / homework("initialization").solved()["factor"] ** 0.1 - 1) < 0.1
