"""What torch has without documenting it: looked for, and never assumed to be there. No chapter explains it.

Whoever uses it says what to do where it is missing, and compares it once with what is documented where it computes something.
"""

from __future__ import annotations

from typing import Any

import torch

__all__: list[str] = []


def undocumented(path: str) -> Any:
    """What stands at a dotted path below torch, such as "_C._nn.nll_loss"; None where this torch lacks it."""
    found: Any = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def all_undocumented(*paths: str) -> tuple[Any, ...]:
    """Those of them that this torch has."""
    return tuple(found for found in map(undocumented, paths) if found is not None)
