"""A problem can be solved in the way that its text recommends, and a check that only records says so."""

import pytest

from tiedlib.homework import checks
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
