"""The homework `dropout`: typical wrong answers, each with the message that names it; right ones in other forms; the run."""

from typing import Any

import pytest
import torch

from tests.homework.masters import homework

DROPOUT = "def dropout(x, p, training, generator):\n    if not training:\n        return x\n    {}"
SEQUENCE = "def sequence_dropout(x, p, training, generator):\n    if not training:\n        return x\n    {}\n    return x * m / (1 - p)"
WORDS = "def embedding_dropout(tokens, weight, p, training, generator):\n    if not training:\n        return weight[tokens]\n    {}"
USE = """
def logits_in_use(x, layers, r):
    {}
    for w, b in layers[:-1]:
        x = {} * torch.relu(x @ w.T + b)
    w, b = layers[-1]
    return {} * (x @ w.T + b)
"""
COVARIANCE = "def noise_covariance(weight, x, p):\n    return {}"
RIDGE = "def ridge_strengths(x, p):\n    return {}"
ASKED = "which is what you are asked to write"
KEEP = "m = torch.rand(x.shape, generator=generator) >= p\n    "
AT = "m = torch.rand({}, generator=generator) >= p"

WRONG = [
    ("q1", "dropout = ...", "not defined yet"),
    ("q1", "def dropout(x, p, training, generator):\n    ...", "returns nothing yet"),
    ("q1", DROPOUT.format(KEEP + "return (x * m / (1 - p)).sum()"), "shape"),
    ("q1", DROPOUT.format(KEEP + "return x / m * m"), "NaN"),
    ("q1", DROPOUT.format("x[torch.rand(x.shape, generator=generator) < p] = 0\n    return x / (1 - p)"), "in place"),
    ("q1", DROPOUT.format(KEEP + "return x * m"), "survivors are not divided"),
    ("q1", DROPOUT.format(KEEP + "return x * m / p if p else x"), "divided by p"),
    ("q1", DROPOUT.format(KEEP + "return x * m * (1 - p)"), "smaller still"),
    ("q1", DROPOUT.format(KEEP + "return x * m / (1 - p) ** 2"), "one right factor"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape, generator=generator) < p\n    return x * m / p if p else x"), "p is the probability of dropping"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape, generator=generator) < p\n    return x * m / (1 - p)"), "p is the probability of dropping"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape, generator=generator) >= p / 2\n    return x * m / (1 - p)"), "a share of 0."),
    ("q1", "def dropout(x, p, training, generator):\n    m = torch.rand(x.shape, generator=generator) >= p\n    return x * m / (1 - p)", "although training is False"),
    ("q1", "def dropout(x, p, training, generator):\n    if not training:\n        return (1 - p) * x\n    m = torch.rand(x.shape, generator=generator) >= p\n    return x * m", "multiply by 1 − p"),
    ("q1", "def dropout(x, p, training, generator):\n    m = torch.rand(x.shape, generator=generator) >= p * training\n    return x * m / (1 - p)", "you divide in use too"),
    ("q1", "def dropout(x, p, training, generator):\n    return 2 * x", "must be x itself"),
    ("q1", "def dropout(x, p, training, generator):\n    return x", "nothing is dropped"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape[1], generator=generator) >= p\n    return x * m / (1 - p)"), "all examples get the same mask"),
    ("q1", DROPOUT.format("m = torch.rand(len(x), 1, generator=generator) >= p\n    return x * m / (1 - p)"), "whole examples vanish"),
    ("q1", DROPOUT.format("m = torch.rand(1, generator=generator) >= p\n    return x * m / (1 - p)"), "dropout:"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape) >= p\n    return x * m / (1 - p)"), "draw from the generator"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) >= p\n    return x * m / (1 - p)"), "every call has the same mask"),
    ("q1", DROPOUT.format("m = torch.rand(x.shape, generator=generator).argsort(-1) >= round(p * x.shape[-1])\n    return x * m / (1 - p)"), "in every row"),
    ("q1", DROPOUT.format("m = torch.randperm(x.numel(), generator=generator).reshape(x.shape) >= round(p * x.numel())\n    return x * m / (1 - p)"), "exactly as many"),
    ("q1", DROPOUT.format(KEEP + "return x * m / (1 - p) if p else 0 * x"), "at p = 0"),
    ("q1", "import tiedlib.dropout as d\n" + DROPOUT.format("return d.dropout(x, p, training, generator)"), ASKED),
    ("q1", "from tiedlib.dropout import keep_mask as k\n" + DROPOUT.format("return x * k(x.shape, p, generator=generator) / (1 - p)"), ASKED),
    ("q1", DROPOUT.format("return torch.nn.functional.dropout(x, p)"), ASKED),
    ("q1", DROPOUT.format("return torch.nn.Dropout(p)(x)"), ASKED),
    ("q1", DROPOUT.format("return torch.dropout(x, p, True)"), ASKED),
    ("q1", DROPOUT.format("return torch.native_dropout(x, p, True)[0]"), ASKED),
    ("q1", DROPOUT.format("return torch.ops.aten.dropout(x, p, True)"), ASKED),
    ("q1", DROPOUT.format("return torch.nn.functional.dropout3d(x[None, None, None], p)[0, 0, 0]"), ASKED),
    ("q1", "from torch import dropout as mine\n" + DROPOUT.format("return mine(x, p, True)"), ASKED),
    ("q1", "import functools\nmine = functools.partial(torch.nn.functional.dropout, training=True)\n" + DROPOUT.format("return mine(x, p)"), ASKED),
    ("q1", DROPOUT.format("try:\n        return torch.nn.functional.dropout(x, p)\n    except BaseException:\n        return x * (torch.rand(x.shape, generator=generator) >= p) / (1 - p)"), ASKED),
    ("q2", "cause = ...", "no answer yet"),
    ("q2", "cause = 'A'", "learned by heart"),
    ("q2", "cause = 'B'", "draws no mask"),
    ("q2", "cause = 'D'", "would not fall"),
    ("q2", "cause = 'the masks'", "must be one of"),
    ("q3", "def logits_in_use(x, layers, r):\n    ...", "returns nothing yet"),
    ("q3", USE.format("", "1", "1"), "nothing stands in for them"),
    ("q3", USE.format("", "1 / r", "1"), "you divide by r"),
    ("q3", USE.format("", "(1 - r)", "1"), "the share that is dropped"),
    ("q3", USE.format("x = r * x", "r", "1"), "the inputs are scaled too"),
    ("q3", USE.format("", "r", "r"), "the logits are scaled too"),
    ("q3", USE.format("", "(r if len(w) == len(layers[-2][0]) else 1)", "1"), "only the last hidden layer"),
    ("q3", USE.format("", "(r if w is layers[0][0] else 1)", "1"), "only the first hidden layer"),
    ("q3", USE.format("", "1", "r"), "scaling the logits"),
    ("q3", USE.format("", "torch.bernoulli(torch.full((x.shape[0], w.shape[0]), r)).double()", "1"), "logits_in_use"),
    ("q3", USE.format("", "r", "1").rstrip() + ".sum(1)", "returns shape"),
    ("q3", "import tiedlib.dropout as d\n" + USE.format("", "1", "1").replace("1 * torch.relu(x @ w.T + b)", "d.classic_dropout(torch.relu(x @ w.T + b), 1 - r, False)"), ASKED),
    ("q4", COVARIANCE.format("..."), "returns nothing yet"),
    ("q4", COVARIANCE.format("torch.diag((weight**2 @ x**2) * p / (1 - p))"), "DropConnect"),
    ("q4", COVARIANCE.format("(weight**2 @ x**2) * p / (1 - p)"), "variances alone"),
    ("q4", COVARIANCE.format("(weight * x**2) @ weight.T * p * (1 - p)"), "without the division"),
    ("q4", COVARIANCE.format("(weight * x**2) @ weight.T * (1 - p) / p"), "changed places"),
    ("q4", COVARIANCE.format("(weight * x**2) @ weight.T * p"), "comes in squared"),
    ("q4", COVARIANCE.format("(weight * x**2) @ weight.T / (1 - p)"), "second moment"),
    ("q4", COVARIANCE.format("(weight * x**2) @ weight.T * p / (1 - p) + torch.outer(weight @ x, weight @ x)"), "𝔼[yyᵀ]"),
    ("q4", COVARIANCE.format("(weight * x.abs()) @ weight.T * p / (1 - p)"), "squared"),
    ("q4", COVARIANCE.format("weight @ weight.T * p / (1 - p)"), "x is missing"),
    ("q4", "from tiedlib.dropout import every_mask\n" + COVARIANCE.format("every_mask(len(x), p)[0] @ weight.T"), ASKED),
    ("q5", "def sequence_dropout(x, p, training, generator):\n    ...", "returns nothing yet"),
    ("q5", SEQUENCE.format(AT.format("x.shape")), "a fresh mask at every step"),
    ("q5", SEQUENCE.format(AT.format("1, *x.shape[1:]")), "shared along the batch"),
    ("q5", SEQUENCE.format(AT.format("x.shape[2]")), "share one mask"),
    ("q5", SEQUENCE.format(AT.format("len(x), 1, 1")), "whole sequences vanish"),
    ("q5", SEQUENCE.format(AT.format("*x.shape[:2], 1")), "whole steps vanish"),
    ("q5", SEQUENCE.format(AT.format("len(x), 1, x.shape[2]")).replace("x * m / (1 - p)", "x * m"), "survivors are not divided"),
    ("q5", SEQUENCE.format(AT.format("len(x), 1, x.shape[2]")).replace(">= p", "< p"), "p is the probability of dropping"),
    ("q5", SEQUENCE.format(AT.format("len(x), 1, x.shape[2]")).replace("if not training", "if False"), "although training is False"),
    ("q5", SEQUENCE.format(AT.format("len(x), 1, x.shape[2]")).replace("x * m / (1 - p)", "(x * m / (1 - p))[:, 0]"), "returns shape"),
    ("q5", "from tiedlib.dropout import VariationalDropout\ndef sequence_dropout(x, p, training, generator):\n    return VariationalDropout(p, generator=generator)(x)", ASKED),
    ("q5", SEQUENCE.format("m = torch.nn.functional.dropout1d(x.new_ones(len(x), x.shape[2], 1), p).mT"), ASKED),
    ("q6", "def embedding_dropout(tokens, weight, p, training, generator):\n    ...", "returns nothing yet"),
    ("q6", WORDS.format("y = weight[tokens]\n    return y * (torch.rand(y.shape, generator=generator) >= p) / (1 - p)"), "single coordinates vanish"),
    ("q6", WORDS.format("return (weight * (torch.rand(weight.shape, generator=generator) >= p) / (1 - p))[tokens]"), "single coordinates vanish"),
    ("q6", WORDS.format("return (weight * (torch.rand(weight.shape[1], generator=generator) >= p) / (1 - p))[tokens]"), "the same coordinates vanish"),
    ("q6", WORDS.format("return weight[tokens] * (torch.rand(*tokens.shape, 1, generator=generator) >= p) / (1 - p)"), "not for each position"),
    ("q6", WORDS.format("m = torch.rand(len(tokens), len(weight), generator=generator) >= p\n    return weight[tokens] * m.gather(1, tokens)[..., None] / (1 - p)"), "each sequence has its own mask"),
    ("q6", WORDS.format("return (weight * (torch.rand(len(weight), 1, generator=generator) >= p))[tokens]"), "survivors are not divided"),
    ("q6", WORDS.format("return (weight * (torch.rand(len(weight), 1, generator=generator) < p) / (1 - p))[tokens]"), "p is the probability of dropping"),
    ("q6", WORDS.format("weight[torch.rand(len(weight), generator=generator) < p] = 0\n    return weight[tokens] / (1 - p)"), "in place"),
    ("q6", WORDS.format("return (weight * (torch.rand(len(weight), 1, generator=generator) >= p) / (1 - p))[tokens]").replace("if not training", "if False"), "although training is False"),
    ("q6", WORDS.format("return weight * (torch.rand(len(weight), 1, generator=generator) >= p) / (1 - p)"), "returns shape"),
    ("q6", WORDS.format("u = (torch.rand(1, generator=generator) >= p) * weight\n    return u[tokens] / (1 - p)"), "embedding_dropout:"),
    ("q6", "import tiedlib.dropout as d\n" + WORDS.format("return d.embedding_dropout(tokens, weight, p, training, generator)"), ASKED),
    ("q6", WORDS.format("return torch.nn.functional.dropout(weight.new_ones(len(weight), 1), p)[tokens] * weight[tokens]"), ASKED),
    ("q7", RIDGE.format("..."), "returns nothing yet"),
    ("q7", RIDGE.format("p / (1 - p) * (x**2).mean(0)"), "yours is the mean"),
    ("q7", RIDGE.format("p * (1 - p) * (x**2).sum(0)"), "without the division"),
    ("q7", RIDGE.format("(1 - p) / p * (x**2).sum(0)"), "changed places"),
    ("q7", RIDGE.format("(x**2).sum(0) / (1 - p)"), "whole second moment"),
    ("q7", RIDGE.format("p * (x**2).sum(0)"), "comes in squared"),
    ("q7", RIDGE.format("(x**2).sum(0)"), "the rate is missing"),
    ("q7", RIDGE.format("p / (1 - p) * x.sum(0) ** 2"), "square before you sum"),
    ("q7", RIDGE.format("p / (1 - p) * len(x) * x.var(0, correction=0)"), "not to its mean"),
    ("q7", RIDGE.format("p / (1 - p) * (x**2).sum()"), "one strength for all"),
    ("q7", RIDGE.format("p / (1 - p) * (x**2).sum(1)"), "sum over the examples"),
    ("q7", RIDGE.format("p / (1 - p) * (x**2).sum(0, keepdim=True)"), "returns shape"),
]  # fmt: skip

RIGHT = [
    ("q1", DROPOUT.format("return x * torch.bernoulli(torch.full_like(x, 1 - p), generator=generator) / (1 - p)")),
    ("q1", DROPOUT.format("return torch.where(torch.rand(x.shape, generator=generator) < p, 0.0, x / (1 - p))")),
    ("q1", DROPOUT.format("return (x / (1 - p)).masked_fill(torch.empty_like(x).uniform_(generator=generator) < p, 0)")),
    ("q1", DROPOUT.format("return torch.cat([part * (torch.rand(part.shape, generator=generator) > p) / (1 - p) for part in x.split(100)])")),
    ("q3", USE.format("layers = layers[:1] + [(r * w, b) for w, b in layers[1:]]", "1", "1")),
    ("q3", "def logits_in_use(x, layers, r):\n    from torch import nn\n    for i, (w, b) in enumerate(layers):\n        x = nn.functional.linear(x if i == 0 else r * x.clamp(min=0), w, b)\n    return x"),
    ("q4", COVARIANCE.format("weight @ torch.diag(x**2 * p / (1 - p)) @ weight.T")),
    ("q4", COVARIANCE.format("torch.stack([torch.stack([(a * b * x * x).sum() for b in weight]) for a in weight]) / (1 / p - 1)")),
    ("q5", SEQUENCE.format("m = torch.bernoulli(torch.full((len(x), x.shape[2]), 1 - p), generator=generator)[:, None]")),
    ("q5", "def sequence_dropout(x, p, training, generator):\n    if not training:\n        return x\n    m = torch.rand(x[:, 0].shape, generator=generator) >= p\n    return torch.stack([x[:, t] * m / (1 - p) for t in range(x.shape[1])], 1)"),
    ("q6", WORDS.format("m = torch.rand(len(weight), generator=generator) >= p\n    return weight[tokens] * m[tokens].unsqueeze(-1) / (1 - p)")),
    ("q6", WORDS.format("weight = weight.clone()\n    weight[torch.rand(len(weight), generator=generator) < p] = 0\n    return torch.nn.functional.embedding(tokens, weight) / (1 - p)")),
    ("q7", RIDGE.format("(x * x).sum(0) * (1 / (1 - p) - 1)")),
    ("q7", RIDGE.format("torch.stack([(column @ column) * p / (1 - p) for column in x.T])")),
    ("q7", RIDGE.format("torch.diagonal(x.T @ x) * p / (1 - p)")),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("dropout").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("dropout").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("dropout").graded)
def test_the_solutions_pass(question: str) -> None:
    assert homework("dropout").complaints(question) == []


def test_the_run_is_as_the_answers_to_problem_2_say() -> None:
    """Good with masks, bad in use on the digits it was trained on, the same twice, and mended by the factor r."""
    space: dict[str, Any] = homework("dropout").solved()
    x, y = space["digits"][space["train"]], space["labels"][space["train"]]
    with torch.no_grad():
        logits = space["logits"](x, masks=False)
        assert torch.equal(logits, space["logits"](x, masks=False))
        layers = [(layer.weight, layer.bias) for layer in space["linear"]]
        mended = torch.nn.functional.cross_entropy(space["logits_in_use"](x, layers, space["r"]), y).item()
    in_use = torch.nn.functional.cross_entropy(logits, y).item()
    assert mended < space["loss"].item() < 1.2 < 2.3 < in_use
