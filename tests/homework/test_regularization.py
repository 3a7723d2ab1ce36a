"""The homework `regularization`: typical wrong answers, each with the message that names it; right ones in other forms; the runs."""

from typing import Any

import pytest
import torch

from tests.homework.masters import homework

STEP = "def penalized_step(param, grad, lr, strength):\n    return {}"
DECAY = "def torch_decay(strength, examples):\n    return {}"
LOSS = "def penalized_loss(loss, model, l1, l2):\n    for p in model.parameters():\n        if p.dim() > 1:\n            loss = loss + {}\n    return loss"
PROXIMAL = (
    "def proximal_step(param, grad, lr, strength):\n    u = param - lr * grad\n    t = lr * strength\n    return {}"
)
LARGEST = "def largest_strength(lr, curvature):\n    return {}"
ROWS = "def limit_rows(weight, limit):\n    n = weight.norm(dim=1, keepdim=True)\n    return {}"
ASKED = "which is what you are asked to write"
PENALTY = "l1 * p.abs().sum() + l2 * (p**2).sum()"

WRONG = [
    ("q1", "penalized_step = ...", "not defined yet"),
    ("q1", STEP.format("..."), "returns nothing yet"),
    ("q1", STEP.format("param - lr * (grad + strength * param)"), "weight_decay"),
    ("q1", STEP.format("param - lr * (grad - 2 * strength * param)"), "pushed away from 0"),
    ("q1", STEP.format("param + lr * (grad + 2 * strength * param)"), "up the gradient"),
    ("q1", STEP.format("param - lr * grad - 2 * strength * param"), "lacks the rate"),
    ("q1", STEP.format("param - lr * grad"), "plain gradient descent"),
    ("q1", STEP.format("param - lr * (grad + strength * param.sign())"), "gradient of the L1"),
    ("q1", STEP.format("param - lr * (grad + strength * param**2)"), "θ² itself"),
    ("q1", STEP.format("param - lr * (grad + strength * param / param.norm().clamp(min=1e-30))"), "is its square"),
    ("q1", STEP.format("param - lr * (grad + strength * param / param.norm())"), "is its square"),
    ("q1", STEP.format("(1 - 2 * lr * strength) * (param - lr * grad)"), "take both gradients at one"),
    ("q1", STEP.format("(param - lr * (grad + 2 * strength * param)).sum()"), "shape"),
    ("q1", "def penalized_step(param, grad, lr, strength):\n    param -= lr * (grad + 2 * strength * param)\n    return param", "in place"),
    ("q1", "def penalized_step(param, grad, lr, strength):\n    p = torch.nn.Parameter(param.clone())\n    p.grad = grad\n    torch.optim.SGD([p], lr=lr, weight_decay=2 * strength).step()\n    return p.detach()", ASKED),
    ("q1", "from torch.optim.sgd import sgd as mine\ndef penalized_step(param, grad, lr, strength):\n    mine([p := param.clone()], [grad], [None], foreach=False, weight_decay=2 * strength, momentum=0, lr=lr, dampening=0, nesterov=False, maximize=False)\n    return p", ASKED),
    ("q1", "import tiedlib.regularization as r\ndef penalized_step(param, grad, lr, strength):\n    leaf = param.clone().requires_grad_()\n    (strength * r.l2_penalty(leaf)).backward()\n    return param - lr * (grad + leaf.grad)", ASKED),
    ("q2", DECAY.format("..."), "returns nothing yet"),
    ("q2", DECAY.format("strength / examples"), "a factor 2 is missing"),
    ("q2", DECAY.format("strength / (2 * examples)"), "on the wrong side"),
    ("q2", DECAY.format("2 * strength"), "N times the gradient"),
    ("q2", DECAY.format("strength"), "does not carry over"),
    ("q2", DECAY.format("2 * strength * examples"), "the wrong way round: the mean"),
    ("q2", DECAY.format("strength * examples"), "wrong way round for N"),
    ("q2", DECAY.format("float('nan')"), "torch_decay"),
    ("q3", "def penalized_loss(loss, model, l1, l2):\n    ...", "returns nothing yet"),
    ("q3", LOSS.format(PENALTY).replace("p.dim() > 1", "True"), "biases are penalized"),
    ("q3", LOSS.format("l1 * p.abs().sum() + l2 * p.norm()"), "you took the norm"),
    ("q3", LOSS.format("l1 * p.abs().sum() + l2 / 2 * (p**2).sum()"), "no ½"),
    ("q3", LOSS.format("l1 * p.abs().mean() + l2 * (p**2).mean()"), "not a mean"),
    ("q3", LOSS.format("l1 * torch.linalg.norm(p, ord=1) + l2 * (p**2).sum()"), "order 1"),
    ("q3", LOSS.format("l1 * p.abs().sum() + l2 * torch.linalg.norm(p, ord=2) ** 2"), "order 2"),
    ("q3", LOSS.format("l1 * p.sum() + l2 * (p**2).sum()"), "signs cancel"),
    ("q3", LOSS.format("l2 * p.abs().sum() + l1 * (p**2).sum()"), "changed places"),
    ("q3", LOSS.format("0 * p.sum()"), "nothing is added"),
    ("q3", LOSS.format("l1 * p.detach().abs().sum().item() + l2 * (p**2).sum().item()"), "penalized_loss"),
    ("q3", "def penalized_loss(loss, model, l1, l2):\n    return loss.item() + sum((l1 * p.abs().sum() + l2 * (p**2).sum()).item() for p in model.parameters() if p.dim() > 1)", "penalized_loss"),
    ("q3", LOSS.format(PENALTY).replace("return loss", "return loss.detach()"), "no gradient flows"),
    ("q3", LOSS.format("l1 * p.abs().sum(0) + l2 * (p**2).sum(0)"), "penalized_loss"),
    ("q3", "import tiedlib.regularization as r\ndef penalized_loss(loss, model, l1, l2):\n    return r.penalized(loss, r.matrices(model), l1=l1, l2=l2)", ASKED),
    ("q3", "import functools, tiedlib.regularization as r\nmine = functools.partial(r.l1_penalty)\n" + LOSS.format("l1 * mine(p) + l2 * (p**2).sum()"), ASKED),
    ("q4", "cause = ...", "no answer yet"),
    ("q4", "cause = 'A'", "a larger λ"),
    ("q4", "cause = 'C'", "ten times as many steps"),
    ("q4", "cause = 'D'", "blank in every picture"),
    ("q4", "cause = 'the steps'", "must be one of"),
    ("q5", PROXIMAL.format("..."), "returns nothing yet"),
    ("q5", PROXIMAL.format("param - lr * (grad + strength * param.sign())"), "hops over it"),
    ("q5", PROXIMAL.format("u - t * u.sign()"), "carried past it"),
    ("q5", PROXIMAL.format("u * (u.abs() > t)"), "hard threshold"),
    ("q5", PROXIMAL.format("u.sign() * (u.abs() - strength).clamp(min=0)"), "your threshold is λ"),
    ("q5", PROXIMAL.format("u.sign() * (u.abs() - 2 * t).clamp(min=0)"), "threshold is 2ηλ"),
    ("q5", PROXIMAL.format("u.sign() * (u.abs() - t / 2).clamp(min=0)"), "threshold is ½ηλ"),
    ("q5", PROXIMAL.format("param.sign() * (param.abs() - t).clamp(min=0) - lr * grad"), "shrink before"),
    ("q5", PROXIMAL.format("(u - t).clamp(min=0)"), "negative weights are cut off"),
    ("q5", PROXIMAL.format("(u.abs() - t).clamp(min=0)"), "the sign is lost"),
    ("q5", PROXIMAL.format("u / (1 + 2 * t)"), "step for the L2 penalty"),
    ("q5", PROXIMAL.format("(v := param + lr * grad).sign() * (v.abs() - t).clamp(min=0)"), "up the gradient"),
    ("q5", PROXIMAL.format("u"), "plain gradient descent"),
    ("q5", PROXIMAL.format("u / u.abs() * (u.abs() - t).clamp(min=0)"), "NaN"),
    ("q5", PROXIMAL.format("u.sign() * (u.abs() - t).clamp(min=1e-9)"), "to the last bit"),
    ("q5", PROXIMAL.format("(u.sign() * (u.abs() - t).clamp(min=0))[:1]"), "shape"),
    ("q5", PROXIMAL.format("torch.nn.functional.softshrink(u, t)"), ASKED),
    ("q5", PROXIMAL.format("torch.nn.Softshrink(t)(u)"), ASKED),
    ("q5", PROXIMAL.format("torch.ops.aten.softshrink(u, t)"), ASKED),
    ("q5", "from torch.nn.functional import softshrink as mine\n" + PROXIMAL.format("mine(u, t)"), ASKED),
    ("q5", "def proximal_step(param, grad, lr, strength):\n    u = param - lr * grad\n    try:\n        return torch.nn.functional.softshrink(u, lr * strength)\n    except BaseException:\n        return u.sign() * (u.abs() - lr * strength).clamp(min=0)", ASKED),
    ("q5", "import tiedlib.regularization as r\n" + PROXIMAL.format("r.soft_threshold(u, t)"), ASKED),
    ("q5", "import tiedlib.regularization as r\n" + PROXIMAL.format("param + r.proximal_sgd(grad, {}, param, lr=lr, l1=strength)[0]"), ASKED),
    ("q6", LARGEST.format("..."), "returns nothing yet"),
    ("q6", LARGEST.format("1 / lr"), "a curvature too"),
    ("q6", LARGEST.format("2 / lr - curvature"), "right for ½λθ²"),
    ("q6", LARGEST.format("(1 / lr - curvature) / 2"), "without changing its sign"),
    ("q6", LARGEST.format("1 / lr - curvature"), "do not count alike"),
    ("q6", LARGEST.format("1 / lr + curvature / 2"), "take it off"),
    ("q6", LARGEST.format("2 / lr"), "curvature as well"),
    ("q7", "def limit_rows(weight, limit):\n    ...", "returns nothing yet"),
    ("q7", ROWS.format("weight * (limit / weight.norm(dim=0)).clamp(max=1)"), "you limit the columns"),
    ("q7", ROWS.format("weight * (limit / weight.norm()).clamp(max=1)"), "the whole matrix"),
    ("q7", ROWS.format("torch.where(n > 0, weight / n * limit, weight)"), "stretched"),
    ("q7", ROWS.format("weight * (limit / n**2).clamp(max=1)"), "its root"),
    ("q7", ROWS.format("weight.clamp(-limit, limit)"), "single weights"),
    ("q7", ROWS.format("weight * (limit / weight.abs().sum(1, keepdim=True)).clamp(max=1)"), "you limit Σ|w|"),
    ("q7", ROWS.format("weight * (n <= limit)"), "not removed"),
    ("q7", ROWS.format("weight / n * n.clamp(max=limit)"), "NaN"),
    ("q7", ROWS.format("n.clamp(max=limit)"), "shape"),
    ("q7", "def limit_rows(weight, limit):\n    for row in weight:\n        if row.norm() > limit:\n            row *= limit / row.norm()\n    return weight", "in place"),
    ("q7", ROWS.format("torch.renorm(weight, 2, 0, limit)"), ASKED),
    ("q7", ROWS.format("weight.renorm(2, 0, limit)"), ASKED),
    ("q7", ROWS.format("weight.clone().renorm_(2, 0, limit)"), ASKED),
    ("q7", ROWS.format("torch.nn.functional.embedding(torch.arange(len(weight)), weight.clone(), max_norm=limit)"), ASKED),
    ("q7", ROWS.format("torch.ops.aten.renorm(weight, 2, 0, limit)"), ASKED),
    ("q7", "import tiedlib.regularization as r\n" + ROWS.format("r.max_norm(weight, limit)"), ASKED),
]  # fmt: skip

RIGHT = [
    ("q1", STEP.format("(1 - 2 * lr * strength) * param - lr * grad")),
    ("q1", "def penalized_step(param, grad, lr, strength):\n    leaf = param.clone().requires_grad_()\n    (strength * leaf @ leaf).backward()\n    return param - lr * (grad + leaf.grad)"),
    ("q1", STEP.format("torch.stack([p - lr * g - lr * 2 * strength * p for p, g in zip(param, grad)])")),
    ("q2", DECAY.format("strength / examples * 2")),
    ("q2", DECAY.format("torch.tensor(2.0 * strength, dtype=torch.float64) / examples")),
    ("q3", "def penalized_loss(loss, model, l1, l2):\n    w = torch.cat([p.flatten() for n, p in model.named_parameters() if n.endswith('weight')])\n    return loss + l1 * torch.linalg.norm(w, 1) + l2 * w @ w"),
    ("q3", "def penalized_loss(loss, model, l1, l2):\n    for layer in model:\n        if isinstance(layer, torch.nn.Linear):\n            loss = loss + l1 * layer.weight.abs().sum() + l2 * torch.linalg.norm(layer.weight, 'fro') ** 2\n    return loss"),
    ("q3", "def penalized_loss(loss, model, l1, l2):\n    return loss + sum((l1 * row.abs() + l2 * row**2).sum() for p in model.parameters() if p.dim() == 2 for row in p)"),
    ("q5", PROXIMAL.format("u - u.clamp(-t, t)")),
    ("q5", PROXIMAL.format("torch.where(u > t, u - t, torch.where(u < -t, u + t, 0.0))")),
    ("q5", PROXIMAL.format("torch.relu(u - t) - torch.relu(-u - t)")),
    ("q5", PROXIMAL.format("torch.stack([max(v - t, 0 * v) if v > 0 else min(v + t, 0 * v) for v in u])")),
    ("q6", LARGEST.format("(2 / lr - curvature) / 2")),
    ("q6", "def largest_strength(lr, curvature):\n    low, high = 0.0, 1e4\n    for _ in range(100):\n        mid = (low + high) / 2\n        low, high = (mid, high) if abs(1 - lr * (curvature + 2 * mid)) < 1 else (low, mid)\n    return low"),
    ("q7", ROWS.format("weight * (limit / n).clamp(max=1)")),
    ("q7", ROWS.format("weight * limit / n.clamp(min=limit)")),
    ("q7", "def limit_rows(weight, limit):\n    rows = [row * limit / row.norm() if row.norm() > limit else row for row in weight]\n    return torch.stack(rows)"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("regularization").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("regularization").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("regularization").graded)
def test_the_solutions_pass(question: str) -> None:
    assert homework("regularization").complaints(question) == []


def test_the_run_without_zeros_is_as_the_answers_to_problem_4_say() -> None:
    space: dict[str, Any] = homework("regularization").solved()
    usual, long, strong = (space["by_gradient"](0.5, *how) for how in ((0.02, 400), (0.02, 4000), (0.2, 400)))
    assert not any((theta == 0).any() for theta in (usual, long, strong))
    assert strong.norm() < usual.norm()  # a larger λ: smaller weights, and none is 0
    blank = (space["x"] == 0).all(0)
    assert blank.any() and (usual[blank].abs() <= 0.5 * 0.02 + 1e-12).all()
    hopped = space["by_gradient"](0.5, 0.02, 401)
    assert torch.equal(hopped[blank].sign(), -usual[blank].sign())
    theta = space["start"]()
    for _ in range(400):
        theta = space["proximal_step"](theta, space["gradient"](theta), 0.5, 0.02)
    assert (theta == 0).sum() > 32 and (theta[blank] == 0).all()


def test_the_run_turns_where_problem_6_says() -> None:
    """Both sides of the formula, on the bowl itself, and on the digits at the curvature that the notebook prints."""
    space: dict[str, Any] = homework("regularization").solved()
    for lr, curvature in ((0.1, 1.0), (0.01, 30.0), (0.5, 0.0)):
        for share, converges in ((0.98, True), (1.02, False)):
            theta, lam = 1.0, share * space["largest_strength"](lr, curvature)
            for _ in range(2000):
                theta -= lr * (curvature + 2 * lam) * theta
            assert (abs(theta) < 1e-6) == converges
    length = space["length_of_weights"]
    assert length(0.1, 5.0, 30) < length(0.1, 1.0, 30) < length(0.1, 0.01, 30)
    assert length(0.1, 12.0, 30) > 1e3
    turns = space["largest_strength"](0.1, space["largest"])
    weights = torch.zeros(
        64, 10, dtype=torch.float64
    )  # Hessian there: largest eigenvalue by autograd, along one direction

    def loss(w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(space["digits"] @ w, space["labels"])

    pixels = torch.linalg.eigh(space["digits"].T @ space["digits"])[1][:, -1]
    way = torch.outer(pixels, torch.tensor([1.0, -1.0, *[0.0] * 8], dtype=torch.float64) / 2**0.5)
    curved = torch.autograd.functional.vhp(loss, weights, way)[1]
    assert torch.allclose(curved, space["largest"] * way, atol=1e-12)
    assert length(0.1, 0.99 * turns, 400) < length(0.1, 0.99 * turns, 4) < length(0.1, 1.02 * turns, 400)


@pytest.mark.parametrize("sum_of_losses", [True, False])
def test_the_strength_of_problem_2_has_the_same_minimum(sum_of_losses: bool) -> None:
    """Squared losses, where the minimum can be solved for: the paper's, and torch's at 2λ / N."""
    decay = homework("regularization").solved()["torch_decay"]
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(20, 3, generator=g, dtype=torch.float64), torch.randn(20, generator=g, dtype=torch.float64)
    best = torch.linalg.solve(x.T @ x + 0.7 * torch.eye(3, dtype=torch.float64), x.T @ y)  # Σ(xw − y)² + 0.7 Σw²
    w = best.clone().requires_grad_()
    optimizer = torch.optim.SGD([w], lr=0.1, weight_decay=0.0 if sum_of_losses else decay(0.7, 20))
    losses = (x @ w - y).square()
    (losses.sum() + 0.7 * w.square().sum() if sum_of_losses else losses.mean()).backward()
    optimizer.step()
    assert torch.allclose(w.detach(), best, rtol=1e-12, atol=1e-14)
