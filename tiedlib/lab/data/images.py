"""Handwritten digits, large (MNIST) and small (scikit-learn's)."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tiedlib.lab.data.catalogue import CATALOGUE
from tiedlib.lab.data.corpora import Dataset
from tiedlib.lab.data.errors import FormatError
from tiedlib.lab.data.store import Store
from tiedlib.lab.data.text import read_gzip


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Grey images and the class of each. highest: the value of a white pixel (black is 0)."""

    images: UInt8[Tensor, "n height width"]
    labels: Int[Tensor, " n"]
    highest: int

    def scaled(self) -> Float[Tensor, "n height width"]:
        """The images with values from 0 to 1 (float32)."""
        return self.images.to(torch.float32) / self.highest

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Images(Dataset):
    """Images in classes, in two parts."""

    classes: tuple[str, ...]
    train: LabelledImages
    test: LabelledImages


def mnist(store: Store) -> Images:
    """MNIST: 60,000 / 10,000 images of 28 × 28 pixels, values 0 … 255."""
    files = [f"mnist/{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    train_images, train_labels, test_images, test_labels = (_read_idx(store, file) for file in files)
    return Images(
        name="mnist",
        classes=tuple("0123456789"),
        train=_labelled(train_images, train_labels, 255),
        test=_labelled(test_images, test_labels, 255),
        sha256={file: store.sha256(file) for file in files},
        terms=CATALOGUE["mnist"].terms,
    )


def _read_idx(store: Store, file: str) -> UInt8[Tensor, "*shape"]:
    """The idx format: two zero bytes, 8 for unsigned bytes, the number of axes; each axis as four bytes; the data."""
    path = store.path(file)
    raw = read_gzip(path)
    axes = raw[3] if len(raw) > 3 else 0
    if raw[:3] != b"\0\0\x08" or not 1 <= axes <= 3 or len(raw) < 4 + 4 * axes:
        raise FormatError(f"{path} is not an idx file of unsigned bytes (it begins with {raw[:4]!r})")
    shape = struct.unpack(f">{axes}I", raw[4 : 4 + 4 * axes])
    if len(raw) - 4 - 4 * axes != math.prod(shape):
        raise FormatError(f"{path} holds {len(raw) - 4 - 4 * axes} values: its shape {shape} needs {math.prod(shape)}")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=4 + 4 * axes).view(shape)


def _labelled(images: Tensor, labels: Tensor, highest: int) -> LabelledImages:
    if images.dim() != 3 or labels.shape != images.shape[:1]:
        raise FormatError(f"images of shape {tuple(images.shape)} do not go with labels of shape {tuple(labels.shape)}")
    return LabelledImages(images, labels.to(torch.int64), highest)


def digits() -> Images:
    """scikit-learn's digits: 1,437 / 360 images of 8 × 8 pixels, values 0 … 16; the last fifth is the test part."""
    from sklearn.datasets import load_digits  # slow to import, and wanted only here

    bunch = load_digits()
    images = torch.from_numpy(bunch.images).to(torch.uint8)
    labels = torch.from_numpy(bunch.target)
    cut = len(labels) * 4 // 5
    raw = images.numpy().tobytes() + labels.to(torch.uint8).numpy().tobytes()
    return Images(
        name="digits",
        classes=tuple("0123456789"),
        train=_labelled(images[:cut], labels[:cut], 16),
        test=_labelled(images[cut:], labels[cut:], 16),
        sha256={"sklearn.datasets.load_digits": hashlib.sha256(raw).hexdigest()},
        terms=CATALOGUE["digits"].terms,
    )
