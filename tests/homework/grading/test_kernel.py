"""tiedlib.homework.grading.kernel: one process, cell after cell; how each of them ended."""

from collections.abc import Iterator

import pytest

pytest.importorskip("otter")

from tests.homework.grading.batch import SMALL
from tiedlib.homework.grading.kernel import Kernel, Stopped
from tiedlib.homework.grading.sandbox import Sandbox


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Sandbox(SMALL) as box, Kernel(box, ["math"]) as one:
        yield one


def test_cells_follow_each_other_whatever_happens(kernel: Kernel) -> None:
    assert kernel.execute("a = 3", 10.0).kind == "ok"
    assert kernel.execute("1 / 0", 10.0).error == "ZeroDivisionError: division by zero"
    assert kernel.execute("while True: pass", 0.5).kind == "time"
    assert kernel.execute("x = bytearray(10**10)", 10.0).kind == "memory"
    assert kernel.execute("raise ValueError('x' * 10**6)", 10.0).kind == "error"
    assert kernel.execute("raise SystemExit", 10.0).kind == "error"
    assert kernel.execute("quit()", 10.0).kind == "ok"
    assert kernel.execute("a += 1", 10.0, ask="a").value == "4"
    assert kernel.execute("!echo 5 > five", 10.0).kind == "ok" and (kernel.box.folder / "five").read_text() == "5\n"


def test_an_answer_of_nonsense_is_no_answer(kernel: Kernel, tmp_path: object) -> None:
    reply, found = kernel.check(kernel.box.shown / "no such test.py", 10.0)
    assert reply.kind == "error" and "no such test.py" in reply.error and found == {}
    assert kernel.execute("1", 10.0, ask="1 / 0").kind == "ok"


def test_who_waits_can_be_stopped(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "_stop", lambda: True)
    with pytest.raises(Stopped):
        kernel.execute("1", 10.0)
