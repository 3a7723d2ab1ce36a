"""tiedlib.lab.commands.console: what is shown while a model is trained (`test_command_line` looks at the lines of a whole run)."""

from pathlib import Path

import torch
from tqdm import tqdm

from tiedlib.lab.commands.console import Bar
from tiedlib.lab.runs.run import Begun
from tiedlib.training_loop import Progress, Step


def test_a_progress_bar_in_a_terminal(capsys, monkeypatch):
    made = []

    class Watched(tqdm):
        def __init__(self, **options):
            assert options["disable"] is None  # off where standard error is no terminal
            super().__init__(**{**options, "disable": False})
            made.append(self)

    monkeypatch.setattr("tiedlib.lab.commands.console.tqdm", Watched)
    bar = Bar(3, Path("here"))
    bar(Begun(5, 28, "tokens", 100, Progress(epoch=1, step=2), finished=False))
    unread = torch.empty((), device="meta")  # a loss without a value: to read it is an error
    for step in (3, 4):
        bar(Step(unread, None, Progress(epoch=1, step=step)))
    assert made[0].n == 4 * 28 and made[0].total == 5 * 28 and made[0].desc == "epoch 2/3"
    bar.close()
    assert capsys.readouterr().out == "going on in here at epoch 2, step 3 of 5\n"


def test_what_was_set_aside_is_said_first(capsys):
    Bar(3, Path("here"))(
        Begun(5, 28, "tokens", 100, Progress(), finished=False, notes=("a file is damaged", "another"))
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["a file is damaged", "another", "training in here: 100 parameters, 5 steps an epoch"]
