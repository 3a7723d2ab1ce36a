"""tiedlib.lab.autoencoder.training: the numbers of a recorded run of a variational auto-encoder, and that stopping changes none."""

import dataclasses
import json
import threading
from contextlib import contextmanager

import pytest
import torch

from tests.lab.runs.killed import Killed, until
from tiedlib.lab.autoencoder import training as variational
from tiedlib.lab.autoencoder.configuration import VAEConfig
from tiedlib.lab.autoencoder.training import PLANE, binarized, plane_images, train_vae
from tiedlib.lab.data import load
from tiedlib.lab.experiments import reproduce as reproducing
from tiedlib.lab.experiments.experiment import Experiment, Planned
from tiedlib.lab.experiments.reproduce import EXPERIMENTS, reproduce
from tiedlib.lab.runs import checkpoints
from tiedlib.lab.runs.many import one
from tiedlib.lab.runs.recorded import load_runs, run_name
from tiedlib.lab.runs.run import own_state
from tiedlib.training_loop import Step
from tiedlib.vae import VAE, elbo

TINY = VAEConfig(images="digits", held_out=237, hidden=8, latent=2, epochs=2, batch=400, bound_samples=4, threads=1)


def change(**fields):
    return dataclasses.replace(TINY, **fields)


def numbers(record):
    """What must be the same to the last bit, whatever happened on the way."""
    epochs = [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in record["epochs"]]
    keys = ("train_elbo", "valid_elbo", "test_elbo", "test_bound", "test_kl", "test_grey_objective", "weights_sha256")
    return {"epochs": epochs, **{key: record[key] for key in keys}}


def test_a_run_is_plain_training_and_is_measured_on_bits():
    """The same run written out with torch's own Adam, on bits that are drawn anew in each epoch."""
    config = change(pixels="dynamic")
    record = train_vae(config)
    images = load("digits")
    grey, test = images.train.scaled().flatten(1)[:-237], binarized(images.test.scaled().flatten(1), seed=1)
    torch.manual_seed(0)
    model = VAE(64, 8, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(2):
        generator = torch.Generator().manual_seed(epoch)
        bits = (torch.rand(grey.shape, generator=generator) < grey).float()
        for rows in torch.randperm(1200, generator=generator).split(400):
            optimizer.zero_grad()
            (-elbo(model, bits[rows])).mean().backward()
            optimizer.step()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        expected = elbo(model, test, samples=10, generator=generator).double().mean().item()
    assert record["test_elbo"] == pytest.approx(expected, abs=1e-3)
    assert record["epochs"][0]["train_elbo"] < record["epochs"][1]["train_elbo"]
    assert record["test_elbo"] < record["test_bound"]
    assert sum(record["kl_by_dimension"]) == pytest.approx(record["test_kl"], rel=1e-5)
    assert json.loads(json.dumps(record)) == record and record["data"] == images.sha256


def test_bits_are_drawn_once_with_the_grey_value_as_probability():
    grey = torch.rand(200, 500, generator=torch.Generator().manual_seed(1))
    bits = binarized(grey)
    assert torch.equal(bits, binarized(grey)) and not torch.equal(bits, binarized(grey, seed=1))
    assert set(bits.unique().tolist()) == {0.0, 1.0} and torch.equal(binarized(bits, seed=2), bits)
    # 100,000 independent bits: by Hoeffding's inequality off by 0.0084 with probability < 2 exp(−14.1) < 2e-6
    assert (bits - grey).mean().abs() < 0.0084


@pytest.mark.parametrize("pixels", ["static", "dynamic", "grey"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, pixels):
    config = change(pixels=pixels)
    whole = numbers(train_vae(config))

    for step in (2, 2):  # within the first epoch, nothing is saved yet; then again from the start
        with pytest.raises(Killed):
            train_vae(config, tmp_path, on_event=until(step))
    with pytest.raises(Killed):
        train_vae(config, tmp_path, on_event=until(4))  # in the second epoch
    events = []
    record = train_vae(config, tmp_path, on_event=events.append)
    assert numbers(record) == whole and sum(isinstance(e, Step) for e in events) == 3
    assert train_vae(config, tmp_path) == record and json.loads((tmp_path / "record.json").read_text()) == record


def test_ctrl_c_saves_the_step(tmp_path, monkeypatch):
    whole = numbers(train_vae(TINY))
    stop = threading.Event()

    @contextmanager
    def pressed(once):
        yield stop

    monkeypatch.setattr("tiedlib.lab.runs.run.ctrl_c", pressed)
    seen = []

    def on_event(event):
        seen.append(event)
        if len(seen) == 3:  # what begins, and two steps
            stop.set()

    with pytest.raises(KeyboardInterrupt):
        train_vae(TINY, tmp_path, on_event=on_event)
    assert checkpoints.load(tmp_path / "checkpoint.pt")["progress"]["step"] == 2
    stop.clear()
    assert numbers(train_vae(TINY, tmp_path)) == whole


def test_other_settings_and_damage_are_named(tmp_path):
    train_vae(change(epochs=1), tmp_path)
    with pytest.raises(checkpoints.CheckpointError, match=r"another configuration: .*latent 2 \(now 3\)"):
        train_vae(change(epochs=1, latent=3), tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = checkpoints.load(path)
    with pytest.raises(checkpoints.CheckpointError, match="it lacks unit, vocabulary"):
        checkpoints.load(path, ("scheduler", "unit", "vocabulary"))  # no model of text
    checkpoints.save(path, {**content, "model": {}})
    events = []
    whole = train_vae(change(epochs=1))
    assert train_vae(change(epochs=1), tmp_path, on_event=events.append)["weights_sha256"] == whole["weights_sha256"]
    assert "is damaged; move it away to start anew" in events[0].notes[0]
    assert (tmp_path / "checkpoint.pt.damaged").exists()


def test_torchs_own_state_is_as_before():
    state = torch.get_rng_state()
    train_vae(change(epochs=1))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_plane_is_the_decoders():
    config = change(epochs=1)
    record = train_vae(config)
    plane = plane_images(record)
    assert plane.shape == (11, 11, 8, 8) and len(record["codes"]) == len(record["labels"]) == 360
    with own_state(config.threads):
        run = variational.AutoencoderRun(config)
        list(run.events(0.0, threading.Event(), None))
    with torch.no_grad():
        image = run.model.decode(torch.tensor([PLANE[2], PLANE[7]])).sigmoid()
    torch.testing.assert_close(plane[2, 7].flatten(), image, rtol=0, atol=0.002)
    with pytest.raises(ValueError, match="3 latent dimensions; only two make a plane"):
        plane_images(train_vae(change(epochs=1, latent=3)))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pixels": "colour"}, "pixels is 'colour'; it must be one of static, dynamic, grey"),
        ({"latent": 0}, "latent is 0; it must be at least 1"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"images": "ptb"}, "images is 'ptb'"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        change(**fields)


def test_more_held_out_than_there_is():
    with pytest.raises(ValueError, match="held_out is 1437; it must leave some of the 1437 training images"):
        train_vae(change(held_out=1437))
    assert train_vae(change(held_out=0, epochs=1))["valid_elbo"] is None


def test_an_experiment_may_be_of_this_kind(tmp_path, monkeypatch):
    experiment = Experiment(
        "for tests", "0", (Planned("a", change(epochs=1)), Planned("b", change(epochs=1, held_out=0)))
    )
    runs = experiment.runs
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment)

    def outcomes(tasks, jobs, report):
        for run, task in tasks.items():
            yield run, one(run, task, 1, report)

    monkeypatch.setattr(reproducing, "by_processes", outcomes)
    lines = []
    assert reproduce("tiny", tmp_path / "out", tmp_path / "results", report=lines.append)
    assert any("a-s0: elbo -4" in line and " valid" in line for line in lines)
    assert any("b-s0, epoch 1: -4" in line and "valid" not in line for line in lines)
    record = json.loads((tmp_path / "results" / "tiny" / "a-s0.json").read_text())
    assert record["config"] == dataclasses.asdict(runs["a-s0"])
    assert not (tmp_path / "results" / "tiny" / "embeddings.json").exists()


def test_the_recorded_experiment():
    runs = EXPERIMENTS["vae-mnist"].runs
    static = dataclasses.asdict(runs["static-s1"])
    assert (static["hidden"], static["latent"], static["seed"], static["beta"]) == (400, 20, 1, 1.0)
    differ = {k: v for k, v in dataclasses.asdict(runs["dynamic-s1"]).items() if static[k] != v}
    assert differ == {"pixels": "dynamic"}
    assert all(name.endswith(f"-s{config.seed}") for name, config in runs.items())
    for variant, seed, record in ((v, s, r) for v, seeds in load_runs("vae-mnist").items() for s, r in seeds.items()):
        assert record["config"] == dataclasses.asdict(runs[run_name(variant, seed)])
        assert record["test_elbo"] < record["test_bound"] < 0 < record["test_kl"]
