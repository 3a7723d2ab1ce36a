"""A third kind of run, and all that it takes: a classifier of handwritten digits, as in the chapter on the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from tiedlib.lab.data import load
from tiedlib.lab.runs import processes
from tiedlib.lab.runs.configuration import RunConfig, option
from tiedlib.lab.runs.run import ALONE, Run
from tiedlib.optimizers import SGD
from tiedlib.training_loop import Epoch, Step, fit, minibatches


@dataclass(frozen=True)
class DigitsConfig(RunConfig):
    """All that decides the numbers of a classifier's run."""

    kind: ClassVar[str] = "digits"
    run: ClassVar[str] = "tests.lab.runs.digits:DigitsRun"

    hidden: int = option(32, "number of hidden units", low=1)
    lr: float = option(0.1, "learning rate", above=0.0)
    epochs: int = option(3, "number of passes over the training images", low=1)


class DigitsRun(Run):
    """Two layers, dropout, SGD with momentum's state; measured by the share of digits that are read rightly."""

    figure = "accuracy"

    def __init__(self, config: DigitsConfig, group: processes.Group = ALONE) -> None:
        super().__init__(config, group)
        self.data: Any = load("digits")
        self.images, self.labels = self.data.train.scaled().flatten(1), self.data.train.labels
        torch.manual_seed(config.seed)
        self.model = nn.Sequential(
            nn.Linear(64, config.hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(config.hidden, 10)
        )
        self.optimizer = SGD(self.model.parameters(), lr=config.lr)
        self.steps, self.items_per_step = -(-len(self.labels) // 100), 100

    def training(self) -> Iterator[Step | Epoch]:
        def batches(epoch: int) -> Any:
            generator = torch.Generator().manual_seed(epoch)
            return minibatches(self.images, self.labels, batch_size=100, generator=generator)

        def loss(model: nn.Module, batch: Any) -> torch.Tensor:
            return cross_entropy(model(batch[0]), batch[1])

        epochs = self.config.epochs
        return fit(self.model, batches, self.optimizer, loss=loss, epochs=epochs, progress=self.progress)

    def right(self, images: torch.Tensor, labels: torch.Tensor) -> float:
        with torch.no_grad():
            return float((self.model.eval()(images).argmax(1) == labels).double().mean())

    def row(self, event: Epoch) -> dict[str, Any]:
        return {"epoch": event.epoch, "train_accuracy": self.right(self.images, self.labels), "valid_accuracy": None}

    def results(self) -> dict[str, Any]:
        test = self.data.test
        train, tested = self.right(self.images, self.labels), self.right(test.scaled().flatten(1), test.labels)
        return {"train_accuracy": train, "valid_accuracy": None, "test_accuracy": tested}
