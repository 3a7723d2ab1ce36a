# Makes `import tiedlib` work. In Colab it installs the library, and leaves every package that Colab has as it is.
ADDRESS = ""
EXTRA = "lab"


def need_tiedlib(address: str, extra: str) -> None:
    import importlib.util
    import os
    import re
    import subprocess
    import sys
    import tempfile
    from importlib import metadata
    from pathlib import Path

    class NotInstalledError(ModuleNotFoundError):
        def _render_traceback_(self) -> list[str]:  # a notebook shows what it says, without the lines of this cell
            return [str(self)]

    needed = ["tiedlib", "otter"] if extra == "homework" else ["tiedlib"]
    missing = " and ".join(name for name in needed if importlib.util.find_spec(name) is None)
    if not missing:
        return
    if not address:
        raise NotInstalledError(
            f"{missing} is not installed, and this book has no public address yet to install it from. In a checkout of "
            f"the book run: pip install -c constraints.txt '.[{extra}]'. Or take the wheel from the folder dist/ of the "
            f"built book (in Colab: upload it) and run: pip install 'THE-FILE.whl[{extra}]'. Then restart the kernel."
        )
    requirement = f"tiedlib[{extra}] @ git+{address}"
    if "google.colab" not in sys.modules:
        raise NotInstalledError(f'{missing} is not installed. Run: pip install "{requirement}" and restart the kernel.')
    # name → name==version, of the first one on the path, as Python takes it. What pip could not read is left out, or it would stop.
    pin = re.compile(
        r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?==v?(\d+!)?\d+(\.\d+)*([-_.]?(a|b|c|rc|alpha|beta|pre|preview)[-_.]?\d*)?"
        r"(-\d+|[-_.]?(post|rev|r)[-_.]?\d*)?([-_.]?dev[-_.]?\d*)?(\+[a-z0-9]+([-_.][a-z0-9]+)*)?",
        re.IGNORECASE | re.ASCII,
    )
    here: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        except Exception:  # damaged: pip passes it over as well
            continue
        if pin.fullmatch(f"{name}=={version}"):
            here.setdefault(re.sub(r"[-_.]+", "-", name).lower(), f"{name}=={version}")
    here.pop("tiedlib", None)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "keep.txt")
        constraints.write_text("\n".join(here.values()), encoding="utf-8")
        pip = [sys.executable, "-m", "pip", "install", "-c", os.fspath(constraints)]
        steps = [[requirement]]
        if (
            extra == "homework"
        ):  # otter asks for newer widgets than Colab has, and uses of them what the older ones have too
            steps = [
                [f"tiedlib[lab] @ git+{address}"],
                ["--no-deps", "otter-grader>=6.1.6", "ipylab>=1"],
                ["otter's own needs"],
            ]
        for step in steps:
            if step == ["otter's own needs"]:
                wanted = [r for r in metadata.requires("otter-grader") or [] if "extra ==" not in r]
                step = [re.sub(r"\[[^]]*\]", "", r) for r in wanted if not r.startswith(("ipywidgets", "ipylab"))]
            done = subprocess.run([*pip, *step], capture_output=True, encoding="utf-8", errors="replace")
            if done.returncode:
                break
    importlib.invalidate_caches()
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        conflicts = [line for line in said if " depends on " in line or "requested (constraint)" in line]
        reasons = conflicts or [line for line in said if line.startswith("ERROR:")] or said[-5:]
        lines = dict.fromkeys(
            line.strip().replace("The user requested (constraint)", "This host has") for line in reasons
        )
        raise NotInstalledError(
            f"{missing} could not be installed beside what this host has, and nothing was changed:\n    "
            + "\n    ".join(lines)
            + "\nWhere a package that the host has is in the way, it is left as it is, because other notebooks here need it. "
            f"Open the notebook in JupyterLab on a computer of your own, in a new environment, after: "
            f'pip install "{requirement}"'
        )


need_tiedlib(ADDRESS, EXTRA)
