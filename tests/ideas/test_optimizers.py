"""Rules fed the same gradients as torch's optimizers; round trips with torch; what cannot be is named."""

import copy
import inspect
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ideas.calls import BELOW_ONE, BETAS, NOT_NEGATIVE, POSITIVE, UP_TO_ONE, Call
from tiedlib import optimizers

PAIRS = [
    (optimizers.SGD, torch.optim.SGD, {"lr": 0.3}),
    (optimizers.SGD, torch.optim.SGD, {"lr": 0.3, "weight_decay": 0.1}),
    (optimizers.Momentum, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (optimizers.Momentum, torch.optim.SGD, {"lr": 0.1, "momentum": 0.5, "dampening": 0.5, "weight_decay": 0.1}),
    (optimizers.Momentum, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optimizers.Adagrad, torch.optim.Adagrad, {}),
    (optimizers.Adagrad, torch.optim.Adagrad, {"lr": 0.5, "lr_decay": 0.01, "weight_decay": 0.1, "eps": 1e-3}),
    (optimizers.Adagrad, torch.optim.Adagrad, {"lr": 0.5, "initial_accumulator_value": 0.1}),
    (optimizers.RMSprop, torch.optim.RMSprop, {}),
    (optimizers.RMSprop, torch.optim.RMSprop, {"lr": 1e-3, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    (optimizers.RMSprop, torch.optim.RMSprop, {"momentum": 0.9}),
    (optimizers.RMSprop, torch.optim.RMSprop, {"alpha": 0.9, "centered": True, "momentum": 0.5}),
    (optimizers.Adam, torch.optim.Adam, {"lr": 0.01}),
    (optimizers.Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    (optimizers.AdamW, torch.optim.AdamW, {}),
    (optimizers.AdamW, torch.optim.AdamW, {"lr": 0.01, "betas": (0.5, 0.9), "weight_decay": 0.5}),
]
NAMED = [
    (optimizers.momentum, optimizers.Momentum),
    (optimizers.adagrad, optimizers.Adagrad),
    (optimizers.rmsprop, optimizers.RMSprop),
    (optimizers.adam, optimizers.Adam),
    (optimizers.adamw, optimizers.AdamW),
]
RULES = [optimizers.sgd, *(rule for rule, _ in NAMED)]


def gradient(k, i, shape, dtype):
    """The gradient of step k: of very different size from step to step, and exactly 0 in places."""
    g = torch.Generator().manual_seed(10 * k + i)
    drawn = torch.randn(shape, dtype=dtype, generator=g) * 10.0 ** (k % 5 - 2)
    return drawn * (torch.rand(shape, generator=g) < 0.9)


def run(steps, stepper, params):
    for k in steps:
        for i, p in enumerate(params):
            p.grad = gradient(k, i, p.shape, p.dtype)
        stepper.step()


def leaves(dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    return [torch.randn(s, dtype=dtype, generator=g).requires_grad_() for s in ((5, 3), (7,))]


def gap(ours, reference):
    return max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, reference, strict=True))


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
@pytest.mark.parametrize("scale", [0.3, torch.tensor(0.3, dtype=torch.float64)])
def test_a_scaled_step_is_the_step_of_the_scaled_gradient(ours, reference, hyper, scale):
    sides = [leaves() for _ in range(2)]
    scaled, plain = (ours(side, **hyper) for side in sides)
    for k in range(5):
        for i, (p, q) in enumerate(zip(*sides, strict=True)):
            p.grad, q.grad = gradient(k, i, p.shape, p.dtype), 0.3 * gradient(k, i, p.shape, p.dtype)
        scaled.step(scale=scale)
        plain.step()
    assert gap(*sides) <= 1e-12
    assert torch.equal(sides[0][0].grad, gradient(4, 0, (5, 3), torch.float64)), "the gradient stays as it was"


def test_sgd_moves_as_torchs_to_the_last_bit():
    sides = [leaves(torch.float32) for _ in range(2)]
    run(range(20), optimizers.SGD(sides[0], lr=0.3), sides[0])
    run(range(20), torch.optim.SGD(sides[1], lr=0.3), sides[1])
    assert all(torch.equal(a, b) for a, b in zip(*sides, strict=True))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_same_as_torch_over_200_gradients(ours, reference, hyper, dtype, bound):
    sides = [leaves(dtype) for _ in range(2)]
    for side, make in zip(sides, (ours, reference), strict=True):
        run(range(200), make(side, **hyper), side)
    assert gap(*sides) <= bound


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_state_goes_into_torch_and_comes_back(ours, reference, hyper):
    """10 steps with torch, 10 with ours from its state, 10 with torch from ours: as 30 steps with torch."""
    whole, relay = leaves(), leaves()
    run(range(30), reference(whole, **hyper), whole)
    first = reference(relay, **hyper)
    run(range(10), first, relay)
    second = ours(relay, lr=9.0)
    second.load_state_dict(first.state_dict())
    run(range(10, 20), second, relay)
    third = reference(relay, lr=8.0)
    third.load_state_dict(second.state_dict())
    run(range(20, 30), third, relay)
    assert gap(relay, whole) <= 1e-12


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_a_state_without_steps_goes_both_ways(ours, reference, hyper):
    sides = [leaves() for _ in range(3)]
    into, back = reference(sides[0], lr=9.0), ours(sides[1], lr=9.0)
    into.load_state_dict(ours(leaves(), **hyper).state_dict())
    back.load_state_dict(reference(leaves(), **hyper).state_dict())
    for side, stepper in zip(sides, (into, back, reference(sides[2], **hyper)), strict=True):
        run(range(5), stepper, side)
    assert gap(sides[0], sides[2]) <= 1e-12 and gap(sides[1], sides[2]) <= 1e-12


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_goes_on_alike(ours, reference, hyper, copied):
    params = leaves()
    stepper = ours(params, **hyper)
    run(range(3), stepper, params)
    twin = copied(stepper)
    run(range(3, 6), stepper, params)
    run(range(3, 6), twin, twin.param_groups[0]["params"])
    assert gap(twin.param_groups[0]["params"], params) == 0


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_groups_and_schedulers_as_torch(ours, reference, hyper):
    """Two groups with rates of their own, the second added later, under a schedule of torch's."""
    sides = [leaves() for _ in range(2)]
    for side, make in zip(sides, (ours, reference), strict=True):
        stepper = make([{"params": side[:1], "lr": 0.02}], **hyper)
        if make is torch.optim.Adagrad:  # torch's makes its sums only in __init__
            stepper = make([{"params": side[:1], "lr": 0.02}, {"params": side[1:], "lr": 0.5}], **hyper)
        else:
            stepper.add_param_group({"params": side[1:], "lr": 0.5})
        schedule = torch.optim.lr_scheduler.StepLR(stepper, step_size=3, gamma=0.5)
        for k in range(10):
            run([k], stepper, side)
            schedule.step()
    assert gap(*sides) <= 1e-12


@pytest.mark.parametrize(("rule", "named"), NAMED)
def test_a_class_has_its_rules_arguments(rule, named):
    own = [p for p in inspect.signature(rule).parameters.values() if p.kind is p.KEYWORD_ONLY]
    seen = list(inspect.signature(named).parameters.values())[1:]
    assert [(p.name, p.default) for p in seen] == [(p.name, p.default) for p in own]
    with pytest.raises(TypeError, match="tempo"):
        named(leaves(), tempo=1)


OPTIONS = {"foreach": None, "maximize": False, "capturable": False, "differentiable": False, "fused": None}
MADE = [optimizers.SGD, *(named for _, named in NAMED)]


@pytest.mark.parametrize("made", MADE)
def test_torchs_options_are_taken_where_they_ask_for_nothing(made):
    """A rate, then all that torch's constructors know, at the value that means "off": the same steps as without."""
    options = OPTIONS | ({"amsgrad": False} if made in (optimizers.Adam, optimizers.AdamW) else {})
    options |= {"momentum": 0, "dampening": 0, "nesterov": False} if made is optimizers.SGD else {}
    sides = [leaves() for _ in range(3)]
    run(range(3), made(sides[0], lr=0.1), sides[0])
    run(range(3), made(sides[1], lr=0.1, **options), sides[1])
    run(range(3), made(sides[2], lr=0.1, foreach=False, fused=False), sides[2])
    assert gap(*sides[:2]) == gap(*sides[1:]) == 0
    for name, off in options.items():
        asked = 0.9 if name in ("momentum", "dampening") else True
        with pytest.raises(ValueError, match=f"^{name} is {asked}; {made.__name__} has only {name}={off}"):
            made(leaves(), lr=0.1, **{name: asked})


@pytest.mark.parametrize("made", MADE)
def test_named_parameters_are_taken(made):
    model = torch.nn.Linear(3, 2)
    stepper = made(model.named_parameters(), lr=0.1)
    assert stepper.param_groups[0]["param_names"] == ["weight", "bias"]
    model(torch.ones(3)).sum().backward()
    stepper.step()


# A rate of 0


@pytest.mark.parametrize("zero", [0, 0.0, torch.tensor(0.0)])
@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_a_rate_of_0_moves_nothing_and_gathers_the_state(ours, reference, hyper, zero):
    """Three steps at 0, saved, resumed, and three at another rate: as torch's, which moves as far."""
    hyper = hyper | {"lr": zero, "weight_decay": 0.1}
    sides = [leaves() for _ in range(2)]
    start = leaves()
    steppers = [make(side, **hyper) for side, make in zip(sides, (ours, reference), strict=True)]
    for side, stepper in zip(sides, steppers, strict=True):
        run(range(3), stepper, side)
        assert all(torch.equal(a, b) for a, b in zip(side, start, strict=True))
    resumed = ours(sides[0], lr=1.0)
    resumed.load_state_dict(steppers[0].state_dict())
    for side, stepper in zip(sides, (resumed, steppers[1]), strict=True):
        for group in stepper.param_groups:
            group["lr"] = 0.05
        run(range(3, 6), stepper, side)
    assert gap(*sides) <= 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_with_the_rate_0_gives_a_step_of_0(rule):
    p = torch.tensor([1.0, -3.0, 1e-30])
    step, _ = rule(torch.ones(3), {}, p, lr=0.0, weight_decay=0.1)
    assert torch.equal(p + step, p)


@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_a_rate_may_be_a_tensor_of_one_number(ours, reference, hyper):
    for shape in ((), (1,)):
        number, tensor = (torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2))
        run(range(3), ours([number], **hyper), [number])
        lr = torch.full(shape, ours([number], **hyper).defaults["lr"], dtype=torch.float64)
        run(range(3), ours([tensor], **hyper | {"lr": lr}), [tensor])
        assert tensor.shape == () and torch.allclose(number, tensor, rtol=1e-12)
    with pytest.raises(ValueError, match=r"^lr has shape \(2,\); it must hold one number"):
        ours(leaves(), lr=torch.ones(2))


# What is refused changes nothing


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("rate", [-1.0, math.nan, math.inf, torch.tensor(-1.0), torch.tensor(math.nan)])
def test_a_rate_that_somebody_wrote_into_a_group_is_refused_before_anything_moves(made, rate):
    params = leaves()
    stepper = made([{"params": params[:1]}, {"params": params[1:]}], lr=0.1)
    stepper.param_groups[1]["lr"] = rate
    with pytest.raises(ValueError, match=r"^lr is .*must be at least 0 and finite"):
        run([0], stepper, params)
    assert all(torch.equal(a, b) for a, b in zip(params, leaves(), strict=True)) and not stepper.state


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"maximize": True}, {"weight_decay": math.nan}])
def test_a_refused_state_leaves_groups_and_state(made, wrong):
    params = leaves()
    stepper = made(params, lr=0.1)
    run(range(2), stepper, params)
    before = copy.deepcopy(stepper.state_dict())
    bad = copy.deepcopy(before)
    bad["param_groups"][0].update(wrong)
    bad["state"].clear()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        stepper.load_state_dict(bad)
    after = stepper.state_dict()
    assert after["param_groups"] == before["param_groups"] and after["state"].keys() == before["state"].keys()
    twin = leaves()
    whole = made(twin, lr=0.1)
    run(range(4), whole, twin)
    run(range(2, 4), stepper, params)
    assert gap(params, twin) == 0


@pytest.mark.parametrize("made", MADE)
def test_a_refused_group_is_not_in_the_list(made):
    stepper = made(leaves(), lr=0.1)
    for group, error in (
        ({"params": [torch.zeros(1, dtype=torch.long)]}, TypeError),
        ({"params": [torch.ones(1, requires_grad=True)], "lr": -1.0}, ValueError),
        ({"params": [torch.ones(1, requires_grad=True)], "maximize": True}, ValueError),
        ([torch.ones(1, requires_grad=True)], TypeError),
    ):
        with pytest.raises(error):
            stepper.add_param_group(group)
        assert len(stepper.param_groups) == 1
    stepper.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
    assert len(stepper.param_groups) == 2


@pytest.mark.parametrize("made", MADE)
def test_torchs_distributed_checkpoints_take_and_give_the_state(made):
    """It makes a state first, by a step at the rate 0."""
    checkpoints = pytest.importorskip("torch.distributed.checkpoint.state_dict")
    torch.manual_seed(0)
    models = [torch.nn.Linear(3, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    start = copy.deepcopy(models[0].state_dict())
    first, second = (made(model.parameters(), lr=0.1) for model in models)
    run(range(3), first, list(models[0].parameters()))
    state = checkpoints.get_optimizer_state_dict(models[0], first)
    checkpoints.set_optimizer_state_dict(models[1], second, state)
    assert all(torch.equal(models[1].state_dict()[k], start[k]) for k in start), "to load a state moves nothing"
    models[1].load_state_dict(models[0].state_dict())
    for model, stepper in zip(models, (first, second), strict=True):
        run(range(3, 6), stepper, list(model.parameters()))
    assert gap(*(list(model.parameters()) for model in models)) <= 1e-6


@pytest.mark.parametrize(
    ("ours", "reference"),
    [
        (optimizers.Adagrad, torch.optim.Adagrad),
        (optimizers.RMSprop, torch.optim.RMSprop),
        (optimizers.Adam, torch.optim.Adam),
        (optimizers.AdamW, torch.optim.AdamW),
    ],
)
def test_names_order_and_defaults_are_torchs(ours, reference):
    mine = list(inspect.signature(ours).parameters.values())[1:]
    theirs = list(inspect.signature(reference).parameters.values())[1:]
    assert [(p.name, p.default) for p in mine] == [(p.name, p.default) for p in theirs[: len(mine)]]


def test_closures_give_their_loss_and_have_gradients():
    p = torch.ones(1, requires_grad=True)
    sgd = optimizers.SGD([p], lr=0.5)

    def closure():
        sgd.zero_grad()
        loss = (2 * p).sum()
        loss.backward()
        return loss

    assert sgd.step(closure) == 2.0 and p.item() == 0.0
    assert sgd.step() is None and p.item() == -1.0
    p.grad = None
    sgd.step()
    assert p.item() == -1.0


def test_a_rule_of_ones_own_becomes_an_optimizer():
    def sign(grad, state, param, *, lr=0.1):
        return -lr * grad.sign(), {"step": state.get("step", 0) + 1}

    p = torch.tensor([1.0, 1.0], requires_grad=True)
    stepper = optimizers.RuleOptimizer([p], sign, lr=0.25)
    p.grad = torch.tensor([3.0, -1e-9])
    stepper.step()
    assert p.tolist() == [0.75, 1.25] and stepper.state[p]["step"] == 1


# The formulas


def test_the_averaged_form_is_the_heavy_ball_at_another_rate():
    """V₀ = 0, V_t = βV + (1−β)g with rate η equals torch's SGD with momentum β and rate η(1−β)."""
    for nesterov in (False, True):
        sides = [leaves() for _ in range(2)]
        run(range(50), optimizers.Momentum(sides[0], lr=0.3, momentum=0.9, nesterov=nesterov, averaged=True), sides[0])
        run(range(50), torch.optim.SGD(sides[1], lr=0.3 * (1 - 0.9), momentum=0.9, nesterov=nesterov), sides[1])
        assert gap(*sides) <= 1e-12
    state, g, zero = {}, torch.tensor([2.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for t in range(1, 40):
        _, state = optimizers.momentum(g, state, zero, momentum=0.9, averaged=True)
        assert state["momentum_buffer"].item() == pytest.approx((1 - 0.9**t) * 2, rel=1e-12)


def test_adamw_against_its_formula_and_not_the_penalty():
    p, state = torch.tensor([3.0], dtype=torch.float64), {}
    for _ in range(5):
        step, state = optimizers.adamw(torch.zeros_like(p), state, p, lr=0.1, weight_decay=0.5)
        p = p + step
    assert p.item() == pytest.approx(3 * 0.95**5, rel=1e-12)
    step, _ = optimizers.adam(torch.zeros_like(p), {}, p, lr=0.1, weight_decay=0.5)
    assert step.item() == pytest.approx(-0.1, rel=1e-6)  # the penalty's gradient, divided by its own size


def test_first_steps():
    grad = torch.tensor([3.0, -0.01, 40.0], dtype=torch.float64)
    zero = torch.zeros_like(grad)
    for rule, hyper, size in (
        (optimizers.adam, {}, 0.1),
        (optimizers.adagrad, {}, 0.1),
        (optimizers.rmsprop, {"alpha": 0.9}, 0.1 / math.sqrt(0.1)),
    ):
        step, state = rule(grad, {}, zero, lr=0.1, eps=1e-14, **hyper)
        torch.testing.assert_close(step, -size * grad.sign())
        assert state["step"] == 1


@pytest.mark.parametrize("rule", RULES)
def test_rules_are_pure(rule):
    grad, param = torch.ones(2), torch.ones(2)
    first = rule(grad, {}, param)[1]
    before = copy.deepcopy(first)
    rule(grad, first, param)
    assert first.keys() == before.keys() and all(
        torch.equal(*map(torch.as_tensor, (first[k], before[k]))) for k in first
    )
    assert torch.equal(grad, torch.ones(2)) and torch.equal(param, torch.ones(2))


@pytest.mark.parametrize(
    ("rule", "hyper"),
    [
        (optimizers.sgd, {"lr": 0.1, "weight_decay": 0.3}),
        (optimizers.momentum, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.3}),
        (optimizers.adagrad, {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.5, "eps": 1e-3}),
        (optimizers.rmsprop, {"lr": 0.1, "alpha": 0.8, "eps": 1e-3, "momentum": 0.5}),
        (optimizers.adam, {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.3}),
        (optimizers.adamw, {"lr": 0.1, "betas": (0.8, 0.99), "eps": 1e-3, "weight_decay": 0.3}),
    ],
)
def test_hyper_parameters_may_be_tensors_under_vmap(rule, hyper):
    """What a grid does: one value a run. Equal to plain numbers to the last bit of float32."""
    tensors = {
        k: tuple(torch.tensor([b, b / 2]).double() for b in v)
        if isinstance(v, tuple)
        else torch.tensor([v, v / 2]).double()
        for k, v in hyper.items()
    }
    p, g = torch.randn(2, 5), torch.randn(2, 5)

    def two_steps(p, g, hyper):
        step, state = rule(g, {}, p, **hyper)
        return rule(2 * g, state, p + step, **hyper)[0]

    together = torch.func.vmap(two_steps)(p, g, tensors)
    for i, scale in enumerate((1, 2)):
        one = {k: tuple(b / scale for b in v) if isinstance(v, tuple) else v / scale for k, v in hyper.items()}
        torch.testing.assert_close(together[i], two_steps(p[i], g[i], one), rtol=1e-6, atol=1e-7)


# Extreme input

HYPER = {optimizers.momentum: {"nesterov": True}, optimizers.rmsprop: {"centered": True, "momentum": 0.9}}


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=40)
@given(
    sizes=st.lists(
        st.sampled_from([0.0, 1e-30, 1e-12, 1e-4, 1.0, 1e4, 1e10, 1e18, 1e30, -1e30]), min_size=1, max_size=6
    ),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_steps_stay_finite(rule, sizes, dtype):
    p, state = torch.ones(3, dtype=dtype), {}
    for size in sizes:
        step, state = rule(torch.tensor([size, 0.0, -size], dtype=dtype), state, p, **HYPER.get(rule, {}))
        assert step.dtype == dtype and torch.isfinite(step).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@settings(max_examples=40)
@given(sizes=st.lists(st.sampled_from([0.0, 6e-8, 1e-4, 1.0, 300.0, 3e3, 6e4]), min_size=1, max_size=6))
def test_half_precision_takes_the_steps_of_float64_rounded_once(rule, dtype, sizes):
    """g² of 300 is no number of float16, and ε = 10⁻⁸ is 0 there; the step is."""
    p, state, exact = torch.ones(2, dtype=dtype), {}, {}
    for size in sizes:
        grad = torch.tensor([size, -size], dtype=dtype)
        step, state = rule(grad, state, p, weight_decay=0.1)
        wide, exact = rule(grad.double(), exact, p.double(), weight_decay=0.1)
        assert step.dtype is dtype
        torch.testing.assert_close(step.double(), wide, rtol=2 * torch.finfo(dtype).eps, atol=6e-8)
        assert all(torch.isfinite(torch.as_tensor(kept)).all() for kept in state.values())


@pytest.mark.parametrize("made", MADE)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_state_in_half_precision_is_saved_whole(made, dtype):
    """torch casts a loaded state to its parameter's type, where 6e4² is infinite."""
    sides = [[torch.ones(3, dtype=dtype, requires_grad=True)] for _ in range(2)]
    steppers = [made(side, lr=0.01) for side in sides]

    def steps(stepper, side, count):
        for _ in range(count):
            side[0].grad = torch.tensor([6e4, 300.0, 1e-7], dtype=dtype)
            stepper.step()

    steps(steppers[0], sides[0], 4)
    steps(steppers[1], sides[1], 2)
    resumed = made(sides[1], lr=1.0)
    resumed.load_state_dict(copy.deepcopy(steppers[1].state_dict()))
    steps(resumed, sides[1], 2)
    assert torch.equal(sides[0][0], sides[1][0]) and torch.isfinite(sides[0][0]).all()


@pytest.mark.parametrize("rule", RULES)
def test_any_layout_and_no_elements_at_all(rule):
    g = torch.randn(4, 6)
    step, state = rule(g.T, {}, g.T)
    torch.testing.assert_close(rule(g.T, state, g.T)[0], rule(g, rule(g, {}, g)[1], g)[0].T)
    assert torch.equal(step, rule(g.T.contiguous(), {}, g.T.contiguous())[0])
    assert rule(torch.zeros(0, 3), {}, torch.zeros(0, 3))[0].shape == (0, 3)


def test_rounding_cannot_make_a_centered_variance_negative():
    g, state = torch.full((1000,), 0.1) * (1 + 1e-7 * torch.arange(1000)), {}
    for _ in range(300):
        step, state = optimizers.rmsprop(g, state, g, alpha=0.5, centered=True)
        assert torch.isfinite(step).all()


# Bad input

BAD = {
    "lr": [-1e-9, -1.0, math.nan, math.inf],
    "eps": [0.0, -1e-8, math.nan, math.inf],
    "betas": [(1.0, 0.9), (0.9, -0.1), (math.nan, 0.9)],
    "momentum": [1.0, -0.1, math.nan],
    "alpha": [1.0, -0.1, math.nan],
    "dampening": [-0.1, 1.1, math.nan],
    "weight_decay": [-1.0, math.nan, math.inf],
    "lr_decay": [-1.0, math.nan],
    "initial_accumulator_value": [-1.0, math.nan],
}
CASES = [
    (rule, name, value)
    for rule in RULES
    for name in inspect.signature(rule).parameters
    if name in BAD
    for value in BAD[name]
]


@pytest.mark.parametrize(("rule", "name", "value"), CASES)
def test_bad_hyper_parameters_are_named(rule, name, value):
    with pytest.raises(ValueError, match=rf"^{name}(\[.\])? is .*must"):
        rule(torch.ones(1), {}, torch.ones(1), **{name: value})
    made = {optimizers.sgd: optimizers.SGD, **dict(NAMED)}[rule]
    with pytest.raises(ValueError, match=rf"^{name}(\[.\])? is .*must"):
        made(leaves(), **{name: value})
    with pytest.raises(ValueError, match=rf"^{name}(\[.\])? is .*must"):
        made([{"params": leaves(), name: value}])
    with pytest.raises(TypeError, match=rf"^{name}(\[.\])? is"):
        made([{"params": leaves(), name: ("fast", 0.1) if name == "betas" else "fast"}])


@pytest.mark.parametrize("rule", RULES)
def test_bad_tensors_are_named(rule, unchecked):
    with pytest.raises(TypeError, match=r"dtype torch\.int64"):
        rule(torch.ones(2, dtype=torch.long), {}, torch.ones(2))
    with pytest.raises(ValueError, match=r"shape \(2,\) and param \(3,\)"):
        rule(torch.ones(2), {}, torch.ones(3))
    with pytest.raises(ValueError, match="sparse"):
        rule(torch.ones(2).to_sparse(), {}, torch.ones(2))


def test_the_bare_optimizer_refuses_what_its_rule_would():
    with pytest.raises(ValueError, match=r"^lr is -1; it must be at least 0 and finite"):
        optimizers.RuleOptimizer(leaves(), optimizers.sgd, lr=-1)
    with pytest.raises(TypeError, match=r"params holds a tensor of dtype torch\.int64"):
        optimizers.RuleOptimizer([torch.ones(1, dtype=torch.long)], optimizers.sgd, lr=0.1)


def test_what_does_not_go_together():
    for option in ("nesterov", "averaged"):
        with pytest.raises(ValueError, match=r"dampening is 0\.5"):
            optimizers.momentum(torch.ones(1), {}, torch.ones(1), dampening=0.5, **{option: True})


@pytest.mark.parametrize(
    ("ours", "reference", "option"),
    [
        (optimizers.Adam, torch.optim.Adam, {"amsgrad": True}),
        (optimizers.Adam, torch.optim.AdamW, {}),
        (optimizers.SGD, torch.optim.SGD, {"momentum": 0.9}),
        (optimizers.RMSprop, torch.optim.RMSprop, {"maximize": True}),
    ],
)
def test_a_state_that_means_something_else_is_refused(ours, reference, option):
    params = leaves()
    name = next(iter(option), "decoupled_weight_decay")
    if name not in reference(params, lr=0.1, **option).param_groups[0]:
        pytest.skip(f"this torch does not write {name} into its groups")
    with pytest.raises(ValueError, match=f"^{name} is .*has only"):
        ours(params).load_state_dict(reference(params, lr=0.1, **option).state_dict())


@pytest.mark.parametrize("made", [optimizers.SGD, *(named for _, named in NAMED)])
def test_sparse_gradients_and_integer_parameters_are_refused(made):
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        made(embedding.parameters()).step()
    with pytest.raises(TypeError, match="int64"):
        made([torch.zeros(1, dtype=torch.long)])


# Good calls, from which `tests/ideas/test_bad_input.py` makes bad ones


def rule(**hyper: Any) -> dict[str, Any]:
    return {"grad": torch.ones(2), "state": {}, "param": torch.ones(2), "lr": 0.1, "weight_decay": 0.0, **hyper}


def optimizer(**hyper: Any) -> dict[str, Any]:
    return {"params": [torch.ones(2, requires_grad=True)], "lr": 0.1, "weight_decay": 0.0, **hyper}


MOMENTUM: dict[str, Any] = {"momentum": 0.9, "dampening": 0.0}
ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}
RMSPROP: dict[str, Any] = {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0}
ADAGRAD: dict[str, Any] = {"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0}
GOOD_CALLS = {
    "sgd": Call(rule, lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE),
    "momentum": Call(
        lambda: rule(**MOMENTUM), lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, momentum=BELOW_ONE, dampening=UP_TO_ONE
    ),
    "adagrad": Call(
        lambda: rule(**ADAGRAD),
        lr=NOT_NEGATIVE,
        weight_decay=NOT_NEGATIVE,
        lr_decay=NOT_NEGATIVE,
        eps=POSITIVE,
        initial_accumulator_value=NOT_NEGATIVE,
    ),
    "rmsprop": Call(
        lambda: rule(**RMSPROP),
        lr=NOT_NEGATIVE,
        weight_decay=NOT_NEGATIVE,
        alpha=NOT_NEGATIVE,
        eps=POSITIVE,
        momentum=BELOW_ONE,
    ),
    "adam": Call(lambda: rule(**ADAM), lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, betas=BETAS, eps=POSITIVE),
    "adamw": Call(lambda: rule(**ADAM), lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, betas=BETAS, eps=POSITIVE),
    "SGD": Call(optimizer, lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE),
    "Momentum": Call(
        lambda: optimizer(**MOMENTUM),
        lr=NOT_NEGATIVE,
        weight_decay=NOT_NEGATIVE,
        momentum=BELOW_ONE,
        dampening=UP_TO_ONE,
    ),
    "Adagrad": Call(
        lambda: optimizer(**ADAGRAD),
        lr=NOT_NEGATIVE,
        weight_decay=NOT_NEGATIVE,
        lr_decay=NOT_NEGATIVE,
        eps=POSITIVE,
        initial_accumulator_value=NOT_NEGATIVE,
    ),
    "RMSprop": Call(
        lambda: optimizer(**RMSPROP),
        lr=NOT_NEGATIVE,
        weight_decay=NOT_NEGATIVE,
        alpha=NOT_NEGATIVE,
        eps=POSITIVE,
        momentum=BELOW_ONE,
    ),
    "Adam": Call(lambda: optimizer(**ADAM), lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, betas=BETAS, eps=POSITIVE),
    "AdamW": Call(lambda: optimizer(**ADAM), lr=NOT_NEGATIVE, weight_decay=NOT_NEGATIVE, betas=BETAS, eps=POSITIVE),
}
