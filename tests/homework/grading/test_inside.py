"""tiedlib.homework.grading.inside: what was replaced is put back and named."""

import sys
from types import ModuleType

import pytest

from tiedlib.homework.grading import inside


def test_what_was_replaced_is_put_back_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    module, original = ModuleType("torch_like"), len
    module.length = original  # type: ignore[attr-defined]
    module.number = 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch_like", module)
    monkeypatch.setattr(inside, "_kept", [])
    inside.keep(["torch_like"])
    assert inside.restore() == []
    module.length = lambda *_: 0  # type: ignore[attr-defined]
    module.number = 4  # type: ignore[attr-defined]
    assert inside.restore() == ["torch_like.length"] and module.length is original  # type: ignore[attr-defined]
    del module.length  # type: ignore[attr-defined]
    assert inside.restore() == ["torch_like.length"] and module.length is original  # type: ignore[attr-defined]
    assert inside.restore() == []


def test_an_answer_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_answer", "found")
    assert (inside.answer(), inside.answer()) == ("found", "")
