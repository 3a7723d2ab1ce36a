"""Training a variational auto-encoder on images from one configuration: `AutoencoderRun`, and `train_vae`, which makes the run of a
`VAEConfig`.

The objective is minus the ELBO of `tiedlib.vae`, in nats an image, averaged over the batch, with one sample for each
image, under Adam. What is measured is always the ELBO of **bits**, whatever was trained on: each pixel of value v was
turned on with probability v, once and for all, with a seed of its own, so that every run sees the same bits.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.data import load
from tiedlib.lab.runs import processes
from tiedlib.lab.runs.run import ALONE, Run, carry_out
from tiedlib.optimizers import Adam
from tiedlib.training_loop import Epoch, Step, fit, minibatches
from tiedlib.vae import VAE, elbo, elbo_terms, importance_bound

__all__ = ["PLANE", "AutoencoderRun", "VAEConfig", "binarized", "plane_images", "train_vae"]

PLANE = tuple(-2.5 + 0.5 * i for i in range(11))  # where a latent plane is decoded, in each of its two dimensions
SAMPLES = 10  # for each image in the ELBO of the final model


def binarized(grey: Tensor, seed: int = 0) -> Tensor:
    """Bits: each pixel is 1 with its grey value (0 … 1) as probability, drawn with `seed`; float32."""
    return (torch.rand(grey.shape, generator=torch.Generator().manual_seed(seed)) < grey).to(torch.float32)


def train_vae(config: VAEConfig, out: Path | None = None, **options: Any) -> dict[str, Any]:
    """Train an auto-encoder, evaluate it, and return the record: `tiedlib.lab.runs.run.carry_out`, which has the options.

        train_/valid_/test_elbo     nats an image; the ELBO of bits, 10 samples each (train: the first 10,000 images)
        test_bound                  the importance-weighted bound with `bound_samples` samples
        test_kl, kl_by_dimension    the KL term, in all and by latent dimension, on the test images
        test_grey_objective         the same formula fed with grey test pixels, which makes it no likelihood
        plane, codes, labels        with two latent dimensions: decoded points of the plane (see `plane_images`), and
                                    μ(x) and class of the first 1,000 test images

    Raises what `carry_out` raises, and ValueError where more images are held out than there are.
    """
    return carry_out(config, out, **options)


def plane_images(record: Mapping[str, Any]) -> Tensor:
    """Probabilities of the pixels over the latent plane of a record: (11, 11, height, width), 0 … 1, in steps of 1/255.

    Entry [i, j] is decoded from z = (PLANE[i], PLANE[j]). Raises ValueError for a record without a plane.
    """
    if "plane" not in record:
        raise ValueError(f"record has {record['config'].get('latent')} latent dimensions; only two make a plane")
    plane = record["plane"]
    raw = bytearray(zlib.decompress(base64.b64decode(plane["pixels"])))
    return torch.frombuffer(raw, dtype=torch.uint8).reshape(plane["shape"]).float() / 255


class AutoencoderRun(Run):
    """A variational auto-encoder on a set of images, measured by the ELBO of bits."""

    figure = "elbo"
    items = "images"

    data: Any

    def __init__(self, config: VAEConfig, group: processes.Group = ALONE) -> None:
        super().__init__(config, group)
        self.data = load(config.images)
        grey = self.data.train.scaled().flatten(1)
        keep = len(grey) - config.held_out
        if keep <= 0:
            raise ValueError(f"held_out is {config.held_out}; it must leave some of the {len(grey)} training images")
        self.grey, self.test_grey = grey[:keep], self.data.test.scaled().flatten(1)
        bits = binarized(grey)
        self.bits, self.valid, self.test = bits[:keep], bits[keep:], binarized(self.test_grey, seed=1)
        self.steps, self.items_per_step = -(-keep // config.batch), config.batch
        torch.manual_seed(config.seed)  # the weights' start and the noise come from torch's own generator
        self.model: VAE = VAE(grey.shape[1], config.hidden, config.latent, layers=config.layers)
        self.optimizer = Adam(self.model.parameters(), lr=config.lr)

    def batches(self, epoch: int) -> Iterable[tuple[Tensor, ...]]:
        """The batches of one epoch; order and fresh bits depend on the seed and the epoch alone."""
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + epoch) % 2**63)
        data = self.grey if self.config.pixels == "grey" else self.bits
        if self.config.pixels == "dynamic":
            data = (torch.rand(self.grey.shape, generator=generator) < self.grey).to(torch.float32)
        return minibatches(data, batch_size=self.config.batch, generator=generator)

    def training(self) -> Iterator[Step | Epoch]:
        def loss(model: VAE, batch: tuple[Tensor]) -> Tensor:
            return -elbo(model, batch[0], beta=self.config.beta).mean()

        return fit(
            self.model, self.batches, self.optimizer, loss=loss, epochs=self.config.epochs, progress=self.progress
        )

    def row(self, event: Epoch) -> dict[str, Any]:
        valid = self.mean(elbo, self.valid) if len(self.valid) else None
        return {"epoch": event.epoch, "train_elbo": -event.loss, "valid_elbo": valid, "seconds": self.stepping}

    @torch.no_grad()
    def mean(self, figure: Callable[..., Tensor], images: Tensor, rows: int = 500, **options: Any) -> float:
        """The mean over images of figure(model, images, …), with noise that takes nothing from the training's."""
        generator = torch.Generator().manual_seed(self.config.seed)
        total = torch.zeros((), dtype=torch.float64)
        for part in images.split(rows):
            total += figure(self.model, part, generator=generator, **options).double().sum()
        return float(total) / len(images)

    def results(self) -> dict[str, Any]:
        parts = {"train": self.bits[:10_000], "valid": self.valid, "test": self.test}
        results: dict[str, Any] = {
            f"{part}_elbo": self.mean(elbo, bits, samples=SAMPLES) if len(bits) else None
            for part, bits in parts.items()
        }
        results["test_bound"] = self.mean(importance_bound, self.test, rows=50, samples=self.config.bound_samples)
        results["test_kl"] = self.mean(lambda *args, **rest: elbo_terms(*args, **rest)[1], self.test)
        results["test_grey_objective"] = self.mean(elbo, self.test_grey, samples=SAMPLES)
        with torch.no_grad():
            mu, logvar = self.model.encode(self.test)
            results["kl_by_dimension"] = (0.5 * (mu.square() + torch.expm1(logvar) - logvar)).mean(0).tolist()
        return results | (self.plane(mu) if self.config.latent == 2 else {})

    @torch.no_grad()
    def plane(self, mu: Tensor) -> dict[str, Any]:
        """The decoded plane, and where the first 1,000 test images lie in it."""
        points = torch.cartesian_prod(torch.tensor(PLANE), torch.tensor(PLANE))
        pixels = (255 * self.model.decode(points).sigmoid()).round().to(torch.uint8)
        packed = base64.b64encode(zlib.compress(pixels.numpy().tobytes(), 9)).decode()
        shape = [len(PLANE), len(PLANE), *self.data.test.images.shape[1:]]
        codes = [[round(value, 2) for value in row] for row in mu[:1000].tolist()]
        return {
            "plane": {"shape": shape, "pixels": packed},
            "codes": codes,
            "labels": self.data.test.labels[:1000].tolist(),
        }
