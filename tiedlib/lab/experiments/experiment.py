"""What an experiment is: the runs that make a chapter's tables, by variant and seed."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tiedlib.lab.runs.configuration import RunConfig
from tiedlib.lab.runs.recorded import run_name

__all__ = ["Experiment", "Planned", "seeds_of"]


@dataclass(frozen=True)
class Planned:
    """One run of an experiment: the variant, and its configuration with its seed."""

    variant: str
    config: RunConfig

    @property
    def name(self) -> str:
        """How its file and its folder are called."""
        return run_name(self.variant, self.config.seed)


@dataclass(frozen=True)
class Experiment:
    """Runs in the order in which they are made: what is needed most comes first.

    hours: how long all of them take on two cores. compares_embeddings: whether the embeddings of its tied and untied runs are
    compared at the end.
    """

    description: str
    hours: str
    planned: tuple[Planned, ...]
    compares_embeddings: bool = False

    @property
    def runs(self) -> dict[str, RunConfig]:
        """Name → configuration."""
        return {one.name: one.config for one in self.planned}

    def chosen(self, only: str = "*", seeds: int | None = None) -> list[Planned]:
        """The runs whose name matches the pattern `only`, of the first `seeds` seeds."""
        return [
            one
            for one in self.planned
            if fnmatch.fnmatchcase(one.name, only) and (seeds is None or one.config.seed < seeds)
        ]


def seeds_of(variants: Mapping[str, Any], seeds: Iterable[int]) -> Iterator[Planned]:
    """Every variant with every seed; seed after seed, so that a part of the runs already has every variant."""
    for seed in seeds:
        for variant, config in variants.items():
            yield Planned(variant, dataclasses.replace(config, seed=seed))
