"""Checks of answers that draw a mask: no false alarm, and an alarm for a share that is a little off."""

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from tiedlib.homework import dropout as checks
from tiedlib.homework.checks import Wrong
from tiedlib.homework.masks import rates, same


def right(x: Tensor, p: float, training: bool, generator: Any) -> Tensor:
    return x * torch.bernoulli(torch.full_like(x, 1 - p), generator=generator) / (1 - p) if training else x


@pytest.mark.parametrize("course", range(20))
def test_no_course_has_a_false_alarm(course: int) -> None:
    checks.check_dropout(right, secret=f"course {course}")


def test_six_standard_deviations_are_what_the_module_says() -> None:
    for n in (3900, 14400, 48000):
        for p in (0.15, 0.25, 0.6, 0.7):
            law, far = stats.binom(n, p), 6 * (n * p * (1 - p)) ** 0.5
            assert law.cdf(n * p - far) + law.sf(n * p + far) < 2e-8
    for p in (0.15, 0.25, 0.6, 0.7):  # four equal counts of dropped entries
        assert (stats.binom.pmf(range(12001), 12000, p) ** 4).sum() < 1e-6


def test_a_share_that_is_a_little_off_is_seen() -> None:
    def answer(x: Tensor, p: float, training: bool, generator: Any) -> Tensor:
        q = 1.1 * p
        return right(x, q, True, generator) * (1 - q) / (1 - p) if training else x

    with pytest.raises(Wrong, match=r"a share of 0\.\d+ is dropped; p is 0\."):
        checks.check_dropout(answer)


def test_rates_are_told_from_their_complements() -> None:
    for seed in range(50):
        low, high = rates(torch.Generator().manual_seed(seed))
        assert min(abs(low - 0.5), abs(high - 0.5), abs(low + high - 1)) > 0.04


def test_same() -> None:
    keep = torch.tensor([[True, False], [True, False]])
    assert same(keep, 0) and not same(keep, 1)
