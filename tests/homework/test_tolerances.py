"""A problem can be solved in the way that its text recommends, and a check that only records says so."""

import importlib
import math

import pytest
import torch

from tiedlib.homework import checks
from tiedlib.homework.initialization import check_keeping_factor
from tiedlib.homework.optimizers import check_cause, check_largest_rate


def bisected(steps):
    """The largest rate of the heavy ball by bisection: does it come closer to the bottom in so many steps?"""

    def largest_rate(curvature, mu):
        low, high = 0.0, 10.0 / curvature
        for _ in range(60):
            rate, theta, m = (low + high) / 2, 1.0, 0.0
            for _ in range(steps):
                m = mu * m + curvature * theta
                theta -= rate * m
                if not abs(theta) < 1e6:
                    break
            low, high = (rate, high) if abs(theta) < 1 else (low, rate)
        return low

    return largest_rate


@pytest.mark.parametrize("secret", [None, "another sentence"])
@pytest.mark.parametrize("steps", [2000, 5000])
def test_the_largest_rate_may_be_bisected(steps, secret):
    check_largest_rate(bisected(steps), secret=secret)


def test_a_rate_that_is_off_by_half_a_percent_is_not_taken():
    with pytest.raises(checks.Wrong):
        check_largest_rate(lambda curvature, mu: 1.005 * 2 * (1 + mu) / curvature)


def test_a_check_that_only_records_says_so(capsys):
    check_cause("A")
    said = capsys.readouterr().out
    assert "cause = 'A' is recorded" in said and "you learn it after grading" in said
    check_cause("B", secret="a secret of the course")
    assert capsys.readouterr().out == ""
    with pytest.raises(checks.Wrong, match="there is no noise"):
        check_cause("A", secret="a secret of the course")


NUMBERS = {
    "gumbel_softmax.check_probability": 1 / (1 + math.exp(-1)),
    "initialization.check_alternating": ((0.5 * 100 * 4 / 1100) * (0.5 * 1000 * 4 / 1100)) ** 10,
    "optimizers.check_rmsprop_first_step": 10**0.5,
    "training_loop.check_floor": math.log(1 + 9 / math.e),
    "vae.check_kl_of_two": 0.9 * math.log(1.8) + 0.1 * math.log(0.2),
}


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("secret", [None, "another sentence"])
def test_a_number_may_be_written_with_three_digits(name, secret):
    chapter, check = name.split(".")
    module = importlib.import_module(f"tiedlib.homework.{chapter}")
    getattr(module, check)(float(f"{NUMBERS[name]:.3g}"), secret=secret)


@pytest.mark.parametrize("secret", [None, "another sentence"])
@pytest.mark.parametrize("way", ["a grid", "a million draws"])
def test_the_factor_of_a_nonlinearity_may_be_found_in_both_ways_that_the_text_names(way, secret):
    def keeping_factor(f):
        if way == "a grid":
            z = torch.linspace(-8, 8, 1601)
            density = torch.exp(-z.square() / 2) / (2 * math.pi) ** 0.5
            return 1 / float((density * f(z).square()).sum() * (z[1] - z[0]))
        z = torch.randn(10**6, generator=torch.Generator().manual_seed(5))
        return 1 / float(f(z).square().mean())

    check_keeping_factor(keeping_factor, secret=secret)
