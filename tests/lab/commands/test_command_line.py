"""tiedlib.lab.commands.main: flags, the lines it prints, and one line and exit code 2 for whatever goes wrong."""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from tiedlib.lab.commands import data
from tiedlib.lab.commands.main import run
from tiedlib.lab.data import names
from tiedlib.lab.language_model.configuration import TrainConfig

TINY = [
    *("--corpus", "toy_language", "--tokens", "600", "--vocabulary-size", "60", "--dim", "8", "--hidden", "8"),
    *("--layers", "1", "--batch", "4", "--unroll", "7", "--epochs", "2", "--constant-epochs", "0", "--threads", "1"),
]


def numbers(folder):
    """What must be the same to the last bit, whatever happened on the way."""
    record = json.loads((folder / "record.json").read_text())
    epochs = [{k: v for k, v in e.items() if k not in ("seconds", "tokens_per_second")} for e in record["epochs"]]
    keys = ("config", "train_perplexity", "valid_perplexity", "test_perplexity", "weights_sha256")
    return {"epochs": epochs, **{key: record[key] for key in keys}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "run"
    assert run(["train", *TINY, "--tied", "--out", str(folder)]) == 0
    return folder


def snapshot(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# What it prints


def test_training_says_what_it_does(tmp_path, capsys):
    out = tmp_path / "run"
    assert run(["train", *TINY, "--tied", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"training in {out}: 1,084 parameters, 22 steps an epoch"
    assert lines[1].startswith("epoch 1/2  lr 1  perplexity ") and lines[2].startswith("epoch 2/2  lr 0.5  perplexity ")
    assert lines[1].endswith(" tokens/s") and " train, " in lines[1] and " valid  " in lines[1]
    record = json.loads((out / "record.json").read_text())
    figures = ", ".join(f"{record[f'{part}_perplexity']:.2f} {part}" for part in ("train", "valid", "test"))
    assert lines[3] == f"perplexity of the final model: {figures}"
    assert " tokens/s, " in lines[4] and " MB of memory at most, " in lines[4]
    assert lines[5] == f"{out / 'checkpoint.pt'}  {out / 'record.json'}"
    assert {p.name for p in out.iterdir()} == {"checkpoint.pt", "record.json", ".lock"}


def test_the_same_command_again_does_nothing(trained, capsys):
    before = snapshot(trained)
    assert run(["train", *TINY, "--tied", "--out", str(trained)]) == 0
    assert capsys.readouterr().out.startswith(f"{trained} is finished; nothing is left to do\nperplexity of the final")
    assert snapshot(trained).keys() == before.keys()
    assert (trained / "checkpoint.pt").read_bytes() == before[trained / "checkpoint.pt"]


def test_without_out_the_configuration_names_the_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["train", *TINY, "--epochs", "1"]) == 0
    assert run(["train", *TINY, "--epochs", "1", "--seed", "1"]) == 0
    folders = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert len(folders) == 2 and all(name.startswith("toy_language-untied-") for name in folders)
    assert run(["train", *TINY, "--epochs", "1", "--untied"]) == 0
    assert "is finished" in capsys.readouterr().out and len(list((tmp_path / "runs").iterdir())) == 2


def test_generate_continues_a_text(trained, capsys):
    assert run(["generate", str(trained), "--tokens", "12", "--seed", "3", "--temperature", "0.5", "--top-k", "9"]) == 0
    first = capsys.readouterr().out
    assert run(["generate", str(trained), "--tokens", "12", "--seed", "3", "--temperature", "0.5", "--top-k", "9"]) == 0
    assert first == capsys.readouterr().out and len(first.split()) >= 1


def test_data_list_names_every_set(capsys):
    assert run(["data", "list"]) == 0
    printed = capsys.readouterr().out
    for entry in names():
        assert entry.name in printed and entry.terms in printed and entry.description in printed


def test_data_fetch_says_where(capsys):
    assert run(["data", "fetch", "digits"]) == 0
    assert capsys.readouterr().out == "digits needs no download\n"


def test_reproduce_lists_experiments(capsys):
    assert run(["reproduce"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "tying-slice", "press-wolf-start", "press-wolf-small", "press-wolf-wikitext2", "press-wolf-large", "vae-mnist",
    ]  # fmt: skip
    assert all(" hours on " in line for line in lines) and "a GPU: --device cuda" in lines[4]


def test_reproduce_passes_its_flags_on(tmp_path, monkeypatch):
    seen = {}

    def stand_in(name, out, results, **options):
        seen.update(name=name, out=out, results=results, **options)
        return False

    monkeypatch.setattr("tiedlib.lab.experiments.reproduce.reproduce", stand_in)
    arguments = f"reproduce tying-slice --out {tmp_path} --results {tmp_path}/r --only tied* --seeds 2 --jobs 3"
    arguments += " --device cuda --steps 7"
    assert run(arguments.split()) == 1
    seen.pop("report")
    assert seen == {
        "name": "tying-slice", "out": tmp_path, "results": tmp_path / "r", "only": "tied*", "seeds": 2, "jobs": 3,
        "device": "cuda", "steps": 7,
    }  # fmt: skip


# Flags are the fields


def test_every_field_has_a_flag_and_a_help(capsys):
    assert run(["train", "--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for option in dataclasses.fields(TrainConfig):
        assert f"--{option.name.replace('_', '-')}" in printed and option.metadata["help"].split()[0] in printed
    assert "--untied" in printed and "--no-projection" in printed


def parsed(monkeypatch, *arguments):
    seen = []

    def stand_in(config, out, **options):
        seen.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr("tiedlib.lab.language_model.training.train", stand_in)
    assert run(["train", *arguments]) == 130
    return seen[0]


def test_flags_change_the_preset(monkeypatch):
    assert parsed(monkeypatch) == TrainConfig.from_preset("small")
    assert parsed(monkeypatch, "--preset", "large") == TrainConfig.from_preset("large")
    arguments = (
        "--preset medium --tied --projection --projection-bias --penalty code --dropout 0.25 --epochs 7 --batch 9"
    )
    expected = {"tied": True, "projection": True, "projection_bias": True, "penalty": "code", "dropout": 0.25}
    assert parsed(monkeypatch, *arguments.split()) == TrainConfig.from_preset("medium", **expected, epochs=7, batch=9)
    arguments = "--unroll 11 --lr 0.5 --clip 2 --early-clip 1 --seed 4 --threads 3 --no-output-bias --optimizer adam"
    changes = {"unroll": 11, "lr": 0.5, "clip": 2.0, "early_clip": 1.0, "seed": 4, "threads": 3, "output_bias": False}
    expected = TrainConfig.from_preset("small", **changes, optimizer="adam")
    assert parsed(monkeypatch, *arguments.split(), "--tied", "--untied") == expected


# What goes wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("trane", "invalid choice: 'trane'"),
        ("train --bogus 1", "unrecognized arguments: --bogus 1"),
        ("train --dim ten", "argument --dim: invalid int value: 'ten'"),
        ("train --epo 3", "unrecognized arguments: --epo 3"),
        ("train --preset tiny", "invalid choice: 'tiny'"),
        ("train --penalty l2", "invalid choice: 'l2'"),
        ("train --dim 0", "dim is 0; it must be at least 1"),
        ("train --lr nan", "lr is nan; it must be a finite number"),
        ("train --lr -1", "lr is -1.0; it must be more than 0.0"),
        ("train --dropout 1", "dropout is 1.0; it must be less than 1.0"),
        ("train --tied --dim 100", "they must be equal, or set projection"),
        ("train --projection-bias", "projection_bias is True without projection"),
        ("train --checkpoint-seconds nan", "checkpoint-seconds is nan; it must be at least 0"),
        ("train --corpus ptbb", "there is no data set 'ptbb': did you mean 'ptb'?"),
        ("train --corpus no/such.txt", "there is no file 'no/such.txt'"),
        ("train --corpus wordsim", "'wordsim' is not a text to train a language model on"),
        ("train --corpus toy_language --batch 100000", "batch_size is 100000"),
        ("train --corpus toy_language --dim 100000000", "memory"),
        ("generate nowhere", "nowhere/checkpoint.pt does not exist"),
        ("generate", "the following arguments are required: DIR"),
        ("data", "the following arguments are required: ACTION"),
        ("data fetch ptbb", "did you mean 'ptb'"),
        (
            "train --device cuda --corpus toy_language" if not torch.cuda.is_available() else "train --device x",
            "device",
        ),
        ("sweep", "the following arguments are required: --out"),
        ("sweep --out x --seed 3", "unrecognized arguments: --seed 3"),
        ("sweep --out x --seeds 4-2", "seeds is '4-2'; it must be like 0-4 or 0,3,7"),
        ("sweep --out x --vary lr", "vary is 'lr'; it must be NAME=VALUE,VALUE with NAME one of corpus"),
        ("sweep --out x --vary lr=0.5,fast", "lr is 'fast'; it must be a number"),
        ("sweep --out x --vary lr=1 --vary lr=2", "vary is given twice for one of lr"),
        ("sweep --out x --vary lr=0.5,0", "lr-0_s0: lr is 0.0; it must be more than 0.0"),
        ("sweep --out x --vary tied=yes,no --tied", "tied is given and varied"),
        ("sweep --out x --jobs 0", "jobs is 0; it must be at least 1"),
        ("sweep --out x --jobs 2 --ray-address auto", "the cluster decides how many run at a time"),
        ("reproduce everything", "name is 'everything'; it must be one of tying-slice"),
        ("reproduce tying-slice --only nothing", "only is 'nothing'"),
        ("reproduce tying-slice --jobs 0", "jobs is 0; it must be at least 1"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_one_line_exit_code_2_and_nothing_written(arguments, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(arguments.split()) == 2
    printed = capfd.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and printed.err.startswith("tiedlib")
    assert [p.name for p in tmp_path.rglob("*") if p.is_file() and p.name != ".lock"] == []


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        ("the cat sat\n".encode("utf-16-le") * 20, "byte 0x00 at offset 1, in line 1"),
        (b"one\rtwo\rtr\xe8s\r", "byte 0xe8 at offset 10, in line 3"),
    ],
)
def test_a_text_that_is_no_text_is_refused_with_its_place(raw, place, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.txt").write_bytes(raw)
    assert run(["train", "--corpus", "own.txt", "--out", "run"]) == 2
    said = capfd.readouterr().err
    assert f"own.txt is not utf-8: {place}, does not belong there. Save it as plain text in UTF-8" in said
    assert said.count("\n") == 1 and not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    "extra", [["--temperature", "-1"], ["--tokens", "0"], ["--top-k", "0"], ["--temperature", "nan"]], ids=" ".join
)
@pytest.mark.usefixtures("unchecked")
def test_generate_refuses_what_cannot_be(trained, extra, capsys):
    assert run(["generate", str(trained), *extra]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_configuration_and_generating_from_a_damaged_checkpoint(trained, capsys):
    before = snapshot(trained)
    assert run(["train", *TINY, "--tied", "--lr", "0.3", "--out", str(trained)]) == 2
    assert "has another configuration: lr 1.0 (now 0.3)" in capsys.readouterr().err and snapshot(trained) == before
    whole = (trained / "checkpoint.pt").read_bytes()
    (trained / "checkpoint.pt").write_bytes(whole[:1000])
    try:
        assert run(["generate", str(trained)]) == 2
        error = capsys.readouterr().err
        assert "checkpoint.pt is damaged" in error and error.count("\n") == 1
        assert (trained / "checkpoint.pt").read_bytes() == whole[:1000]
    finally:
        (trained / "checkpoint.pt").write_bytes(whole)


def test_damaged_files_are_set_aside_and_named(tmp_path, capsys):
    for name in ("record.json", "checkpoint.pt"):
        (tmp_path / name).write_text("{")
    assert run(["train", *TINY, "--epochs", "1", "--out", str(tmp_path)]) == 0
    first, second, third, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'checkpoint.pt'} is damaged")
    assert first.endswith("it is now checkpoint.pt.damaged, and the run begins anew")
    assert second == f"{tmp_path / 'record.json'} is damaged; it is now record.json.damaged"
    assert third.startswith("training in")
    for name in ("record.json", "checkpoint.pt"):
        assert (tmp_path / f"{name}.damaged").read_text() == "{" and (tmp_path / name).stat().st_size > 100


def test_a_folder_that_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert run(["train", *TINY, "--out", str(tmp_path / "file")]) == 2
    assert "a file stands where a folder is needed" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_loss_that_is_not_finite(tmp_path, capsys):
    assert run(["train", *TINY, "--lr", "1e38", "--clip", "1e30", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "lower the learning rate" in error and error.count("\n") == 1


def test_without_the_bench_one_line_says_so(monkeypatch, capsys):
    def absent(*arguments):
        raise ModuleNotFoundError("No module named 'pooch'", name="pooch")

    monkeypatch.setattr(data, "_data_list", absent)
    assert run(["data", "list"]) == 2
    expected = "tiedlib: the bench is not installed: in a checkout, pip install '.[lab]' (there is no module pooch)\n"
    assert capsys.readouterr().err == expected


def test_mistakes_of_ours_are_not_hidden(monkeypatch):
    def wrong(options):
        raise RuntimeError("a shape does not fit")

    monkeypatch.setattr(data, "_data_list", wrong)
    with pytest.raises(RuntimeError, match="a shape does not fit"):
        run(["data", "list"])


# Real processes


def start(out, *more, **options):
    command = [sys.executable, "-m", "tiedlib", "train", *TINY, "--dropout", "0.3", "--tied", "--out", str(out), *more]
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # idle threads leave the processor to others
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def until_it_trains(process):
    assert process.stdout.readline().startswith(("training in", "going on in"))


def test_killed_at_random_moments_it_ends_in_the_same_bits(tmp_path):
    """kill -9 three times; two threads, so that their order is tried as well."""
    longer = ["--tokens", "1000", "--threads", "2", "--checkpoint-seconds", "0.05"]
    begun = time.monotonic()
    assert run(["train", *TINY, "--dropout", "0.3", "--tied", "--out", str(tmp_path / "whole"), *longer]) == 0
    seconds, generator = time.monotonic() - begun, random.Random(0)
    for _ in range(3):
        process = start(tmp_path / "killed", *longer)
        if not process.stdout.readline().startswith(f"{tmp_path / 'killed'} is finished"):
            time.sleep(generator.uniform(0, seconds / 2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0)
    last = start(tmp_path / "killed", *longer)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")


def test_ctrl_c_and_a_second_process(tmp_path):
    """Ctrl-C: exit code 130, one line that says how to go on. Meanwhile a second process is refused."""
    long = ["--epochs", "100000"]
    process = start(tmp_path / "run", *long)
    until_it_trains(process)
    second = start(tmp_path / "run", *long)
    _, errors = second.communicate()
    assert second.returncode == 2 and f"{tmp_path / 'run'} is in use by another run" in errors
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130
    assert errors == f"tiedlib: stopped; the same command goes on from the checkpoint in {tmp_path / 'run'}\n"
    assert (tmp_path / "run" / "checkpoint.pt").exists() and not (tmp_path / "run" / "record.json").exists()
