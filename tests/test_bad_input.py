"""One table for every public callable of the ideas: a good call of each. From it bad calls are made, one argument at a time,
and each must be refused with the argument's name, its value and the rule, before anything is computed."""

import functools
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiedlib

MODULES = [p.stem for p in sorted(Path(tiedlib.__file__).parent.glob("*.py")) if not p.name.startswith("_")]
MODULES.append("lab.questions")  # the bench's one module that chapters hand numbers and texts of their own to
HERE = {name: importlib.import_module(f"tiedlib.{name}") for name in MODULES}
X, LOGITS, TARGET = torch.ones(3, 4), torch.zeros(5, 3), torch.tensor([0, 1, 2, 0, 1])


def leaves() -> list[torch.Tensor]:
    return [torch.ones(2, requires_grad=True)]


def rule(**hyper: Any) -> dict[str, Any]:
    return {"grad": torch.ones(2), "state": {}, "param": torch.ones(2), "lr": 0.1, "weight_decay": 0.0, **hyper}


def optimizer(**hyper: Any) -> dict[str, Any]:
    return {"params": leaves(), "lr": 0.1, "weight_decay": 0.0, **hyper}


@functools.cache
def small_vae() -> nn.Module:
    return HERE["vae"].VAE(4, 3, 2)


MOMENTUM: dict[str, Any] = {"momentum": 0.9, "dampening": 0.0}
ADAM: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8}
RMSPROP: dict[str, Any] = {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0}
ADAGRAD: dict[str, Any] = {"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0}
FILL: dict[str, Any] = {"tensor": torch.ones(3, 4)}
KAIMING: dict[str, Any] = {**FILL, "a": 0.0, "mode": "fan_in", "nonlinearity": "relu"}
GAUSSIAN: dict[str, Any] = {"x": X, "weight": torch.ones(4, 2), "bias": torch.ones(4), "scale": 1.0}

# What is only carried or shown (results, settings) has nothing to check; what checks has a file of its own.
# These take what their one caller has checked.
INNERMOST = {"fastest", "kernel", "using", "linear", "room", "softmax_", "OuterSum"}
NOTHING_TO_CHECK = INNERMOST | {
    *(f"arguments.{name}" for name in HERE["arguments"].__all__),
    "Epoch",
    "Progress",
    "Step",
    "Preset",
    "PRESETS",
    "State",
    "Answer",
    "Question",
    "QuestionError",
}
GOOD: dict[str, Callable[[], dict[str, Any]]] = {
    "autograd.Node": lambda: {"value": torch.ones(2)},
    "training_loop.minibatches": lambda: {"*": (X,), "batch_size": 2},
    "optimizers.sgd": rule,
    "optimizers.momentum": lambda: rule(**MOMENTUM),
    "optimizers.adagrad": lambda: rule(**ADAGRAD),
    "optimizers.rmsprop": lambda: rule(**RMSPROP),
    "optimizers.adam": lambda: rule(**ADAM),
    "optimizers.adamw": lambda: rule(**ADAM),
    "optimizers.SGD": optimizer,
    "optimizers.Momentum": lambda: optimizer(**MOMENTUM),
    "optimizers.Adagrad": lambda: optimizer(**ADAGRAD),
    "optimizers.RMSprop": lambda: optimizer(**RMSPROP),
    "optimizers.Adam": lambda: optimizer(**ADAM),
    "optimizers.AdamW": lambda: optimizer(**ADAM),
    "initialization.fan_in_and_fan_out": lambda: {"tensor": torch.ones(3, 4)},
    "initialization.calculate_gain": lambda: {"nonlinearity": "leaky_relu", "param": 0.1},
    "initialization.xavier_uniform_": lambda: {**FILL, "gain": 1.0},
    "initialization.xavier_normal_": lambda: {**FILL, "gain": 1.0},
    "initialization.orthogonal_": lambda: {**FILL, "gain": 1.0},
    "initialization.kaiming_uniform_": lambda: dict(KAIMING),
    "initialization.kaiming_normal_": lambda: dict(KAIMING),
    "initialization.forget_gate_bias_": lambda: {"lstm": nn.LSTM(2, 2), "value": 1.0},
    "initialization.moment_map": lambda: {"f": torch.tanh, "q": 1.0, "forward_gain": 1.0, "backward_gain": 1.0},
    "initialization.carried_moments": lambda: {"weights": [torch.ones(5, 4)], "x": X, "f": torch.tanh},
    "regularization.l1_penalty": lambda: {"params": X},
    "regularization.l2_penalty": lambda: {"params": X},
    "regularization.frobenius_norm": lambda: {"tensor": X},
    "regularization.penalized": lambda: {"loss": torch.tensor(1.0), "params": X, "l1": 0.1, "l2": 0.1},
    "regularization.soft_threshold": lambda: {"x": X, "t": 0.1},
    "regularization.proximal_sgd": lambda: {"grad": X, "state": {}, "param": X, "lr": 0.1, "l1": 0.1},
    "regularization.max_norm": lambda: {"weight": torch.ones(3, 4), "limit": 1.5},
    "regularization.max_norm_": lambda: {"weight": torch.ones(3, 4), "limit": 1.5},
    "regularization.matrices": lambda: {"model": nn.Linear(2, 3)},
    "regularization.penalty_groups": lambda: {"model": nn.Linear(2, 3), "weight_decay": 0.1},
    "dropout.keep_mask": lambda: {"shape": (2, 3), "p": 0.5},
    "dropout.apply_mask": lambda: {"x": X, "keep": torch.ones(3, 4, dtype=torch.bool), "p": 0.5},
    "dropout.dropout": lambda: {"x": X, "p": 0.5},
    "dropout.classic_dropout": lambda: {"x": X, "p": 0.5},
    "dropout.drop_connect": lambda: {"x": X, "weight": torch.ones(5, 4), "p": 0.5, "bias": torch.ones(5)},
    "dropout.embedding_dropout": lambda: {"tokens": TARGET, "weight": torch.ones(3, 4), "p": 0.5},
    "dropout.masked_lstm": lambda: {"x": torch.ones(2, 5, 3), "lstm": nn.LSTM(3, 4)},
    "dropout.every_mask": lambda: {"n": 3, "p": 0.5},
    "dropout.monte_carlo": lambda: {"model": HERE["dropout"].Dropout(0.5), "*": (X,), "samples": 3},
    "dropout.Dropout": lambda: {"p": 0.5},
    "dropout.VariationalDropout": lambda: {"p": 0.5},
    "dropout.EmbeddingDropout": lambda: {"embedding": nn.Embedding(5, 2), "p": 0.5},
    "dropout.WeightDropLSTM": lambda: {"input_size": 2, "hidden_size": 3, "num_layers": 1, "p": 0.5},
    "gumbel_softmax.sample_gumbel": lambda: {"shape": (2, 3)},
    "gumbel_softmax.gumbel_cdf": lambda: {"x": X},
    "gumbel_softmax.gumbel_log_density": lambda: {"x": X},
    "gumbel_softmax.gumbel_max": lambda: {"logits": LOGITS},
    "gumbel_softmax.gumbel_softmax": lambda: {"logits": LOGITS, "tau": 1.0, "dim": -1},
    "gumbel_softmax.relax": lambda: {"scores": LOGITS, "tau": 1.0, "dim": -1},
    "gumbel_softmax.log_density": lambda: {"y": torch.full((5, 3), 1 / 3), "logits": LOGITS, "tau": 1.0},
    "gumbel_softmax.kl_uniform": lambda: {"logits": LOGITS},
    "gumbel_softmax.exact_gradient": lambda: {"objective": lambda y: y.sum(-1), "logits": LOGITS[0]},
    "gumbel_softmax.reinforce_gradients": lambda: {
        "objective": lambda y: y.sum(-1), "logits": LOGITS[0], "samples": 4, "baseline": 0.0,
    },
    "gumbel_softmax.gumbel_softmax_gradients": lambda: {
        "objective": lambda y: y.sum(-1), "logits": LOGITS[0], "samples": 4, "tau": 1.0,
    },
    "vae.VAE": lambda: {"features": 4, "hidden": 3, "latent": 2, "layers": 1, "likelihood": "gaussian", "scale": 1.0},
    "vae.reparameterize": lambda: {"mu": X, "logvar": torch.zeros(3, 4)},
    "vae.kl_standard_normal": lambda: {"mu": X, "logvar": torch.zeros(3, 4)},
    "vae.elbo": lambda: {"model": small_vae(), "x": X, "samples": 1, "beta": 1.0},
    "vae.elbo_terms": lambda: {"model": small_vae(), "x": X, "samples": 1},
    "vae.importance_bound": lambda: {"model": small_vae(), "x": X, "samples": 2},
    "vae.log_weights": lambda: {"model": small_vae(), "x": X, "samples": 2},
    "vae.linear_gaussian_log_prob": lambda: dict(GAUSSIAN),
    "vae.linear_gaussian_posterior": lambda: dict(GAUSSIAN),
    "linear_cross_entropy.linear_cross_entropy": lambda: {
        "input": torch.ones(5, 4), "linear_weight": torch.ones(3, 4), "target": TARGET, "linear_bias": torch.ones(3),
        "reduction": "mean", "label_smoothing": 0.0,
    },
    "lab.questions.right": lambda: {"text": "Yes.", "truth": True, "why": "So it is."},
    "lab.questions.wrong": lambda: {"text": "No.", "truth": False, "why": "It is not."},
    "lab.questions.choice": lambda: {
        "question": "Is it?",
        "*": (HERE["lab.questions"].right("Yes.", True, "So it is."), HERE["lab.questions"].wrong("No.", False, "It is.")),
    },
    "lab.questions.number": lambda: {
        "question": "How large?", "value": 0.5, "why": "A half.", "wrong": [(2.0, "The inverse.")], "absolute": 0.1,
    },
    "matrix_products.use": lambda: {"name": "torch"},
    "recurrent.LSTM": lambda: {"input_size": 2, "hidden_size": 3, "num_layers": 1, "dropout": 0.0},
    "recurrent.LanguageModel": lambda: {"vocab_size": 5, "dim": 2, "hidden": 2, "layers": 1, "dropout": 0.0},
    "tying.TiedSoftmax": lambda: {"embedding": nn.Embedding(5, 2)},
    "tying.augmented_loss": lambda: {
        "logits": LOGITS, "target": TARGET, "embedding": torch.ones(3, 4), "alpha": 0.5, "tau": 1.0, "reduction": "mean",
    },
    "tying.embedding_similarity": lambda: {"a": torch.randn(6, 3), "b": torch.randn(6, 4)},
    "tying.projection_penalty": lambda: {"weight": torch.eye(3), "strength": 0.15, "form": "frobenius"},
    "tying.rank_correlation": lambda: {"a": torch.randn(6), "b": torch.randn(6)},
    "tying.word_similarity": lambda: {
        "embedding": torch.randn(6, 3), "pairs": torch.tensor([[0, 1], [2, 3], [4, 5]]), "ratings": torch.tensor([1.0, 2.0, 3.0]),
    },
}  # fmt: skip
# Names whose values have a range; every other real number must only be finite.
RANGES: dict[str, tuple[Any, ...]] = {
    "lr": (-1.0,),
    **dict.fromkeys(["tau", "scale"], (0.0, -1.0)),
    "eps": (0.0, -1e-8),
    **dict.fromkeys(["weight_decay", "lr_decay", "initial_accumulator_value"], (-1.0,)),
    **dict.fromkeys(["l1", "l2", "t"], (-1.0,)),
    "limit": (0.0, -1.0),
    **dict.fromkeys(["q", "gain", "forward_gain", "strength", "alpha", "beta"], (-1.0,)),
    **dict.fromkeys(["p", "momentum", "dropout"], (1.0, -0.1)),
    "absolute": (-0.1, 1.6),  # the second takes the wrong value for the right one
    **dict.fromkeys(["dampening", "label_smoothing"], (-0.1, 1.1)),
    "betas": ((1.0, 0.9), (0.9, -0.1), (math.nan, 0.9)),
}
TEXTS = {"question", "text", "why"}  # any words will do


def public() -> Iterator[str]:
    for module, here in HERE.items():
        for name in here.__all__:
            one = getattr(here, name)
            if (
                callable(one)
                and one.__module__ == f"tiedlib.{module}"
                and not {name, f"{module}.{name}"} & NOTHING_TO_CHECK
            ):
                yield f"{module}.{name}"


# What takes models, loops or rules as its arguments has a test of its own in its module's file, which the second test finds.
ELSEWHERE = {
    "autograd.backpropagate",
    "autograd.cross_entropy",
    "training_loop.fit",
    "training_loop.evaluate",
    "optimizers.RuleOptimizer",
}


def test_the_table_has_every_public_callable():
    assert GOOD.keys() | ELSEWHERE == set(public())


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_what_takes_programs_is_refused_in_its_own_file(name):
    module, callable_ = name.split(".")
    text = (Path(__file__).parent / f"test_{module}.py").read_text(encoding="utf-8")
    bad = [
        part for part in re.split(r"\n(?=def |@|[A-Z]+ = )", text) if "pytest.raises" in part or part.startswith("BAD")
    ]
    assert any(re.search(rf"\b{callable_}\(", part) for part in bad), f"no test refuses anything of {name}"


def call(name: str, arguments: dict[str, Any]) -> Any:
    module, callable_ = name.rsplit(".", 1)
    options = dict(arguments)
    first = [options.pop(key) for key in ("model", "question") if "*" in options and key in options]
    result = getattr(HERE[module], callable_)(*first, *options.pop("*", ()), **options)
    return list(result) if inspect.isgenerator(result) else result


def bad_values(key: str, good: Any) -> Iterator[tuple[Any, type | tuple[type, ...]]]:
    if isinstance(good, bool):
        return
    if isinstance(good, float) or key == "betas":
        yield from ((v, ValueError) for v in RANGES.get(key, ()))
        yield "fast", TypeError
    if isinstance(good, float):
        yield math.nan, ValueError
        if key != "limit":  # no limit at all
            yield math.inf, ValueError
    elif isinstance(good, int) and key != "dim":
        yield from ((v, ValueError) for v in ((-1,) if key in ("layers", "n") else (0, -1)))
        yield 1.5, TypeError
    elif key in TEXTS:
        yield " ", ValueError
        yield 3, TypeError
    elif isinstance(good, str):
        yield "no such choice", ValueError
    elif isinstance(good, torch.Tensor):
        if good.dtype is torch.bool:
            return
        if good.is_floating_point():
            yield good.long(), TypeError
        else:
            yield good.float(), TypeError
        yield [1.0], TypeError


CASES = [
    pytest.param(name, key, value, error, id=f"{name}-{key}-{i}")
    for name, good in GOOD.items()
    for key, ok in good().items()
    for i, (value, error) in enumerate(bad_values(key, ok))
]


@pytest.mark.parametrize("name", GOOD)
def test_the_good_call_is_good(name):
    call(name, GOOD[name]())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "key", "value", "error"), CASES)
def test_a_bad_argument_is_refused_with_its_name_and_value(name, key, value, error):
    with pytest.raises(error) as caught:
        call(name, {**GOOD[name](), key: value})
    said = str(caught.value)
    assert re.search(rf"\b{key}\b", said), said
    told = str(value.dtype) if isinstance(value, torch.Tensor) else repr(value)
    parts = map(repr, value) if isinstance(value, (list, tuple)) else ()
    assert any(text in said for text in (told, type(value).__name__, *parts)), said


FREE = {
    ("tying.word_similarity", "embedding"),
    ("dropout.embedding_dropout", "tokens"),
    ("dropout.embedding_dropout", "weight"),
}
# more words, or more numbers for each, are as good


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "key"),
    [
        pytest.param(name, key, id=f"{name}-{key}")
        for name, good in GOOD.items()
        for key, value in good().items()
        if isinstance(value, torch.Tensor) and sum(isinstance(v, torch.Tensor) for v in good().values()) > 1
        if (name, key) not in FREE and name != "regularization.penalized"  # a loss and weights of any shape
    ],
)
def test_tensors_that_do_not_fit_are_refused_with_their_shapes(name, key):
    """Lengthened along its first or its last axis (more examples alone may be good), a tensor fits no more."""
    refused = 0
    for axis in (0, -1):
        arguments = GOOD[name]()
        arguments[key] = torch.cat([arguments[key]] * 7, dim=axis)
        try:
            call(name, arguments)
        except ValueError as error:
            refused += 1
            said = str(error)
            assert re.search(rf"\b{key}\b", said) and re.search(r"shape|rows|\(\d+", said), said
    assert refused, f"{name} took a {key} that does not fit"
