"""Training a variational auto-encoder on images from one configuration: `VAEConfig`, and `train_vae`, which goes on where
it was stopped.

The objective is minus the ELBO of `tiedlib.vae`, in nats an image, averaged over the batch, with one sample for each
image, under Adam. What is measured is always the ELBO of **bits**, whatever was trained on: each pixel of value v was
turned on with probability v, once and for all, with a seed of its own, so that every run sees the same bits.
"""

from __future__ import annotations

import base64
import dataclasses
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tiedlib.lab import checkpoints, records
from tiedlib.lab.configuration import VAEConfig
from tiedlib.lab.data import Images, load
from tiedlib.lab.training import own_state
from tiedlib.optimizers import Adam
from tiedlib.training_loop import Epoch, Progress, fit, minibatches
from tiedlib.vae import VAE, elbo, elbo_terms, importance_bound

__all__ = ["PLANE", "VAEConfig", "binarized", "plane_images", "train_vae"]

PLANE = tuple(-2.5 + 0.5 * i for i in range(11))  # where a latent plane is decoded, in each of its two dimensions
SAMPLES = 10  # for each image in the ELBO of the final model
Event = Any  # a Step, or the dict of an epoch as it stands in the record


def binarized(grey: Tensor, seed: int = 0) -> Tensor:
    """Bits: each pixel is 1 with its grey value (0 … 1) as probability, drawn with `seed`; float32."""
    return (torch.rand(grey.shape, generator=torch.Generator().manual_seed(seed)) < grey).to(torch.float32)


def train_vae(
    config: VAEConfig,
    out: Path | None = None,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Train, evaluate, and return the record (see `tiedlib.lab.records`), whose numbers are those of the final model:

        train_/valid_/test_elbo     nats an image; the ELBO of bits, 10 samples each (train: the first 10,000 images)
        test_bound                  the importance-weighted bound with `bound_samples` samples
        test_kl, kl_by_dimension    the KL term, in all and by latent dimension, on the test images
        test_grey_objective         the same formula fed with grey test pixels, which makes it no likelihood
        plane, codes, labels        with two latent dimensions: decoded points of the plane (see `plane_images`), and
                                    μ(x) and class of the first 1,000 test images

    With a folder `out`: a checkpoint after every epoch and at Ctrl-C, and record.json at the end; a call with the same
    configuration goes on where the last one stopped, to the same bits. Raises as `tiedlib.lab.training.train`.
    """
    images: Any = load(config.images)
    _check_held_out(images, config)
    with checkpoints.locked(out) if out else nullcontext(), own_state(config.threads), checkpoints.ctrl_c() as stop:
        run = _Run(config, images, None if out is None else out / "checkpoint.pt")
        if out:
            records.refuse_other(out / "record.json", config)
        if run.record is None:
            for event in run.events(stop):
                on_event(event)
            run.finish()
        if out:
            records.save_record(out / "record.json", run.record)
        return {**run.record, "config": dataclasses.asdict(config)}


def _check_held_out(images: Any, config: VAEConfig) -> None:
    """Raise ValueError where more images are held out than there are."""
    if not config.held_out < len(images.train):
        raise ValueError(
            f"held_out is {config.held_out}; it must leave some of the {len(images.train)} training images"
        )


def plane_images(record: Mapping[str, Any]) -> Tensor:
    """Probabilities of the pixels over the latent plane of a record: (11, 11, height, width), 0 … 1, in steps of 1/255.

    Entry [i, j] is decoded from z = (PLANE[i], PLANE[j]). Raises ValueError for a record without a plane.
    """
    if "plane" not in record:
        raise ValueError(f"record has {record['config'].get('latent')} latent dimensions; only two make a plane")
    plane = record["plane"]
    raw = bytearray(zlib.decompress(base64.b64decode(plane["pixels"])))
    return torch.frombuffer(raw, dtype=torch.uint8).reshape(plane["shape"]).float() / 255


class _Run:
    """Everything of a run that changes while it goes on, and how to save it and take it up again."""

    def __init__(self, config: VAEConfig, images: Images, path: Path | None) -> None:
        self.config, self.images, self.path = config, images, path
        grey = images.train.scaled().flatten(1)
        keep = len(grey) - config.held_out
        self.grey, self.test_grey = grey[:keep], images.test.scaled().flatten(1)
        bits = binarized(grey)
        self.bits, self.valid, self.test = bits[:keep], bits[keep:], binarized(self.test_grey, seed=1)
        torch.manual_seed(config.seed)  # the weights' start and the noise come from torch's own generator
        self.model = VAE(grey.shape[1], config.hidden, config.latent, layers=config.layers)
        self.optimizer = Adam(self.model.parameters(), lr=config.lr)
        self.progress, self.epochs = Progress(), list[dict[str, Any]]()
        self.started, self.earlier = records.now(), 0.0  # earlier: wall seconds before a stop
        self.record: Any = None
        if path is not None and path.exists():
            self.restore(path)
        self.since = time.perf_counter()

    def restore(self, path: Path) -> None:
        """Take up the run saved at `path`. Raises CheckpointError where it is damaged or of another run."""
        saved = checkpoints.load(path, text=False)
        checkpoints.require_same(path, "configuration", saved["config"], self.config)
        checkpoints.require_same(path, "data (sha256 of a file)", saved["data"], self.images.sha256)
        try:
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = Progress(**saved["progress"])
            torch.set_rng_state(saved["rng"])
            torch.set_num_threads(saved["threads"])
            self.epochs, self.record = saved["epochs"], saved["record"]
            self.started, self.earlier = saved["clock"]["started"], saved["clock"]["seconds"]
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise checkpoints.DamagedError(f"{path} is damaged; move it away to start anew ({error})") from error

    def save(self) -> None:
        """Write the checkpoint."""
        if self.path is not None:
            content = {
                "config": dataclasses.asdict(self.config), "data": self.images.sha256, "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(), "progress": vars(self.progress), "rng": torch.get_rng_state(),
                "threads": torch.get_num_threads(), "epochs": self.epochs, "record": self.record,
                "clock": {"started": self.started, "seconds": self.seconds()},
            }  # fmt: skip
            checkpoints.save(self.path, content)

    def seconds(self) -> float:
        """Wall seconds of the run, those before it was taken up again among them."""
        return self.earlier + time.perf_counter() - self.since

    def batches(self, epoch: int) -> Iterable[tuple[Tensor, ...]]:
        """The batches of one epoch; order and fresh bits depend on the seed and the epoch alone."""
        generator = torch.Generator().manual_seed((self.config.seed * 1_000_003 + epoch) % 2**63)
        data = self.grey if self.config.pixels == "grey" else self.bits
        if self.config.pixels == "dynamic":
            data = (torch.rand(self.grey.shape, generator=generator) < self.grey).to(torch.float32)
        return minibatches(data, batch_size=self.config.batch, generator=generator)

    def events(self, stop: threading.Event) -> Iterator[Event]:
        """The events of `fit`, an epoch's as the dict that the record keeps; saves, and stops where `stop` is set."""

        def loss(model: VAE, batch: tuple[Tensor]) -> Tensor:
            return -elbo(model, batch[0], beta=self.config.beta).mean()

        before = time.perf_counter()
        run = fit(
            self.model, self.batches, self.optimizer, loss=loss, epochs=self.config.epochs, progress=self.progress
        )
        for event in run:
            self.progress = event.progress
            if isinstance(event, Epoch):
                valid = self.mean(elbo, self.valid) if len(self.valid) else None
                seconds, before = time.perf_counter() - before, time.perf_counter()
                row = {"epoch": event.epoch, "train_elbo": -event.loss, "valid_elbo": valid, "seconds": seconds}
                self.epochs.append(row)
                self.save()
            yield self.epochs[-1] if isinstance(event, Epoch) else event
            if stop.is_set():
                self.save()
                raise KeyboardInterrupt

    @torch.no_grad()
    def mean(self, figure: Callable[..., Tensor], images: Tensor, rows: int = 500, **options: Any) -> float:
        """The mean over images of figure(model, images, …), with noise that takes nothing from the training's."""
        generator = torch.Generator().manual_seed(self.config.seed)
        total = torch.zeros((), dtype=torch.float64)
        for part in images.split(rows):
            total += figure(self.model, part, generator=generator, **options).double().sum()
        return float(total) / len(images)

    def finish(self) -> None:
        """Evaluate the final model, make the record, and save both in one checkpoint."""
        config = self.config
        parts = {"train": self.bits[:10_000], "valid": self.valid, "test": self.test}
        results: dict[str, Any] = {
            f"{part}_elbo": self.mean(elbo, bits, samples=SAMPLES) if len(bits) else None
            for part, bits in parts.items()
        }
        results["test_bound"] = self.mean(importance_bound, self.test, rows=50, samples=config.bound_samples)
        results["test_kl"] = self.mean(lambda *args, **rest: elbo_terms(*args, **rest)[1], self.test)
        results["test_grey_objective"] = self.mean(elbo, self.test_grey, samples=SAMPLES)
        with torch.no_grad():
            mu, logvar = self.model.encode(self.test)
            results["kl_by_dimension"] = (0.5 * (mu.square() + torch.expm1(logvar) - logvar)).mean(0).tolist()
        if config.latent == 2:
            results |= self.plane(mu)
        results |= {"epochs": self.epochs, "parameters": sum(p.numel() for p in self.model.parameters())}
        self.record = records.make_record(
            dataclasses.asdict(config), self.images, self.model, results, started=self.started, seconds=self.seconds()
        )
        self.save()

    @torch.no_grad()
    def plane(self, mu: Tensor) -> dict[str, Any]:
        """The decoded plane, and where the first 1,000 test images lie in it."""
        points = torch.cartesian_prod(torch.tensor(PLANE), torch.tensor(PLANE))
        pixels = (255 * self.model.decode(points).sigmoid()).round().to(torch.uint8)
        packed = base64.b64encode(zlib.compress(pixels.numpy().tobytes(), 9)).decode()
        shape = [len(PLANE), len(PLANE), *self.images.test.images.shape[1:]]
        codes = [[round(value, 2) for value in row] for row in mu[:1000].tolist()]
        return {
            "plane": {"shape": shape, "pixels": packed},
            "codes": codes,
            "labels": self.images.test.labels[:1000].tolist(),
        }
