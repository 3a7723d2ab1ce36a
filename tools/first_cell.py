# Makes `import tiedlib` work. In Colab it installs the library and leaves Colab's own torch and numpy as they are.
ADDRESS = ""


def need_tiedlib(address: str) -> None:
    import contextlib
    import importlib.util
    import os
    import subprocess
    import sys
    import tempfile
    from importlib import metadata
    from pathlib import Path

    if importlib.util.find_spec("tiedlib") is not None:
        return
    if not address:
        raise ModuleNotFoundError(
            "tiedlib is not installed, and this book has no public address yet to install it from. In a checkout of "
            "the book run: pip install -c constraints.txt '.[lab]'. Or take the wheel from the folder dist/ of the "
            "built book (in Colab: upload it) and run: pip install 'THE-FILE.whl[lab]'. Then restart the kernel."
        )
    requirement = f"tiedlib[lab] @ git+{address}"
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


need_tiedlib(ADDRESS)
