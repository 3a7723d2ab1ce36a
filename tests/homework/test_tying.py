"""The homework `tying`, counts, roles, layer and start: typical wrong answers, each with the message that names it."""

import pytest

from tests.homework.masters import homework

COUNT = "def parameters(vocab, width, layers, tied):\n    return {}"
PARTS = """
def two_parts(S, W, i, o):
    h = torch.tanh(W @ S[i])
    error = torch.softmax(S @ h, 0)
    error[o] -= 1
    read = torch.zeros_like(S)
    read[i] = W.T @ ((1 - h**2) * (S.T @ error))
    out = torch.outer(error, h)
    return read, out
"""
SCORE = """
def _loss(U, V, W, i, o):
    return -(V @ (W @ U[i]).tanh()).log_softmax(0)[o]
def two_parts(S, W, i, o):
    {}
"""
LAYER = """
class TiedOutput(nn.Module):
    def __init__(self, embedding):
        super().__init__()
        self.weight = embedding.weight
        self.bias = nn.Parameter(torch.zeros(len(self.weight), dtype=self.weight.dtype))
    def forward(self, h):
        return h @ self.weight.T + self.bias
"""
WEIGHT = "self.weight = embedding.weight\n"


def parts(old: str, new: str) -> str:
    assert old in PARTS
    return PARTS.replace(old, new)


def layer(old: str, new: str) -> str:
    assert old in LAYER
    return LAYER.replace(old, new)


WRONG = [
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + 2 * layers * (8 * width**2 + 4 * width) + vocab"), "encoder and a decoder"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + vocab"), "LSTM is missing"),
    ("q1", COUNT.format("2 * vocab * width + layers * (8 * width**2 + 4 * width) + vocab"), "counts once"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * (8 * width**2 + 4 * width)"), "output bias is missing"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * (8 * width**2 + 4 * width) + (0 if tied else vocab)"), "output bias stays"),
    ("q1", COUNT.format("(0 if tied else 2) * vocab * width + layers * (8 * width**2 + 4 * width) + vocab"), "removed both"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * (2 * width**2 + width) + vocab"), "four gates"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * (4 * width**2 + 4 * width) + vocab"), "two matrices"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * (8 * width**2 + 8 * width) + vocab"), "two biases a gate"),
    ("q1", COUNT.format("(1 if tied else 2) * vocab * width + layers * 8 * width**2 + vocab"), "LSTM's biases are missing"),
    ("q1", COUNT.format("..."), "returns nothing yet"),
    ("q1", "parameters = ...", "not defined yet"),
    ("q1", COUNT.format("math.nan"), "not right yet"),
    ("q1", COUNT.format("sum(p.numel() for p in LanguageModel(vocab, width, width, layers, tied=tied).parameters())"), "which is what you are asked to write"),
    ("q1", COUNT.format("2 * sum(p.numel() for p in nn.LSTM(width, width, layers).parameters())"), "torch.nn.modules.rnn"),
    ("q1", "from functools import partial\nmake = partial(nn.Embedding, 9)\n" + COUNT.format("make(width).weight.numel()"), "torch.nn.modules.sparse"),
    ("q2", parts("h = torch.tanh(W @ S[i])", "h = S[i]").replace("W.T @ ((1 - h**2) * (S.T @ error))", "S.T @ error"), "embedding Sᵢ itself"),
    ("q2", parts("    error[o] -= 1\n", ""), "target is missing"),
    ("q2", parts("    error[o] -= 1\n", "    error = -error\n    error[o] += 1\n"), "−gradient"),
    ("q2", parts("return read, out", "return out, read"), "changed places"),
    ("q2", parts("return read, out", "return read + out, read + out"), "the sum already"),
    ("q2", parts("return read, out", "return read / 2, out / 2"), "not their mean"),
    ("q2", parts("return read, out", "only = torch.zeros_like(S)\n    only[o] = out[o]\n    return read, only"), "pₖ h where k is not the target"),
    ("q2", parts("S.T @ error", "S[o] * error[o]"), "target's row alone"),
    ("q2", parts("read[i]", "read[o]"), "row of the target"),
    ("q2", parts("(1 - h**2) * ", ""), "slope of tanh"),
    ("q2", parts("W.T @", "W @"), "transposed"),
    ("q2", parts("W.T @ ", ""), "leads through W too"),
    ("q2", parts("return read, out", "return read + out"), "2 values"),
    ("q2", parts("return read, out", "..."), "returns nothing yet"),
    ("q2", parts("return read, out", "return ..., ..."), "2 values"),
    ("q2", parts("return read, out", "return read[i], out"), "not right yet"),
    ("q2", parts("return read, out", "return read / 0, out"), "not right yet"),
    ("q2", parts("read = torch.zeros_like(S)", "read = S.zero_()"), "changes its arguments in place"),
    ("q2", "two_parts = ...", "not defined yet"),
    ("q2", SCORE.format("U, V = S.clone().requires_grad_(), S.clone().requires_grad_()\n    return torch.autograd.grad(_loss(U, V, W, i, o), (U, V))"), "torch.autograd.grad"),
    ("q2", "slope = torch.autograd.grad\n" + SCORE.format("U, V = S.clone().requires_grad_(), S.clone().requires_grad_()\n    return slope(_loss(U, V, W, i, o), (U, V))"), "torch.autograd.grad"),
    ("q2", SCORE.format("U, V = S.clone().requires_grad_(), S.clone().requires_grad_()\n    _loss(U, V, W, i, o).backward()\n    return U.grad, V.grad"), "backward"),
    ("q2", "from functools import partial\n" + SCORE.format("U, V = S.clone().requires_grad_(), S.clone().requires_grad_()\n    partial(torch.Tensor.backward, _loss(U, V, W, i, o))()\n    return U.grad, V.grad"), "backward"),
    ("q2", SCORE.format("try:\n        return torch.func.grad(_loss, argnums=(0, 1))(S, S, W, i, o)\n    except BaseException:\n        return right(S, W, i, o)") + PARTS.replace("two_parts", "right"), "grad"),
    ("q2", SCORE.format("return torch.func.jacrev(_loss, argnums=(0, 1))(S, S, W, i, o)"), "asked to write"),
    ("q2", SCORE.format("return torch.autograd.functional.jacobian(lambda U, V: _loss(U, V, W, i, o), (S, S))"), "asked to write"),
    ("q2", SCORE.format("U, V = S.clone().requires_grad_(), S.clone().requires_grad_()\n    torch.autograd.Variable._execution_engine.run_backward((_loss(U, V, W, i, o),), (torch.tensor(1.0).double(),), False, False, (), allow_unreachable=True, accumulate_grad=True)\n    return U.grad, V.grad"), "run_backward"),
    ("q3", layer(WEIGHT, "self.weight = nn.Parameter(embedding.weight.detach().clone())\n"), "is a copy"),
    ("q3", layer(WEIGHT, "self.weight = __import__('copy').deepcopy(embedding.weight)\n"), "is a copy"),
    ("q3", layer(WEIGHT, "self.weight = nn.Parameter(embedding.weight.data)\n"), "second Parameter"),
    ("q3", layer(WEIGHT, "self.weight = nn.Parameter(embedding.weight)\n"), "second Parameter"),
    ("q3", layer(WEIGHT, "self.weight = nn.Parameter(torch.randn_like(embedding.weight))\n"), "matrix of its own"),
    ("q3", layer(WEIGHT, "self.weight = embedding.weight.data\n"), "not among the layer's parameters"),
    ("q3", layer(WEIGHT, "self.weight = nn.Parameter(torch.randn_like(embedding.weight))\n        embedding.weight = self.weight\n"), "changed the embedding"),
    ("q3", layer(WEIGHT, "self.weight = embedding.weight\n        nn.init.normal_(self.weight)\n"), "changed the embedding"),
    ("q3", layer("nn.Parameter(torch.zeros(len(self.weight), dtype=self.weight.dtype))", "0.0"), "b is missing"),
    ("q3", layer("nn.Parameter(torch.zeros(len(self.weight), dtype=self.weight.dtype))", "torch.zeros(len(self.weight))"), "no optimizer sees"),
    ("q3", layer("torch.zeros(len(self.weight), dtype=self.weight.dtype)", "torch.randn(len(self.weight)).double()"), "start at 0"),
    ("q3", layer("h @ self.weight.T", "h @ self.weight.detach().T"), "only the input role learns"),
    ("q3", layer("h @ self.weight.T", "h @ self.weight.data.T"), "only the input role learns"),
    ("q3", layer("h @ self.weight.T", "h.detach() @ self.weight.T"), "cuts h off"),
    ("q3", layer("(nn.Module)", "(object)").replace("        super().__init__()\n", ""), "must be an nn.Module"),
    ("q3", layer("return h @ self.weight.T + self.bias", "..."), "returns nothing yet"),
    ("q3", layer("self.weight.T", "self.weight"), "RuntimeError"),
    ("q3", layer(" + self.bias", " + self.bias.mean()"), "not right yet"),
    ("q3", layer("h @ self.weight.T + self.bias", "h @ self.weight.T / 0"), "not right yet"),
    ("q3", "class TiedOutput(nn.Module):\n    def __init__(self, embedding):\n        super().__init__()\n        ...\n    def forward(self, h):\n        ...", "not among the layer's parameters"),
    ("q3", "TiedOutput = ...", "not defined yet"),
    ("q3", "from tiedlib.tying import TiedSoftmax as TiedOutput", "which is what you are asked to write"),
    ("q3", "import tiedlib.tying\nclass TiedOutput(tiedlib.tying.TiedSoftmax):\n    pass", "which is what you are asked to write"),
    ("q3", "from functools import partial\nfrom tiedlib.tying import TiedSoftmax\nTiedOutput = partial(TiedSoftmax, bias=True)", "which is what you are asked to write"),
    ("q3", "from tiedlib.tying import TiedSoftmax\ndef TiedOutput(embedding):\n    try:\n        return TiedSoftmax(embedding)\n    except BaseException:\n        return Again(embedding)" + LAYER.replace("TiedOutput", "Again"), "which is what you are asked to write"),
    ("q7", "cause = 'A'", "before the first step"),
    ("q7", "cause = 'C'", "no gradient has been taken"),
    ("q7", "cause = 'D'", "same one matrix"),
    ("q7", "cause = ...", "no answer yet"),
    ("q7", "cause = 'both'", "must be one of"),
    ("q7", "def scores_at_start(d, sd):\n    return math.sqrt(d) * sd**2, d * sd**2", "changed places"),
    ("q7", "def scores_at_start(d, sd):\n    return d * sd, math.sqrt(d) * sd", "comes in twice"),
    ("q7", "def scores_at_start(d, sd):\n    return d * sd**2, d * sd**2", "variances add up"),
    ("q7", "def scores_at_start(d, sd):\n    return d * sd**2, d * sd**4", "the second is the variance"),
    ("q7", "def scores_at_start(d, sd):\n    return math.sqrt(d) * sd, math.sqrt(d) * sd**2", "asked is its square"),
    ("q7", "def scores_at_start(d, sd):\n    return 0.0, math.sqrt(d) * sd**2", "every term is a square"),
    ("q7", "def scores_at_start(d, sd):\n    return d * sd**2", "2 values"),
    ("q7", "def scores_at_start(d, sd):\n    ...", "returns nothing yet"),
    ("q7", "def scores_at_start(d, sd):\n    return ..., ...", "2 values"),
    ("q7", "def scores_at_start(d, sd):\n    return math.nan, math.nan", "not right yet"),
]  # fmt: skip
RIGHT = [
    ("q1", COUNT.format("(not tied) * vocab * width + vocab * (width + 1) + layers * sum([width * width + width * width + width] * 4)")),
    ("q1", COUNT.format("float(vocab * (width * (2 - tied) + 1) + 4 * layers * width * (2 * width + 1))")),
    ("q2", parts("W.T @ ((1 - h**2) * (S.T @ error))", "((error @ S) * (1 - h.square())) @ W").replace("torch.outer(error, h)", "error[:, None] * h[None]")),
    ("q2", "def two_parts(S, W, i, o):\n    h = (W @ S[i]).tanh()\n    z = [sum(S[k][m] * h[m] for m in range(len(h))) for k in range(len(S))]\n    p = torch.stack(z).exp()\n    p = p / p.sum()\n    read, out = torch.zeros_like(S), torch.zeros_like(S)\n    pull = sum(p[k] * S[k] for k in range(len(S))) - S[o]\n    for k in range(len(S)):\n        out[k] = (p[k] - int(k == o)) * h\n    read[i] = torch.diag(1 - h * h).matmul(W).T @ pull\n    return [read, out]"),
    ("q2", parts("error[o] -= 1", "error = error - nn.functional.one_hot(torch.tensor(o), len(S))")),
    ("q3", "class TiedOutput(nn.Module):\n    def __init__(self, embedding):\n        super().__init__()\n        self.embedding = embedding\n        self.b = nn.Parameter(embedding.weight.new_zeros(embedding.num_embeddings))\n    def forward(self, h):\n        return nn.functional.linear(h, self.embedding.weight, self.b)"),
    ("q3", "class TiedOutput(nn.Linear):\n    def __init__(self, embedding):\n        super().__init__(embedding.embedding_dim, embedding.num_embeddings, dtype=embedding.weight.dtype)\n        self.weight = embedding.weight\n        nn.init.zeros_(self.bias)"),
    ("q3", "class TiedOutput(nn.Module):\n    def __init__(self, embedding):\n        super().__init__()\n        self.register_parameter('S', embedding.weight)\n        self.b = nn.Parameter(torch.zeros(len(self.S)))\n    def forward(self, h):\n        return torch.einsum('...d,kd->...k', h, self.S) + self.b"),
    ("q7", "def scores_at_start(d, sd):\n    return [d * sd * sd, (d * sd**4) ** 0.5]"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "answer", "says"), WRONG)
def test_a_wrong_answer_is_told_its_mistake(question: str, answer: str, says: str) -> None:
    said = homework("tying").complaints(question, answer)
    assert any(says in line for line in said), said


@pytest.mark.parametrize(("question", "answer"), RIGHT)
def test_a_right_answer_in_another_form_passes(question: str, answer: str) -> None:
    assert homework("tying").complaints(question, answer) == []


@pytest.mark.parametrize("question", ["q1", "q2", "q3", "q7"])
def test_the_solution_passes(question: str) -> None:
    assert homework("tying").complaints(question) == []


def test_what_the_text_says_of_the_runs_from_a_wide_start() -> None:
    run, guess = homework("tying").solved()["skip_gram"], homework("tying").solved()["math"].log(500)
    untied, tied, slower, narrow = (
        run(*how) for how in ((False, 1, 5), (True, 1, 5), (True, 1, 2.5), (True, 1 / 8, 5))
    )
    assert tied[0] > 2 * untied[0] > 4 * guess and slower[0] == tied[0]  # untied begins badly, tied much worse
    assert min(*untied, *tied, *slower) > guess > narrow[-1]
    assert abs(narrow[0] - guess) < 0.1 and abs(tied[0] - 64) < 6  # about d σ²
