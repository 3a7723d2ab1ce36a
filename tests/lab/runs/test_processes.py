"""tiedlib.lab.runs.processes: two processes below torchrun make the run that one makes, stop and go on as it does."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tiedlib.lab.commands.main import run
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.processes import Group, launched, moved, processes, rank

TINY = TrainConfig(
    corpus="toy_language", tokens=600, vocabulary_size=60, dim=8, hidden=8, layers=2, epochs=2, constant_epochs=0,
    batch=4, unroll=7, threads=1,
)  # fmt: skip
CONFIGS = {
    "tied": dataclasses.replace(TINY, tied=True, clip=0.5, lr=2.0),  # every step is clipped
    "untied": dataclasses.replace(TINY, projection=True, penalty="code", freeze_input=True, output_bias=False),
    "adam": dataclasses.replace(TINY, tied=True, optimizer="adam", lr=0.01, augmented_alpha=0.5),
}
ALONE = Group(0, 1, torch.device("cpu"))
needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this PyTorch has no gloo, so no group of processes"
)


def torchrun(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options
    )


def same(folder, other, tolerance=1e-5):
    """Figures and every weight of two runs."""
    a, b = (checkpoints.load(path / "checkpoint.pt") for path in (folder, other))
    assert list(a["model"]) == list(b["model"])
    for name, weight in a["model"].items():
        torch.testing.assert_close(weight, b["model"][name], rtol=tolerance, atol=tolerance, msg=name)
    for key in ("train_perplexity", "valid_perplexity", "test_perplexity"):
        assert a["record"][key] == pytest.approx(b["record"][key], rel=tolerance)
    for ours, theirs in zip(a["record"]["epochs"], b["record"]["epochs"], strict=True):
        for key in ("objective", "train_loss", "valid_perplexity"):
            assert ours[key] == pytest.approx(theirs[key], rel=tolerance)


# What each of two processes runs: everything that needs no command line, in one start.
SCRIPT = """
    import dataclasses, json, sys
    from pathlib import Path

    import torch
    import torch.distributed as dist

    from tiedlib.lab import files
    from tiedlib.lab.runs import checkpoints
    from tiedlib.lab.language_model.configuration import TrainConfig
    from tiedlib.lab.language_model.training import Begun, train
    from tiedlib.training_loop import Step

    root, configs = Path(sys.argv[1]), {name: TrainConfig(**c) for name, c in json.loads(sys.argv[2]).items()}
    dist.init_process_group("gloo")
    rank = dist.get_rank()

    class Killed(BaseException): ...

    def until(step):
        seen = []
        def on_event(event):
            seen.append(isinstance(event, Step))
            if sum(seen) == step:
                raise Killed
        return on_event

    def numbers(record):
        epochs = [{k: v for k, v in e.items() if k not in ("seconds", "tokens_per_second")} for e in record["epochs"]]
        return epochs, record["weights_sha256"], record["test_perplexity"]

    def refused(kind, *arguments, **options):
        try:
            train(*arguments, **options)
        except kind as error:
            return str(error)

    def everyone(value):
        found = [None, None]
        dist.all_gather_object(found, value)
        return found

    told = {}
    for name, config in configs.items():
        shas = everyone(train(config, root / name)["weights_sha256"])
        assert shas[0] == shas[1], "the processes have other weights"

    dropout = dataclasses.replace(configs["tied"], dropout=0.3, epochs=3)
    states = []
    whole = numbers(train(dropout, on_event=lambda e: states.append(torch.get_rng_state().sum().item())))
    a, b = everyone(states)
    assert a[1] != b[1], "the processes draw the same masks"
    for step in (10, 15, 30):
        try:
            train(dropout, root / "resumed", on_event=until(step), checkpoint_seconds=0.0)
        except Killed:
            pass
    told["progress"] = [checkpoints.load(root / "resumed" / "checkpoint.pt")["progress"][key] for key in ("epoch", "step")]
    dist.barrier()
    assert numbers(train(dropout, root / "resumed")) == whole, "a resumed run has other numbers"

    told["batch"] = refused(ValueError, dataclasses.replace(configs["tied"], batch=5))
    told["other"] = refused(checkpoints.CheckpointError, configs["untied"], root / "tied")
    held = files.locked(root / "held")
    if rank == 0:
        held.__enter__()
    dist.barrier()
    told["locked"] = refused(files.FileError, configs["tied"], root / "held")
    dist.barrier()
    if rank == 0:
        held.__exit__(None, None, None)
        (root / "held" / "checkpoint.pt").write_bytes(b"PK")
    dist.barrier()
    notes = []
    train(configs["tied"], root / "held", on_event=lambda e: notes.extend(e.notes if isinstance(e, Begun) else ()))
    told["notes"] = notes
    told["nan"] = refused(FloatingPointError, dataclasses.replace(configs["tied"], lr=1e38, clip=1e30), root / "nan")
    both = everyone(told)
    assert both[0] == both[1], both
    if rank == 0:
        (root / "told.json").write_text(json.dumps(told))
    dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes have run the script, and what both of them were told."""
    root = tmp_path_factory.mktemp("two")
    (root / "script.py").write_text(textwrap.dedent(SCRIPT))
    configs = {name: dataclasses.asdict(config) for name, config in CONFIGS.items()}
    process = torchrun(str(root / "script.py"), str(root), json.dumps(configs))
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return root, json.loads((root / "told.json").read_text())


@needs_gloo
@pytest.mark.parametrize("name", CONFIGS)
def test_two_processes_make_the_run_of_one(two, tmp_path, name):
    root, _ = two
    train(CONFIGS[name], tmp_path)
    same(root / name, tmp_path)
    assert json.loads((root / name / "record.json").read_text())["processes"] == 2
    assert ("output.weight" in checkpoints.load(root / name / "checkpoint.pt")["model"]) == (name == "untied")


@needs_gloo
def test_stopped_it_ends_in_the_same_bits(two):
    """Asserted in both processes, with dropout; here, that it was stopped where it should be."""
    root, told = two
    assert told["progress"] == [2, 8]  # the step at which it is killed is not in the checkpoint: 9 + 14 + 29 = 2·22 + 8
    content = checkpoints.load(root / "resumed" / "checkpoint.pt")
    assert len(content["ranks"]) == 2 and not torch.equal(content["ranks"][0]["rng"], content["ranks"][1]["rng"])


@needs_gloo
def test_another_number_of_processes_is_refused(two):
    root, _ = two
    with pytest.raises(
        checkpoints.CheckpointError, match=r"another number of processes or device: processes 2 \(now 1\)"
    ):
        train(CONFIGS["tied"], root / "tied")


@needs_gloo
def test_what_one_process_finds_all_are_told(two):
    root, told = two
    assert told["batch"] == "batch is 5; it must be a multiple of the 2 processes"
    assert "tied/checkpoint.pt has another configuration: " in told["other"]
    assert "held is in use by another run" in told["locked"]
    (note,) = told["notes"]
    assert "checkpoint.pt is damaged" in note and "it is now checkpoint.pt.damaged" in note
    assert (root / "held" / "checkpoint.pt.damaged").read_bytes() == b"PK"
    assert "gradient norm" in told["nan"] and "lower the learning rate" in told["nan"]


@needs_gloo
def test_the_command_below_torchrun(tmp_path):
    """Ctrl-C in its terminal stops and saves; the same command goes on, one process speaks, and it is the run of one."""
    fields = {**dataclasses.asdict(TINY), "tied": True, "epochs": 12}
    flags = [
        word for name, value in fields.items() if not isinstance(value, (bool, type(None)))
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]  # fmt: skip
    command = ["-m", "tiedlib", "train", *flags, "--tied", "--out"]
    process = torchrun(*command, str(tmp_path / "two"), start_new_session=True,
                       preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    for line in process.stdout:
        if line.startswith("epoch 2/12"):
            break
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=600)
    saved = checkpoints.load(tmp_path / "two" / "checkpoint.pt")
    assert saved["progress"]["epoch"] < 12 and saved["record"] is None
    process = torchrun(*command, str(tmp_path / "two"))
    printed, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    lines = printed.splitlines()
    assert lines[0].startswith("going on in ") and lines[-1].endswith("record.json")
    assert [line for line in lines if line.startswith("epoch 12/12")] == [lines[-4]]  # one of them speaks
    assert run(["train", *flags, "--tied", "--out", str(tmp_path / "one")]) == 0
    same(tmp_path / "two", tmp_path / "one")


# A group of one


def test_without_torchrun_a_process_is_alone():
    assert not launched() and rank() == 0
    with processes() as group:
        assert group == ALONE
    loss, nll, module = torch.tensor(2.0), torch.tensor(3.0), torch.nn.Linear(1, 1)
    assert group.whole(loss, nll) == (loss, nll) and group.wrap(module) is module
    assert group.any(True, False) == (True, False) and group.gather("x") == ["x"] and group.first(lambda: 7) == 7
    with pytest.raises(KeyError):
        group.first(lambda: {}["x"])


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_rows_are_shared_once(size):
    rows = torch.arange(12).view(6, 2)
    parts = [Group(k, size, torch.device("cpu")).rows(rows) for k in range(size)]
    assert torch.equal(torch.cat(parts), rows) and {len(part) for part in parts} == {6 // size}


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be():
    with pytest.raises(ValueError, match="batch is 6; it must be a multiple of the 4 processes"):
        Group(0, 4, torch.device("cpu")).rows(torch.zeros(6, 2))
    with pytest.raises(ValueError, match="device is 'tpu'; it must be one of 'cpu', 'cuda'"), processes("tpu"):
        pass
    if not torch.cuda.is_available():
        with (
            pytest.raises(ValueError, match="device is 'cuda'; PyTorch sees no GPU on this machine"),
            processes("cuda"),
        ):
            pass


def test_tensors_move_wherever_they_stand():
    value = ((torch.zeros(2), [torch.ones(1)]), None, 0.5)
    there = moved(value, torch.device("meta"))
    assert there[0][0].device.type == "meta" and there[0][1][0].device.type == "meta" and there[1:] == (None, 0.5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_below_torchrun_makes_the_run_of_a_processor(tmp_path):
    """NCCL, one process: two would need two GPUs."""
    train(CONFIGS["tied"], tmp_path / "one")
    fields = {name: value for name, value in dataclasses.asdict(CONFIGS["tied"]).items() if type(value) in (int, float)}
    flags = [word for name, value in fields.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = ["-m", "tiedlib", "train", "--corpus", "toy_language", *flags, "--tied", "--device", "cuda"]
    process = torchrun("--nproc-per-node", "1", *command, "--out", str(tmp_path / "gpu"))
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    same(tmp_path / "gpu", tmp_path / "one", tolerance=1e-3)
