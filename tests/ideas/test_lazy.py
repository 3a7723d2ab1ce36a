"""`import tiedlib` reaches every module, and imports none before it is asked for."""

import subprocess
import sys

import pytest

import tiedlib
import tiedlib.homework
import tiedlib.lab


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    "path", ["tying.TiedSoftmax", "lab.data.load", "lab.runs.recorded.table", "homework.checks", "optimizers"]
)
def test_a_module_is_there_when_it_is_asked_for(path):
    done = run(f"import tiedlib; print(tiedlib.{path})")
    assert done.returncode == 0, done.stderr


def test_nothing_is_imported_before():
    done = run("import sys, tiedlib, tiedlib.lab; print([m for m in ('torch', 'numpy', 'plotly') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("package", [tiedlib, tiedlib.lab, tiedlib.homework])
def test_what_is_listed_is_there_and_what_is_not_is_said(package):
    assert {"tying"} <= set(dir(tiedlib)) and not [name for name in dir(package) if name.startswith("_")]
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'tieing'"):
        _ = package.tieing
