"""The configuration of an auto-encoder's run: `VAEConfig`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tiedlib.lab.runs.configuration import RunConfig, option

__all__ = ["VAEConfig"]


@dataclass(frozen=True)
class VAEConfig(RunConfig):
    """All that decides the numbers of a run of `tiedlib.lab.autoencoder.training`. The bits that are drawn once do not
    depend on the seed. Raises ValueError as `TrainConfig` does."""

    kind: ClassVar[str] = "autoencoder"
    run: ClassVar[str] = "tiedlib.lab.autoencoder.training:AutoencoderRun"

    images: str = option("mnist", "name of the set of images", choices=("mnist", "digits"))
    pixels: str = option(
        "static",
        "what the model is trained on: bits drawn once, new bits in each epoch, or grey values",
        choices=("static", "dynamic", "grey"),
    )
    held_out: int = option(10_000, "number of training images kept for validation, the last ones", low=0)
    hidden: int = option(400, "number of units in a hidden layer", low=1)
    layers: int = option(1, "number of hidden layers in the encoder, and in the decoder", low=0)
    latent: int = option(20, "number of latent dimensions", low=1)
    beta: float = option(1.0, "weight of the KL term in the training objective", low=0.0)
    lr: float = option(1e-3, "learning rate of Adam", above=0.0)
    batch: int = option(128, "number of images in a batch", low=1)
    epochs: int = option(20, "number of passes over the training images", low=1)
    bound_samples: int = option(256, "number of samples in the importance-weighted bound of each test image", low=1)
