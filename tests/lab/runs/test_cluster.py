"""tiedlib.lab.runs.cluster: a sweep on a Ray cluster of two workers, one of which dies."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests.lab.experiments.test_sweep import SMALL, flags
from tests.lab.runs.digits import DigitsConfig
from tiedlib.lab.experiments.sweep import plan, sweep
from tiedlib.lab.language_model.training import train
from tiedlib.lab.runs.cluster import MARK, _work, by_ray
from tiedlib.lab.runs.many import Task
from tiedlib.lab.runs.run import carry_out

try:
    import ray
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise  # `make install` has it: the tests of the cluster are not to be skipped unseen
    ray = None
needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed: pip install '.[cluster]' in the checkout")

FIELDS = SMALL | {"epochs": 80}


@pytest.fixture
def cluster(monkeypatch):
    """Two workers of one CPU each, the first of them the head too: processes of this machine, as if they were two."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    memory = {"object_store_memory": 80 * 2**20}
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "600")

    def begun():
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
        try:
            made.add_node(num_cpus=1, **memory)
        except BaseException:
            made.shutdown()
            raise
        return made

    made, until = None, time.monotonic() + 900
    while made is None:
        try:
            made = begun()
        except Exception:  # Ray gives a node 30 s to start, which cannot be set, and a busy machine may need more
            if time.monotonic() > until:
                raise
    try:
        yield made
    finally:
        made.shutdown()


def is_below(node, pid):
    """Whether this process is one of the node's."""
    return node.all_processes["raylet"][0].process.pid in {process.pid for process in psutil.Process(pid).parents()}


@needs_ray
def test_the_runs_of_a_worker_that_dies_are_taken_over(cluster, tmp_path):
    """kill -9 for a worker and all its processes in the middle of a run: the other takes it over, from the checkpoint. Three
    records, each once, with the bits of runs that nothing disturbed."""
    out = tmp_path / "x"
    command = [sys.executable, "-m", "tiedlib", "sweep", "--out", str(out), "--vary", "lr=0.5,1,2", *flags(FIELDS)]
    command += ["--ray-address", cluster.address]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    (node,), lines, killed = cluster.worker_nodes, [], None
    for line in driver.stdout:
        lines.append(line.rstrip())
        at_work = re.search(r"pid=(\d+)\S* (lr-\S+), epoch \d+:", line)
        if killed is None and at_work and is_below(node, int(at_work[1])):
            killed = at_work[2]
            cluster.remove_node(node, allow_graceful=False)
            assert not (out / killed / "record.json").exists(), "too late: it had ended"
    printed = "\n".join(lines)
    assert driver.wait() == 0, printed
    assert re.search(rf"{killed}: going on at epoch \d+, step \d+", printed), printed
    ends = [line.split("] ")[1].split(":")[0] for line in lines if re.match(r"\[\d/3\] ", line)]
    runs = plan([0], {"lr": [0.5, 1.0, 2.0]}, **FIELDS)
    assert sorted(ends) == list(runs) and [line.split(" | ")[1] for line in lines[-3:]] == ["1", "1", "1"], printed
    for name, config in runs.items():
        record = json.loads((out / name / "record.json").read_text())
        assert record["weights_sha256"] == train(config)["weights_sha256"]
        assert [row["epoch"] for row in record["epochs"]] == list(range(FIELDS["epochs"]))
    assert not (out / MARK).exists()


@needs_ray
def test_a_kind_of_run_that_the_library_does_not_know_is_taken_over_too(cluster, tmp_path):
    """The digits classifier of `tests.lab.runs.digits`, on the same two workers."""
    runs = {f"s{seed}": DigitsConfig(threads=1, epochs=400, seed=seed) for seed in range(2)}
    (node,), killed, lines = cluster.worker_nodes, [], []

    def report(line):
        lines.append(line)

    def watch():
        """Remove the worker as soon as the run that it makes has a checkpoint."""
        while not killed:
            at_work = [p for p in psutil.process_iter(["pid", "name"]) if "ray::s" in (p.info["name"] or "")]
            mine = [p for p in at_work if is_below(node, p.pid)]
            if mine and len(list(tmp_path.glob("*/checkpoint.pt"))) == 2:
                killed.append(mine[0].info["name"])
                cluster.remove_node(node, allow_graceful=False)
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    found, good = sweep(runs, tmp_path, ray_address=cluster.address, checkpoint_seconds=0.2, report=report)
    watcher.join(60)
    assert killed and good and len(found) == 2, lines
    for record in found:
        assert record["weights_sha256"] == carry_out(runs[f"s{record['seed']}"])["weights_sha256"]


@needs_ray
@pytest.mark.parametrize("address", ["127.0.0.1:{}", "127.0.0.1:99999"])
def test_without_a_cluster_an_error_says_so_at_once(tmp_path, address):
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # held, and nobody listens there
        address = address.format(held.getsockname()[1])
        with pytest.raises(ConnectionError) as caught:
            sweep(plan([0], {}, **FIELDS), tmp_path, ray_address=address, report=lambda line: None)
    assert f"there is no Ray cluster at {address} (" in str(caught.value)
    assert not (tmp_path / MARK).exists()


def test_a_worker_that_does_not_see_the_folder_refuses(tmp_path):
    """Its disk is its own: there is no such folder, or one of the same name with something else in it."""
    task = Task(plan([0], {}, **FIELDS)["s0"], tmp_path / "s0", tmp_path / "s0" / "record.json")
    words = "does not see .*; give a folder on storage that all of them share"
    assert re.search(words, _work("s0", task, tmp_path, "word", {}))
    (tmp_path / MARK).write_text("another")
    assert re.search(words, _work("s0", task, tmp_path, "word", {}))
    assert not task.folder.exists()


def test_nothing_to_do_needs_no_cluster(tmp_path):
    assert list(by_ray({}, tmp_path, "nowhere:1", print)) == []
