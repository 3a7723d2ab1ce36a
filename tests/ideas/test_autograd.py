"""The one-page autograd against torch's own and against finite differences; sums, shapes, deep graphs, bad input."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ideas.calls import Call
from tiedlib.autograd import Node, backpropagate, cross_entropy
from tiedlib.lab.notebook.agreement import agree


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def through_nodes(function):
    """function of nodes as a torch function whose backward is ours, so that `agree` can compare the two."""

    class Ours(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.leaves = [Node(t) for t in tensors]
            ctx.output = function(*ctx.leaves)
            return ctx.output.value.clone()

        @staticmethod
        def backward(ctx, outer):
            for leaf in ctx.leaves:
                leaf.grad = None
            (ctx.output * outer).sum().backward()
            return tuple(torch.zeros_like(n.value) if n.grad is None else n.grad for n in ctx.leaves)

    return Ours.apply


UNARY = {
    "exp": (lambda u: u.exp(), torch.exp),
    "log of a square": (lambda u: (u * u).log(), lambda u: u.square().log()),
    "tanh": (lambda u: u.tanh(), torch.tanh),
    "relu": (lambda u: u.relu(), torch.relu),
    "minus": (lambda u: -u, torch.neg),
    "square": (lambda u: u**2, torch.square),
    "cube": (lambda u: u**3, lambda u: u**3),
    "inverse square of what is not 0": (lambda u: (u * u + 1.0) ** -1.5, lambda u: (u * u + 1) ** -1.5),
    "power 0": (lambda u: u**0, lambda u: u**0),
    "sum": (lambda u: u.sum(), torch.sum),
    "mean": (lambda u: u.mean(), torch.mean),
    "logsumexp": (lambda u: u.logsumexp(), lambda u: torch.logsumexp(u, -1)),
    "pick": (lambda u: u.pick(torch.tensor([3, 0, 3])), lambda u: u[torch.arange(3), torch.tensor([3, 0, 3])]),
    "numbers on both sides": (lambda u: 2 / (3 - u * u - 5) + 1, lambda u: 2 / (3 - u * u - 5) + 1),
    "used twice": (lambda u: u * u.tanh() + u, lambda u: u * u.tanh() + u),
}
BINARY = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@pytest.mark.parametrize("name", UNARY)
def test_one_operation_agrees_with_torch(name):
    ours, torchs = UNARY[name]
    agree(through_nodes(ours), torchs, draw(3, 4))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "shapes", [((3, 4), (3, 4)), ((3, 4), (4,)), ((3, 1), (1, 4)), ((), (2, 3)), ((2, 1, 3), (4, 1))]
)
def test_two_operands_agree_with_torch_when_shapes_broadcast(name, shapes):
    a, b = draw(*shapes[0]), draw(*shapes[1], seed=1).abs() + 1
    agree(through_nodes(BINARY[name]), BINARY[name], a, b)


def test_matrices():
    agree(through_nodes(lambda a, b: a @ b), torch.matmul, draw(3, 5), draw(5, 2, seed=1))


def test_a_network_agrees_with_torch_and_with_finite_differences():
    target = torch.tensor([0, 2, 1, 2])

    def ours(x, w, b, v):
        return cross_entropy((x @ w + b).tanh() @ v, target)

    def torchs(x, w, b, v):
        return F.cross_entropy(torch.tanh(F.linear(x, w.T, b)) @ v, target)

    tensors = draw(4, 5), draw(5, 6, seed=1), draw(6, seed=2), draw(6, 3, seed=3)
    agree(through_nodes(ours), torchs, *tensors, steps=5)
    assert torch.autograd.gradcheck(through_nodes(ours), [t.requires_grad_() for t in tensors])


@settings(max_examples=40)
@given(program=st.lists(st.tuples(st.sampled_from("+*te"), st.integers(0, 20), st.integers(0, 20)), max_size=12))
def test_any_graph_agrees_with_torch(program):
    """Random programs over two leaves: values are used any number of times, or never."""

    def run(a, b, tanh, exp):
        values = [a, b]
        for kind, i, j in program:
            x, y = values[i % len(values)], values[j % len(values)]
            if kind == "+":
                values.append(x + y)
            elif kind == "*":
                values.append(tanh(x) * y)
            else:
                values.append(tanh(x) if kind == "t" else exp(tanh(x)))
        return (values[-1] * a).sum() + b.sum()

    tensors = draw(2) / 2, draw(2, seed=1) / 2
    ours = through_nodes(lambda a, b: run(a, b, Node.tanh, Node.exp))
    agree(ours, lambda a, b: run(a, b, torch.tanh, torch.exp), *tensors, rtol=1e-10, steps=1, lr=1e-3)


def test_gradients_add_up_until_they_are_cleared():
    w, x = Node(draw(2, 2)), draw(2, 2, seed=1)
    (w * x).sum().backward()
    (w * x).sum().backward()
    assert torch.equal(w.grad, 2 * x)
    w.grad = None
    (w * x).sum().backward()
    assert torch.equal(w.grad, x)


def test_a_sigmoid_made_of_its_own_value_is_stable_where_one_made_of_parts_is_not():
    """An exercise of the chapter, and its solution."""

    def sigmoid(u):
        v = u.value.sigmoid()
        return Node(v, (u,), lambda g: (g * v * (1 - v),))

    agree(through_nodes(sigmoid), torch.sigmoid, torch.tensor([0.0, -1000.0, 3.0], dtype=torch.float64))
    parts = Node(torch.tensor(-1000.0, dtype=torch.float64))
    (1 / (1 + (-parts).exp())).backward()
    assert parts.grad.isnan()


def test_constants_get_no_gradient_and_are_not_visited():
    w, constant = Node(draw(2)), Node(draw(2, seed=1), requires_grad=False)
    output = (w * constant.exp()).sum()
    output.backward()
    assert constant.grad is None and torch.equal(w.grad, constant.value.exp())
    assert not constant.exp().requires_grad and all(node is not constant for node, _ in backpropagate(output))


def test_every_node_once_and_after_all_that_use_it():
    x = Node(torch.tensor(0.5))
    node = x
    for _ in range(40):  # 2⁴⁰ paths
        node = node * 0.5 + node * 0.5
    swept = backpropagate(node)
    order = {id(n): k for k, (n, _) in enumerate(swept)}
    assert len(order) == len(swept) == 121
    assert all(order[id(n)] < order[id(p)] for n, _ in swept for p in n.parents if p.requires_grad)
    assert swept[0][0] is node and swept[-1][0] is x and swept[-1][1] == 1


def test_relu_has_no_slope_at_zero():
    u = Node(torch.tensor([-1.0, 0.0, 2.0]))
    u.relu().sum().backward()
    assert u.grad.tolist() == [0, 0, 1]


def test_numbers_keep_their_digits():
    x = Node(torch.tensor(1.0, dtype=torch.float64))
    assert (x * 0.1).value.item() == 0.1 and (0.1 / x).value.item() == 0.1 and (x - 0.1).value.item() == 0.9


def test_a_deep_graph_needs_no_recursion():
    x = Node(torch.tensor(1.0, dtype=torch.float64))
    node = x
    for _ in range(2_000):
        node = node * 1.0001
    node.backward()
    assert x.grad.item() == pytest.approx(1.0001**2_000, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_scores_stay_finite(dtype, size):
    logits = torch.tensor([[size, 0.0, -size], [0.0, 0.0, size]], dtype=dtype)
    target = torch.tensor([1, 2])
    z = Node(logits)
    loss = cross_entropy(z, target)
    loss.backward()
    reference = logits.double().requires_grad_()
    expected = F.cross_entropy(reference, target)
    expected.backward()
    assert loss.value.dtype == z.grad.dtype == dtype
    torch.testing.assert_close(loss.value.double(), expected.detach(), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(z.grad.double(), reference.grad, rtol=1e-2, atol=1e-6)


def test_operands_need_not_be_contiguous_and_are_not_changed():
    a = draw(4, 3).T
    before = a.clone()
    agree(through_nodes(lambda u: (u @ u.value.T).tanh()), lambda u: torch.tanh(u @ u.detach().T), a)
    assert torch.equal(a, before)


def test_torchs_history_is_cut():
    w = torch.ones(2, requires_grad=True)
    assert not Node(w * 2).value.requires_grad


def test_a_batch_without_rows_is_named():
    with pytest.raises(ValueError, match=r"shape \(0,\); a mean needs at least one entry"):
        cross_entropy(Node(torch.zeros(0, 3)), torch.zeros(0, dtype=torch.int64))
    empty = Node(torch.zeros(0, 3))
    empty.sum().backward()
    assert empty.grad.shape == (0, 3)


BAD = [
    (lambda: Node(torch.tensor([1, 2])), TypeError, "value is torch.int64"),
    (lambda: Node(1.5), TypeError, "value is float"),
    (lambda: Node(torch.ones(2), [Node(torch.ones(2))]), ValueError, "parents has 1 nodes, pull is None"),
    (lambda: Node(torch.ones(2), (), lambda g: ()), ValueError, "parents has 0 nodes"),
    (lambda: Node(torch.ones(2)) + Node(torch.ones(3)), ValueError, r"\(2,\) \+ \(3,\) do not fit"),
    (lambda: Node(torch.ones(2)) * torch.ones(3), ValueError, r"\(2,\) \* \(3,\) do not fit"),
    (lambda: Node(torch.ones(2)) / torch.ones(3), ValueError, r"\(2,\) / \(3,\) do not fit"),
    (lambda: Node(torch.ones(2, 3)) @ Node(torch.ones(2, 3)), ValueError, r"\(2, 3\) @ \(2, 3\) do not fit"),
    (lambda: Node(torch.ones(2)) @ Node(torch.ones(2, 3)), ValueError, r"\(2,\) @ \(2, 3\)"),
    (lambda: Node(torch.ones(2)).backward(), ValueError, r"output has shape \(2,\)"),
    (lambda: backpropagate(Node(torch.ones(0))), ValueError, r"output has shape \(0,\)"),
    (lambda: Node(torch.tensor(1.0)).logsumexp(), ValueError, "value is a scalar"),
    (lambda: Node(torch.ones(2, 3)).pick(torch.tensor([0])), ValueError, r"index has shape \(1,\); it must be \(2,\)"),
    (lambda: Node(torch.ones(2, 3)).pick(torch.tensor([0, 3])), ValueError, r"index runs over 0 … 3"),
    (lambda: Node(torch.ones(2, 3)).pick(torch.tensor([-1, 0])), ValueError, r"index runs over -1 … 0"),
    (lambda: Node(torch.ones(2, 3)).pick(torch.tensor([0.0, 1.0])), TypeError, "index is torch.float32"),
    (lambda: Node(torch.ones(2, 3)).pick(torch.tensor([True, True])), TypeError, "index is torch.bool"),
    (lambda: cross_entropy(Node(torch.ones(2, 3)), torch.ones(2)), TypeError, "index is torch.float32"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_input_is_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "Node": Call(lambda: {"value": torch.ones(2)}),
}
