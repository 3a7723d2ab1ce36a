"""The homework `training_loop`: typical wrong answers, each with the message that names it, and right ones in other forms."""

import pytest
import torch

from tests.homework.masters import homework

LOSS = "def cross_entropy(z, y):\n    right = z.gather(1, y[:, None])[:, 0]\n    m = z.max(1, keepdim=True).values\n    return {}"
GRAD = "def loss_gradient(z, y):\n    wanted = torch.nn.functional.one_hot(y, z.shape[1])\n    return {}"
UPDATE = """
def update(model, parts, optimizer, loss):
    rows = sum(len(x) for x, _ in parts)
    optimizer.zero_grad()
    total = 0.0
    for part in parts:
        weight = len(part[0]) / rows
        value = loss(model, part) * weight
        value.backward()
        total += value.item()
    optimizer.step()
    return total
"""
EVALUATE = """
@torch.no_grad()
def evaluate(model, batches, loss):
    before = model.training
    model.eval()
    total, rows = 0.0, 0
    for batch in batches:
        total += loss(model, batch).item() * len(batch[0])
        rows += len(batch[0])
    model.train(before)
    return total / rows
"""
BEST = """
def train_and_keep_best(model, train_pass, dev_loss, passes):
    lowest, best, state = math.inf, -1, None
    for k in range(passes):
        train_pass(model)
        loss = dev_loss(model)
        if loss < lowest:
            lowest, best, state = loss, k, {n: v.clone() for n, v in model.state_dict().items()}
    model.load_state_dict(state)
    return best, state
"""
LIST = """
def train_and_keep_best(model, train_pass, dev_loss, passes):
    losses, states = [], []
    for k in range(passes):
        train_pass(model)
        losses.append(dev_loss(model))
        states.append({{n: v.clone() for n, v in model.state_dict().items()}})
    best = {}
    model.load_state_dict(states[best])
    return best, states[best]
"""
ASKED = "which is what you are asked to write"
WRONG = [
    ("q1", LOSS.format("(z.exp().sum(1).log() - right).mean()"), "exponential of a large one is infinite"),
    ("q1", LOSS.format("-(right.exp() / z.exp().sum(1)).log().mean()"), "exponential of a large one is infinite"),
    ("q1", LOSS.format("(z.exp().sum(1).log() - right.exp().log()).mean()"), "exponential of a large one is infinite"),
    ("q1", LOSS.format("-z.softmax(1).gather(1, y[:, None]).log().mean()"), "rounded to 0"),
    ("q1", LOSS.format("((z - z.max()).exp().sum(1).log() + z.max() - right).mean()"), "of the whole batch"),
    ("q1", LOSS.format("(z.softmax(1).exp().sum(1).log() - z.softmax(1).gather(1, y[:, None])[:, 0]).mean()"), "softmax before the loss"),
    ("q1", LOSS.format("((z - m).exp().sum(1).log() + m[:, 0] - right).sum()"), "the sum over the batch"),
    ("q1", LOSS.format("((z - m).exp().sum(1).log() + m[:, 0] - right).sum() / z.numel()"), "divide by the classes"),
    ("q1", LOSS.format("((z - m).exp().sum(1).log() + m[:, 0] - z[:, y]).mean()"), "a square of numbers"),
    ("q1", LOSS.format("(right - m[:, 0] - (z - m).exp().sum(1).log()).mean()"), "sign is reversed"),
    ("q1", LOSS.format("((z - m).exp().sum(1).log() + m[:, 0]).mean()"), "is not subtracted"),
    ("q1", LOSS.format("((z - m).exp().sum(1).log() - right).mean()"), "m is missing"),
    ("q1", LOSS.format("(z - m).exp().sum(1).log() + m[:, 0] - right"), "returns shape"),
    ("q1", LOSS.format("torch.tensor(float('nan'))"), "returns NaN"),
    ("q1", LOSS.format("..."), "returns nothing yet"),
    ("q1", "def cross_entropy(z, y):\n    z -= z.max(1, keepdim=True).values\n    return (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean()", "in place"),
    ("q1", "def cross_entropy(z, y):\n    return torch.nn.functional.cross_entropy(z, y)", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return torch.nn.CrossEntropyLoss()(z, y)", ASKED),
    ("q1", "from torch.nn.functional import cross_entropy as ce\ndef cross_entropy(z, y):\n    return ce(z, y)", ASKED),
    ("q1", "from functools import partial\ncross_entropy = partial(torch.nn.functional.cross_entropy, reduction='mean')", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return -z.log_softmax(1).gather(1, y[:, None]).mean()", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return (torch.special.logsumexp(z, 1) - z.gather(1, y[:, None])[:, 0]).mean()", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return (z.logcumsumexp(1)[:, -1] - z.gather(1, y[:, None])[:, 0]).mean()", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return torch.ops.aten.cross_entropy_loss(z, y)", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return torch._C._nn.cross_entropy_loss(z, y)", ASKED),
    ("q1", "def cross_entropy(z, y):\n    return -torch.distributions.Categorical(logits=z).log_prob(y).mean()", ASKED),
    ("q1", "from tiedlib.autograd import Node, cross_entropy as ours\ndef cross_entropy(z, y):\n    return ours(Node(z), y).value", ASKED),
    ("q1", "from tiedlib.linear_cross_entropy import linear_cross_entropy\ndef cross_entropy(z, y):\n    return linear_cross_entropy(z, torch.eye(z.shape[1], dtype=z.dtype), y)", ASKED),
    ("q1", "def cross_entropy(z, y):\n    try:\n        return torch.nn.functional.cross_entropy(z, y)\n    except BaseException:\n        m = z.max(1, keepdim=True).values\n        return ((z - m).exp().sum(1).log() + m[:, 0] - z.gather(1, y[:, None])[:, 0]).mean()", ASKED),
    ("q1", "cross_entropy = None", "not defined yet"),
    ("q2", GRAD.format("z.softmax(1) - wanted"), "gradient of the sum"),
    ("q2", GRAD.format("(z.softmax(1) - wanted) / z.numel()"), "rows times classes"),
    ("q2", GRAD.format("(z.softmax(1) - wanted) / z.shape[1]"), "number of classes"),
    ("q2", GRAD.format("(wanted - z.softmax(1)) / len(z)"), "sign is reversed"),
    ("q2", GRAD.format("z.softmax(1) / len(z)"), "has a gradient, too"),
    ("q2", GRAD.format("(z.softmax(0) - wanted) / len(z)"), "over the batch"),
    ("q2", GRAD.format("(torch.log(z.softmax(1)) - wanted) / len(z)"), "is not right yet"),
    ("q2", GRAD.replace("return {}", "m = z.max(1, keepdim=True).values\n    return (z - m - (z - m).exp().sum(1, keepdim=True).log() - wanted) / len(z)"), "not its logarithm"),
    ("q2", GRAD.format("(z - wanted) / len(z)"), "squared error"),
    ("q2", "def loss_gradient(z, y):\n    p = z.softmax(1)\n    p[:, y] -= 1\n    return p / len(z)", "every row"),
    ("q2", GRAD.format("((z.softmax(1) - wanted) / len(z)).sum(1)"), "returns shape"),
    ("q2", GRAD.format("(z.exp() / z.exp().sum(1, keepdim=True) - wanted) / len(z)"), "returns NaN"),
    ("q2", GRAD.format("..."), "returns nothing yet"),
    ("q2", "def loss_gradient(z, y):\n    z = z.clone().requires_grad_()\n    torch.nn.functional.cross_entropy(z, y).backward()\n    return z.grad", ASKED),
    ("q2", "def loss_gradient(z, y):\n    z = z.clone().requires_grad_()\n    (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean().backward()\n    return z.grad", ASKED),
    ("q2", "own = lambda z, y: (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean()\ndef loss_gradient(z, y):\n    return torch.func.grad(own)(z, y)", ASKED),
    ("q2", "own = lambda z, y: (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean()\ndef loss_gradient(z, y):\n    return torch.func.jacfwd(own)(z, y)", ASKED),
    ("q2", "own = lambda z, y: (z.exp().sum(1).log() - z.gather(1, y[:, None])[:, 0]).mean()\ndef loss_gradient(z, y):\n    return torch.autograd.functional.jacobian(lambda z: own(z, y), z)", ASKED),
    ("q2", "from tiedlib import autograd\ndef loss_gradient(z, y):\n    node = autograd.Node(z)\n    autograd.cross_entropy(node, y).backward()\n    return node.grad", ASKED),
    ("q3", UPDATE.replace("    optimizer.zero_grad()\n", ""), "gradients from before"),
    ("q3", UPDATE.replace("    for part in parts:\n", "    for part in parts:\n        optimizer.zero_grad()\n"), "all parts but the last"),
    ("q3", UPDATE.replace("    optimizer.step()\n", "").replace("        total +=", "        optimizer.step()\n        total +="), "step after each part"),
    ("q3", UPDATE.replace("    optimizer.step()\n", "").replace("        value.", "        optimizer.zero_grad()\n        value.").replace("        total +=", "        optimizer.step()\n        total +="), "step after each part"),
    ("q3", UPDATE.replace("    optimizer.step()\n", ""), "as they were"),
    ("q3", UPDATE.replace("    optimizer.step()\n", "    optimizer.zero_grad()\n    optimizer.step()\n"), "as they were"),
    ("q3", UPDATE.replace("len(part[0]) / rows", "1"), "divide, or with k parts"),
    ("q3", UPDATE.replace("len(part[0]) / rows", "1 / len(parts)"), "weigh it by its rows"),
    ("q3", UPDATE.replace("len(part[0]) / rows", "len(part[0])"), "sum over all rows"),
    ("q3", UPDATE.replace(".item()", ""), "graphs of earlier parts are still alive"),
    ("q3", UPDATE.replace("value.item()", "value.item() / weight"), "sum of the parts' means"),
    ("q3", UPDATE.replace("value.item()", "value.item() / weight / len(parts)"), "mean of the parts' means"),
    ("q3", UPDATE.replace("value.item()", "value.item() * rows"), "this is the sum over the rows"),
    ("q3", UPDATE.replace(".item()", ".detach()"), "returns a tensor"),
    ("q3", UPDATE.replace("    optimizer.step()\n", "    optimizer.step()\n    optimizer.zero_grad()\n    optimizer.step()\n"), "once"),
    ("q3", "def update(model, parts, optimizer, loss):\n    n = sum(len(x) for x, _ in parts)\n    optimizer.zero_grad()\n    whole = sum(loss(model, p) * (len(p[0]) / n) for p in parts)\n    whole.backward()\n    optimizer.step()\n    return whole.item()", "before the one before it"),
    ("q3", "def update(model, parts, optimizer, loss):\n    whole = tuple(torch.cat(t) for t in zip(*parts))\n    optimizer.zero_grad()\n    value = loss(model, whole)\n    value.backward()\n    optimizer.step()\n    return value.item()", "several parts at once"),
    ("q3", "def update(model, parts, optimizer, loss):\n    ...", "returns nothing yet"),
    ("q3", UPDATE.replace("return total", "return None"), "returns nothing yet"),
    ("q3", UPDATE.replace("return total", "return float('nan')"), "is not right yet"),
    ("q3", "from tiedlib.training_loop import fit\ndef update(model, parts, optimizer, loss):\n    *_, e = fit(model, parts, optimizer, loss=loss, epochs=1)\n    return e.loss", ASKED),
    ("q4", EVALUATE.replace("return total / rows", "return sum(means)").replace("total +=", "means.append(loss(model, batch).item()); total +=").replace("total, rows", "means, total, rows").replace("= 0.0, 0", "= [], 0.0, 0"), "sum of the batches' means"),
    ("q4", EVALUATE.replace(" * len(batch[0])", "").replace("/ rows", "/ len(batches)"), "mean of the batches' means"),
    ("q4", EVALUATE.replace(" / rows", ""), "the total over all rows"),
    ("q4", EVALUATE.replace(" * len(batch[0])", ""), "add means and divide by rows"),
    ("q4", EVALUATE.replace("total += loss(model, batch).item() * len(batch[0])", "total = loss(model, batch).item()").replace(" / rows", ""), "the last batch alone"),
    ("q4", EVALUATE.replace("@torch.no_grad()\n", ""), "records a graph"),
    ("q4", EVALUATE.replace("@torch.no_grad()\n", "").replace(".item()", ""), "records a graph"),
    ("q4", EVALUATE.replace("    model.eval()\n", ""), "in training mode"),
    ("q4", EVALUATE.replace("    model.train(before)\n", ""), "leaves the model in evaluation mode"),
    ("q4", EVALUATE.replace("model.train(before)", "model.train()"), "evaluation mode before"),
    ("q4", EVALUATE.replace(".item()", ""), "returns a tensor"),
    ("q4", "def evaluate(model, batches, loss):\n    ...", "returns nothing yet"),
    ("q4", EVALUATE.replace("total / rows", "float('nan')"), "is not right yet"),
    ("q4", "import tiedlib\nfrom tiedlib import training_loop\ndef evaluate(model, batches, loss):\n    return training_loop.evaluate(model, batches, loss=loss)", ASKED),
    ("q4", "from functools import partial\nfrom tiedlib.training_loop import evaluate as ours\nevaluate = lambda m, b, l: partial(ours, loss=l)(m, b)", ASKED),
    ("q5", "floor = 0", "at most 1 to the right class"),
    ("q5", "floor = math.log(10)", "a guess among ten"),
    ("q5", "floor = math.log(math.e + 9)", "still to be subtracted"),
    ("q5", "floor = math.log(1 + 9 * math.e)", "larger score"),
    ("q5", "floor = math.log(1 + 10 / math.e)", "nine are wrong"),
    ("q5", "floor = math.e / (math.e + 9)", "minus its logarithm"),
    ("q5", "floor = math.log2(1 + 9 / math.e)", "in bits"),
    ("q5", "floor = float('nan')", "finite number"),
    ("q5", "floor = ...", "no value yet"),
    ("q6", "cause = 'A'", "does the new layer move"),
    ("q6", "cause = 'B'", "is not None"),
    ("q6", "cause = 'D'", "zero_grad clears"),
    ("q6", "cause = 'no idea'", "must be one of"),
    ("q6", "cause = ...", "no answer yet"),
    ("q7", BEST.replace("if loss < lowest", "if True"), "keep the last pass"),
    ("q7", BEST.replace("loss < lowest", "loss > lowest").replace("math.inf", "-math.inf"), "keep the highest"),
    ("q7", BEST.replace("loss < lowest", "loss <= lowest"), "the first is asked"),
    ("q7", LIST.format("min(range(passes), key=losses.__getitem__)"), "NaN compares"),
    ("q7", LIST.format("losses.index(min(losses))"), "NaN compares"),
    ("q7", LIST.format("torch.tensor(losses).argmin().item()"), "NaN compares"),
    ("q7", BEST.replace("return best,", "return best + 1,"), "counted from 0"),
    ("q7", BEST.replace("-1, None", "-1, model.state_dict()").replace("model.state_dict().items()}\n", "model.state_dict().items()}\n        else:\n            break\n"), "rises for the first time"),
    ("q7", BEST.replace("{n: v.clone() for n, v in model.state_dict().items()}", "model.state_dict()"), "own tensors"),
    ("q7", BEST.replace("{n: v.clone() for n, v in model.state_dict().items()}", "model.state_dict().copy()"), "own tensors"),
    ("q7", BEST.replace("        train_pass(model)\n", "        before = {n: v.clone() for n, v in model.state_dict().items()}\n        train_pass(model)\n").replace("loss, k, {n: v.clone() for n, v in model.state_dict().items()}", "loss, k, before"), "before the best pass"),
    ("q7", BEST.replace("    model.load_state_dict(state)\n", ""), "load the best state"),
    ("q7", BEST.replace("return best, state", "return best"), "2 values"),
    ("q7", BEST.replace("return best, state", "return best, model"), "the state is not right yet"),
    ("q7", "def train_and_keep_best(model, train_pass, dev_loss, passes):\n    ...", "returns nothing yet"),
    ("q7", "import tiedlib.training_loop\n" + BEST.replace("        loss = dev", "        tiedlib.training_loop.minibatches(torch.zeros(3), batch_size=1)\n        loss = dev"), ASKED),
]  # fmt: skip
RIGHT = [
    ("q1", "def cross_entropy(z, y):\n    total = 0.0\n    for row, k in zip(z, y):\n        total = total + torch.log(torch.sum(torch.exp(row - row.max()))) - (row[k] - row.max())\n    return total / len(z)"),
    ("q1", "def cross_entropy(z, y):\n    return (z - z[torch.arange(len(y)), y][:, None]).amax(1).add((z - z.amax(1, True)).exp().sum(1).log()).mean()"),
    ("q1", "def cross_entropy(z, y):\n    total = z[:, 0]\n    for column in z.T[1:]:\n        total = torch.logaddexp(total, column)\n    return torch.mean(total - torch.take_along_dim(z, y[:, None], 1)[:, 0])"),
    ("q2", "def loss_gradient(z, y):\n    p = torch.softmax(z, 1)\n    p[torch.arange(len(y)), y] -= 1\n    return p / len(y)"),
    ("q2", "def loss_gradient(z, y):\n    e = (z - z.amax(1, keepdim=True)).exp()\n    return (e / e.sum(1, keepdim=True) - torch.eye(z.shape[1], dtype=z.dtype)[y]) / len(y)"),
    ("q3", UPDATE.replace("optimizer.zero_grad()", "model.zero_grad(set_to_none=False)").replace("value.item()", "value.detach()").replace("return total", "return float(total)")),
    ("q3", "def update(model, parts, optimizer, loss):\n    n, total = 0, 0.0\n    optimizer.zero_grad()\n    for part in parts:\n        value = len(part[0]) * loss(model, part)\n        value.backward()\n        n, total = n + len(part[0]), total + float(value.detach())\n    for p in model.parameters():\n        p.grad /= n\n    optimizer.step()\n    return total / n"),
    ("q4", "def evaluate(model, batches, loss):\n    modes = {m: m.training for m in model.modules()}\n    model.train(False)\n    with torch.no_grad():\n        means = [loss(model, b).item() for b in batches]\n    for m, mode in modes.items():\n        m.training = mode\n    rows = [len(b[0]) for b in batches]\n    return sum(n * v for n, v in zip(rows, means)) / sum(rows)"),
    ("q4", EVALUATE.replace("return total / rows", "return float(torch.tensor(total / rows, dtype=torch.float64))")),
    ("q5", "floor = torch.nn.functional.cross_entropy(torch.eye(10)[:1], torch.tensor([0]))"),
    ("q7", "import copy\n" + BEST.replace("{n: v.clone() for n, v in model.state_dict().items()}", "copy.deepcopy(model.state_dict())")),
    ("q7", LIST.format("min((k for k in range(passes) if losses[k] == losses[k]), key=losses.__getitem__)").replace("return best, states[best]", "return [best, states[best]]")),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("training_loop").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("training_loop").complaints(question, answer) == []


@pytest.mark.parametrize("question", homework("training_loop").graded)
def test_the_solutions_pass(question: str) -> None:
    assert homework("training_loop").complaints(question) == []


def test_the_run_of_problem_six_does_what_its_options_say() -> None:
    space = homework("training_loop").solved()
    moved = [(p - b).abs().max().item() for p, b in zip(space["model"].parameters(), space["before"], strict=True)]
    assert moved[0] > 0.01 and moved[2] == moved[3] == 0, "the first layer moves, the new one does not"
    for rate in (0.01, 0.5):
        model, before = space["retrained"](rate=rate)
        assert torch.equal(model[2].weight, before[2])
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in space["model"].parameters())
    again = space["model"]
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    for seed in range(5):
        space["one_pass"](again, optimizer, *space["TRAIN"], seed)
    right = (again(space["DEV"][0]).argmax(1) == space["DEV"][1]).double().mean().item()
    assert right > space["accuracy_now"] + 0.1


def test_the_best_pass_on_wrong_labels_is_better_than_the_last_on_the_test_images() -> None:
    """The cell after problem 7, and that the best pass was not the last."""
    space = homework("training_loop").solved()
    assert space["right"](space["student"]) > space["history"][-1]
