"""Many states of one figure in few bytes: what a kernel packs at build time and the page's script unpacks in the
browser.

A figure is a tree of dictionaries; its leaves are arrays and small values. Leaves that are equal in every state are
stored once, the others as a list of distinct values and one index a state. Arrays that are drawn along a linear axis
or as colour are stored with 16 bits a number, which is finer than any screen, and with the digits that are right in the table
below the figure; all others as 32- or 64-bit floats, whichever prints as it is. The whole is deflated.

Layout before deflate: little-endian uint32 length of the JSON head, the head, then the arrays. Head: {"states": n,
"leaves": [[path, values, index or null], …]}; a value is {"v": json} or {"k": "q" | "f4" | "f8", "at": offset,
"shape": […], …}.
"""

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Spec = dict[str, Any]
SMALL = 8  # shorter lists stay in the JSON head
LEVELS = 65534  # q = 65535 is the gap (NaN)
DRAWN = {"x", "y", "z", "r", "theta", "base", "width", "open", "high", "low", "close"}


def _decoded(value: dict[str, Any]) -> np.ndarray:
    """plotly's {"dtype", "bdata", "shape"} as an array."""
    array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=np.dtype(value["dtype"]).newbyteorder("<"))
    shape = value.get("shape")
    return array.reshape([int(n) for n in str(shape).split(",")]) if shape else array


def _numeric(value: Sequence[Any]) -> np.ndarray | None:
    """A long list of numbers and None (or of equally long rows) as a float array; None when it is something else."""
    rows = value if len(value) and all(isinstance(v, (list, tuple, np.ndarray)) for v in value) else [value]
    if len({len(row) for row in rows}) != 1:
        return None
    flat = [v for row in rows for v in row]
    if len(flat) < SMALL or not all(
        v is None or (isinstance(v, (int, float, np.number)) and not isinstance(v, bool)) for v in flat
    ):
        return None
    array = np.array([math.nan if v is None else float(v) for v in flat])
    if any(
        isinstance(v, int) and int(a) != v
        for v, a in zip(flat, array, strict=True)
        if v is not None and math.isfinite(a)
    ):
        return None  # a whole number too large for a float
    return array.reshape(len(rows), -1) if rows is value else array


def _plain(value: Any) -> Any:
    """The same tree with numpy arrays for numbers, and nothing else that JSON does not know; NaN and infinities are
    gaps."""
    if isinstance(value, dict):
        return _plain(_decoded(value)) if "bdata" in value else {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "iuf" and value.size >= SMALL:
            array = value.astype(float)
            return np.where(np.isfinite(array), array, math.nan)
        if value.dtype.kind in "Mm":
            return value.astype(str).tolist()
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, (list, tuple)):
        numbers = _numeric(value)
        return [_plain(v) for v in value] if numbers is None else _plain(numbers)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def spec(figure: Any) -> Spec:
    """A plotly figure (or its JSON dictionary) as {"data": […], "layout": {…}}; a stock template becomes the name
    "tiedlib"."""
    from tiedlib.lab.page.themes import is_stock  # plotly is needed only here

    source = figure if isinstance(figure, dict) else figure.to_dict()
    layout = dict(source.get("layout", {}))
    if is_stock(layout.get("template")):
        layout["template"] = "tiedlib"
    return {"data": [_plain(trace) for trace in source.get("data", [])], "layout": _plain(layout)}


def points(figure: Spec) -> int:
    """How many points a figure draws: the longest array of each trace, added up."""
    return sum(
        max(
            (len(v) if isinstance(v, list) else v.size for v in trace.values() if isinstance(v, (list, np.ndarray))),
            default=0,
        )
        for trace in figure["data"]
    )


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


def _coarse(path: tuple[str | int, ...], figure: Spec, array: np.ndarray) -> bool:
    """Whether 16 bits are finer than the eye for this array: drawn on a linear axis that is not zoomed far into it."""
    if path[0] != "data" or len(path) != 3 or path[2] not in DRAWN:
        return False
    trace, layout = figure["data"][int(path[1])], figure["layout"]
    if path[2] == "z":
        low, high = trace.get("zmin"), trace.get("zmax")
    else:
        letter = "y" if path[2] in {"y", "open", "high", "low", "close"} else "x"
        name = str(trace.get(f"{letter}axis", letter))
        axis = layout.get(f"{letter}axis{name[1:]}", {})
        if axis.get("type") == "log":
            return False
        low, high = (axis.get("range") or [None, None])[:2]
    if not isinstance(low, (int, float)) or not isinstance(high, (int, float)):
        return True
    return bool(np.nanmax(array, initial=-np.inf) - np.nanmin(array, initial=np.inf) <= 8 * abs(high - low))


def _planes(words: np.ndarray) -> bytes:
    """The bytes of an array, all first bytes before all second ones: neighbours alike, so that deflate finds more."""
    return words.view(np.uint8).reshape(words.size, -1).T.tobytes()


class Kept(np.ndarray):
    """Numbers that are kept with 16 bits. `shown`: how many digits after the point of them are right."""

    shown: int | None = None

    def __array_finalize__(self, of: Any) -> None:
        self.shown = getattr(of, "shown", None)


def text(value: float, shown: int | None = None) -> str:
    """A number as a page prints it: whole ones in full, others with four digits, and with all before the point; never more after
    the point than `shown`. The page's script prints it alike."""
    if shown is not None and not math.isnan(value):
        value = round(value, shown)
        if not value and shown:
            return f"{0:.{shown}f}"
    if math.isnan(value) or not value:
        return "0" if value == 0 else "–"
    size = abs(value)
    return f"{value:.0f}" if size < 1e15 and (value == round(value) or size >= 1000) else f"{value:.4g}"


def texts(values: Iterable[Any]) -> list[str]:
    """Numbers, words and gaps as a page prints them."""
    shown = getattr(values, "shown", None)
    return [
        "–" if v is None else text(float(v), shown) if isinstance(v, (float, np.floating)) else str(v) for v in values
    ]


def _encode(array: np.ndarray, coarse: bool) -> tuple[dict[str, Any], bytes]:
    """The shortest of the ways to keep an array of which every number prints right to its last digit."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    head: dict[str, Any] = {"shape": list(array.shape)}
    whole = bool((finite == np.rint(finite)).all()) and high - low <= LEVELS and abs(low) < 2**52
    if whole or (coarse and 1e-100 < high - low < 1e100):
        step = 1.0 if whole else (high - low) / LEVELS
        head |= {"k": "q", "low": low, "step": step, "digits": 0 if whole else max(0, math.ceil(-math.log10(step)))}
        if not whole:
            head["shown"] = max(0, math.floor(-math.log10(4 * step)))
        levels = np.full(array.size, LEVELS + 1, dtype=np.int64)
        levels[np.isfinite(array).ravel()] = np.clip(np.rint((finite - low) / step), 0, LEVELS)
        apart = [] if whole else _printed_wrong(array.ravel(), levels, head)
        if len(apart) <= array.size // 10:
            head |= {"apart": apart} if apart else {}
            return head, _planes(np.diff(levels, prepend=0).astype("<u2"))
    head = {"shape": list(array.shape)}
    sizes = np.abs(finite[finite != 0])
    held = bool(sizes.size == 0 or (sizes.min() > 1e-37 and sizes.max() < 3e38))  # by 32 bits
    if held and (high - low > 1e-3 * max(abs(low), abs(high)) or high == low == 0.0):
        narrow = array.ravel().astype("<f4")
        if texts(_seven(narrow)) == texts(array.ravel()):
            return head | {"k": "f4"}, _planes(narrow)
    return head | {"k": "f8"}, _planes(array.ravel().astype("<f8"))


def _printed_wrong(array: np.ndarray, levels: np.ndarray, head: dict[str, Any]) -> list[tuple[int, float]]:
    """Place and value of each number whose level would print another last digit: near enough to the next one. These few are
    kept apart, with seven digits."""
    kept = _value(head, levels).tolist()
    pairs = enumerate(zip(array.tolist(), kept, strict=True))
    return [
        (k, float(f"{value:.7g}"))
        for k, (value, near) in pairs
        if not math.isnan(value) and not _prints_right(value, near, head["shown"])
    ]


def _value(head: dict[str, Any], level: Any) -> Any:
    return np.round(head["low"] + level * head["step"], head["digits"])


def _prints_right(value: float, kept: float, shown: int) -> bool:
    printed = text(float(kept), shown)
    mantissa, _, power = printed.partition("e")
    last = 10.0 ** (int(power or 0) - len(mantissa.partition(".")[2]))
    return abs(value - float(printed)) <= 0.5000001 * last


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
    table: dict[tuple[str | int, ...], tuple[dict[bytes, int], list[Any], list[int], list[bool]]] = {}
    for state, figure in enumerate(figures):
        for path, value in _leaves(figure):
            keys, values, index, coarse = table.setdefault(path, ({}, [], [-1] * len(figures), []))
            at = keys.setdefault(_key(value), len(values))
            fine = isinstance(value, np.ndarray) and _coarse(path, figure, value)
            if at == len(values):
                values.append(value)
                coarse.append(fine)
            coarse[at] &= fine
            index[state] = at
    leaves, body = [], bytearray()
    for path, (_, values, index, coarse) in table.items():
        heads = []
        for value, is_coarse in zip(values, coarse, strict=True):
            if isinstance(value, np.ndarray):
                head, data = _encode(value, is_coarse)
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
    size, width = math.prod(head["shape"]), {"q": 2, "f4": 4, "f8": 8}[head["k"]]
    planes = np.frombuffer(body, np.uint8, size * width, head["at"]).reshape(width, size).T
    words = np.ascontiguousarray(planes).view({"q": "<u2", "f4": "<f4", "f8": "<f8"}[head["k"]]).ravel()
    if head["k"] == "f4":
        return _seven(words).reshape(head["shape"])
    if head["k"] == "f8":
        return words.astype(float).reshape(head["shape"])
    levels = np.cumsum(words, dtype=np.int64) % (LEVELS + 2)
    values = np.where(levels == LEVELS + 1, math.nan, _value(head, levels))
    for place, value in head.get("apart", ()):
        values[int(place)] = value
    values = values.reshape(head["shape"])
    if "shown" not in head:
        return values
    kept = values.view(Kept)
    kept.shown = head["shown"]
    return kept


def unpack(packed: str, state: int = 0) -> Spec:
    """One state of `pack`'s text, as the page's script rebuilds it. Raises IndexError for a state that is not there."""
    raw = zlib.decompress(base64.b64decode(packed))
    (length,) = struct.unpack_from("<I", raw)
    head, body = json.loads(raw[4 : 4 + length]), raw[4 + length :]
    if not 0 <= state < head["states"]:
        raise IndexError(f"state={state}: it must lie between 0 and {head['states'] - 1}")
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
