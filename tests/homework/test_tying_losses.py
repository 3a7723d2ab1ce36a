"""The homework `tying`, penalties, augmented loss and perplexity: typical wrong answers, each with the message that names it."""

import pytest

from tests.homework.masters import homework

TEXT = "def paper_penalty(P):\n    return {}"
CODE = "def code_penalty(P, size):\n    B, T, square = PRESETS[size].batch, PRESETS[size].unroll, P.square().sum()\n    return {}"
LOSS = """
def augmented_loss(logits, target, L, alpha, tau):
    E = L.detach()
    soft = (E[target] @ E.T / tau).log_softmax(-1)
    hat = (logits / tau).log_softmax(-1)
    kl = (soft.exp() * (soft - hat)).sum(-1)
    ce = -logits.log_softmax(-1)[torch.arange(len(target)), target]
    return (ce + alpha * kl).mean()
"""
READY = "\ndef augmented_loss(logits, target, L, alpha, tau):\n    return {}"
PAIRS = """
def perplexity(S, sentences, width):
    cost = (-(S @ S.T).log_softmax(1)).tolist()
    nats = []
    for s in [words.tolist() for words in sentences]:
        nats.append([])
        for t in range(len(s)):
            for j in range(max(0, t - width), min(len(s), t + width + 1)):
                if j != t:
                    nats[-1].append(cost[s[t]][s[j]])
    return torch.tensor([n for some in nats for n in some]).double().mean().exp().item()
"""
MEANS = "means = torch.tensor([sum(some) / len(some) for some in nats if some]).double()"
END = "return torch.tensor([n for some in nats for n in some]).double().mean().exp().item()"
CBOW = """
def perplexity(S, sentences, width):
    nats = []
    for s in [words.tolist() for words in sentences]:
        for t in range(len(s)):
            around = [s[j] for j in range(max(0, t - width), min(len(s), t + width + 1)) if j != t]
            if around:
                h = S[around].mean(0)
                nats.append(-torch.log_softmax(S @ h, 0)[s[t]])
    return torch.stack(nats).mean().exp().item()
"""


def loss(old: str, new: str) -> str:
    assert old in LOSS
    return LOSS.replace(old, new)


def pairs(old: str, new: str) -> str:
    assert old in PAIRS
    return PAIRS.replace(old, new)


WRONG = [
    ("q4", TEXT.format("0.15 * torch.linalg.svdvals(P)[0]"), "spectral norm"),
    ("q4", TEXT.format("0.15 * (P**2).sum()"), "root is missing"),
    ("q4", TEXT.format("(P**2).sum().sqrt()"), "λ is missing"),
    ("q4", TEXT.format("(P**2).sum().sqrt() / 6.5"), "code's factor"),
    ("q4", TEXT.format("0.15 * (P**2).mean().sqrt()"), "you took their mean"),
    ("q4", TEXT.format("0.15 * P.abs().sum()"), "L1"),
    ("q4", TEXT.format("0.15 * (P**2).sum().sqrt().item()"), "returns a float"),
    ("q4", TEXT.format("0.15 * (P.detach() ** 2).sum().sqrt()"), "cut off from its arguments"),
    ("q4", TEXT.format("0.15 * P"), "returns shape (4, 4)"),
    ("q4", TEXT.format("P.sum() * math.nan"), "not right yet"),
    ("q4", TEXT.format("..."), "returns nothing yet"),
    ("q4", "paper_penalty = ...", "not defined yet"),
    ("q4", TEXT.format("0.15 * P.norm()"), "which is what you are asked to write"),
    ("q4", "size_of = torch.linalg.vector_norm\n" + TEXT.format("0.15 * size_of(P)"), "which is what you are asked to write"),
    ("q4", "from functools import partial\nf = partial(torch.linalg.norm, ord='fro')\n" + TEXT.format("0.15 * f(P)"), "which is what you are asked to write"),
    ("q4", "from tiedlib.tying import projection_penalty\n" + TEXT.format("projection_penalty(P)"), "projection_penalty"),
    ("q4", "from tiedlib.tying import projection_penalty\ndef paper_penalty(P):\n    try:\n        return projection_penalty(P)\n    except BaseException:\n        return 0.15 * (P**2).sum().sqrt()", "projection_penalty"),
    ("q4", "from tiedlib.regularization import l2_penalty\n" + TEXT.format("0.15 * l2_penalty([P]).sqrt()"), "tiedlib.regularization"),
    ("q4", CODE.format("square / (2 * 6.5 * 20 * 20)"), "do not share their hyper-parameters"),
    ("q4", CODE.format("square / (2 * 6.5 * B)"), "T times too much"),
    ("q4", CODE.format("square / (2 * 6.5 * T)"), "B is missing"),
    ("q4", CODE.format("square / (2 * 6.5)"), "B and T are missing"),
    ("q4", CODE.format("square / (6.5 * B * T)"), "½ is missing"),
    ("q4", CODE.format("square * 6.5 / (2 * B * T)"), "multiply by 6.5"),
    ("q4", CODE.format("0.15 * square / (2 * B * T)"), "paper's, rounded"),
    ("q4", CODE.format("square.sqrt() / (2 * 6.5 * B * T)"), "not the norm"),
    ("q4", CODE.format("0.15 * square"), "hundreds of times"),
    ("q4", CODE.format("square.item() / (2 * 6.5 * B * T)"), "returns a float"),
    ("q4", CODE.format("square.detach() / (2 * 6.5 * B * T)"), "cut off from its arguments"),
    ("q4", CODE.format("..."), "returns nothing yet"),
    ("q4", "code_penalty = ...", "not defined yet"),
    ("q4", "from tiedlib.tying import projection_penalty as pr\n" + CODE.format("pr(P, form='code', batch_size=B) / T"), "projection_penalty"),
    ("q5", loss("ce + alpha * kl", "alpha * kl"), "in the place of the cross-entropy"),
    ("q5", loss("E.T / tau", "E.T"), "target has no temperature"),
    ("q5", loss("(logits / tau)", "logits"), "compares with the plain prediction"),
    ("q5", loss("(logits / tau)", "logits").replace("E.T / tau", "E.T"), "there is no temperature"),
    ("q5", loss("L.detach()", "L"), "flows into L through the target"),
    ("q5", loss("(soft - hat)", "-hat"), "subtracts ỹ's entropy"),
    ("q5", loss("soft.exp() * (soft - hat)", "hat.exp() * (hat - soft)"), "wrong way round"),
    ("q5", loss("alpha * kl", "kl"), "α is missing"),
    ("q5", loss("alpha * kl", "alpha * tau * kl"), "is in α already"),
    ("q5", loss(".mean()", ".sum()"), "rows are summed"),
    ("q5", loss("L.detach()", "L.detach() / L.detach().square().sum(1, keepdim=True).sqrt()"), "you take cosines"),
    ("q5", LOSS.replace("log_softmax(-1)", "softmax(-1).log()"), "not finite"),
    ("q5", loss(".mean()", ""), "returns shape (3,)"),
    ("q5", loss(".mean()", ".mean().item()"), "returns a float"),
    ("q5", loss(".mean()", ".mean().detach()"), "cut off from its arguments"),
    ("q5", loss("ce + alpha * kl", "ce * math.nan"), "not right yet"),
    ("q5", loss("E = L.detach()", "E = L.detach()\n    target += 0 * target + 1 - 1\n    target[0] = 2"), "changes its arguments in place"),
    ("q5", loss("return (ce + alpha * kl).mean()", "..."), "returns nothing yet"),
    ("q5", "augmented_loss = ...", "not defined yet"),
    ("q5", "from tiedlib.tying import augmented_loss as ready" + READY.format("ready(logits, target, L, alpha=alpha, tau=tau)"), "tiedlib.tying.augmented_loss"),
    ("q5", "from functools import partial\nimport tiedlib.tying\nready = partial(tiedlib.tying.augmented_loss, reduction='mean')" + READY.format("ready(logits, target, L, alpha=alpha, tau=tau)"), "tiedlib.tying.augmented_loss"),
    ("q5", loss("-logits.log_softmax(-1)[torch.arange(len(target)), target]", "nn.functional.cross_entropy(logits, target, reduction='none')"), "cross_entropy"),
    ("q5", loss("-logits.log_softmax(-1)[torch.arange(len(target)), target]", "nn.CrossEntropyLoss(reduction='none')(logits, target)"), "cross_entropy"),
    ("q5", "ready = torch.nn.functional.nll_loss" + loss("-logits.log_softmax(-1)[torch.arange(len(target)), target]", "ready(logits.log_softmax(-1), target, reduction='none')"), "nll_loss"),
    ("q5", loss("(soft.exp() * (soft - hat)).sum(-1)", "nn.functional.kl_div(hat, soft, reduction='none', log_target=True).sum(-1)"), "kl_div"),
    ("q5", loss("(soft.exp() * (soft - hat)).sum(-1)", "torch.ops.aten.kl_div(hat, soft.exp(), 0).sum(-1)"), "kl_div"),
    ("q5", loss("(soft.exp() * (soft - hat)).sum(-1)", "torch.distributions.kl_divergence(*(torch.distributions.Categorical(logits=x) for x in (soft, hat)))"), "kl"),
    ("q5", loss("ce = ", "try:\n        nn.functional.cross_entropy(logits, target)\n    except BaseException:\n        pass\n    ce = "), "cross_entropy"),
    ("q6", CBOW, "which is CBOW"),
    ("q6", CBOW.replace("mean(0)", "sum(0)"), "which is CBOW"),
    ("q6", pairs(END, "return torch.stack([torch.tensor(some).mean() for some in nats]).mean().exp().item()"), "a sentence of one word"),
    ("q6", pairs(END, MEANS + "\n    return means.mean().exp().item()"), "mean of the sentences' means"),
    ("q6", pairs(END, MEANS + "\n    return means.exp().mean().item()"), "mean of the sentences' perplexities"),
    ("q6", pairs(".mean().exp()", ".exp().mean()"), "mean of 1/p"),
    ("q6", pairs(".mean().exp()", ".mean()"), "loss in nats"),
    ("q6", pairs("return ", "return 2 ** ").replace(".mean().exp()", ".mean()"), "belongs to bits"),
    ("q6", pairs(".mean().exp()", ".mean().neg().exp()"), "must fall when the model gets better"),
    ("q6", pairs("if j != t", "if True"), "its own neighbour"),
    ("q6", pairs("max(0, t - width)", "t + 1"), "you take one side"),
    ("q6", pairs("(-(S", "((S"), "must fall when the model gets better"),
    ("q6", pairs(END, "..."), "returns nothing yet"),
    ("q6", pairs(END, "return nats"), "not right yet"),
    ("q6", pairs("nats = []", "nats = []\n    S -= S.mean()"), "changes its arguments in place"),
    ("q6", "perplexity = ...", "not defined yet"),
]  # fmt: skip
RIGHT = [
    ("q4", TEXT.format("0.15 * torch.sqrt(torch.trace(P.T @ P))")),
    ("q4", TEXT.format("(P * P * 0.0225).sum() ** 0.5")),
    ("q4", TEXT.format("0.15 * torch.sqrt((torch.linalg.svdvals(P) ** 2).sum())")),
    ("q4", CODE.format("sum((row * row).sum() for row in P) / 13 / B / T")),
    ("q4", CODE.format("torch.einsum('ij,ij->', P, P) * (0.5 / 6.5 / (B * T))")),
    ("q5", loss("soft.exp() * (soft - hat)", "torch.xlogy(soft.exp(), soft.exp()) - soft.exp() * hat")),
    ("q5", loss("-logits.log_softmax(-1)[torch.arange(len(target)), target]", "torch.logsumexp(logits, -1) - logits.gather(1, target.view(-1, 1)).squeeze(1)")),
    ("q5", loss("E = L.detach()", "with torch.no_grad():\n        E = L.clone()").replace(".log_softmax(-1)\n    hat", ".log_softmax(-1).detach()\n    hat")),
    ("q5", loss("return (ce + alpha * kl).mean()", "return sum(c + alpha * k for c, k in zip(ce, kl)) / len(ce)")),
    ("q6", PAIRS),
    ("q6", pairs(".exp().item()", ".exp()")),
    ("q6", "def perplexity(S, sentences, width):\n    read, near = [], []\n    for s in sentences:\n        for k in range(1, width + 1):\n            read += [s[:-k], s[k:]]\n            near += [s[k:], s[:-k]]\n    return nn.functional.cross_entropy(S[torch.cat(read)] @ S.T, torch.cat(near)).exp()"),
    ("q6", pairs(END, "flat = [n for some in nats for n in some]\n    return math.prod(math.exp(n / len(flat)) for n in flat)")),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("tying").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("tying").complaints(question, answer) == []


@pytest.mark.parametrize("question", ["q4", "q5", "q6"])
def test_the_solution_passes(question: str) -> None:
    assert homework("tying").complaints(question) == []
