"""tiedlib.lab.language_model.first_steps: the curvature against autograd's Hessian, the run against `train`."""

import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedlib.lab.data import contiguous_batches, load_corpus, windows
from tiedlib.lab.language_model import first_steps as starts
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.first_steps import FirstStepsConfig, offset_curvature, train_first_steps
from tiedlib.lab.language_model.training import build_model, train
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.records import weights_sha256
from tiedlib.training_loop import Step

TINY = FirstStepsConfig(
    corpus="toy_language", tokens=2000, vocabulary_size=60, dim=8, hidden=8, layers=1, batch=4, unroll=7, threads=1,
    projection=True, projection_bias=True, penalty="code", steps=20,
)  # fmt: skip


def change(**fields):
    return dataclasses.replace(TINY, **fields)


def drawn(batch, time, dim, vocab, seed, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    shapes = ((batch, time, dim), (vocab, dim), (vocab,))
    return [scale * torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes]


def window_loss(c, h, weight, bias, targets):
    """Nats summed over time, averaged over the batch, with c added to every h."""
    logits = (h + c) @ weight.T + bias
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / len(h)


# The curvature


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.integers(0, 10**6))
def test_the_curvature_is_the_largest_eigenvalue_of_the_hessian(batch, time, dim, vocab, seed):
    h, weight, bias = drawn(batch, time, dim, vocab, seed)
    targets = torch.randint(vocab, (batch, time), generator=torch.Generator().manual_seed(seed))
    zero = torch.zeros(dim, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda c: window_loss(c, h, weight, bias, targets), zero)
    expected = float(torch.linalg.eigvalsh(hessian)[-1])
    assert offset_curvature(h, weight, bias) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_steps_below_two_over_the_curvature_settle_and_above_it_they_do_not():
    """Gradient descent on the constant alone, from beside its best place, on a fixed window."""
    h, weight, bias = drawn(3, 4, 5, 20, seed=1)
    targets = torch.randint(20, (3, 4), generator=torch.Generator().manual_seed(2))
    best = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    newton = torch.optim.LBFGS(
        [best], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        newton.zero_grad()
        loss = window_loss(best, h, weight, bias, targets)
        loss.backward()
        return loss

    newton.step(closure)
    best = best.detach()
    curvature = offset_curvature(h + best, weight, bias)

    def distance(lr, steps=400):
        c = best + 1e-4
        for _ in range(steps):
            c = c.detach().requires_grad_()
            (c.grad,) = torch.autograd.grad(window_loss(c, h, weight, bias, targets), c)
            c = c - lr * c.grad
        return float((c.detach() - best).norm())

    assert distance(1.9 / curvature) < 1e-6 < 1e-3 < distance(2.1 / curvature)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_other_types_strides_and_large_logits(dtype):
    h, weight, bias = drawn(2, 3, 4, 50, seed=0)
    exact, half = offset_curvature(h, weight, bias), [x.to(dtype) for x in (h, weight, bias)]
    assert offset_curvature(*half) == pytest.approx(exact, rel=0.05)
    apart = half[0].transpose(0, 1).contiguous().transpose(0, 1)
    assert not apart.is_contiguous() and offset_curvature(apart, *half[1:]) == offset_curvature(*half)
    far = offset_curvature(1e4 * half[0].sign(), half[1], half[2])
    assert math.isfinite(far) and far < exact  # one word is certain: nothing bends
    assert offset_curvature(half[0], half[1] * 0, half[2]) == 0


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((0, 3, 4), (5, 4), (5,)), r"h has shape \(0, 3, 4\); it must not be empty"),
        (((2, 3, 4), (5, 3), (5,)), r"weight \(5, 3\), bias \(5,\); they must be \(batch, time, dim\)"),
        (((2, 3, 4), (5, 4), (6,)), r"bias \(6,\); they must be"),
        (((3, 4), (5, 4), (5,)), r"h has shape \(3, 4\), .*they must be"),
    ],
)
def test_sizes_that_do_not_fit(shapes, message):
    plain = getattr(offset_curvature, "__wrapped__", offset_curvature)  # jaxtyping would refuse them before us
    with pytest.raises(ValueError, match=message):
        plain(*(torch.ones(shape) for shape in shapes))


def test_values_that_cannot_be():
    h, weight, bias = drawn(2, 3, 4, 5, seed=0)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="h, weight or bias holds NaN or an infinity; they must be finite"):
            offset_curvature(torch.full_like(h, bad), weight, bias)
    plain = getattr(offset_curvature, "__wrapped__", offset_curvature)
    with pytest.raises(TypeError, match="weight"):
        plain(h, weight.long(), bias)


# A start


@pytest.mark.parametrize(
    "fields",
    [{}, {"tied": True, "penalty": "none"}, {"projection": False, "projection_bias": False, "penalty": "none"}],
)
def test_a_start_is_the_first_steps_of_a_run(tmp_path, fields):
    config = change(**fields)
    record = train_first_steps(config)
    plain = TrainConfig(**{f.name: getattr(config, f.name) for f in dataclasses.fields(TrainConfig)})
    events = []
    with pytest.raises(KeyboardInterrupt):
        train(plain, tmp_path, on_event=events.append, steps=20)
    saved = checkpoints.load(tmp_path / "checkpoint.pt")
    assert record["weights_sha256"] == weights_sha256(saved["model"])
    steps = [event for event in events if isinstance(event, Step)]
    assert len(steps) == 20 == len(record["first"])
    if config.penalty == "none":  # the objective is then the loss
        assert record["first"] == pytest.approx([float(s.loss) / 7 for s in steps], rel=1e-4)
    norms = sorted(float(s.gradient_norm) for s in steps)
    assert record["gradient_norm"] == pytest.approx((norms[9] + norms[10]) / 2, rel=1e-6)
    assert record["train_loss"] == pytest.approx(float(saved["progress"]["carry"][1]) / (20 * 28), rel=1e-9)


def test_the_figures_of_a_block():
    record = train_first_steps(TINY)
    one, two = record["blocks"]
    first = record["first"]
    assert (one["step"], two["step"]) == (10, 20)
    assert two["loss"] == pytest.approx(sum(first[10:]) / 10, rel=1e-4) and two["largest"] == max(first[10:])
    assert record["largest_loss"] == pytest.approx(max(first), rel=1e-4) and -1 <= two["turn"] <= 1
    assert record["config"] == dataclasses.asdict(TINY) and json.loads(json.dumps(record)) == record
    assert record["parameters"] == 2 * 60 * 8 + 60 + (8 * 8 + 8) + 2 * 8 * 32 + 32


def test_what_is_seen_after_a_block():
    """The same figures from a model trained by hand; its constant is a tensor of its own."""
    config = change(steps=10, tied=True)
    block = train_first_steps(config)["blocks"][0]
    corpus = load_corpus(config.corpus, **config.cuts())
    model = build_model(config, len(corpus.vocabulary))
    batches, state = windows(contiguous_batches(corpus.train, 4), 7), None
    for inputs, targets in batches[:10]:
        model.zero_grad()
        h, state = model.hidden_states(inputs, state)
        logits = h @ model.embedding.weight.T + model.output.bias
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / 4
        (loss + 0.5 * model.projection.weight.square().sum() / 26).backward()
        state = tuple(s.detach() for s in state)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        with torch.no_grad():
            for p in model.parameters():
                p -= p.grad
    h = model.hidden_states(batches[10][0], state)[0].detach()
    expected = {
        "projection": model.projection.weight.norm(), "offset": model.projection.bias.norm(),
        "hidden": h.flatten(0, 1).norm(dim=1).mean(), "common": h.flatten(0, 1).mean(0).norm(),
        "curvature": offset_curvature(h, model.output.weight, model.output.bias),
    }  # fmt: skip
    for name, value in expected.items():
        assert block[name] == pytest.approx(torch.as_tensor(value).item(), rel=1e-3), name


def moved(config, steps=1):
    """P and its bias before and after."""
    seen = {}
    with pytest.MonkeyPatch.context() as patch:
        true = starts.FirstStepsRun.untrained

        def start(run):
            seen["model"] = model = true(run)
            seen["before"] = [p.detach().clone() for p in model.projection.parameters()]
            return model

        patch.setattr(starts.FirstStepsRun, "untrained", start)
        train_first_steps(dataclasses.replace(config, steps=steps))
    return seen["before"], [p.detach() for p in seen["model"].projection.parameters()]


def test_the_rate_of_the_offset():
    calm = change(clip=1e6)  # nothing is clipped
    (_, b0), (_, b1) = moved(calm)
    (_, same), (_, slower) = moved(dataclasses.replace(calm, offset_lr=0.25))
    assert torch.equal(b0, same) and not torch.equal(b0, b1)
    torch.testing.assert_close(slower - b0, 0.25 * (b1 - b0), rtol=1e-4, atol=1e-6)
    (p0, fixed0), (p1, fixed1) = moved(dataclasses.replace(calm, offset_lr=0.0))
    assert torch.equal(fixed0, fixed1) and not torch.equal(p0, p1)


def test_the_penalty_of_the_offset():
    calm = change(clip=1e6)
    (_, b0), (_, plain) = moved(calm)
    _, (_, held) = moved(dataclasses.replace(calm, offset_penalty=0.3))
    torch.testing.assert_close(held, plain - 0.3 * b0, rtol=1e-4, atol=1e-6)


def test_where_p_and_the_offset_start():
    (_, b0), (_, b1) = moved(change(offset_zero=True))
    assert not b0.any() and b1.any()
    (p0, _), (p1, _) = moved(change(identity=True, penalty="none"), steps=3)
    assert torch.equal(p0, torch.eye(8)) and torch.equal(p1, p0)


def test_without_an_offset_there_is_nothing_to_turn():
    for fields in ({"projection_bias": False}, {"offset_lr": 0.0}):
        assert train_first_steps(change(**fields))["turn"] is None
    assert train_first_steps(change(projection_bias=False))["blocks"][0]["offset"] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"steps": 72}, "steps is 72; it must be less than the 72 steps of an epoch"),
        ({"offset_lr": -1.0}, "offset_lr is -1.0; it must be at least 0"),
        ({"offset_lr": math.nan}, "offset_lr is nan; it must be a finite number"),
        ({"offset_penalty": -0.1}, "offset_penalty is -0.1; it must be at least 0"),
        ({"optimizer": "adam"}, "optimizer is 'adam'; a start is trained by sgd"),
        ({"projection_bias": False, "offset_lr": 0.5}, "without projection_bias; they act on that bias"),
        ({"identity": True, "dim": 6}, "identity is True with projection True, dim 6, hidden 8; P must be there"),
        ({"lr": 1e30, "clip": 1e30}, "not finite|no longer finite|is nan|NaN"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises((ValueError, FloatingPointError), match=message):
        train_first_steps(change(**fields))
