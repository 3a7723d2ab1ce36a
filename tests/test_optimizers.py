"""Rules fed the same gradients as torch's optimizers."""

import pytest
import torch

from tiedlib import optimizers

PAIRS = [
    (optimizers.SGD, torch.optim.SGD, {"lr": 0.3}),
    (optimizers.SGD, torch.optim.SGD, {"lr": 0.3, "weight_decay": 0.1}),
    (optimizers.Adam, torch.optim.Adam, {"lr": 0.01}),
    (optimizers.Adam, torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("ours", "reference", "hyper"), PAIRS)
def test_same_as_torch_over_200_gradients(ours, reference, hyper, dtype, bound):
    start = [torch.randn(5, 3, dtype=dtype), torch.randn(7, dtype=dtype)]
    sides = [[p.clone().requires_grad_() for p in start] for _ in range(2)]
    steppers = [ours(sides[0], **hyper), reference(sides[1], **hyper)]
    for k in range(200):
        for side, stepper in zip(sides, steppers, strict=True):
            for i, p in enumerate(side):
                p.grad = torch.randn(p.shape, dtype=dtype, generator=torch.Generator().manual_seed(10 * k + i))
            stepper.step()
    for a, b in zip(*sides, strict=True):
        assert (a - b).abs().max() <= bound * b.abs().max()


def test_first_adam_step_is_the_rate_times_the_sign():
    grad = torch.tensor([3.0, -0.01, 40.0])
    step, state = optimizers.adam(grad, {}, torch.zeros(3), lr=0.1, eps=1e-12)
    torch.testing.assert_close(step, -0.1 * grad.sign())
    assert state["step"] == 1


def test_rules_are_pure():
    grad, param = torch.ones(2), torch.ones(2)
    first = optimizers.adam(grad, {}, param)[1]
    before = {k: torch.as_tensor(v).clone() for k, v in first.items()}
    optimizers.adam(grad, first, param)
    assert all(torch.equal(torch.as_tensor(first[k]), before[k]) for k in first)
    assert torch.equal(grad, torch.ones(2)) and torch.equal(param, torch.ones(2))


def test_state_dict_continues_exactly():
    def run(steps, optimizer, p):
        for k in steps:
            p.grad = torch.full_like(p, float(k + 1))
            optimizer.step()

    whole = torch.ones(3, requires_grad=True)
    run(range(10), optimizers.Adam([whole]), whole)
    half = torch.ones(3, requires_grad=True)
    first = optimizers.Adam([half])
    run(range(5), first, half)
    second = optimizers.Adam([half], lr=9.0)
    second.load_state_dict(first.state_dict())
    run(range(5, 10), second, half)
    assert torch.equal(half, whole)


def test_groups_closures_and_schedulers():
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    sgd = optimizers.SGD([{"params": [a]}, {"params": [b], "lr": 0.1}], lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(sgd, step_size=1, gamma=0.1)

    def closure():
        sgd.zero_grad()
        loss = (a + 2 * b).sum()
        loss.backward()
        return loss

    assert sgd.step(closure) == 3.0
    assert a.item() == pytest.approx(0.5) and b.item() == pytest.approx(0.8)
    schedule.step()
    sgd.step(closure)
    assert a.item() == pytest.approx(0.45) and b.item() == pytest.approx(0.78)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.0}, "lr is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"betas": (1.0, 0.9)}, "betas is"),
        ({"eps": 0.0}, "eps is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
    ],
)
def test_bad_hyper_parameters_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        optimizers.Adam([torch.zeros(1, requires_grad=True)], **options)


def test_sparse_gradients_and_integer_parameters_are_refused():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        optimizers.SGD(embedding.parameters()).step()
    with pytest.raises(TypeError, match="int64"):
        optimizers.SGD([torch.zeros(1, dtype=torch.long)])
