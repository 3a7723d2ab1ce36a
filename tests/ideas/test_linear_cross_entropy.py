"""Against the two torch calls it stands for, a float64 log-sum-exp written out, and finite differences."""

import copy
import math
import os
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ideas.calls import TARGET, UP_TO_ONE, Call
from tiedlib._matrix_products import BACKENDS, OuterSum, using
from tiedlib.lab.notebook.agreement import RTOL, agree
from tiedlib.linear_cross_entropy import linear_cross_entropy
from tiedlib.recurrent import LanguageModel

MODULE = sys.modules["tiedlib.linear_cross_entropy"]
REDUCTIONS = ["mean", "sum", "none"]


def by_hand(h, weight, target, bias):
    """−z_o + log Σ exp z, one example at a time, in float64."""
    losses = []
    for row, o in zip(h.double(), target, strict=True):
        z = weight.double() @ row + bias.double()
        top = z.max()
        losses.append(-z[o] + top + (z - top).exp().sum().log())
    return torch.stack(losses)


@given(n=st.integers(1, 7), dim=st.integers(1, 6), vocab=st.integers(1, 9), scale=st.sampled_from([1.0, 1e-3, 1e4]))
def test_equals_the_formula_also_for_extreme_logits(n, dim, vocab, scale):
    g = torch.Generator().manual_seed(n * 100 + dim * 10 + vocab)
    h = torch.randn(n, dim, generator=g)
    weight = scale * torch.randn(vocab, dim, generator=g)
    bias = torch.randn(vocab, generator=g)
    target = torch.randint(vocab, (n,), generator=g)
    ours = linear_cross_entropy(h, weight, target, linear_bias=bias, reduction="none")
    assert torch.isfinite(ours).all()
    torch.testing.assert_close(ours.double(), by_hand(h, weight, target, bias), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_agrees_with_torch_forward_gradient_steps(reduction, label_smoothing):
    target = torch.tensor([[1, 0, -100], [4, 4, 2]])

    def reference(h, weight, bias):
        z = torch.einsum("btd,vd->btv", h, weight) + bias
        return F.cross_entropy(z.transpose(1, 2), target, reduction=reduction, label_smoothing=label_smoothing)

    def ours(h, weight, bias):
        return linear_cross_entropy(
            h, weight, target, linear_bias=bias, reduction=reduction, label_smoothing=label_smoothing
        )

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    agree(ours, reference, draw(2, 3, 4), draw(5, 4), draw(5))


def test_gradcheck_in_float64():
    h, weight = (torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 4), (5, 4)))
    bias = torch.randn(5, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 4, 2])
    assert torch.autograd.gradcheck(
        lambda a, b, c: linear_cross_entropy(a, b, target, linear_bias=c), (h, weight, bias)
    )


def test_ignored_targets_count_for_nothing():
    h, weight = torch.randn(4, 3), torch.randn(6, 3)
    target = torch.tensor([1, -100, 5, -100])
    kept = linear_cross_entropy(h[[0, 2]], weight, target[[0, 2]])
    torch.testing.assert_close(linear_cross_entropy(h, weight, target), kept)


def test_empty_batch_sums_to_zero():
    empty = torch.empty(0, dtype=torch.long)
    assert linear_cross_entropy(torch.empty(0, 3), torch.randn(4, 3), empty, reduction="sum") == 0


# Against the plain pair


def plain(h, weight, target, *, linear_bias=None, **options):
    loss = F.cross_entropy(F.linear(h.flatten(0, -2), weight, linear_bias), target.flatten().long(), **options)
    return loss.reshape(target.shape) if options.get("reduction") == "none" else loss


def both(function, tensors, target, weights=None, **options):
    """The loss and the gradients of Σ weights · loss."""
    leaves = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
    loss = function(leaves[0], leaves[1], target, linear_bias=leaves[2], **options)
    (loss if weights is None else weights[: loss.numel()].reshape(loss.shape).to(loss) * loss).sum().backward()
    return [loss.detach(), *(leaf.grad for leaf in leaves if leaf is not None)]


def assert_equal(ours, reference, rtol, floors=(0.0, 0.0, 0.0, 0.0)):
    """Each within rtol of the reference's largest entry, or of a size from which that is what is left over."""
    for a, b, floor in zip(ours, reference, floors[: len(ours)], strict=True):
        assert a.dtype is b.dtype and a.shape == b.shape
        scale = max(float(b.abs().max()) if b.numel() else 0.0, floor)
        assert float((a.double() - b.double()).abs().max() if b.numel() else 0.0) <= rtol * scale, (a, b)


@st.composite
def problems(draw):
    """Inputs on a grid of eighths, on which float32 products are exact whatever their order, so that the function is
    compared and not the rounding of logits that may be as large as 1e4."""
    n, dim, vocab = draw(st.integers(1, 9)), draw(st.integers(1, 6)), draw(st.integers(1, 12))
    g = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    largest = draw(st.sampled_from([8, 64, 400]))  # 400: logits to ±(400 / 8)² · 6 = 1.5e4

    def grid(*shape):
        return torch.randint(-largest, largest + 1, shape, generator=g).double() / 8

    target = torch.randint(vocab, (n,), generator=g)
    ignored = draw(st.sampled_from([None, None, -100, 0, vocab + 3]))
    if ignored is not None:
        target[torch.rand(n, generator=g) < 0.5] = ignored
    bias = grid(vocab) if draw(st.booleans()) else None
    options = {
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 1.0])),
        "reduction": draw(st.sampled_from(REDUCTIONS)),
    }
    options |= {} if ignored is None else {"ignore_index": ignored}
    return (grid(n, dim), grid(vocab, dim), bias), target, torch.randn(n, generator=g, dtype=torch.float64), options


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@given(problem=problems(), rows=st.integers(1, 9), name=st.sampled_from(BACKENDS))
def test_equals_the_plain_pair_in_blocks_of_any_size(dtype, rtol, problem, rows, name):
    tensors, target, weights, options = problem
    tensors = [None if t is None else t.to(dtype) for t in tensors]
    reference = both(plain, tensors, target, weights, **options)
    with using(name), pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODULE.BLOCK, "cpu", rows * tensors[1].shape[0] * tensors[0].itemsize)
        ours = both(linear_cross_entropy, tensors, target, weights, **options)
    if reference[0].isnan().any():  # the mean over no row
        assert ours[0].isnan() and not any(g.any() for g in [*ours[1:], *reference[1:]])
        return
    # Σ_x ∂ℓ/∂z_x is 0, so a gradient may be nothing but the rounding of what it is made of
    floors = (1.0, float(tensors[1].abs().max()), float(tensors[0].abs().max()), 1.0)
    assert_equal(ours, reference, rtol, floors)
    with torch.no_grad(), using(name):
        same = linear_cross_entropy(*tensors[:2], target, linear_bias=tensors[2], **options)
    assert_equal([same], [reference[0]], rtol, floors)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_equals_the_plain_pair_at_a_real_size(name, reduction):
    h, weight, bias = torch.randn(7, 30, 64), 0.1 * torch.randn(3001, 64), torch.randn(3001)
    target, weights = torch.randint(3001, (7, 30)), torch.rand(210)
    with using(name), pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODULE.BLOCK, "cpu", 2**20)
        ours = both(linear_cross_entropy, (h, weight, bias), target, weights, reduction=reduction)
    assert_equal(ours, both(plain, (h, weight, bias), target, weights, reduction=reduction), 1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_gradcheck_of_every_reduction(reduction):
    tensors = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((4, 3), (5, 3), (5,))]
    target = torch.tensor([0, 4, -100, 2])

    def loss(h, weight, bias):
        return linear_cross_entropy(h, weight, target, linear_bias=bias, reduction=reduction, label_smoothing=0.2)

    assert torch.autograd.gradcheck(loss, tensors)


def test_logits_that_are_infinite_or_masked():
    """A bias of −∞ rules a word out, as in torch; as a target its loss is +∞."""
    h, weight, bias = torch.randn(3, 2), torch.randn(4, 2), torch.tensor([0.0, -torch.inf, 0.0, 1.0])
    for target in (torch.tensor([0, 2, 3]), torch.tensor([1, 2, 3])):
        ours, reference = (
            f(h, weight, target, linear_bias=bias, reduction="none") for f in (linear_cross_entropy, plain)
        )
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("least", [-1000.0, -60.0, -5.0, 0.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_probabilities_from_one_to_those_that_float32_cannot_hold(least, smoothing):
    """The target's logit goes from far below the others to far above; rows that are near and rows that are far in one block."""
    at = torch.linspace(least, 40.0, 9)
    h, weight = torch.stack([at, torch.ones(9)], 1), torch.tensor([[1.0, 0.0], [0.0, 0.5], [0.0, 0.25]])
    target = torch.zeros(9, dtype=torch.long)
    found = both(linear_cross_entropy, (h, weight, None), target, reduction="none", label_smoothing=smoothing)
    exact = both(plain, (h.double(), weight.double(), None), target, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(found[0].double(), exact[0], rtol=1e-6, atol=2e-7)
    assert_equal([g.double() for g in found[1:]], exact[1:], 1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (2, 0, 3)])
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8])
def test_targets_of_any_shape_and_integer_type(shape, kind):
    h, weight = torch.randn(*shape, 4), torch.randn(6, 4)
    target = torch.randint(6, shape)
    ours = linear_cross_entropy(h, weight, target.to(kind), reduction="none")
    expected = F.cross_entropy((h @ weight.T).reshape(-1, 6), target.flatten(), reduction="none").reshape(shape)
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def test_tensors_that_are_not_contiguous():
    h, weight, bias = torch.randn(4, 3, 5).transpose(0, 1), torch.randn(5, 14).T[::2], torch.randn(14)[::2]
    target = torch.randint(7, (4, 3)).T
    wide = torch.randn(7, 1).expand(7, 5)
    for w in (weight, weight.T.contiguous().T, wide):
        for name in BACKENDS:
            with using(name):
                ours = both(linear_cross_entropy, (h, w, bias), target)
            assert_equal(ours, both(plain, (h, w, bias), target), 1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_empty_batch_has_gradients_of_zero(reduction):
    h, weight = torch.empty(0, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = linear_cross_entropy(h, weight, torch.empty(0, dtype=torch.long), reduction=reduction)
    assert loss.isnan() if reduction == "mean" else not loss.sum()
    loss.sum().backward()
    assert h.grad.shape == (0, 3) and torch.equal(weight.grad, torch.zeros(4, 3))


# No more work than is wanted


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("wanted", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)])
def test_only_what_requires_a_gradient_gets_one(reduction, wanted):
    tensors = [t.requires_grad_(bool(w)) for t, w in zip(map(torch.randn, ((4, 3), (5, 3), (5,))), wanted, strict=True)]
    target, found = torch.tensor([0, 4, -100, 2]), []
    for function in (linear_cross_entropy, plain):
        loss = function(tensors[0], tensors[1], target, linear_bias=tensors[2], reduction=reduction).sum()
        found.append(torch.autograd.grad(loss, [t for t in tensors if t.requires_grad]))
    assert_equal(*found, 1e-5)


def test_evaluation_does_no_gradient_work(monkeypatch):
    calls = []
    monkeypatch.setattr(MODULE, "linear", lambda *a: calls.append(a[0].shape) or F.linear(*a[:3]))
    monkeypatch.setattr(OuterSum, "add", lambda *_: pytest.fail("a gradient was made"))
    h, weight, target = torch.randn(6, 3), torch.randn(5, 3, requires_grad=True), torch.zeros(6, dtype=torch.long)
    with torch.no_grad():
        assert not linear_cross_entropy(h, weight, target).requires_grad
    assert not linear_cross_entropy(h, weight.detach(), target).requires_grad
    assert calls == [(6, 3)] * 2


def test_no_block_of_logits_is_larger_than_the_limit(monkeypatch):
    made, places = [], []
    true, rooms = MODULE.linear, MODULE.room
    monkeypatch.setattr(MODULE, "linear", lambda *a: made.append(true(*a)) or made[-1])
    monkeypatch.setattr(MODULE, "room", lambda *a: places.append(a[0]) or rooms(*a))
    monkeypatch.setitem(MODULE.BLOCK, "cpu", 4 * 5 * 11)  # five rows of eleven logits
    both(linear_cross_entropy, (torch.randn(17, 3), torch.randn(11, 3), None), torch.zeros(17, dtype=torch.long))
    assert [len(z) for z in made if z.shape[1] == 11] == [5, 5, 5, 2]
    made.clear()
    monkeypatch.setitem(MODULE.BLOCK, "cpu", 1)  # a row at least
    both(linear_cross_entropy, (torch.randn(3, 3), torch.randn(11, 3), None), torch.zeros(3, dtype=torch.long))
    assert [len(z) for z in made if z.shape[1] == 11] == [1, 1, 1] and places == [5, 1]


def test_rows_whose_probability_cannot_be_held_are_computed_again_block_by_block(monkeypatch):
    made, true = [], MODULE.linear
    monkeypatch.setattr(MODULE, "linear", lambda *a: made.append(len(a[0])) or true(*a))
    monkeypatch.setitem(MODULE.BLOCK, "cpu", 4 * 5 * 11)  # five rows of eleven logits
    h, weight, target = torch.ones(17, 1), torch.zeros(11, 1), torch.zeros(17, dtype=torch.long)
    h[:13] = 100  # of them one is ignored
    weight[0], target[0] = -1, -100
    with torch.no_grad():
        ours = linear_cross_entropy(h, weight, target, reduction="none")
    assert made == [5, 5, 5, 2, 4, 4, 4], "all rows, then the twelve"
    torch.testing.assert_close(ours, plain(h, weight, target, reduction="none"))


@pytest.mark.parametrize("below", [60.0, 75.0, 85.0, 90.0, 100.0, 110.0, 1000.0])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
def test_small_probabilities_keep_their_digits(below, label_smoothing):
    """Also where the probability of the target has only some of its digits in float32, or none."""
    h, target = torch.tensor([[1.0]]), torch.tensor([0])
    weight = torch.tensor([[-below], [0.0], [-0.5]])
    ours = linear_cross_entropy(h, weight, target, label_smoothing=label_smoothing)
    exact = plain(h.double(), weight.double(), target, label_smoothing=label_smoothing)
    torch.testing.assert_close(ours.double(), exact, rtol=3e-7, atol=0)


def test_the_logits_of_all_blocks_lie_in_one_place(monkeypatch):
    made, true = [], MODULE.linear
    monkeypatch.setattr(MODULE, "linear", lambda *a: made.append(true(*a)) or made[-1])
    monkeypatch.setitem(MODULE.BLOCK, "cpu", 4 * 5 * 11)
    with using("torch"):  # oneDNN brings memory of its own
        both(linear_cross_entropy, (torch.randn(17, 3), torch.randn(11, 3), None), torch.zeros(17, dtype=torch.long))
    logits = [z for z in made if z.shape[1] == 11]
    assert len(logits) == 4 and len({z.data_ptr() for z in logits}) == 1


@pytest.mark.parametrize("gradient", [False, True])
def test_no_more_of_half_precision_logits_than_a_part_is_taken_to_float32(monkeypatch, gradient):
    seen, true = [], MODULE._losses
    monkeypatch.setattr(MODULE, "_losses", lambda z, *rest: seen.append((len(z), z.dtype)) or true(z, *rest))
    monkeypatch.setitem(MODULE.BLOCK, "cpu", 2 * 10 * 11)  # ten rows of eleven logits
    monkeypatch.setitem(MODULE.PART, "cpu", 4 * 4 * 11)
    h, weight = torch.randn(17, 3).bfloat16(), torch.randn(11, 3).bfloat16().requires_grad_(gradient)
    linear_cross_entropy(h, weight, torch.zeros(17, dtype=torch.long))
    assert seen == [(n, torch.float32) for n in (3, 3, 3, 4, 4)]


# Autograd


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_backward_twice(reduction, name):
    h, weight = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    with using(name):
        loss = linear_cross_entropy(h, weight, torch.tensor([0, 1, 2, 3]), reduction=reduction).sum()
        loss.backward(retain_graph=True)
        once = weight.grad.clone(), h.grad.clone()
        (3 * loss).backward()
    torch.testing.assert_close((weight.grad, h.grad), (4 * once[0], 4 * once[1]))
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("name", BACKENDS)
def test_the_first_pass_back_scales_the_sum_where_it_lies(name, monkeypatch):
    """Whose memory becomes V's gradient: none of that size is made twice, and a graph that is kept still works."""
    h, weight, given = torch.randn(4, 3), torch.randn(5, 3, requires_grad=True), []

    def take(self, scale, original=OuterSum.take):
        given.append((self.total.data_ptr(), self.transposed))
        return original(self, scale)

    monkeypatch.setattr(OuterSum, "take", take)
    with using(name):
        loss = linear_cross_entropy(h, weight, torch.tensor([0, 1, 2, 3]))
        (first,) = torch.autograd.grad(2 * loss, weight, retain_graph=True)
        kept = first.clone()
        (second,) = torch.autograd.grad(loss, weight, retain_graph=True)
        weight.grad = None
        loss.backward()
    torch.testing.assert_close(kept, 2 * second)
    torch.testing.assert_close(first, kept, rtol=0, atol=0)  # no later pass wrote over it
    (_, turned), _, (place, _) = given
    assert turned or weight.grad.data_ptr() == place, "a copy was made"


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("of", [0, 1, 2])
def test_second_derivatives_are_refused_and_first_ones_are_not(reduction, of):
    tensors = [torch.randn(s, requires_grad=True) for s in ((4, 3), (5, 3), (5,))]
    target = torch.tensor([0, 1, 2, 3])
    loss = linear_cross_entropy(*tensors[:2], target, linear_bias=tensors[2], reduction=reduction).sum()
    first = torch.autograd.grad(loss, tensors, create_graph=True)
    expected = torch.autograd.grad(
        plain(*tensors[:2], target, linear_bias=tensors[2], reduction=reduction).sum(), tensors
    )
    assert_equal([g.detach() for g in first], expected, 1e-5)
    with pytest.raises(RuntimeError, match=r"has first derivatives only; for second ones take F.cross_entropy"):
        torch.autograd.grad(sum(g.square().sum() for g in first), tensors[of])


def test_the_transforms_of_torch_func():
    h, weight, bias = (torch.randn(s, dtype=torch.float64) for s in ((2, 4, 3), (5, 3), (5,)))
    target = torch.randint(5, (2, 4))

    def transformed(function):
        def loss(w, h, o):
            return function(h, w, o, linear_bias=bias)

        each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(weight, h, target)
        return each, torch.func.hessian(loss)(weight, h, target), torch.func.vmap(loss, (None, 0, 0))(weight, h, target)

    torch.testing.assert_close(transformed(linear_cross_entropy), transformed(plain))


def test_while_a_program_is_compiled_the_plain_pair_stands(monkeypatch):
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    monkeypatch.setattr(MODULE, "_run", None)
    tensors, target = (torch.randn(4, 3), torch.randn(5, 3), torch.randn(5)), torch.tensor([0, 1, 2, 3])
    assert_equal(both(linear_cross_entropy, tensors, target), both(plain, tensors, target), 0.0)


def test_on_a_device_without_numbers():
    h, weight = torch.empty(2, 6, 3, device="meta"), torch.empty(5, 3, device="meta")
    assert linear_cross_entropy(h, weight, torch.empty(2, 6, device="meta", dtype=torch.long)).shape == ()


def test_functional_call_moves_the_tied_matrix():
    model = LanguageModel(7, 4, 4, 1, tied=True)
    tokens = torch.randint(7, (2, 3))
    moved = {name: (2 * p).detach().requires_grad_() for name, p in model.named_parameters()}
    other = copy.deepcopy(model)
    other.load_state_dict({name: p.detach() for name, p in moved.items()})

    class Loss(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, tokens):
            return self.inner.loss(tokens, tokens)[0]

    loss = torch.func.functional_call(Loss(model), {f"inner.{name}": p for name, p in moved.items()}, (tokens,))
    expected = other.loss(tokens, tokens)[0]
    torch.testing.assert_close(loss, expected)
    expected.backward()
    found = torch.autograd.grad(loss, list(moved.values()))
    torch.testing.assert_close(list(found), [p.grad for p in other.parameters()])


def test_data_parallel_over_one_process(tmp_path):
    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = LanguageModel(7, 4, 4, 1, tied=True)

        def forward(self, tokens):
            return self.inner.loss(tokens[:, :-1], tokens[:, 1:])[0]

    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/{os.getpid()}", rank=0, world_size=1)
    try:
        model, tokens = Loss(), torch.randint(7, (2, 5))
        alone = copy.deepcopy(model)
        wrapped = nn.parallel.DistributedDataParallel(model)
        losses = wrapped(tokens), alone(tokens)
        for loss in losses:
            loss.backward()
        torch.testing.assert_close(*losses)
        torch.testing.assert_close(*([p.grad for p in m.parameters()] for m in (model, alone)))
    finally:
        torch.distributed.destroy_process_group()


# Precision


@pytest.mark.parametrize("rows", [None, 7])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_half_precision_is_no_worse_than_torchs(monkeypatch, dtype, reduction, rows):
    """Against float64 of the same rounded inputs: at most torch's own error, and one rounding of the result. Whether a
    block is taken to float32 whole or seven rows at a time."""
    if rows is not None:
        monkeypatch.setitem(MODULE.PART, "cpu", rows * 300 * 4)
    tensors = [t.to(dtype) for t in (torch.randn(64, 16), 0.3 * torch.randn(300, 16), torch.randn(300))]
    target, weights = torch.randint(300, (64,)), torch.rand(64)
    exact = both(plain, [t.double() for t in tensors], target, weights, reduction=reduction)
    ours, theirs = (both(f, tensors, target, weights, reduction=reduction) for f in (linear_cross_entropy, plain))
    for a, b, e in zip(ours, theirs, exact, strict=True):
        assert a.dtype is b.dtype is dtype
        scale = e.abs().max()
        errors = [float((x.double() - e).abs().max() / scale) for x in (a, b)]
        assert errors[0] <= 1.5 * errors[1] + torch.finfo(dtype).eps, errors


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.bfloat16])
def test_autocast_as_the_plain_pair(reduction, weight_dtype):
    h, weight, bias = torch.randn(64, 16), (0.3 * torch.randn(300, 16)).to(weight_dtype), torch.randn(300)
    target, weights = torch.randint(300, (64,)), torch.rand(64)
    exact = both(plain, [t.double() for t in (h, weight, bias)], target, weights, reduction=reduction)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = (
            both(f, (h, weight, bias), target, weights, reduction=reduction) for f in (linear_cross_entropy, plain)
        )
    assert ours[0].dtype is torch.float32 and ours[2].dtype is weight_dtype
    # the same rounded logits, and from there float32
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-5, atol=1e-5)
    for a, b, e in zip(ours, theirs, exact, strict=True):
        assert a.dtype is b.dtype
        errors = [float((x.double() - e).abs().max() / e.abs().max()) for x in (a, b)]
        assert errors[0] <= 1.5 * errors[1] + torch.finfo(torch.bfloat16).eps, errors
    with torch.autocast("cpu", torch.bfloat16):  # which leaves float64 alone
        double = both(
            linear_cross_entropy, [t.double() for t in (h, weight, bias)], target, weights, reduction=reduction
        )
    assert_equal(double, exact, 1e-10)


def test_logits_of_1e4_in_half_precision():
    h, weight = torch.full((3, 1), 100.0).bfloat16(), torch.tensor([[100.0], [-100.0], [99.5]]).bfloat16()
    loss = linear_cross_entropy(h, weight, torch.tensor([0, 1, 2]), reduction="none").float()
    torch.testing.assert_close(
        loss, torch.tensor([0.0, 2e4, 50.0]), rtol=1e-2, atol=20.0
    )  # 9950 rounds to 9984 or 9920
    assert loss.isfinite().all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_on_a_gpu(dtype, reduction):
    tensors = [t.to("cuda", dtype) for t in (torch.randn(64, 16), 0.3 * torch.randn(300, 16), torch.randn(300))]
    target, weights = torch.randint(300, (64,), device="cuda"), torch.rand(64, device="cuda")
    ours, theirs = (both(f, tensors, target, weights, reduction=reduction) for f in (linear_cross_entropy, plain))
    assert_equal(ours, theirs, RTOL[dtype])


# Bad input


H, W, T = torch.zeros(2, 3), torch.zeros(5, 3), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        ((H, W, T.float()), {}, TypeError, "target has dtype"),
        ((H, torch.zeros(5, 4), T), {}, ValueError, "last size of input"),
        ((H, W, T[:1]), {}, ValueError, "target has shape"),
        ((H, W, T), {"linear_bias": torch.zeros(4)}, ValueError, "linear_bias has shape"),
        ((H, W, T), {"reduction": "max"}, ValueError, "reduction is 'max'"),
        ((H, W, T), {"label_smoothing": -0.1}, ValueError, "label_smoothing is -0.1"),
        ((H, W, T), {"label_smoothing": float("nan")}, ValueError, "label_smoothing is nan"),
        ((H, W, T + 5), {}, ValueError, "target holds 5; it must lie in 0 … 4"),
        ((H, W, T - 1), {"reduction": "none"}, ValueError, "target holds -1"),
        ((H, W.double(), T), {}, TypeError, "linear_weight has dtype torch.float64 and input torch.float32"),
        ((H, W, T), {"linear_bias": torch.zeros(5).half()}, TypeError, "linear_bias has dtype torch.float16"),
    ],
)
def test_bad_input_is_named(arguments, options, error, words, unchecked):
    with pytest.raises(error, match=words):
        linear_cross_entropy(*arguments, **options)


# Ways of differentiating that an autograd function of our own cannot go, or goes with care


def small(dtype=torch.float64):
    g = torch.Generator().manual_seed(3)
    h, w, b = (torch.randn(*shape, dtype=dtype, generator=g).requires_grad_() for shape in ((5, 4), (7, 4), (7,)))
    return h, w, b, torch.tensor([0, 3, 6, -100, 2])


def pair(h, w, b, target, **options):
    return F.cross_entropy(F.linear(h, w, b), target, **options)


@pytest.mark.parametrize("options", [{}, {"reduction": "sum", "label_smoothing": 0.2}])
def test_many_outer_gradients_at_once(options):
    h, w, b, target = small()
    outer = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for ours, theirs in zip(
        *(
            torch.autograd.grad(f, (h, w, b), grad_outputs=outer, is_grads_batched=True)
            for f in (
                linear_cross_entropy(h, w, target, linear_bias=b, **options),
                pair(h, w, b, target, **options),
            )
        ),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("vectorize", [False, True])
def test_a_jacobian_of_the_losses_of_each_row(vectorize, smoothing):
    h, w, b, target = small()
    options = {"reduction": "none", "label_smoothing": smoothing}
    jacobian = torch.autograd.functional.jacobian
    found = jacobian(
        lambda *t: linear_cross_entropy(t[0], t[1], target, linear_bias=t[2], **options), (h, w, b), vectorize=vectorize
    )
    for ours, theirs in zip(found, jacobian(lambda *t: pair(*t, target, **options), (h, w, b)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_forward_mode():
    h, w, b, target = small()
    with torch.autograd.forward_ad.dual_level():
        for which in range(3):
            inputs = [t.detach() for t in (h, w, b)]
            inputs[which] = torch.autograd.forward_ad.make_dual(inputs[which], torch.ones_like(inputs[which]))
            found = [
                torch.autograd.forward_ad.unpack_dual(f).tangent
                for f in (
                    linear_cross_entropy(inputs[0], inputs[1], target, linear_bias=inputs[2]),
                    pair(*inputs, target),
                )
            ]
            torch.testing.assert_close(*found)


def test_tensors_that_hold_nothing():
    modes = pytest.importorskip("torch._subclasses.fake_tensor")
    with modes.FakeTensorMode():
        h, w, b = (torch.randn(*shape, requires_grad=True) for shape in ((5, 4), (7, 4), (7,)))
        linear_cross_entropy(h, w, torch.zeros(5, dtype=torch.int64), linear_bias=b).backward()
        assert w.grad.shape == (7, 4)
    meta = [torch.randn(*shape, device="meta") for shape in ((5, 4), (7, 4))]
    assert linear_cross_entropy(*meta, torch.zeros(5, dtype=torch.int64, device="meta")).shape == ()


class Tagged(torch.Tensor):
    """A reader's own kind of tensor."""


def test_a_subclass_of_a_tensor_stays_one():
    h, w, b, target = small()
    tagged = linear_cross_entropy(h.detach().as_subclass(Tagged), w, target, linear_bias=b)
    assert isinstance(tagged, Tagged)
    torch.testing.assert_close(torch.Tensor(tagged.detach()), pair(h, w, b, target).detach())


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_derivative_of_the_gradient_is_refused_also_by_the_outer_gradient(reduction):
    h, w, b, target = small()
    loss = linear_cross_entropy(h, w, target, linear_bias=b, reduction=reduction)
    outer = torch.ones_like(loss).requires_grad_()
    (gradient,) = torch.autograd.grad(loss, h, grad_outputs=outer, create_graph=True)
    with pytest.raises(RuntimeError, match="linear_cross_entropy has first derivatives only"):
        torch.autograd.grad(gradient.sum(), outer)


@pytest.mark.parametrize("shape", [(3, 0), (2, 3, 0)])
def test_states_without_features_have_the_loss_of_the_bias(shape):
    h, w = torch.zeros(shape, requires_grad=True), torch.zeros(5, 0, requires_grad=True)
    b, target = torch.randn(5, requires_grad=True), torch.zeros(shape[:-1], dtype=torch.int64)
    loss = linear_cross_entropy(h, w, target, linear_bias=b)
    torch.testing.assert_close(loss, -torch.log_softmax(b, -1)[0])
    loss.backward()
    assert h.grad.shape == shape and w.grad.shape == (5, 0)
    torch.testing.assert_close(b.grad, torch.softmax(b.detach(), -1) - F.one_hot(torch.tensor(0), 5))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("index", [None, 1.5, True])
def test_an_ignore_index_that_is_no_whole_number_is_refused(index):
    h, w, b, target = small()
    with pytest.raises(TypeError, match=rf"^ignore_index is {index}; it must be a whole number"):
        linear_cross_entropy(h, w, target, linear_bias=b, ignore_index=index)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [0.0, 1e-7, 1.0, 200.0])
def test_half_precision_is_finite_where_the_loss_is(dtype, size):
    h = torch.full((3, 4), size, dtype=dtype).requires_grad_()
    w = torch.full((6, 4), 1.0, dtype=dtype).requires_grad_()
    target = torch.tensor([0, 2, 5])
    loss = linear_cross_entropy(h, w, target)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(6), rel=1e-2)
    assert torch.isfinite(h.grad).all() and torch.isfinite(w.grad).all()


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "linear_cross_entropy": Call(
        lambda: {
            "input": torch.ones(5, 4),
            "linear_weight": torch.ones(3, 4),
            "target": TARGET,
            "linear_bias": torch.ones(3),
            "reduction": "mean",
            "label_smoothing": 0.0,
        },
        label_smoothing=UP_TO_ONE,
    ),
}
