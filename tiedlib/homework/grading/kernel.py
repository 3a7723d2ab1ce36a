"""A student's cells in a confined process: sent one by one, each with a time limit, by a grader that stands outside.

The process is ipykernel. It is asked over one socket, a file in its folder (ports where there are no such files), and only the
answers to requests are read: what cells print is never transported, so that 100 MB of it cost nothing. A cell that is
over its time is interrupted as by Ctrl-C; one that does not care is "hung", and the process must be given up.
"""

from __future__ import annotations

import ast
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiedlib.homework.grading import inside
from tiedlib.homework.grading.sandbox import Sandbox, SandboxError

__all__ = ["Kernel", "Reply", "Stopped"]

_GRACE = 3.0  # seconds that an interrupted cell has to end
_START = 300.0  # seconds for ipykernel, otter and torch to be imported on a slow machine
_LARGEST = 64 * 2**20  # bytes of an answer
_OUT_OF_MEMORY = ("can't allocate memory", "Cannot allocate memory", "out of memory", "Unable to allocate")


class Stopped(Exception):  # noqa: N818 - nothing went wrong here
    """The grader is to stop (Ctrl-C): this submission is left for the next time."""


@dataclass(frozen=True)
class Reply:
    """How a cell ended: ok, error, time, memory (the cell failed, the process lives); hung, crashed, processes, disk, or
    memory with alive=False (the process has to be given up)."""

    kind: str
    alive: bool = True
    error: str = ""
    value: str = ""


class Kernel:
    """One process for one submission, started in a sandbox. Raises SandboxError where it does not come up.

    modules   those that the checks import: what stands in them is put back before each check
    early     those that the cells import: to import torch takes seconds, which are no cell's fault
    stop      asked while waiting; where it gives True, `Stopped` is raised
    """

    def __init__(
        self, box: Sandbox, modules: Sequence[str], early: Sequence[str] = (), stop: Callable[[], bool] = lambda: False
    ) -> None:
        import zmq
        from jupyter_client.session import Session

        self.box, self._stop = box, stop
        self._name = f"_{secrets.token_hex(8)}"
        connection = _connection(box)
        file = box.shown / "connection.json"
        file.write_text(json.dumps(connection), encoding="utf-8")
        self._context: Any = zmq.Context()
        self._context.linger = 0
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, _LARGEST)
        self._session = Session(key=connection["key"].encode(), signature_scheme=connection["signature_scheme"])
        self._socket.setsockopt(zmq.IDENTITY, self._session.bsession)
        box.start([sys.executable, "-P", "-m", "ipykernel_launcher", "-f", str(file), "--HistoryManager.enabled=False"])
        between = "-" if connection["transport"] == "ipc" else ":"
        self._socket.connect(f"{connection['transport']}://{connection['ip']}{between}{connection['shell_port']}")
        self._prepare(modules, early)

    def _prepare(self, modules: Sequence[str], early: Sequence[str]) -> None:
        text = Path(inside.__file__).read_text(encoding="utf-8")
        code = (
            f"import sys, types\n_m = sys.modules[{self._name!r}] = types.ModuleType({self._name!r})\n"
            f"exec(compile({text!r}, 'grading', 'exec'), vars(_m))\n"
            f"_m.prepare(get_ipython().user_ns, {list(modules)!r}, {list(early)!r})\n_m.stay()\ndel sys, types, _m\n"
        )
        begun = self.execute(code, _START)
        if begun.kind != "ok":
            said = begun.error or self.box.output.strip()[-300:]
            raise SandboxError(f"the process for a submission could not be started ({begun.kind}): {said}")

    def execute(self, code: str, seconds: float, ask: str = "") -> Reply:
        """Run code as a cell and wait for its end; ask: an expression whose value, a text, is wanted afterwards."""
        content = {
            "code": code,
            "silent": True,
            "store_history": False,
            "allow_stdin": False,
            "stop_on_error": False,
            "user_expressions": {"value": ask} if ask else {},
        }
        sent: Any = self._session.send(self._socket, "execute_request", content)
        request = sent["header"]["msg_id"]
        limit, interrupted = time.monotonic() + seconds, 0.0
        while True:
            if self._stop():
                raise Stopped
            if self._socket.poll(100) and (got := self._receive(request)) is not None:
                if not self.box.fits():
                    return Reply("disk", alive=False)
                return Reply("time") if interrupted and got.kind != "ok" else got
            problem = self.box.watch()
            if problem:
                return Reply({"ended": "crashed"}.get(problem, problem), alive=False, error=self.box.output[-300:])
            now = time.monotonic()
            if not interrupted and now > limit:
                self.box.interrupt()
                interrupted = now
            elif interrupted and now > interrupted + _GRACE:
                return Reply("hung", alive=False)

    def check(self, path: Path, seconds: float) -> tuple[Reply, dict[str, Any]]:
        """Run a test file on what the cells have left; its answer (see `inside.check`), empty where there is none."""
        module = f"__import__('sys').modules[{self._name!r}]"
        reply = self.execute(f"{module}.check({str(path)!r})", seconds, ask=f"{module}.answer()")
        try:
            found = json.loads(ast.literal_eval(reply.value)) if reply.value else {}
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found = {}
        return reply, found if isinstance(found, dict) else {}

    def _receive(self, request: str) -> Reply | None:
        """The answer to a request; None for anything else, also for what is no message at all."""
        import zmq

        try:
            _, message = self._session.recv(self._socket, mode=zmq.NOBLOCK)
            if (
                message is None
                or message["parent_header"].get("msg_id") != request
                or message["msg_type"] != "execute_reply"
            ):
                return None
            content = message["content"]
            if content["status"] == "ok":
                value = content.get("user_expressions", {}).get("value", {})
                return Reply("ok", value=str(value.get("data", {}).get("text/plain", "")))
            error = f"{content.get('ename', '')}: {content.get('evalue', '')}"[:500]
        except Exception:  # whatever a student's process may have sent
            return None
        memory = error.startswith("MemoryError") or any(words in error for words in _OUT_OF_MEMORY)
        return Reply("memory" if memory else "error", error=error)

    def close(self) -> None:
        """Let the socket go; the sandbox ends the process."""
        self._socket.close(linger=0)
        self._context.term()

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connection(box: Sandbox) -> dict[str, Any]:
    """Sockets in the private folder: they reach through a network namespace, and nobody else can open them."""
    common = {"key": secrets.token_hex(16), "signature_scheme": "hmac-sha256", "kernel_name": "python3"}
    names = [f"{name}_port" for name in ("shell", "iopub", "stdin", "control", "hb")]
    ip = str(box.folder / ".k")
    if os.name == "posix" and len(ip) < 100:  # the system's limit for the name of a socket is 104 or 108
        return {**common, "transport": "ipc", "ip": ip, **{name: k for k, name in enumerate(names, 1)}}
    if "network" in box.spaces:
        raise SandboxError(f"{ip} is too long for the name of a socket; set TMPDIR to a folder with a shorter name")
    sockets = [socket.socket() for _ in names]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = {name: one.getsockname()[1] for name, one in zip(names, sockets, strict=True)}
    for one in sockets:
        one.close()
    return {**common, "transport": "tcp", "ip": "127.0.0.1", **ports}
