"""tiedlib.lab.language_model.configuration: what a run may be, and the published models."""

import dataclasses

import pytest
import torch

from tiedlib.lab.language_model.configuration import TrainConfig, check_precision
from tiedlib.tying import PRESETS

pytestmark = pytest.mark.usefixtures("unchecked")  # our own messages, not the type checker's


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim is 0; it must be at least 1"),
        ({"dim": 2.5}, r"dim is 2.5; it must be a whole number"),
        ({"layers": True}, "layers is True; it must be a whole number"),
        ({"lr": 0.0}, "lr is 0.0; it must be more than 0.0"),
        ({"lr": float("nan")}, "lr is nan; it must be a finite number"),
        ({"clip": float("inf")}, "clip is inf; it must be a finite number"),
        ({"early_clip": 0.0}, "early_clip is 0.0; it must be more than 0.0"),
        ({"early_clip": "1"}, "early_clip is '1'; it must be a finite number"),
        ({"lr": "1"}, "lr is '1'; it must be a finite number"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be less than 1.0"),
        ({"dropout": -0.1}, "dropout is -0.1; it must be at least 0.0"),
        ({"decay": 1.5}, "decay is 1.5; it must be at most 1.0"),
        ({"seed": -1}, "seed is -1; it must be at least 0"),
        ({"seed": 2**63}, "it must be at most"),
        ({"tokens": 1}, "tokens is 1; it must be at least 2"),
        ({"threads": 0}, "threads is 0; it must be at least 1"),
        ({"tied": "yes"}, "tied is 'yes'; it must be True or False"),
        ({"optimizer": "adamw"}, "optimizer is 'adamw'; it must be one of sgd, adam"),
        ({"precision": "float16"}, "precision is 'float16'; it must be one of float32, bfloat16"),
        ({"penalty": "code"}, "penalty is 'code' without projection"),
        ({"projection_bias": True}, "projection_bias is True without projection"),
        ({"tied": True, "dim": 100}, "tied is True with dim 100 and hidden 200; they must be equal, or set projection"),
        ({"tied": True, "freeze_input": True}, "freeze_input is True with tied"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**change)


def test_what_can_be_is_taken():
    assert TrainConfig(tied=True, dim=100, projection=True, penalty="spectral", projection_bias=True).dim == 100
    assert TrainConfig(freeze_input=True, lr=1, seed=2**63 - 1, tokens=None).tokens is None


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_every_field_they_have(name):
    config = dataclasses.asdict(TrainConfig.from_preset(name, seed=3))
    assert dataclasses.asdict(PRESETS[name]).items() <= config.items()
    assert config["seed"] == 3 and config["optimizer"] == "sgd" and not config["tied"]


def test_the_defaults_are_the_small_preset():
    assert TrainConfig() == TrainConfig.from_preset("small")


def test_changes_go_before_the_preset():
    assert TrainConfig.from_preset("large", epochs=2).epochs == 2
    with pytest.raises(ValueError, match="preset is 'tiny'; it must be one of small, medium, large"):
        TrainConfig.from_preset("tiny")


def test_the_rate_falls_as_in_the_authors_code():
    """lr_decay ** max(i − max_epoch, 0), i from 0, max_epoch 4: five epochs at 1, then half each time."""
    small = TrainConfig.from_preset("small")
    assert [small.lr_factor(i) for i in range(8)] == [1, 1, 1, 1, 1, 0.5, 0.25, 0.125]
    large = TrainConfig.from_preset("large")
    assert large.lr_factor(14) == 1.0 and large.lr_factor(15) == pytest.approx(1 / 1.15)
    assert large.lr_factor(54) == pytest.approx(1.15**-40)


def test_the_early_clip_holds_while_the_rate_is_full():
    early = TrainConfig(clip=5.0, early_clip=1.0, constant_epochs=1)
    assert [early.clip_at(i) for i in range(4)] == [1.0, 1.0, 5.0, 5.0]
    assert [early.lr_factor(i) for i in range(4)] == [1.0, 1.0, 0.5, 0.25]
    assert [TrainConfig(clip=2.0).clip_at(i) for i in (0, 9)] == [2.0, 2.0]


def test_digest_and_cuts():
    one, other = TrainConfig(tokens=100), TrainConfig(tokens=101)
    assert one.digest() == TrainConfig(tokens=100).digest() != other.digest()
    assert one.cuts() == {"tokens": 100} and TrainConfig().cuts() == {}
    assert TrainConfig(tokens=5, vocabulary_size=9).cuts() == {"tokens": 5, "vocabulary_size": 9}


def test_bfloat16_needs_the_processor(monkeypatch):
    monkeypatch.setattr("tiedlib.lab.language_model.configuration.has_bfloat16", lambda: False)
    check_precision("float32")
    with pytest.raises(ValueError, match="precision is 'bfloat16'; this processor has no instructions for it"):
        check_precision("bfloat16")
    monkeypatch.setattr("tiedlib.lab.language_model.configuration.has_bfloat16", lambda: True)
    check_precision("bfloat16")


def test_bfloat16_on_a_gpu_needs_the_gpu(monkeypatch):
    monkeypatch.setattr(
        "tiedlib.lab.language_model.configuration.has_bfloat16", lambda: False
    )  # the processor's is of no matter there
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        check_precision("float32", "cuda")
        if has:
            check_precision("bfloat16", "cuda")
        else:
            with pytest.raises(ValueError, match="precision is 'bfloat16'; this GPU has no instructions for it"):
                check_precision("bfloat16", "cuda")
