"""The grid against the loop over models that it replaces."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tiedlib import optimizers
from tiedlib.lab.grid import grid
from tiedlib.training_loop import Step, evaluate, fit, minibatches

ROWS, BATCH, EPOCHS, SEEDS = 22, 8, 4, (3, 4, 5)  # 22 rows: the last batch of a pass is short


def net(init=1.0, dtype=torch.float64):
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
    with torch.no_grad():
        model[0].weight.mul_(init)
    return model


def data(dtype=torch.float64):
    g = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, 5, generator=g, dtype=dtype), torch.randint(3, (ROWS,), generator=g)


def cross_entropy(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def penalized(model, batch, strength=0.0):
    return cross_entropy(model, batch) + strength * sum(p.square().sum() for p in model.parameters())


def loop(make, tensors, optimizer, loss, seed, batch_size=BATCH):
    """One run as anyone would write it: losses, and the model."""
    torch.manual_seed(seed)
    model, generator = make(), torch.Generator().manual_seed(seed)
    batches = (
        [tensors]
        if batch_size is None
        else lambda epoch: list(minibatches(*tensors, batch_size=batch_size, generator=generator))
    )
    events = fit(model, batches, optimizer(model.parameters()), loss=loss, epochs=EPOCHS)
    return [e.loss.item() for e in events if isinstance(e, Step)], model


RULES = [
    (optimizers.sgd, torch.optim.SGD, {"lr": [0.1, 0.3]}),
    (
        optimizers.adam,
        torch.optim.Adam,
        {"lr": [0.01], "betas": [(0.9, 0.999), (0.5, 0.9)], "weight_decay": [0.0, 0.1]},
    ),
]


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("batch_size", [BATCH, None])
@pytest.mark.parametrize(("rule", "optimizer", "hyper"), RULES)
def test_equal_to_the_loop_over_models(rule, optimizer, hyper, batch_size, dtype, bound):
    """Against torch's own optimizers: losses of every step and the weights at the end."""
    tensors = data(dtype)
    found = grid(
        lambda: net(dtype=dtype), tensors, rule, loss=cross_entropy, hyper=hyper, seeds=SEEDS, epochs=EPOCHS, batch_size=batch_size
    )  # fmt: skip
    assert len(found.settings) == np.prod([len(v) for v in hyper.values()])
    assert found.loss.shape == (len(found.settings), 3, EPOCHS * (3 if batch_size else 1))
    for i, setting in enumerate(found.settings):
        for j, seed in enumerate(SEEDS):
            losses, model = loop(
                lambda: net(dtype=dtype), tensors, lambda ps, s=setting: optimizer(ps, **s), cross_entropy, seed, batch_size
            )  # fmt: skip
            np.testing.assert_allclose(found.loss[i, j], losses, rtol=bound)
            for name, p in model.named_parameters():
                ours = found.params[name][i, j]
                assert ours.dtype == dtype and (ours - p).abs().max() <= bound * p.abs().max()


def test_names_go_to_the_model_the_rule_and_the_loss():
    hyper = {"init": [0.5, 2.0], "lr": [0.1, 0.2], "strength": [0.0, 0.01]}
    found = grid(net, data(), optimizers.sgd, loss=penalized, hyper=hyper, seeds=SEEDS, epochs=EPOCHS, batch_size=BATCH)
    assert found.settings[1] == {"init": 0.5, "lr": 0.1, "strength": 0.01} and len(found.settings) == 8
    for i, s in enumerate(found.settings):
        losses, _ = loop(
            lambda s=s: net(s["init"]),
            data(),
            lambda ps, s=s: torch.optim.SGD(ps, lr=s["lr"]),
            lambda m, b, s=s: penalized(m, b, s["strength"]),
            SEEDS[1],
        )
        np.testing.assert_allclose(found.loss[i, 1], losses, rtol=1e-12)


def test_measures_are_taken_in_evaluation_mode_and_on_time():
    def make():
        return nn.Sequential(net(), nn.Dropout(0.9))

    x, y = data()
    measures = {
        "loss": lambda m: cross_entropy(m, (x, y)),
        "norms": lambda m: torch.stack([p.norm() for p in m.parameters()]),
    }
    found = grid(
        make, (x, y), optimizers.sgd, loss=cross_entropy, hyper={"lr": [0.1]}, seeds=(0, 1), steps=7, batch_size=8,
        measures=measures, every=3,
    )  # fmt: skip
    assert found.at.tolist() == [0, 3, 6, 7]
    assert found.measured["loss"].shape == (1, 2, 4) and found.measured["norms"].shape == (1, 2, 4, 4)
    torch.manual_seed(1)
    assert found.measured["loss"][0, 1, 0] == pytest.approx(evaluate(make(), [(x, y)], loss=cross_entropy), rel=1e-12)
    model = make()
    model.load_state_dict({name: p[0, 1] for name, p in found.params.items()})
    assert found.measured["loss"][0, 1, -1] == pytest.approx(evaluate(model, [(x, y)], loss=cross_entropy), rel=1e-12)
    default = grid(
        net, (x, y), optimizers.sgd, loss=cross_entropy, hyper={}, seeds=(0,), epochs=2, batch_size=8, measures=measures
    )
    assert default.at.tolist() == [0, 3, 6] and default.settings == ({},)


def test_dropout_draws_for_each_model_and_the_run_repeats():
    def run():
        torch.rand(3)  # whatever was drawn before
        return grid(
            lambda: nn.Sequential(nn.Dropout(0.5), net(dtype=torch.float32)), data(torch.float32), optimizers.sgd,
            loss=cross_entropy, hyper={"lr": [0.1, 0.1]}, seeds=(0,), steps=1,
        )  # fmt: skip

    first, second = run(), run()
    assert np.array_equal(first.loss, second.loss)
    assert first.loss[0, 0, 0] != first.loss[1, 0, 0]


def test_a_run_that_diverges_leaves_the_others_alone():
    options = dict(loss=lambda m, b: (m(b[0]) ** 4).mean(), seeds=(0, 1), epochs=20, batch_size=BATCH)
    both = grid(net, data(), optimizers.sgd, hyper={"lr": [0.01, 1e6]}, **options)
    alone = grid(net, data(), optimizers.sgd, hyper={"lr": [0.01]}, **options)
    assert not np.isfinite(both.loss[1, :, -1]).any()
    np.testing.assert_allclose(both.where(lr=0.01).loss, alone.loss, rtol=1e-12)


def test_frozen_and_tied_weights_stay_so():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(5, 5, bias=False), nn.Linear(5, 5)
            self.second.weight = self.first.weight
            self.second.bias.requires_grad_(False)

        def forward(self, x):
            return self.second(self.first(x).tanh())

    x = torch.randn(ROWS, 5)
    found = grid(
        Tied, (x, x.argmax(-1)), optimizers.sgd, loss=cross_entropy, hyper={"lr": [0.5]}, seeds=(7,), epochs=EPOCHS
    )  # fmt: skip
    losses, model = loop(Tied, (x, x.argmax(-1)), lambda ps: torch.optim.SGD(ps, lr=0.5), cross_entropy, 7, None)
    np.testing.assert_allclose(found.loss[0, 0], losses, rtol=1e-5)
    torch.testing.assert_close(found.params["first.weight"][0, 0], model.first.weight.detach())
    torch.manual_seed(7)
    assert torch.equal(found.params["second.bias"][0, 0], Tied().second.bias)


def test_the_callers_random_numbers_are_not_touched():
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    grid(net, data(), optimizers.sgd, loss=cross_entropy, hyper={"lr": [0.1]}, steps=1, batch_size=4)
    assert torch.equal(torch.rand(1), expected)


def test_where_picks_settings():
    found = grid(net, data(), optimizers.sgd, loss=penalized, hyper={"lr": [0.1, 0.2], "strength": [0, 1]}, steps=2)
    part = found.where(lr=0.2)
    assert [s["strength"] for s in part.settings] == [0, 1]
    assert np.array_equal(part.loss, found.loss[2:]) and torch.equal(part.params["0.bias"], found.params["0.bias"][2:])
    with pytest.raises(ValueError, match="no setting has"):
        found.where(lr=0.3)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"hyper": {"eta": [1.0]}}, ValueError, "names 'eta'.*none of"),
        ({"hyper": {"lr": []}}, ValueError, r"hyper\['lr'\] is empty"),
        ({"hyper": {"lr": ["fast"]}}, TypeError, r"hyper\['lr'\] is \['fast'\]"),
        ({"hyper": {"lr": [True]}}, TypeError, r"hyper\['lr'\] is \[True\]"),
        ({"hyper": {"model": [1.0]}, "make_model": lambda model: net()}, ValueError, "make_model and loss take it"),
        ({"hyper": {"n": [2, 3]}, "make_model": lambda n: nn.Linear(5, n)}, ValueError, "same shapes"),
        ({"make_model": lambda: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))}, ValueError, "BatchNorm1d"),
        ({"seeds": ()}, ValueError, "seeds is empty"),
        ({"steps": None}, ValueError, "steps is None and epochs is None"),
        ({"epochs": 1}, ValueError, "steps is 1 and epochs is 1"),
        ({"steps": -1}, ValueError, "steps is -1"),
        ({"batch_size": 0}, ValueError, "batch_size is 0"),
        ({"every": 0}, ValueError, "every is 0"),
        ({"data": (torch.zeros(3, 5), torch.zeros(2, dtype=torch.long))}, ValueError, r"lengths \[3, 2\]"),
        ({"data": (torch.zeros(0, 5),)}, ValueError, r"lengths \[0\]"),
        ({"data": ()}, ValueError, r"lengths \[\]"),
    ],
)
def test_what_cannot_run_is_named(options, error, words):
    sound = dict(make_model=net, data=data(), rule=optimizers.sgd, loss=cross_entropy, hyper={"lr": [0.1]}, steps=1)
    options = sound | options
    with pytest.raises(error, match=words):
        grid(options.pop("make_model"), options.pop("data"), options.pop("rule"), **options)
