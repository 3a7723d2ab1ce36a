"""Many states of one figure in few bytes: what a kernel packs at build time and the page's script unpacks in the
browser.

A figure is a tree of dictionaries; its leaves are arrays and small values. Leaves that are equal in every state are
stored once, the others as a list of distinct values and one index a state. Whole numbers, and arrays that are drawn along a
linear axis or as colour, are stored with 24 bits a number as multiples of a power of ten: what is kept is the number rounded
to that decimal, so that every digit is right wherever the page prints it, and still finer than a screen. What is drawn
otherwise has seven digits (32 bits) where its size allows, and what plotly computes with or prints in an author's own format
has all (64 bits). The whole is deflated.

Layout before deflate: little-endian uint32 length of the JSON head, the head, then the arrays. Head: {"states": n,
"leaves": [[path, values, index or null], …]}; a value is {"v": json} or {"k": "q" | "f4" | "f8", "at": offset,
"shape": […]}, and for "q" {"low": integer, "digits": d}: the number is (low + level) / 10^d.
"""

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tiedlib.lab.figures.printed import Kept, column, text, texts
from tiedlib.lab.figures.specs import PLACED, Spec, points, spec, too_small

__all__ = ["Kept", "Spec", "column", "pack", "points", "spec", "text", "texts", "too_small", "unpack", "weight"]

LEVELS = 2**24 - 2  # one more is the gap (NaN)
FEW = (
    655_340  # steps in the range of an array that is drawn on a linear axis: at least 65 534, at most ten times as many
)
DRAWN = {"x", "y", "z", "base", "width"}
FORMATS = {"hovertemplate", "texttemplate", "xhoverformat", "yhoverformat", "zhoverformat"}


def _leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterable[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, (*path, key))
    elif path == ("data",):
        yield ("data", "length"), len(value)
        for i, child in enumerate(value):
            yield from _leaves(child, (*path, i))
    else:
        yield path, value


def _digits(path: tuple[str | int, ...], figure: Spec, array: np.ndarray) -> str:
    """How many digits of this array a page needs: "few" (finer than the eye) on a linear axis that is not zoomed far into it,
    "seven" on another, and "all" where an author's format prints more, or where plotly computes with them."""
    if path[0] != "data" or len(path) != 3 or path[2] not in DRAWN:
        return "all"
    trace, layout = figure["data"][int(path[1])], figure["layout"]
    letter = {"z": "z", "y": "y"}.get(str(path[2]), "x")
    if path[2] in {"base", "width"} and (path[2] == "base") == (trace.get("orientation") != "h"):
        letter = "y"
    axis = layout.get(f"{letter}axis{str(trace.get(f'{letter}axis', letter))[1:]}", {})
    if (
        trace.get("type", "scatter") not in PLACED
        or FORMATS & trace.keys()
        or {"hoverformat", "tickformat"} & axis.keys()
    ):
        return "all"
    if axis.get("type") == "log" or "stackgroup" in trace:
        return "seven"
    low, high = (trace.get("zmin"), trace.get("zmax")) if letter == "z" else (axis.get("range") or [None, None])[:2]
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return "few"
    spread = np.nanmax(array, initial=-np.inf) - np.nanmin(array, initial=np.inf)
    return "few" if spread <= 8 * abs(high - low) else "seven"


def _planes(words: np.ndarray) -> bytes:
    """The bytes of an array, all first bytes before all second ones: neighbours alike, so that deflate finds more."""
    return words.view(np.uint8).reshape(words.size, -1).T.tobytes()


def _encode(array: np.ndarray, need: str) -> tuple[dict[str, Any], bytes]:
    """The shortest of the ways to keep an array with the digits that it needs."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    head: dict[str, Any] = {"shape": list(array.shape)}
    digits = _decimals(finite, low, high, need)
    if digits is not None:
        levels = np.full(array.size, LEVELS + 1, dtype=np.int64)
        steps = np.array([_steps(v, digits) for v in finite.tolist()], dtype=np.int64)
        start = int(steps.min()) if steps.size else 0
        levels[np.isfinite(array).ravel()] = steps - start
        return head | {"k": "q", "low": start, "digits": digits}, _planes(np.diff(levels, prepend=0).astype("<u4"))[
            : 3 * array.size
        ]
    sizes = np.abs(finite[finite != 0])
    held = bool(sizes.size == 0 or (sizes.min() > 1e-37 and sizes.max() < 3e38))  # by 32 bits
    if need != "all" and held and (high - low > 1e-3 * max(abs(low), abs(high)) or high == low == 0.0):
        narrow = array.ravel().astype("<f4")
        if texts(_seven(narrow)) == texts(array.ravel()):
            return head | {"k": "f4"}, _planes(narrow)
    return head | {"k": "f8"}, _planes(array.ravel().astype("<f8"))


def _decimals(finite: np.ndarray, low: float, high: float, need: str) -> int | None:
    """To how many digits after the point 24 bits keep these numbers, where that is all of them or few are needed."""
    largest = max(abs(low), abs(high))
    if high - low < LEVELS and largest < 2**52 and bool((finite == np.rint(finite)).all()):
        return 0
    if need != "few" or not 1e-90 < high - low < 1e90:
        return None
    digits = math.floor(math.log10((FEW - 1) / (high - low)))
    return digits if digits >= 0 and math.log10(largest) + digits < 15 else None


def _steps(value: float, digits: int) -> int:
    """value · 10^digits, rounded as its decimals are: half of a step is decided by what the number is, not by a product's error."""
    return int(f"{value:.{digits}f}".replace(".", ""))


def _seven(narrow: np.ndarray) -> np.ndarray:
    """The seven digits that 32 bits hold."""
    return np.array([float(f"{v:.7g}") for v in narrow.astype(float).tolist()])


def _key(value: Any) -> bytes:
    if isinstance(value, np.ndarray):
        return repr(value.shape).encode() + value.tobytes()
    return json.dumps(value, sort_keys=True).encode()


def pack(figures: Sequence[Spec]) -> str:
    """All states as deflated text (base64). `figures` come from `spec`. Raises ValueError when there is none."""
    if not figures:
        raise ValueError("figures is empty: there must be at least one state")
    table: dict[tuple[str | int, ...], tuple[dict[bytes, int], list[Any], list[int], list[str]]] = {}
    for state, figure in enumerate(figures):
        for path, value in _leaves(figure):
            keys, values, index, needs = table.setdefault(path, ({}, [], [-1] * len(figures), []))
            at = keys.setdefault(_key(value), len(values))
            need = _digits(path, figure, value) if isinstance(value, np.ndarray) else ""
            if at == len(values):
                values.append(value)
                needs.append(need)
            needs[at] = min(needs[at], need, key=("all", "seven", "few", "").index)
            index[state] = at
    leaves, body = [], bytearray()
    for path, (_, values, index, needs) in table.items():
        heads = []
        for value, need in zip(values, needs, strict=True):
            if isinstance(value, np.ndarray):
                head, data = _encode(value, need)
                heads.append(head | {"at": len(body)})
                body += data
            else:
                heads.append({"v": value})
        leaves.append([list(path), heads, None if set(index) == {0} else index])
    head_bytes = json.dumps({"states": len(figures), "leaves": leaves}, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(zlib.compress(struct.pack("<I", len(head_bytes)) + head_bytes + bytes(body), 9)).decode()


def _decode(head: dict[str, Any], body: bytes) -> Any:
    if "v" in head:
        return head["v"]
    size, width = math.prod(head["shape"]), {"q": 3, "f4": 4, "f8": 8}[head["k"]]
    planes = np.frombuffer(body, np.uint8, size * width, head["at"]).reshape(width, size).T
    if head["k"] == "q":
        planes = np.pad(planes, ((0, 0), (0, 1)))
    words = np.ascontiguousarray(planes).view({"q": "<u4", "f4": "<f4", "f8": "<f8"}[head["k"]]).ravel()
    if head["k"] == "f4":
        return _seven(words).reshape(head["shape"])
    if head["k"] == "f8":
        return words.astype(float).reshape(head["shape"])
    levels = np.cumsum(words, dtype=np.int64) % 2**24
    values = (head["low"] + levels) / 10.0 ** head["digits"]
    kept = np.where(levels == LEVELS + 1, math.nan, values).reshape(head["shape"]).view(Kept)
    kept.shown = head["digits"]
    return kept


def unpack(packed: str, state: int = 0) -> Spec:
    """One state of `pack`'s text, as the page's script rebuilds it. Raises IndexError for a state that is not there."""
    raw = zlib.decompress(base64.b64decode(packed))
    (length,) = struct.unpack_from("<I", raw)
    head, body = json.loads(raw[4 : 4 + length]), raw[4 + length :]
    if not 0 <= state < head["states"]:
        raise IndexError(f"state is {state}; it must lie between 0 and {head['states'] - 1}")
    result: Spec = {"data": [], "layout": {}}
    for path, heads, index in head["leaves"]:
        at = 0 if index is None else index[state]
        if at < 0:
            continue
        value = _decode(heads[at], body)
        if path == ["data", "length"]:
            result["data"] = [{} for _ in range(value)]
            continue
        node: Any = result
        for key in path[:-1]:
            node = node[key] if isinstance(node, list) else node.setdefault(key, {})
        node[path[-1]] = value
    return result


def weight(packed: str) -> int:
    """Bytes of the packed text on the wire (gzipped)."""
    return len(zlib.compress(packed.encode(), 6))
