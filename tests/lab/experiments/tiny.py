"""Small experiments for tests."""

from typing import Any

from tiedlib.lab.experiments.experiment import Experiment, Planned


def experiment(runs: dict[str, Any], compares_embeddings: bool = True) -> Experiment:
    """One with these runs, by name; a name ends in -s<seed>."""
    planned = tuple(Planned(name.removesuffix(f"-s{config.seed}"), config) for name, config in runs.items())
    assert [one.name for one in planned] == list(runs), "a run's name has its configuration's seed"
    return Experiment("for tests", "0", planned, compares_embeddings)
