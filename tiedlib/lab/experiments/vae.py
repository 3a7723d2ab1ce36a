"""The experiment of the chapter `vae`."""

from __future__ import annotations

import dataclasses

from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.experiments.experiment import Experiment, Planned, seeds_of

__all__ = ["EXPERIMENTS"]


def vae_mnist() -> Experiment:
    """784-400-20 as in the example of PyTorch's makers, on bits (drawn once, or new ones in each epoch) and on grey pixels."""
    static = VAEConfig(threads=1)
    new = dataclasses.replace
    grey = new(static, pixels="grey", held_out=0, epochs=10)  # that example's ten epochs over all training images
    variants = {"static": static, "dynamic": new(static, pixels="dynamic"), "grey": grey}
    runs = (Planned("plane", new(static, latent=2)), *seeds_of(variants, range(3)))
    return Experiment("a variational auto-encoder on MNIST: bits, grey pixels, a latent plane", "2.5", runs)


EXPERIMENTS = {"vae-mnist": vae_mnist}
