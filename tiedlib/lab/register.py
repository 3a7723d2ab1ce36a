"""The register of claims: every statement of the notes, in our words, with the verdict that its proof must give.

A file for each chapter, `book/claims/<chapter>.yml`, holds a list of entries; each is proven by a cell or a test:

    id           the name under which `claim(id)` proves it
    source       the kind of note that says it
    statement    what the note says, in our words
    verdict      holds | caveat | wrong | undecided
    correction   what should be there instead (required where the verdict is "wrong")
    waits        the run or the chapter that an undecided entry waits for
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import yaml

from tiedlib.lab.outputs import VERDICTS
from tiedlib.lab.resources import chapters, resource

__all__ = ["Claim", "register"]


@dataclass(frozen=True)
class Claim:
    """One entry of the register: a statement of the notes in our words, and what we found."""

    id: str
    chapter: str
    statement: str
    source: str  # the kind of note, such as "lecture slides", never a person
    verdict: str  # one of VERDICTS
    correction: str = ""
    waits: str = ""  # the run or chapter that the proof still waits for


@lru_cache(maxsize=1)
def register() -> dict[str, Claim]:
    """All claims by id, chapter by chapter in the order of the book, each chapter's in the order of its file,
    `book/claims/<chapter>.yml`. Raises ValueError for an entry that breaks the format."""
    order = chapters()
    files = list(resource("claims").glob("*.yml"))
    if strange := [path for path in files if path.stem not in order]:
        raise ValueError(f"{strange[0]} holds claims, and tiedlib/order.txt has no chapter of this name")
    files.sort(key=lambda path: order.index(path.stem))
    claims: dict[str, Claim] = {}
    for path in files:
        for one in _read(path):
            if one.id in claims:
                raise ValueError(f"{path}: claim {one.id!r} is in the register twice")
            claims[one.id] = one
    return claims


def _read(path: Path) -> Iterator[Claim]:
    """The claims of one chapter. Raises ValueError for an entry that breaks the format."""
    known = [f.name for f in fields(Claim) if f.name != "chapter"]
    for entry in yaml.load(path.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        name = entry.get("id", "?")
        if unknown := set(entry) - set(known):
            raise ValueError(f"{path}: claim {name!r} has unknown fields {sorted(unknown)}; known are {sorted(known)}")
        one = Claim(chapter=path.stem, **{key: " ".join(str(value or "").split()) for key, value in entry.items()})
        if one.verdict not in VERDICTS:
            raise ValueError(
                f"{path}: claim {name!r} has verdict {one.verdict!r}; it must be one of {', '.join(VERDICTS)}"
            )
        if (one.verdict == "wrong" and not one.correction) or (one.waits and one.verdict != "undecided"):
            raise ValueError(f"{path}: claim {name!r}: 'wrong' needs a correction, and only 'undecided' may wait")
        yield one
