"""Every schedule of torch's over every optimizer of ours, beside torch's own: equal at each step, or refused when it is made."""

import copy
import inspect

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

from tiedlib import optimizers

# The fellow of each of ours, and what both are made with.
PAIRS = {
    "SGD": (optimizers.SGD, torch.optim.SGD, {}),
    "Momentum": (optimizers.Momentum, torch.optim.SGD, {"momentum": 0.9}),
    "Adagrad": (optimizers.Adagrad, torch.optim.Adagrad, {}),
    "RMSprop": (optimizers.RMSprop, torch.optim.RMSprop, {"momentum": 0.9}),
    "Adam": (optimizers.Adam, torch.optim.Adam, {}),
    "AdamW": (optimizers.AdamW, torch.optim.AdamW, {}),
}
MAKE = {
    "LambdaLR": [lambda o: lr_scheduler.LambdaLR(o, lambda k: min(k / 3, 1.0))],
    "MultiplicativeLR": [lambda o: lr_scheduler.MultiplicativeLR(o, lambda k: 0.0 if k == 5 else 0.9)],
    "StepLR": [lambda o: lr_scheduler.StepLR(o, 2, gamma=0.0)],
    "MultiStepLR": [lambda o: lr_scheduler.MultiStepLR(o, [2, 4])],
    "ConstantLR": [lambda o: lr_scheduler.ConstantLR(o, 0.25, 3)],
    "LinearLR": [lambda o: lr_scheduler.LinearLR(o, 1e-8, 1.0, 4), lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 5)],
    "ExponentialLR": [lambda o: lr_scheduler.ExponentialLR(o, 0.5)],
    "PolynomialLR": [lambda o: lr_scheduler.PolynomialLR(o, 5, power=2.0)],
    "CosineAnnealingLR": [lambda o: lr_scheduler.CosineAnnealingLR(o, 4)],
    "CosineAnnealingWarmRestarts": [lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3)],
    "SequentialLR": [
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LambdaLR(o, lambda k: k / 3), lr_scheduler.CosineAnnealingLR(o, 4)], milestones=[3]
        )
    ],
    "ChainedScheduler": [
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, 0.1, 2), lr_scheduler.ExponentialLR(o, 0.9)]
        )
    ],
    "ReduceLROnPlateau": [lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1, factor=0.5)],
    "CyclicLR": [
        lambda o: lr_scheduler.CyclicLR(o, 0.0, 0.1, step_size_up=2),
        lambda o: lr_scheduler.CyclicLR(o, 0.0, 0.1, step_size_up=2, cycle_momentum=False),
    ],
    "OneCycleLR": [
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10),
        lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10, cycle_momentum=False, three_phase=True),
    ],
    "SWALR": [lambda o: swa_utils.SWALR(o, swa_lr=0.0, anneal_epochs=3)],
}
CASES = [
    pytest.param(name, k, optimizer, id=f"{name}-{k}-{optimizer}")
    for name, makes in MAKE.items()
    for k in range(len(makes))
    for optimizer in PAIRS
]


def test_the_table_has_every_schedule_of_torch():
    modules = {lr_scheduler: lr_scheduler.LRScheduler, swa_utils: lr_scheduler.LRScheduler}
    found = {
        name
        for module, base in modules.items()
        for name, one in inspect.getmembers(module, inspect.isclass)
        if issubclass(one, base) and one.__module__ == module.__name__ and not name.startswith("_")
    }
    assert found - {"LRScheduler"} <= MAKE.keys()


def leaves():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(shape, dtype=torch.float64, generator=g).requires_grad_() for shape in ((3, 2), (2,))]


def steps(numbers, optimizer, schedule):
    for k in numbers:
        g = torch.Generator().manual_seed(k)
        for p in (p for group in optimizer.param_groups for p in group["params"]):
            p.grad = torch.randn(p.shape, dtype=p.dtype, generator=g)
        optimizer.step()
        schedule.step(*([1.0] if isinstance(schedule, lr_scheduler.ReduceLROnPlateau) else []))


@pytest.mark.parametrize(("name", "which", "optimizer"), CASES)
def test_a_schedule_does_to_ours_what_it_does_to_torchs(name, which, optimizer):
    """Ten steps, saved and resumed after the fifth. Where torch refuses, ours must; ours alone refuses a momentum to cycle
    where it has none (torch's SGD has one of 0, which a cycle turns on)."""
    make = MAKE[name][which]
    ours, reference, hyper = PAIRS[optimizer]
    sides = [leaves() for _ in range(2)]
    fellow, mine = reference(sides[1], lr=0.1, **hyper), ours(sides[0], lr=0.1, **hyper)
    cycles = name in ("CyclicLR", "OneCycleLR") and which == 0
    if cycles and optimizer in ("SGD", "Adagrad"):
        with pytest.raises(ValueError, match="momentum"):
            make(mine)
        return
    schedules = [make(mine), make(fellow)]
    steps(range(5), mine, schedules[0])
    steps(range(10), fellow, schedules[1])
    saved = copy.deepcopy((mine.state_dict(), schedules[0].state_dict()))
    resumed = ours(sides[0], lr=0.1, **hyper)
    again = make(resumed)
    resumed.load_state_dict(saved[0])
    again.load_state_dict(saved[1])
    steps(range(5, 10), resumed, again)
    for a, b in zip(*sides, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert resumed.param_groups[0]["lr"] == pytest.approx(fellow.param_groups[0]["lr"], rel=1e-12, abs=1e-15)
