"""tiedlib.__main__: `python -m tiedlib` and the command `tiedlib` are the same program, and quick to start."""

import subprocess
import sys
from pathlib import Path

import pytest

import tiedlib
from tiedlib.__main__ import main


def run(*arguments, program=(sys.executable, "-m", "tiedlib")):
    return subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)


def test_the_module_and_the_command_are_the_same(monkeypatch):
    command = Path(sys.executable).with_name("tiedlib")
    if not command.exists():
        pytest.skip("tiedlib is not installed as a command here")
    for arguments in (["--version"], ["--help"], ["nonsense"]):
        first, second = run(*arguments), run(*arguments, program=(str(command),))
        assert (first.returncode, first.stdout, first.stderr) == (second.returncode, second.stdout, second.stderr)


def test_version_and_help_import_no_torch():
    code = "import sys; from tiedlib.__main__ import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    for flag in ("--version", "--help"):
        assert run(flag, program=(sys.executable, "-c", code)).returncode == 0


def test_exit_codes(capsys):
    assert main(["--version"]) == 0 and capsys.readouterr().out == f"tiedlib {tiedlib.__version__}\n"
    assert main([]) == 2 and capsys.readouterr().err.count("\n") == 1


def test_arguments_come_from_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tiedlib", "--version"])
    assert main() == 0 and capsys.readouterr().out.startswith("tiedlib ")
