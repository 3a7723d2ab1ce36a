"""`agree` passes what is equal and, above all, raises for what is not."""

import pytest
import torch
from torch import nn

from tiedlib.lab.notebook.agreement import DisagreementError, agree
from tiedlib.lab.outputs import AGREE


def square(x):
    return x * x


def test_equal_functions_give_three_rows():
    result = agree(square, torch.square, torch.randn(4, dtype=torch.float64), steps=5)
    assert [row.what for row in result.rows] == ["forward", "gradient", "after 5 steps"]
    assert result.ok and "equal" in repr(result)
    data = result._repr_mimebundle_()[AGREE]
    assert data["ok"] and data["rows"][0]["difference"] == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x * x + 1e-9,
        lambda x: (x * x).detach() + 0 * x,  # right value, wrong gradient
        lambda x: x * x * float("nan"),
        lambda x: (x * x)[:2],
    ],
)
def test_a_wrong_function_raises(wrong):
    with pytest.raises(DisagreementError):
        agree(wrong, square, torch.randn(4, dtype=torch.float64))


class Straight(nn.Module):
    """Right forward, a gradient of the wrong sign."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone())

    def forward(self, x):
        y = x @ self.weight.T
        return 2 * y.detach() - y


def test_modules_are_compared_with_their_parameters_and_left_alone():
    ours = nn.Linear(3, 2, bias=False)
    reference = nn.Linear(3, 2, bias=False)
    x = torch.randn(5, 3)
    with pytest.raises(ValueError, match="unequal parameters 'weight'"):
        agree(ours, reference, x)
    reference.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    assert len(agree(ours, reference, x).rows) == 3
    assert torch.equal(ours.weight, before) and ours.weight.grad is None
    with pytest.raises(DisagreementError, match="gradient"):
        agree(Straight(ours.weight), reference, x)


def test_nothing_to_compare_is_said():
    with pytest.raises(ValueError, match="no floating-point tensor"):
        agree(lambda x: 1, lambda x: 1, torch.ones(2))
    with pytest.raises(ValueError, match="both be modules"):
        agree(nn.Linear(1, 1), square, torch.ones(1))
    with pytest.raises(ValueError, match=r"only one of them has \['bias'\]"):
        agree(nn.Linear(1, 1), nn.Linear(1, 1, bias=False), torch.ones(1))
    with pytest.raises((ValueError, DisagreementError)):
        agree(lambda x: (x, x), lambda x: x, torch.ones(2))


def test_integer_inputs_are_handed_over_and_not_differentiated():
    index = torch.tensor([1, 0])
    result = agree(lambda w, i: w[i], lambda w, i: torch.nn.functional.embedding(i, w), torch.randn(3, 2), index)
    assert result.ok
    result = agree(lambda i: i.double() ** 2, lambda i: (i * i).double(), index)
    assert [row.what for row in result.rows] == ["forward"]
