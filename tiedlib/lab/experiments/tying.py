"""The experiments of the chapter `tying`."""

from __future__ import annotations

import dataclasses
from typing import Any

from tiedlib.lab.experiments.experiment import Experiment, seeds_of
from tiedlib.lab.language_model.configuration import FirstStepsConfig, TrainConfig

__all__ = ["EXPERIMENTS"]


def tying_slice() -> Experiment:
    """100,000 tokens of PTB and 2,000 words: small enough for the chapter itself, large enough that tying shows."""
    untied = TrainConfig(
        corpus="ptb",
        tokens=100_000,
        vocabulary_size=2000,
        dim=64,
        hidden=64,
        layers=1,
        lr=1.0,
        clip=5.0,
        batch=20,
        unroll=20,
        epochs=4,
        constant_epochs=2,
        decay=0.5,
        threads=1,
    )
    new = dataclasses.replace
    tied = new(untied, tied=True)
    pr = {f"{name}-pr": new(c, projection=True, penalty="code") for name, c in (("untied", untied), ("tied", tied))}

    def pair(prefix: str, **change: Any) -> dict[str, TrainConfig]:
        return {f"{prefix}-untied": new(untied, **change), f"{prefix}-tied": new(tied, **change)}

    core = {"untied": untied, "tied": tied, **pr, **pair("adam", optimizer="adam", lr=0.003)}
    controls = {
        "tied-p": new(tied, projection=True),
        "untied-frozen": new(untied, freeze_input=True),
        "untied-small": new(untied, projection=True, dim=32),  # about as many parameters as tied
        "tied-nobias": new(tied, output_bias=False),
        "tied-pr-bias": new(pr["tied-pr"], projection_bias=True),
        **pair("adam-0.01", optimizer="adam", lr=0.01),  # Adam's best rate here
    }
    others = {f"tied-pr-{f}": new(tied, projection=True, penalty=f) for f in ("frobenius", "spectral", "squared")}
    for lr in (0.5, 2.0):
        others |= pair(f"lr-{lr:g}", lr=lr)
    others |= pair("adam-0.001", optimizer="adam", lr=0.001)
    for alpha, tau in ((1.0, 1.0), (10.0, 20.0)):  # the second is the paper's temperature, alpha = tau / 2
        others |= pair(f"augmented-{tau:g}", augmented_alpha=alpha, augmented_tau=tau)
    runs = (*seeds_of(core, range(5)), *seeds_of(controls, range(5)), *seeds_of(others, range(3)))
    return Experiment(
        "tying on a slice of the Penn Treebank: variants, controls, optimizers", "1.5", runs, compares_embeddings=True
    )


def press_wolf_small() -> Experiment:
    """Table 6 of Press & Wolf: the small model on all of PTB; P without and with a bias, as in their code. The last variants
    ask what the bias does where there is no penalty, and what a tighter clip does, which leaves it a calm start: for all
    epochs, or for those at full rate alone. "decay-early" lowers the rate after four epochs, as Zaremba et al. (2014) write of
    the small model whose figure is the table's first row; their code, as the authors', keeps it for five."""
    new = dataclasses.replace
    untied = TrainConfig.from_preset("small", corpus="ptb")
    tied = new(untied, tied=True)
    variants = {"untied": untied, "tied": tied}
    for name, config in (("untied", untied), ("tied", tied)):
        for penalty in ("code", "frobenius"):
            for bias in (False, True):
                end = "-bias" if bias else ""
                variants[f"{name}-pr-{penalty}{end}"] = new(
                    config, projection=True, projection_bias=bias, penalty=penalty
                )
    for end in ("", "-bias"):
        variants[f"tied-p{end}"] = new(variants[f"tied-pr-code{end}"], penalty="none")
        variants[f"tied-pr-code{end}-clip-1"] = new(variants[f"tied-pr-code{end}"], clip=1.0)
    variants["tied-clip-1"] = new(tied, clip=1.0)
    for name, clip in (("tied-pr-code", 1), ("tied", 1), ("tied-pr-code", 2)):
        variants[f"{name}-early-clip-{clip}"] = new(variants[name], early_clip=float(clip))
    variants["untied-decay-early"] = new(untied, constant_epochs=untied.constant_epochs - 1)
    runs = tuple(seeds_of(variants, range(3)))
    return Experiment(
        "Press & Wolf 2016, table 6: the small model on the Penn Treebank", "20 to 58", runs, compares_embeddings=True
    )


def press_wolf_start() -> Experiment:
    """The first steps of the small model, and what the bias of P has to do with them: one factor at a time."""
    new = dataclasses.replace
    # one thread each, so that the rounding does not depend on the machine's cores
    untied = FirstStepsConfig.from_preset("small", corpus="ptb", threads=1)
    tied = new(untied, tied=True)

    def project(config: TrainConfig, penalty: str, bias: bool) -> Any:
        return new(config, projection=True, projection_bias=bias, penalty=penalty)

    wild = project(tied, "code", True)
    variants = {"tied": tied, "tied-p-code": project(tied, "code", False), "tied-p-code-bias": wild}
    variants |= {f"offset-lr-{factor:g}": new(wild, offset_lr=factor) for factor in (0.0, 0.05, 0.25)}
    variants |= {
        "untied": untied,
        "untied-p-code": project(untied, "code", False),
        "untied-p-code-bias": project(untied, "code", True),
        "offset-zero": new(wild, offset_zero=True),
        "offset-penalty": new(wild, offset_penalty=1.0),
        "identity-bias": new(wild, identity=True, penalty="none"),
        "clip-1": new(wild, clip=1.0),
    }
    variants["tied-p-frobenius-bias"] = project(tied, "frobenius", True)
    return Experiment(
        "the first steps of the small model: the bias of P, one factor at a time",
        "0.5 to 1",
        tuple(seeds_of(variants, range(3))),
    )


def press_wolf_wikitext2() -> Experiment:
    """The small model on WikiText-2, for which the paper prints nothing; sizes and schedule stay those of the Penn Treebank."""
    untied = TrainConfig.from_preset("small", corpus="wikitext-2")
    variants = {"untied": untied, "tied": dataclasses.replace(untied, tied=True)}
    return Experiment(
        "the small model of Press & Wolf on WikiText-2",
        "15 to 30",
        tuple(seeds_of(variants, range(3))),
        compares_embeddings=True,
    )


def press_wolf_large() -> Experiment:
    """Table 5 of Press & Wolf: Large and Large + WT. Drop probability 0.65 and 55 epochs are in the paper; the start in ±0.04,
    windows of 35, clip 10 and the schedule are in the code it rests on, the preset "large". The last runs multiply in bfloat16
    (torch's autocast; weights, sums and the state of SGD stay float32) and say so in their name and in their record."""
    new = dataclasses.replace
    untied = TrainConfig.from_preset("large", corpus="ptb")
    variants = {"untied": untied, "tied": new(untied, tied=True)}
    mixed = {f"{name}-bfloat16": new(config, precision="bfloat16") for name, config in variants.items()}
    return Experiment(
        "Press & Wolf 2016, table 5: the large model on the Penn Treebank (a GPU: --device cuda)",
        "600",
        (*seeds_of(variants, range(3)), *seeds_of(mixed, range(1))),
        compares_embeddings=True,
    )


EXPERIMENTS = {
    "tying-slice": tying_slice,
    "press-wolf-start": press_wolf_start,
    "press-wolf-small": press_wolf_small,
    "press-wolf-wikitext2": press_wolf_wikitext2,
    "press-wolf-large": press_wolf_large,
}
