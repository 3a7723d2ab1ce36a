"""What every test shares: quiet threads, reproducible random numbers, hypothesis without a clock."""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import torch
from jaxtyping import config

# A shared machine makes single examples slow now and then; slowness is for benchmarks/, never a test's business.
hypothesis.settings.register_profile("tiedlib", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("tiedlib")


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    """Each test has its own start of torch's generator, and leaves the choice of a kernel as it found it."""
    from tiedlib import (
        _matrix_products as matrix_products,  # here, after jaxtyping's hook: what is imported before it is not checked
    )

    torch.manual_seed(0)
    with matrix_products.using():
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """What a user without jaxtyping's checks sees. While tests run, these check annotations before a body's own checks can
    speak; tests of our own error messages for wrong types and shapes use this fixture."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def homework(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny homework that otter assign has made (`tests.homework.grading.batch.Homework`)."""
    from tests.homework.grading.batch import Homework

    return Homework(tmp_path_factory.mktemp("homework"))


@pytest.fixture(scope="session")
def asked(homework: Any) -> dict[str, Any]:
    """What its autograder asks, learned once."""
    from tests.homework.grading.batch import SMALL
    from tiedlib.homework.grading.examine import describe
    from tiedlib.homework.grading.submissions import read_autograder

    return describe(read_autograder(homework.autograder), SMALL)
