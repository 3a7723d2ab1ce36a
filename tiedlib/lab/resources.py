"""Files that travel with the library: the data registry, recorded runs, the claims of the book."""

from functools import cache
from pathlib import Path, PurePosixPath

_LAB = Path(__file__).resolve().parent
_PACKAGED = _LAB / "_files"  # filled when a wheel is built
_ROOT = _LAB.parent.parent  # in a checkout: the root of the repository


def resource(relative: str) -> Path:
    """The path of a file or folder that belongs to the library, in an installed wheel as in a checkout.

    relative: "registry.txt", "results/<name>.json", "results" or "claims", with forward slashes. Raises ValueError
    for a path that leaves the library, FileNotFoundError where there is no such file.
    """
    parts = PurePosixPath(relative)
    if not relative or parts.is_absolute() or ".." in parts.parts:
        raise ValueError(f"relative is {relative!r}; it must name a file inside the library, such as 'registry.txt'")
    checkout = _ROOT / ("book" if parts.parts[0] == "claims" else "data")
    for folder in (_PACKAGED, checkout):
        if (folder / parts).exists():
            return folder / parts
    raise FileNotFoundError(
        f"{relative!r} is neither in {_PACKAGED} (an installed tiedlib) nor in {checkout} (a checkout): "
        "install tiedlib again, or check that the file is in the repository"
    )


@cache
def chapters() -> list[str]:
    """The modules of the ideas in the order of the book, as `tiedlib/order.txt` gives it."""
    lines = (_LAB.parent / "order.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
