"""The homework `optimizers`: typical wrong answers, each with the message that names it."""

import pytest

from tests.homework.masters import homework

ADAM = """
def adam_step(param, grad, m, v, t, lr, betas, eps):
    beta1, beta2 = betas
    m = beta1 * m + (1 - beta1) * grad
    v = beta2 * v + (1 - beta2) * grad**2
    {}
"""
WRONG = [
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    m = mu * m + (1 - mu) * grad\n    return param - lr * m, m", "running average"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    return param - lr * grad, grad", "plain SGD"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    m = mu * m + grad\n    return param + lr * m, m", "up the gradient"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    return param - lr * m, mu * m + grad", "old velocity"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    m = mu * m + grad\n    return param - lr * (grad + mu * m), m", "Nesterov"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    return param - lr * (mu * m + grad)", "2 values"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    ...", "returns nothing yet"),
    ("q2", ADAM.format("return param - lr * m / (v.sqrt() + eps), m, v"), "without bias correction: your first step is 3.16"),
    ("q2", ADAM.format("return param - lr * m / beta1**t / ((v / beta2**t).sqrt() + eps), m, v"), "divide by βᵗ"),
    ("q2", ADAM.format("return param - lr * m / (1 - beta1**t) / (v / (1 - beta2**t) + eps).sqrt(), m, v"), "under your root"),
    ("q2", ADAM.format("t = t + 1\n    return param - lr * m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps), m, v"), "one step ahead"),
    ("q2", ADAM.format("return param - lr * m / (1 - beta1**t) / (v / (1 - beta2**t) + eps), m, v"), "root of v̂"),
    ("q2", ADAM.replace("beta1, beta2 =", "beta2, beta1 =").format("return param - lr * m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps), m, v"), "changed places"),
    ("q2", "from tiedlib.optimizers import adam\ndef adam_step(param, grad, m, v, t, lr, betas, eps):\n    step, state = adam(grad, {'step': t - 1, 'exp_avg': m, 'exp_avg_sq': v}, param, lr=lr, betas=betas, eps=eps)\n    return param + step, state['exp_avg'], state['exp_avg_sq']", "which is what you are asked to write"),
    ("q2", "def adam_step(param, grad, m, v, t, lr, betas, eps):\n    p = torch.nn.Parameter(param)\n    o = torch.optim.Adam([p], lr=lr, betas=betas, eps=eps)\n    p.grad = grad\n    o.step()\n    return p.detach(), m, v", "torch.optim"),
    ("q3", "first_step_over_lr = 1", "Adam's"),
    ("q3", "first_step_over_lr = 0.1 ** 0.5", "upside down"),
    ("q3", "first_step_over_lr = 10.0", "root is missing"),
    ("q3", "first_step_over_lr = 0.9 ** -0.5", "weight 1 − β"),
    ("q4", "def torch_rate(lr, beta):\n    return lr / (1 - beta)", "wrong way round"),
    ("q4", "def torch_rate(lr, beta):\n    return lr", "does not carry over"),
    ("q4", "def torch_rate(lr, beta):\n    return lr * beta", "share that is kept"),
    ("q5", "def effective_rates(grads, lr, eps):\n    return lr / (grads.square().mean(0).sqrt() + eps)", "their mean"),
    ("q5", "def effective_rates(grads, lr, eps):\n    return lr / (grads.square().sum(0) + eps)", "root of the sum is missing"),
    ("q5", "def effective_rates(grads, lr, eps):\n    return lr / (grads.sum(0).abs() + eps)", "signs cancel"),
    ("q5", "def effective_rates(grads, lr, eps):\n    return lr / (grads.square().sum().sqrt() + eps)", "one rate for all"),
    ("q6", "cause = 'A'", "no noise"),
    ("q6", "cause = 'C'", "makes the velocity longer"),
    ("q6", "cause = 'D'", "one minimum"),
    ("q6", "cause = 'the rate'", "must be one of"),
    ("q7", "def largest_rate(curvature, mu):\n    return 2 / curvature", "plain SGD"),
    ("q7", "def largest_rate(curvature, mu):\n    return 2 * (1 - mu) / curvature", "turns round"),
    ("q7", "def largest_rate(curvature, mu):\n    return 2 * (1 + mu) * curvature", "divide by the curvature"),
    ("q7", "def largest_rate(curvature, mu):\n    return (1 + mu) / curvature", "factor 2"),
]  # fmt: skip
RIGHT = [
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    new = torch.add(grad, m, alpha=mu)\n    return torch.sub(param, new, alpha=lr), new"),
    ("q1", "def momentum_step(param, grad, m, lr, mu):\n    m = torch.stack([mu * a + b for a, b in zip(m, grad)])\n    return [param - lr * m, m]"),
    ("q2", ADAM.format("return param - lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t) * m / (v.sqrt() + eps * (1 - beta2**t) ** 0.5), m, v")),
    ("q2", "def adam_step(param, grad, m, v, t, lr, betas, eps):\n    m, v = torch.lerp(grad, m, betas[0]), torch.lerp(grad.square(), v, betas[1])\n    hat = [x / (1 - b**t) for x, b in zip((m, v), betas)]\n    return param - lr * hat[0] / (torch.sqrt(hat[1]) + eps), m, v"),
    ("q3", "first_step_over_lr = torch.tensor(10.0).sqrt()"),
    ("q4", "def torch_rate(lr, beta):\n    return lr - beta * lr"),
    ("q5", "def effective_rates(grads, lr, eps):\n    return torch.stack([lr / (column.norm() + eps) for column in grads.T])"),
    ("q6", "cause = ' B '"),
    ("q7", "def largest_rate(curvature, mu):\n    return (2 + 2 * mu) / curvature"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_may_have_another_form(question: str, answer: str) -> None:
    assert homework("optimizers").complaints(question, answer) == []


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("optimizers").complaints(question, answer)
    assert any(says in line for line in said), said
