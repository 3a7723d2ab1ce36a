"""`import tiedlib` is enough to reach `tiedlib.tying`: a package's modules are imported when somebody first asks for them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType

__all__ = ["modules_of"]


def modules_of(package: str, path: Iterable[str]) -> tuple[Callable[[str], ModuleType], Callable[[], list[str]]]:
    """What a package's `__getattr__` and `__dir__` are: its modules by name, but for private ones.

    Raises AttributeError for a name that is none of them.
    """
    names = sorted(found.name for found in pkgutil.iter_modules(path) if not found.name.startswith("_"))

    def find(name: str) -> ModuleType:
        if name not in names:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return importlib.import_module(f"{package}.{name}")

    return find, lambda: names
