# Makes `import tiedlib` work. In Colab it installs the library and leaves Colab's own torch and numpy as they are.
ADDRESS = ""
EXTRA = "lab"


def need_tiedlib(address: str, extra: str) -> None:
    import contextlib
    import importlib.util
    import os
    import subprocess
    import sys
    import tempfile
    from importlib import metadata
    from pathlib import Path

    needed = ["tiedlib", "otter"] if extra == "homework" else ["tiedlib"]
    if all(importlib.util.find_spec(name) is not None for name in needed):
        return
    if not address:
        raise ModuleNotFoundError(
            "tiedlib is not installed, and this book has no public address yet to install it from. In a checkout of "
            f"the book run: pip install -c constraints.txt '.[{extra}]'. Or take the wheel from the folder dist/ of the "
            f"built book (in Colab: upload it) and run: pip install 'THE-FILE.whl[{extra}]'. Then restart the kernel."
        )
    requirement = f"tiedlib[{extra}] @ git+{address}"
    if "google.colab" not in sys.modules:
        raise ModuleNotFoundError(f'tiedlib is not installed. Run: pip install "{requirement}" and restart the kernel.')
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "keep.txt")
        with constraints.open("w") as keep, contextlib.suppress(metadata.PackageNotFoundError):
            for name in ("torch", "numpy"):
                keep.write(f"{name}=={metadata.version(name)}\n")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", os.fspath(constraints), requirement]
        subprocess.run(pip, check=True)
    importlib.invalidate_caches()


need_tiedlib(ADDRESS, EXTRA)
