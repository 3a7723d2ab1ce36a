"""The one loop: equal to a loop written out with torch's own parts, and resumable at every step."""

import collections
import copy
import dataclasses
import gc
import itertools
import warnings
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.ideas.calls import Call, X
from tiedlib.optimizers import SGD
from tiedlib.training_loop import Epoch, Progress, Step, evaluate, fit, minibatches


def data(n=10):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, generator=g), torch.randint(2, (n,), generator=g)


def loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def shuffled(x, y):
    return lambda epoch: minibatches(x, y, batch_size=4, generator=torch.Generator().manual_seed(epoch))


def test_equals_the_loop_written_out():
    x, y = data()
    ours = nn.Linear(3, 2)
    reference = copy.deepcopy(ours)
    events = list(fit(ours, shuffled(x, y), SGD(ours.parameters(), lr=0.5), loss=loss, epochs=3, clip=0.2))
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.5)
    means = []
    for epoch in range(3):
        order, total = torch.randperm(10, generator=torch.Generator().manual_seed(epoch)), 0.0
        for rows in order.split(4):
            optimizer.zero_grad()
            value = F.cross_entropy(reference(x[rows]), y[rows])
            value.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.2)
            optimizer.step()
            total += len(rows) * value.item()
        means.append(total / 10)
    torch.testing.assert_close(ours.state_dict(), reference.state_dict(), rtol=1e-6, atol=1e-7)
    assert [e.loss for e in events if isinstance(e, Epoch)] == pytest.approx(means, rel=1e-6)
    assert sum(isinstance(e, Step) for e in events) == 9


@pytest.mark.parametrize("optimizer", [SGD, torch.optim.SGD])
@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_clips_as_torch_clips(optimizer, clip):
    """With the factor in the step, where the optimizer takes it, or on the gradient; the norm is that before clipping."""
    x, y = data()
    ours = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    ours[0].bias.requires_grad_(False)  # without a gradient, and no part of the norm
    reference = copy.deepcopy(ours)
    run = fit(ours, [(x, y)] * 3, optimizer(ours.parameters(), lr=0.5), loss=loss, epochs=1, clip=clip)
    steps = [event for event in run if isinstance(event, Step)]
    plain, norms = torch.optim.SGD(reference.parameters(), lr=0.5), []
    for _ in range(3):
        plain.zero_grad()
        loss(reference, (x, y)).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(reference.parameters(), clip))
        plain.step()
    torch.testing.assert_close(ours.state_dict(), reference.state_dict(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(torch.stack([s.gradient_norm for s in steps]), torch.stack(norms))
    assert (norms[0] > clip) == (clip < 1)


def test_a_scheduler_sees_the_clipped_steps(recwarn):
    x, y = data()
    model = nn.Linear(3, 2)
    optimizer = SGD(model.parameters(), lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    list(fit(model, [(x, y)], optimizer, loss=loss, epochs=2, clip=1.0, scheduler=scheduler))
    assert optimizer.param_groups[0]["lr"] == 0.125 and not recwarn.list  # torch warns where it saw no step


def carried(model, batch, carry):
    """A loss that depends on what was carried: the running mean of what came before."""
    carry = batch[0].mean() * model.weight if carry is None else 0.5 * carry + batch[0].mean() * model.weight
    return (carry - batch[1]).square().sum(), carry


class Scalar(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


@given(cut=st.integers(0, 11), stateful=st.booleans())
def test_continues_from_any_step_as_if_never_stopped(cut, stateful):
    torch.manual_seed(0)
    batches = [(torch.randn(2), torch.randn(2)) for _ in range(4)]

    def simple(model, batch):
        return carried(model, batch, None)[0]

    def run(model, stop=None, progress=None):
        optimizer = SGD(model.parameters(), lr=0.01)
        events = fit(
            model,
            batches,
            optimizer,
            loss=carried if stateful else simple,
            epochs=3,
            stateful=stateful,
            progress=progress,
        )
        seen = []
        for event in events:
            if isinstance(event, Step):
                seen.append(event)
                if stop is not None and len(seen) > stop:
                    break
        return seen

    whole, half = Scalar(), Scalar()
    all_steps = run(whole)
    first = run(half, stop=cut)
    second = run(half, progress=first[-1].progress)
    assert torch.equal(whole.weight, half.weight)
    assert [s.loss.item() for s in first + second] == [s.loss.item() for s in all_steps]


def test_carry_is_detached_and_reset_every_epoch():
    seen = []

    def watch(model, batch, carry):
        seen.append(carry)
        return carried(model, batch, carry)

    list(
        fit(
            Scalar(), [data(2), data(2)], SGD([torch.zeros(1, requires_grad=True)]), loss=watch, epochs=2, stateful=True
        )
    )
    assert [c is None for c in seen] == [True, False, True, False]
    assert not seen[1].requires_grad


def test_evaluate_weights_a_short_last_batch_and_restores_modes():
    x, y = data()
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.9))
    model[0].eval()
    before = [m.training for m in model.modules()]
    mean = evaluate(model, minibatches(x, y, batch_size=4), loss=loss)
    assert [m.training for m in model.modules()] == before
    with torch.no_grad():
        expected = F.cross_entropy(model[0](x), y)
    assert mean == pytest.approx(expected.item(), rel=1e-6)


@given(n=st.integers(0, 20), size=st.integers(1, 7), drop=st.booleans(), shuffle=st.booleans())
def test_minibatches_give_every_row_once(n, size, drop, shuffle):
    x = torch.arange(n)
    generator = torch.Generator().manual_seed(n) if shuffle else None
    batches = [a for (a,) in minibatches(x, batch_size=size, generator=generator, drop_last=drop)]
    rows = torch.cat(batches).tolist() if batches else []
    assert all(len(b) == size for b in batches[: -1 if not drop else None])
    assert len(rows) == (n - n % size if drop else n) and len(set(rows)) == len(rows)
    if not shuffle:
        assert rows == list(range(len(rows)))


def test_not_finite_loss_stops_with_the_place():
    model = Scalar()
    model.weight.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"step 1 of epoch 0.*learning rate"):
        list(fit(model, [data(2)], SGD(model.parameters()), loss=lambda m, b: m.weight.sum(), epochs=1, clip=1.0))


def test_model_is_in_training_mode_after_an_evaluation_between_events():
    x, y = data()
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    modes = []

    def watch(m, batch):
        modes.append(m.training)
        return loss(m, batch)

    for _ in fit(model, [(x, y)], SGD(model.parameters()), loss=watch, epochs=2):
        model.eval()
    assert modes == [True, True]


def with_weight(value):
    return {"loss": loss, "weight": lambda batch: value}


def words(model, batch):
    return model.weight.sum()


def zero_rows():
    return [(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))]


BAD = [
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=1)), ValueError, "batches gave nothing in epoch 0"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=-1)), ValueError, "epochs is -1; it must be at least 0"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=1.5)), TypeError, "epochs is 1.5; it must be a whole number"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=float("nan"))), TypeError, "epochs is nan"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=True)), TypeError, "epochs is True"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=1, clip=0.0)), ValueError, "clip is 0.0"),
    (lambda m, o: list(fit(m, [], o, loss=loss, epochs=1, clip=float("nan"))), ValueError, "clip is nan"),
    (
        lambda m, o: list(fit(m, [data()], o, loss=lambda m, b: m(b[0]), epochs=1)),
        ValueError,
        r"shape \(10, 2\); it must",
    ),
    (lambda m, o: list(fit(m, [data()], o, loss=lambda m, b: 1.0, epochs=1)), TypeError, "loss gave a float"),
    (lambda m, o: list(fit(m, [data()], o, epochs=1, **with_weight(-1.0))), ValueError, "weight gave -1.0"),
    (lambda m, o: list(fit(m, [data()], o, epochs=1, **with_weight(float("nan")))), ValueError, "weight gave nan"),
    (lambda m, o: list(fit(m, [data()], o, epochs=1, **with_weight(0))), ValueError, "weight gave 0 for every batch"),
    (lambda m, o: list(fit(m, zero_rows(), o, loss=loss, epochs=1)), FloatingPointError, "the loss is nan by step 1"),
    (lambda m, o: list(fit(m, ["a b"], o, loss=words, epochs=1)), ValueError, "weight is None and the batch, a str"),
    (lambda m, o: evaluate(m, [["a", "b"]], loss=words), ValueError, "weight is None and the batch, a list"),
    (
        lambda m, o: evaluate(m, [{"x": torch.tensor(1.0)}], loss=words),
        ValueError,
        "weight is None and the batch, a dict",
    ),
    (lambda m, o: list(fit(m, [data()], o, loss=loss, epochs=1, scheduler=0.5)), TypeError, "scheduler is 0.5"),
    (lambda m, o: evaluate(m, [], loss=loss), ValueError, "batches is empty"),
    (lambda m, o: evaluate(m, zero_rows(), loss=loss), ValueError, "batches is empty"),
    (lambda m, o: evaluate(m, [data()], loss=lambda m, b: m(b[0])), ValueError, r"shape \(10, 2\)"),
    (lambda m, o: evaluate(m, [data()], loss=lambda m, b: 0.5), TypeError, "loss gave a float"),
    (lambda m, o: evaluate(m, [data()], **with_weight(float("inf"))), ValueError, "weight gave inf"),
    (lambda m, o: minibatches(torch.ones(2), batch_size=0), ValueError, "batch_size is 0"),
    (lambda m, o: minibatches(torch.ones(2), batch_size=2.0), TypeError, "batch_size is 2.0"),
    (lambda m, o: minibatches(torch.ones(2), batch_size=float("nan")), TypeError, "batch_size is nan"),
    (lambda m, o: minibatches(torch.ones(2), torch.ones(3), batch_size=1), ValueError, r"lengths \[2, 3\]"),
    (lambda m, o: minibatches(torch.ones(2), torch.tensor(1.0), batch_size=1), ValueError, r"tensors\[1\] is a scalar"),
    (lambda m, o: minibatches(batch_size=1), ValueError, "at least one"),
]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("call", "error", "words"), BAD)
def test_bad_input_is_named(call, error, words):
    model = nn.Linear(3, 2)
    with pytest.raises(error, match=words):
        call(model, SGD(model.parameters()))


def test_a_batch_without_rows_counts_for_nothing():
    model, rows = nn.Linear(3, 2), data()
    assert evaluate(model, [rows, *zero_rows()], loss=loss) == evaluate(model, [rows], loss=loss)


@pytest.mark.parametrize(("dtype", "count"), [(torch.float16, 2049), (torch.bfloat16, 300), (torch.float64, 20)])
def test_the_mean_is_kept_in_double_whatever_the_loss_is(dtype, count):
    """Added one by one, 2049 ones end at 2048 in float16 and 300 at 256 in bfloat16; the mean must stay 1."""
    model = Scalar().to(dtype)
    batches = [torch.ones(1, dtype=dtype)] * count

    def one(model, batch):
        return (0 * model.weight + batch).sum()

    assert evaluate(model, batches, loss=one) == 1.0
    events = list(fit(model, batches[:300], SGD(model.parameters(), lr=0.1), loss=one, epochs=1))
    assert events[-1].loss == 1.0


def test_minibatches_of_tensors_that_are_not_contiguous():
    x = torch.arange(12).reshape(3, 4).T
    batches = list(minibatches(x, batch_size=3, generator=torch.Generator().manual_seed(0)))
    order = torch.randperm(4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cat([b for (b,) in batches]), x[order])


def test_the_mean_of_batch_gradients_is_the_whole_gradient():
    """Over all batches of 2 of 5 rows, each equally likely: what makes a shuffled batch an honest sample."""
    x, y = data(5)
    model = nn.Linear(3, 2).double()
    parameters = list(model.parameters())

    def gradient(rows):
        value = F.cross_entropy(model(x[rows].double()), y[rows])
        return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters)])

    pairs = list(itertools.combinations(range(5), 2))
    mean = torch.stack([gradient(list(pair)) for pair in pairs]).mean(0)
    torch.testing.assert_close(mean, gradient(list(range(5))), rtol=1e-12, atol=1e-14)


def test_an_iterator_that_is_used_up_is_said():
    x, y = data()
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="epoch 1; an iterator can be walked only once"):
        list(fit(model, iter([(x, y)]), SGD(model.parameters()), loss=loss, epochs=2))


def test_progress_starts_at_the_beginning():
    assert Progress() == Progress(epoch=0, step=0, loss_sum=None, weight_sum=0.0, carry=None)


# Batches and carries of any structure


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclasses.dataclass
class Batch:
    x: torch.Tensor
    y: torch.Tensor


STRUCTURES = {
    "dict": lambda x, y: {"x": x, "y": y},
    "ordered": lambda x, y: collections.OrderedDict(name="words", x=x, y=y),
    "user": lambda x, y: collections.UserDict(x=x, y=y),
    "named": Pair,
    "dataclass": Batch,
    "nested": lambda x, y: {"name": "words", "both": [(None, Pair(x, y))]},
}


def both(tree):
    """x and y, wherever they stand."""
    if isinstance(tree, (Pair, Batch)):
        return tree.x, tree.y
    return both(tree["both"][0][1]) if "both" in tree else (tree["x"], tree["y"])


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_short_batch_counts_for_less_whatever_holds_it(kind):
    x, y = data(10)
    model = nn.Linear(3, 2)
    batches = [STRUCTURES[kind](x[:7], y[:7]), STRUCTURES[kind](x[7:], y[7:])]

    def of(model, batch):
        return loss(model, both(batch))

    whole = loss(model, (x, y)).item()
    assert evaluate(model, batches, loss=of) == pytest.approx(whole, rel=1e-6)
    still = SGD(model.parameters(), lr=0.0)
    assert list(fit(model, batches, still, loss=of, epochs=1))[-1].loss == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_a_carry_of_any_structure_comes_back_detached_and_of_its_type(kind):
    seen = []

    def watch(model, batch, carry):
        x, y = (batch, batch) if carry is None else both(carry)
        seen.append((type(carry), x.requires_grad, y.requires_grad))
        new = model(x)
        return new.square().mean(), STRUCTURES[kind](new, 2 * new)

    model = nn.Linear(3, 3)
    list(fit(model, [torch.ones(4, 3)] * 3, SGD(model.parameters()), loss=watch, epochs=1, stateful=True))
    assert seen[1:] == [(type(STRUCTURES[kind](model.weight, model.weight)), False, False)] * 2


def test_arrays_of_numpy_have_a_length_too():
    np = pytest.importorskip("numpy")
    model = nn.Linear(3, 2)
    x, y = data(10)
    batches = [(np.asarray(x[:7]), np.asarray(y[:7])), (np.asarray(x[7:]), np.asarray(y[7:]))]

    def of(model, batch):
        return loss(model, tuple(map(torch.from_numpy, batch)))

    assert evaluate(model, batches, loss=of) == pytest.approx(loss(model, (x, y)).item(), rel=1e-6)


# Schedules


def test_a_plateau_is_seen_in_the_training_loss():
    model = Scalar()
    optimizer = SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1, factor=0.5)
    rates, losses = [], iter([3.0, 2.0, 2.0, 2.0, 2.0, 1.0])

    def planned(model, batch):
        return 0 * model.weight.sum() + next(losses)

    for event in fit(model, [torch.ones(2)], optimizer, loss=planned, epochs=6, scheduler=scheduler):
        if isinstance(event, Epoch):
            rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]


# Half precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("make", [SGD, torch.optim.SGD])
def test_a_gradient_longer_than_float16_can_say_is_clipped(dtype, make):
    """Its norm, 8.5e4, is no number of float16; an infinite norm would scale every step to nothing."""
    model = nn.Linear(2, 1, bias=False).to(dtype)
    before = model.weight.detach().clone()

    def steep(model, batch):
        return (model.weight * batch).sum()

    run = fit(
        model, [torch.full((1, 2), 6e4, dtype=dtype)], make(model.parameters(), lr=1.0), loss=steep, epochs=1, clip=1.0
    )
    step = next(run)
    assert step.gradient_norm.item() == pytest.approx(6e4 * 2**0.5, rel=1e-2)
    torch.testing.assert_close(model.weight, before - 0.5**0.5, rtol=0, atol=1e-2, check_dtype=False)


# A call whose events nobody asks for


def test_a_bare_call_says_that_it_trained_nothing():
    x, y = data()
    model = nn.Linear(3, 2)
    with pytest.warns(RuntimeWarning, match="nothing was trained"):
        fit(model, [(x, y)], SGD(model.parameters()), loss=loss, epochs=1)
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(model, [(x, y)], SGD(model.parameters()), loss=loss, epochs=1)
        next(run)
        del run
        list(fit(model, [(x, y)], SGD(model.parameters()), loss=loss, epochs=0))
        gc.collect()


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones

GOOD_CALLS = {
    "minibatches": Call(lambda: {"*": (X,), "batch_size": 2}),
}
