"""tiedlib.lab.language_model.training: the numbers of a run, and that nothing which stops it changes them."""

import dataclasses
import errno
import math
import os
import re
import signal
import statistics

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.lab.runs.killed import Killed, until
from tiedlib import _matrix_products as matrix_products
from tiedlib.lab.data import contiguous_batches, load_corpus
from tiedlib.lab.files import FileError
from tiedlib.lab.language_model import training
from tiedlib.lab.language_model.configuration import TrainConfig
from tiedlib.lab.language_model.training import Begun, build_model, train
from tiedlib.lab.runs import checkpoints, records
from tiedlib.training_loop import Step

TINY = TrainConfig(
    corpus="toy_language", tokens=600, vocabulary_size=60, dim=8, hidden=8, layers=1, epochs=2, constant_epochs=0,
    batch=4, unroll=7, threads=1,
)  # fmt: skip


def numbers(record):
    """What must be the same to the last bit, whatever happened on the way."""
    epochs = [{k: v for k, v in e.items() if k not in ("seconds", "tokens_per_second")} for e in record["epochs"]]
    keys = ("config", "train_perplexity", "valid_perplexity", "test_perplexity", "weights_sha256", "parameters")
    return {"epochs": epochs, **{key: record[key] for key in keys}}


def change(**fields):
    return dataclasses.replace(TINY, **fields)


# The numbers


def plain_training(config, corpus):
    """The same run in plain torch: nn.LSTM with two biases (one kept at 0), nn.Linear, torch's own SGD and clip."""
    start = build_model(config, len(corpus.vocabulary))
    u, lstm = nn.Embedding(len(corpus.vocabulary), config.dim), nn.LSTM(config.dim, config.hidden, config.layers)
    p, v = nn.Linear(config.hidden, config.dim, bias=False), nn.Linear(config.dim, len(corpus.vocabulary))
    for module, state in ((u, start.embedding), (p, start.projection), (v, start.output)):
        module.load_state_dict(state.state_dict())
    lstm.load_state_dict(
        {**start.lstm.state_dict(), **{f"bias_hh_l{k}": torch.zeros(4 * config.hidden) for k in range(config.layers)}}
    )
    for k in range(config.layers):
        getattr(lstm, f"bias_hh_l{k}").requires_grad_(False)
    moving = [q for module in (u, lstm, p, v) for q in module.parameters() if q.requires_grad]
    optimizer = torch.optim.SGD(moving, lr=config.lr)
    rows, losses, norms = contiguous_batches(corpus.train, config.batch), [], []
    for epoch in range(config.epochs):
        optimizer.param_groups[0]["lr"] = config.lr * config.decay ** max(epoch - config.constant_epochs, 0)
        state, total, count = None, 0.0, 0
        norms.append([])
        for t in range(0, rows.shape[1] - 1, config.unroll):
            x, y = rows[:, t : t + config.unroll], rows[:, t + 1 : t + 1 + config.unroll]
            x = x[:, : y.shape[1]]
            h, state = lstm(u(x).transpose(0, 1), state)
            nll = F.cross_entropy(v(p(h)).transpose(0, 1).flatten(0, 1), y.flatten(), reduction="sum")
            loss = nll / config.batch + 0.5 * p.weight.square().sum() / (6.5 * config.batch)
            optimizer.zero_grad()
            loss.backward()
            clip = config.early_clip if config.early_clip and epoch <= config.constant_epochs else config.clip
            norms[-1].append(nn.utils.clip_grad_norm_(moving, clip).item())
            optimizer.step()
            state = tuple(s.detach() for s in state)
            total, count = total + nll.item(), count + y.numel()
        losses.append(total / count)
    return losses, norms, v.weight.detach()


@pytest.mark.parametrize("early_clip", [None, 1.4])
def test_a_run_is_the_plain_loop(tmp_path, early_clip):
    config = change(projection=True, penalty="code", layers=2, init_range=0.3, clip=1.2, lr=0.7, early_clip=early_clip)
    record = train(config, tmp_path)
    losses, norms, weight = plain_training(config, load_corpus("toy_language", tokens=600, vocabulary_size=60))
    assert [e["train_loss"] for e in record["epochs"]] == pytest.approx(losses, rel=1e-5)
    assert [e["gradient_norm"] for e in record["epochs"]] == pytest.approx(
        [statistics.fmean(n) for n in norms], rel=1e-5
    )
    clips = [early_clip or 1.2, 1.2]
    over = [statistics.fmean(norm > clip for norm in n) for n, clip in zip(norms, clips, strict=True)]
    assert [e["clipped"] for e in record["epochs"]] == over and all(0 < share < 1 for share in over)
    assert [e["lr"] for e in record["epochs"]] == pytest.approx([0.7, 0.35])
    saved = checkpoints.load(tmp_path / "checkpoint.pt")["model"]["output.weight"]
    torch.testing.assert_close(saved, weight, rtol=1e-4, atol=1e-5)


def test_perplexity_weighs_every_token_alike():
    """One window over the whole text: the same tokens, no mean of means, although the last window is shorter."""
    config = change(epochs=1)
    run = training.LanguageModelRun(config)
    corpus = run.data
    rows = contiguous_batches(corpus.train, 4)
    with torch.no_grad():
        whole, _ = run.model.loss(rows[:, :-1], rows[:, 1:])
    assert 0 < (rows.shape[1] - 1) % config.unroll < rows.shape[1] - 1
    assert run.perplexity(corpus.train, 4) == pytest.approx(math.exp(whole), rel=1e-6)


def test_a_short_text_is_evaluated_in_fewer_rows():
    run = training.LanguageModelRun(TINY)
    assert run.perplexity(run.data.valid[:5], 20) > 1


def test_what_is_frozen_stays_and_the_rest_moves(tmp_path):
    config = change(freeze_input=True, output_bias=False, epochs=1)
    before = {name: w.clone() for name, w in build_model(config, 60).state_dict().items()}
    train(config, tmp_path)
    after = checkpoints.load(tmp_path / "checkpoint.pt")["model"]
    moved = {name for name, w in after.items() if not torch.equal(w, before[name])}
    assert moved == set(before) - {"embedding.weight", "output.bias"}
    assert not after["output.bias"].any()


def test_records_count_the_papers_parameters():
    for changes, expected in (
        ({}, 4_651_600),
        ({"tied": True}, 2_651_600),
        ({"tied": True, "projection": True}, 2_691_600),
    ):
        model = build_model(TrainConfig.from_preset("small", **changes), 10_000)
        assert sum(p.numel() for p in model.parameters()) == expected


def test_the_seed_decides_and_nothing_else_does():
    torch.manual_seed(5)
    first = numbers(train(change(dropout=0.4, epochs=1)))
    torch.manual_seed(6)
    torch.rand(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert numbers(train(change(dropout=0.4, epochs=1))) == first
    assert torch.equal(torch.get_rng_state(), state) and torch.get_num_threads() == threads
    assert numbers(train(change(dropout=0.4, epochs=1, seed=1)))["weights_sha256"] != first["weights_sha256"]


def test_dropout_acts_in_training_alone():
    with_dropout, without = (train(change(dropout=p, epochs=1)) for p in (0.5, 0.0))
    assert with_dropout["epochs"][0]["train_perplexity"] > with_dropout["train_perplexity"]
    assert with_dropout["weights_sha256"] != without["weights_sha256"]


def test_bfloat16_runs_where_the_processor_has_it(monkeypatch):
    monkeypatch.setattr(
        "tiedlib.lab.language_model.configuration.has_bfloat16", lambda: True
    )  # torch imitates it where it is missing
    plain, half = train(change(epochs=1)), train(change(epochs=1, precision="bfloat16"))
    assert half["weights_sha256"] != plain["weights_sha256"]
    assert half["valid_perplexity"] == pytest.approx(plain["valid_perplexity"], rel=0.05)


def test_a_text_of_ones_own_has_no_test_part(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("the cat sat on the mat\nthe dog sat on the log\n" * 40)
    record = train(change(corpus=str(text), tokens=None, vocabulary_size=None, epochs=1), tmp_path / "run")
    assert record["test_perplexity"] is None and record["valid_perplexity"] > 1 and list(record["data"]) == ["mine.txt"]


def test_events_come_in_order(tmp_path):
    events = []
    record = train(TINY, tmp_path, on_event=events.append)
    start, *rest = events
    assert isinstance(start, Begun) and not start.finished and start.progress.step == 0
    assert start.steps == math.ceil(149 / 7) == 22 and (start.items_per_step, start.items) == (28, "tokens")
    kinds = ["step" if isinstance(e, Step) else e["epoch"] for e in rest]
    assert kinds == [*["step"] * 22, 0, *["step"] * 22, 1]
    assert [e for e in rest if isinstance(e, dict)] == record["epochs"]


# What stops a run


@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("steps", [(1,), (10, 15), (22, 23), (30,), (66,)])
def test_a_run_that_was_stopped_ends_in_the_same_bits(tmp_path, rule, steps):
    config = change(epochs=3, dropout=0.3, optimizer=rule, lr=1.0 if rule == "sgd" else 0.01, tied=True, layers=2)
    whole = numbers(train(config))
    for step in steps:
        with pytest.raises(Killed):
            train(config, tmp_path, on_event=until(step), checkpoint_seconds=0.0)
    assert numbers(train(config, tmp_path)) == whole


@pytest.mark.parametrize("name", matrix_products.BACKENDS)
def test_a_run_goes_on_with_the_kernel_it_began_with(tmp_path, monkeypatch, name):
    with matrix_products.using(name):
        name = matrix_products.backend()  # torch's own where there is no other
        whole = numbers(train(TINY))
        with pytest.raises(Killed):
            train(TINY, tmp_path, on_event=until(15), checkpoint_seconds=0.0)
    assert checkpoints.load(tmp_path / "checkpoint.pt")["backend"] == name
    before, seen, true = matrix_products.backend(), set(), matrix_products._takes_onednn

    def watch(*matrices):
        seen.add(matrix_products.backend())
        return true(*matrices)

    monkeypatch.setattr(matrix_products, "_takes_onednn", watch)
    assert numbers(train(TINY, tmp_path)) == whole
    assert seen == {name} and matrix_products.backend() == before


def test_a_checkpoint_from_before_the_choice_goes_on_with_torchs_own(tmp_path):
    with pytest.raises(Killed):
        train(TINY, tmp_path, on_event=until(15), checkpoint_seconds=0.0)
    content = checkpoints.load(tmp_path / "checkpoint.pt")
    checkpoints.save(tmp_path / "checkpoint.pt", {k: v for k, v in content.items() if k != "backend"})
    train(TINY, tmp_path)
    assert checkpoints.load(tmp_path / "checkpoint.pt")["backend"] == "torch"


def test_checkpoints_within_an_epoch_come_by_the_clock(tmp_path):
    with pytest.raises(Killed):
        train(TINY, tmp_path / "rare", on_event=until(15), checkpoint_seconds=1e9)
    assert not (tmp_path / "rare" / "checkpoint.pt").exists()
    with pytest.raises(Killed):
        train(TINY, tmp_path / "often", on_event=until(15), checkpoint_seconds=0.0)
    assert checkpoints.load(tmp_path / "often" / "checkpoint.pt")["progress"]["step"] == 14


def test_killed_between_the_last_epoch_and_the_record(tmp_path, monkeypatch):
    whole = numbers(train(TINY))
    with monkeypatch.context() as patch:
        patch.setattr(training.LanguageModelRun, "finish", lambda run: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(TINY, tmp_path)
    assert numbers(train(TINY, tmp_path)) == whole


def test_a_finished_run_does_nothing_and_gives_its_record_back(tmp_path):
    events = []
    record = train(TINY, tmp_path)
    written = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "record.json").unlink()
    again = train(TINY, tmp_path, on_event=events.append)
    assert again == record and [e.finished for e in events] == [True]
    assert (tmp_path / "checkpoint.pt").read_bytes() == written
    assert records.read(tmp_path / "record.json")["weights_sha256"] == record["weights_sha256"]


@pytest.mark.parametrize("step", [5, 22])  # 22: the last step of an epoch; the epoch is then finished too
def test_ctrl_c_finishes_the_step_and_saves_it(tmp_path, step):
    steps = []

    def press(event):
        if isinstance(event, Step):
            steps.append(event)
            if len(steps) == step:
                os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path, on_event=press, checkpoint_seconds=1e9)
    assert len(steps) == step and signal.getsignal(signal.SIGINT) is before
    progress = checkpoints.load(tmp_path / "checkpoint.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == ((0, 5) if step == 5 else (1, 0))
    assert numbers(train(TINY, tmp_path)) == numbers(train(TINY))


@pytest.mark.parametrize("steps", [5, 22])
def test_so_many_steps_and_no_more(tmp_path, steps):
    events = []
    with pytest.raises(KeyboardInterrupt):
        train(TINY, tmp_path, on_event=events.append, checkpoint_seconds=1e9, steps=steps)
    assert sum(isinstance(event, Step) for event in events) == steps
    progress = checkpoints.load(tmp_path / "checkpoint.pt")["progress"]
    assert (progress["epoch"], progress["step"]) == ((0, 5) if steps == 5 else (1, 0))
    assert numbers(train(TINY, tmp_path, steps=44)) == numbers(train(TINY))  # more than are left


def test_a_record_says_what_computed():
    assert train(change(epochs=1))["device"] == "cpu"


def test_another_configuration_is_refused_and_nothing_touched(tmp_path):
    with pytest.raises(Killed):
        train(TINY, tmp_path, on_event=until(15), checkpoint_seconds=0.0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(
        checkpoints.CheckpointError, match=r"has another configuration: lr 1.0 \(now 0.5\); give another"
    ):
        train(change(lr=0.5), tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before and not (tmp_path / "record.json").exists()


def test_a_record_of_another_configuration_is_refused_before_training(tmp_path):
    train(change(epochs=1), tmp_path)
    (tmp_path / "checkpoint.pt").unlink()
    events = []
    with pytest.raises(records.RecordError, match=r"another configuration: epochs 1 \(now 2\); it is left as it is"):
        train(TINY, tmp_path, on_event=events.append)
    assert events == [] and not (tmp_path / "checkpoint.pt").exists()


def test_a_changed_text_is_refused(tmp_path):
    text = tmp_path / "mine.txt"
    text.write_text("the cat sat on the mat\n" * 60)
    config = change(corpus=str(text), tokens=None, vocabulary_size=None)
    with pytest.raises(Killed):
        train(config, tmp_path / "run", on_event=until(10), checkpoint_seconds=0.0)
    text.write_text("the dog sat on the mat\n" * 60)
    with pytest.raises(checkpoints.CheckpointError, match=r"another data \(sha256 of a file\): mine.txt"):
        train(config, tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(tmp_path):
    config = change(lr=1e38, clip=1e30)
    with pytest.raises(FloatingPointError) as caught:
        train(config, tmp_path, checkpoint_seconds=0.0)
    assert re.search(r"(by step|after) \d+.*\(gradient norm \S+ at the last (step|one)\)", str(caught.value))
    assert "lower the learning rate or clip the gradient" in str(caught.value) and "\n" not in str(caught.value)
    if (tmp_path / "checkpoint.pt").exists():
        assert str(tmp_path / "checkpoint.pt") in str(caught.value)
        assert all(w.isfinite().all() for w in checkpoints.load(tmp_path / "checkpoint.pt")["model"].values())


def test_weights_that_are_not_finite_are_never_saved(tmp_path):
    with pytest.raises(Killed):
        train(TINY, tmp_path, on_event=until(15), checkpoint_seconds=0.0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    run = training.LanguageModelRun(TINY)
    run.restore(tmp_path / "checkpoint.pt")
    run.path = tmp_path / "checkpoint.pt"
    run.model.output.weight.data[3, 2] = math.inf
    with pytest.raises(
        FloatingPointError, match=r"output.weight is no longer finite after 14 steps; lower the learning rate or clip"
    ):
        run.save()
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("key", ["model", "optimizer", "progress", "rng", "clock"])
def test_a_checkpoint_with_a_broken_part_is_named_and_set_aside(tmp_path, key):
    """The run begins anew, with the bits of a run that never had another checkpoint."""
    with pytest.raises(Killed):
        train(TINY, tmp_path, on_event=until(15), checkpoint_seconds=0.0)
    path = tmp_path / "checkpoint.pt"
    content = checkpoints.load(path)
    checkpoints.save(path, {**content, key: {"nothing": 0}})
    damaged, events = path.read_bytes(), []
    assert numbers(train(TINY, tmp_path, on_event=events.append)) == numbers(train(TINY))
    (note,) = events[0].notes
    assert note.startswith(f"{path} is damaged") and "it is now checkpoint.pt.damaged, and the run begins anew" in note
    assert (tmp_path / "checkpoint.pt.damaged").read_bytes() == damaged and events[0].progress.step == 0


def test_a_damaged_record_is_set_aside_and_made_again(tmp_path):
    """From the checkpoint, which holds it too: nothing is trained."""
    events, record = [], train(TINY, tmp_path)
    for name in ("record.json.damaged", "record.json.damaged-2"):
        (tmp_path / "record.json").write_text("{")
        assert train(TINY, tmp_path, on_event=events.append) == record
        (start,) = events
        assert start.notes == (f"{tmp_path / 'record.json'} is damaged; it is now {name}",)
        assert (tmp_path / name).read_text() == "{"
        assert records.read(tmp_path / "record.json")["weights_sha256"] == record["weights_sha256"]
        events.clear()


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    """Full in the middle of the third checkpoint; with space again, the run ends in the same bits."""
    whole, true, count = numbers(train(TINY)), os.fsync, []

    def sync(handle):
        count.append(handle)
        if len(count) == 5:  # two for each checkpoint, the file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        true(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", sync)
        with pytest.raises(FileError, match=r"checkpoint.pt could not be written: the disk is full"):
            train(TINY, tmp_path, checkpoint_seconds=0.0)
    assert checkpoints.load(tmp_path / "checkpoint.pt")["progress"]["step"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", ".lock"}
    assert numbers(train(TINY, tmp_path)) == whole


def test_two_runs_in_one_folder(tmp_path):
    inner = []

    def on_event(event):
        if isinstance(event, Begun):
            with pytest.raises(FileError, match="is in use by another run"):
                train(TINY, tmp_path)
            inner.append(event)

    train(change(epochs=1), tmp_path, on_event=on_event)
    assert len(inner) == 1
