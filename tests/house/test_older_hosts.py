"""The book where its readers open it: every chapter, and a slider, on the versions that Colab ships (constraints-colab.txt).

`make test` makes that environment (tools/older_host.py), in which PyTorch alone is that of these tests. The kernels are real.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager, KernelManager
from nbclient import NotebookClient

from tools import address, older_host

ROOT = older_host.ROOT
PYTHON = Path(os.environ.get("OLDER_HOST", ROOT / ".venv-colab")).absolute() / "bin" / "python"
CHAPTERS = [path for path in address.notebooks() if path.parent.name == "book"]
START = 600.0  # seconds for a kernel to come up on a machine with other work; how long it then works is not limited
VIEW = "application/vnd.jupyter.widget-view+json"
NAMES = ("ipywidgets", "plotly", "ipython", "ipykernel", "numpy", "traitlets")

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] not in older_host.PYTHONS, reason="Colab's versions are not made for this Python"
)


def pinned() -> dict[str, str]:
    lines = older_host.CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> KernelSpecManager:
    """The kernel of that environment, under the name "older"."""
    if not PYTHON.exists():
        assert not os.environ.get("CI"), f"there is no {PYTHON}: `make test` makes it"
        pytest.skip(f"there is no {PYTHON}: `make .venv-colab/.installed` makes it")
    folder = tmp_path_factory.mktemp("kernels")
    spec = {"argv": [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "older"}
    (folder / "older").mkdir()
    (folder / "older" / "kernel.json").write_text(json.dumps({**spec, "language": "python"}), encoding="utf-8")
    return KernelSpecManager(kernel_dirs=[str(folder)])


@pytest.fixture
def client(kernels: KernelSpecManager) -> Iterator[BlockingKernelClient]:
    manager = KernelManager(kernel_name="older", kernel_spec_manager=kernels)
    manager.start_kernel(cwd=str(ROOT / "book"))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def said(client: BlockingKernelClient, code: str) -> str:
    """What a cell prints; an error of it is one here."""
    printed: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=hear, timeout=None)
    assert reply["content"]["status"] == "ok", "\n".join(reply["content"].get("traceback", []))
    return "".join(printed)


def test_the_old_versions_win_and_torch_is_borrowed(client: BlockingKernelClient) -> None:
    modules = ", ".join(NAMES).replace("ipython", "IPython")
    code = f"import torch, tiedlib, {modules}\nprint(*(m.__version__ for m in ({modules})))\nprint(tiedlib.__file__)"
    versions, place = said(client, code).splitlines()
    assert dict(zip(NAMES, versions.split(), strict=True)) == {name: pinned()[name] for name in NAMES}
    assert pinned()["ipywidgets"] == "7.7.1" and Path(place) == ROOT / "tiedlib" / "__init__.py"


def test_the_pins_are_of_what_the_bench_needs() -> None:
    """A widget of version 8 would not be shown there: no requirement may ask for it."""
    pins = pinned()
    for name in ("ipywidgets", "plotly", "ipython", "widgetsnbextension", "numpy", "scikit-learn", "jaxtyping"):
        assert name in pins
    assert "torch" not in pins and pins["widgetsnbextension"].startswith("3.")


SLIDER = """
import plotly.graph_objects as go
from tiedlib.lab.notebook.explorer import explore
from tiedlib.lab.notebook.widgets import widget

calls = []

def line(slope, shape, noisy):
    calls.append((slope, shape, noisy))
    if shape == "bar":
        return go.Figure(go.Bar(x=[0, 1], y=[noisy, slope]), layout_title_text=f"slope {slope}")
    return go.Figure(go.Scatter(x=[0, 1], y=[noisy, slope]), layout_title_text=f"slope {slope}")

grids = {"slope": [1.0, 2.0, 3.0], "shape": ["line", "bar"], "noisy": [False, True]}
box = widget(explore(line, grids, alt="A line.", play="slope"))
figure = next(child for child in box.children if isinstance(child, go.FigureWidget))
print(*(child.model_id for child in box.children[:4]))
"""


def test_a_slider_that_is_moved_draws_the_figure_anew(client: BlockingKernelClient) -> None:
    """Moved as a page moves it: by a message to the widget's comm."""
    slope, shape, noisy, player = said(client, SLIDER).split()

    def moved(comm: str, **state: Any) -> list[Any]:
        data = {"method": "update", "state": state, "buffer_paths": []}
        client.shell_channel.send(client.session.msg("comm_msg", {"comm_id": comm, "data": data}))
        shows = "figure.data[0].type, list(map(float, figure.data[0].y)), figure.layout.title.text"
        found: list[Any] = json.loads(said(client, f"import json; print(json.dumps([{shows}]))"))
        return found

    assert moved(slope, value=2.5) == ["scatter", [0.0, 2.5], "slope 2.5"], "between the grid's values"
    assert moved(noisy, value=True) == ["scatter", [1.0, 2.5], "slope 2.5"]
    assert moved(shape, index=1) == ["bar", [1.0, 2.5], "slope 2.5"]
    assert moved(player, value=2) == ["bar", [1.0, 3.0], "slope 3.0"]
    assert said(client, "print(calls[-1])").strip() == "(3.0, 'bar', True)"


def test_the_first_cell_says_what_is_missing_without_a_traceback(client: BlockingKernelClient) -> None:
    code = f"import importlib.util\nimportlib.util.find_spec = lambda name: None\n{address.first_cell('')}"
    reply = client.execute_interactive(code, output_hook=lambda message: None, timeout=None)["content"]
    assert reply["ename"] == "NotInstalledError" and reply["traceback"] == [reply["evalue"]]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_runs_and_shows_its_widgets(path: Path, kernels: KernelSpecManager) -> None:
    notebook = nbformat.read(path, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    moving = [cell for cell in code if "explore(" in cell.source]
    manager = AsyncKernelManager(kernel_name="older", kernel_spec_manager=kernels)
    NotebookClient(
        notebook, km=manager, timeout=None, startup_timeout=START, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    views = [output for cell in code for output in cell.outputs if VIEW in output.get("data", {})]
    assert moving and len(views) >= len(moving), "a figure that moves was not shown as a widget"
