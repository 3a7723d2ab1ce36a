"""Where `linear_cross_entropy` meets torch's other ways to take a derivative: equal to the plain pair of calls, or refused."""

import importlib
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from tiedlib.linear_cross_entropy import linear_cross_entropy

MODULE = importlib.import_module("tiedlib._plain_cross_entropy")
OURS = sys.modules["tiedlib.linear_cross_entropy"]
TARGET = torch.tensor([0, 1, -100, 6, 2])
REDUCTIONS = ["mean", "sum", "none"]


def draw(dtype=torch.float64):
    g = torch.Generator().manual_seed(2)
    return [torch.randn(n, generator=g, dtype=torch.float64).to(dtype).requires_grad_() for n in ((5, 3), (7, 3), (7,))]


def ours(h, weight, bias, target=TARGET, **options):
    return linear_cross_entropy(h, weight, target, linear_bias=bias, **options)


def pair(h, weight, bias, target=TARGET, **options):
    return F.cross_entropy(F.linear(h, weight, bias), target, **options)


def batched(f, given, **options):
    loss = f(*given, **options)
    outer = torch.randn(4, *loss.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(loss.dtype)
    return torch.autograd.grad(loss, given, outer, is_grads_batched=True)


def twice_batched(f, given, **options):
    """The first pass back gives its gradients away; another makes them again."""
    loss = f(*given, **options)
    outer = torch.ones(4, *loss.shape, dtype=loss.dtype)
    torch.autograd.grad(loss, given, outer, is_grads_batched=True, retain_graph=True)
    one = torch.autograd.grad(loss, given, outer[0], retain_graph=True)
    return *one, *torch.autograd.grad(loss, given, outer, is_grads_batched=True)


def jacobian(strategy):
    def found(f, given, **options):
        return torch.autograd.functional.jacobian(
            lambda *x: f(*x, **options), tuple(given), vectorize=True, strategy=strategy
        )

    return found


def jvp(f, given, **options):
    one = tuple(torch.ones_like(t) for t in given)
    return torch.func.jvp(lambda *x: f(*x, **options), tuple(given), one)


def dual(which):
    def found(f, given, **options):
        with forward_ad.dual_level():
            made = [forward_ad.make_dual(t, torch.ones_like(t)) if i == which else t for i, t in enumerate(given)]
            loss = forward_ad.unpack_dual(f(*made, **options))
            return loss.primal, loss.tangent

    return found


def dual_without_gradients(f, given, **options):
    with torch.no_grad():
        return dual(0)(f, [t.detach() for t in given], **options)


def checkpointed(reentrant):
    def found(f, given, **options):
        loss = checkpoint(lambda *x: f(*x, **options), *given, use_reentrant=reentrant)
        loss.sum().backward()
        return loss, *(t.grad for t in given)

    return found


def hooked(f, given, **options):
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone(), lambda t: t.clone()):
        loss = f(*given, **options)
    return torch.autograd.grad(loss.sum(), given)


def of_some(f, given, **options):
    given = [t.detach() for t in given]
    given[1].requires_grad_()
    loss = f(*given, **options)
    outer = torch.ones(2, *loss.shape, dtype=loss.dtype)
    return torch.autograd.grad(loss, given[1], outer, is_grads_batched=True)


WAYS = {
    **{f.__name__: f for f in (batched, twice_batched, jvp, dual_without_gradients, hooked, of_some)},
    "jacobian": jacobian("reverse-mode"),
    "forward jacobian": jacobian("forward-mode"),
    **{f"dual {i}": dual(i) for i in range(3)},
    "checkpoint": checkpointed(False),
    "reentrant checkpoint": checkpointed(True),
}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_way_to_a_derivative_is_the_plain_pairs(way, reduction, smoothing):
    options = {"reduction": reduction, "label_smoothing": smoothing}
    for x, y in zip(way(ours, draw(), **options), way(pair, draw(), **options), strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_batched_gradients_in_half_precision_have_the_inputs_dtype(reduction):
    found = batched(ours, draw(torch.bfloat16), reduction=reduction)
    for x, y in zip(found, batched(pair, draw(), reduction=reduction), strict=True):
        assert x.dtype is torch.bfloat16
        torch.testing.assert_close(x.double(), y, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("of", ["outer", "input", "batched"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_second_derivative_is_refused_by_every_way_to_it(reduction, of):
    given, scale = draw(), torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    loss = (ours(*given, reduction=reduction) * scale).sum()
    with pytest.raises(RuntimeError, match="has first derivatives only; for second ones take"):
        if of == "batched":
            torch.autograd.grad(
                loss, given[0], torch.ones(2, dtype=torch.float64), is_grads_batched=True, create_graph=True
            )
        else:
            (first,) = torch.autograd.grad(loss, given[0], create_graph=True)
            torch.autograd.grad(first.sum(), scale if of == "outer" else given[1])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(4, 0, 3), (0, 2, 3), (0, 0, 3), (0, 2, 0), (2, 2, 0), (0, 0, 0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_empty_sizes_are_torchs(shape, reduction, dtype):
    rows, dim, vocab = shape
    target = torch.arange(rows) % vocab if vocab else torch.full((rows,), -100)
    results = []
    for f in (ours, pair):
        given = [torch.ones(n, dtype=dtype).requires_grad_() for n in ((rows, dim), (vocab, dim), (vocab,))]
        loss = f(*given, target, reduction=reduction, label_smoothing=0.1)
        loss.sum().backward()
        results.append([loss, *(t.grad for t in given)])
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, equal_nan=True)


def test_no_word_at_all_and_a_target():
    with pytest.raises(ValueError, match="target holds 1"):
        ours(torch.ones(2, 3), torch.ones(0, 3), torch.ones(0), torch.tensor([1, 1]))


def test_fake_tensors_and_meta():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        h, weight = torch.empty(5, 3, requires_grad=True), torch.empty(7, 3)
        loss = linear_cross_entropy(h, weight, torch.empty(5, dtype=torch.long), reduction="none")
        loss.sum().backward()
        assert loss.shape == (5,) and h.grad.shape == (5, 3)
    with torch.device("meta"):
        assert linear_cross_entropy(torch.empty(5, 3), torch.empty(7, 3), torch.empty(5, dtype=torch.long)).shape == ()


class Marked(torch.Tensor):
    pass


def test_a_subclass_of_tensor_stays_one():
    h, weight, bias = draw()
    loss = ours(h.as_subclass(Marked), weight, bias)
    assert type(loss) is Marked
    torch.testing.assert_close(loss.as_subclass(torch.Tensor), pair(h, weight, bias))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("bad", [None, 1.5, True, "no"])
def test_ignore_index_is_a_whole_number(bad):
    with pytest.raises(TypeError, match=f"ignore_index is {bad!r}"):
        ours(*draw(), ignore_index=bad)


ANSWERS = {
    "missing": None,
    "always yes": lambda: True,
    "always no": lambda: False,
    "raises": lambda x: x,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_the_question_of_transforms_is_compared_before_it_is_believed(monkeypatch, answer):
    if answer is None:
        monkeypatch.delattr(torch._C, "_are_functorch_transforms_active")
    else:
        monkeypatch.setattr(torch._C, "_are_functorch_transforms_active", answer)
    MODULE._asks.cache_clear()
    try:
        asks = MODULE._asks()
    finally:
        monkeypatch.undo()
        MODULE._asks.cache_clear()
    assert asks is None or asks() is True


def test_without_the_question_the_plain_pair_goes_everywhere(monkeypatch):
    monkeypatch.setattr(MODULE, "_asks", lambda: None)
    monkeypatch.setattr(OURS, "_run", None)
    given = draw()
    loss, gradients = ours(*given), torch.func.grad(ours, argnums=(0, 1, 2))(*given)
    torch.testing.assert_close(loss, pair(*given))
    for x, y in zip(gradients, torch.autograd.grad(pair(*given), given), strict=True):
        torch.testing.assert_close(x, y)


def test_asked_first_inside_a_transform_the_answer_still_holds_outside():
    MODULE._asks.cache_clear()
    h, weight, bias = draw()
    torch.func.grad(lambda h: ours(h, weight, bias))(h)
    assert MODULE._asks() is not None and MODULE._asks()() is False
    seen = []
    thread = threading.Thread(target=lambda: seen.append(MODULE.only_plain(*draw())))
    thread.start()
    thread.join()
    assert seen == [False], "the blocks, where nothing is in their way"


# -- half precision: finite numbers give finite numbers --------------------------------------------------------------------

# The least of bfloat16 is its least normal number: products of it take what is below for zero on some processors.
EXTREMES = {torch.float16: (6e4, 6e-8), torch.bfloat16: (3e38, 1.2e-38)}


def extreme(dtype):
    big, tiny = EXTREMES[dtype]
    for row in (
        [big, -big, big, big],
        [tiny, tiny, -tiny, tiny],
        [0.0] * 4,
        [big, tiny, 0.0, -1.0],
        [1.0, 2.0, 3.0, 4.0],
    ):
        yield torch.tensor([row[i:] + row[:i] for i in range(4)], dtype=dtype)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", EXTREMES)
def test_what_can_be_held_in_half_precision_is(dtype, reduction, smoothing):
    top, tiny = torch.finfo(dtype).max, EXTREMES[dtype][1]
    for h in extreme(dtype):
        for weight in extreme(dtype):
            for target in (torch.tensor([0, 1, 2, 3]), torch.tensor([3, -100, 0, 1]), torch.zeros(4, dtype=torch.long)):
                found = []
                for x, v in ((h, weight), (h.double(), weight.double())):
                    x, v = x.clone().requires_grad_(), v.clone().requires_grad_()
                    loss = linear_cross_entropy(x, v, target, reduction=reduction, label_smoothing=smoothing)
                    loss.sum().backward()
                    found.append((loss.detach(), x.grad, v.grad))
                for ours, exact in zip(*found, strict=True):
                    held = exact.abs() <= top
                    assert ours.dtype is dtype
                    assert ours[held].isfinite().all(), (h, weight, target)
                loss, exact = found[0][0].double(), found[1][0]
                held = exact.abs() <= top
                logit = float((h.double() @ weight.double().T).abs().max())
                noise = logit * torch.finfo(dtype).eps if logit <= top else 0.0  # of logits that are held in this dtype
                torch.testing.assert_close(loss[held], exact[held], rtol=0.02, atol=4 * noise * len(target) + tiny)


def test_what_is_not_a_number_stays_so_at_once(monkeypatch):
    h, weight = torch.ones(3, 2, dtype=torch.bfloat16), torch.full((4, 2), torch.nan, dtype=torch.bfloat16)
    calls, run = [], OURS._run
    monkeypatch.setattr(OURS, "_run", lambda *a: calls.append(0) or run(*a))
    assert linear_cross_entropy(h, weight, torch.tensor([0, 1, 2])).isnan()
    assert len(calls) == 1
