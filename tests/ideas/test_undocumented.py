"""torch's private parts are looked for, never assumed: without them the library is imported, and trains, all the same."""

import ast
import os
import re
import subprocess
import sys

import pytest

from tests.places import ROOT

PRIVATE = re.compile(r"\b_[a-zA-Z]\w*")
# Parts of torch's objects that are no module's: a module of ours may have such a name for itself too.
OURS = {"_apply", "_parameters", "_modules", "_is_replica", "_make", "_fields"}


def chain(node):
    """torch.a.b for an attribute's expression, None for anything else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else None


def used():
    """Every private name of a module of torch's that the library's source spells out: as an expression, an import, or in a
    text that names a module."""
    found = set()
    for path in sorted((ROOT / "tiedlib").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        short = {"nn": "torch.nn", "F": "torch.nn.functional", "torch": "torch"}
        for node in ast.walk(tree):  # _init = torch.nn.init
            if isinstance(node, ast.Assign) and (parts := chain(node.value)) and parts[0] == "torch":
                short.update({t.id: ".".join(parts) for t in node.targets if isinstance(t, ast.Name)})
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
                short.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
                found |= {f"{node.module}.{a.name}" for a in node.names if PRIVATE.search(f"{node.module}.{a.name}")}
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "getattr" and len(node.args) > 1:
                parts, name = chain(node.args[0]), node.args[1]
                if parts and parts[0] in short and isinstance(name, ast.Constant):
                    found.add(".".join([short[parts[0]], *parts[1:], str(name.value)]))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("undocumented", "all_undocumented"):
                found |= {f"torch.{a.value}" for a in node.args if isinstance(a, ast.Constant)}
            elif isinstance(node, ast.Attribute) and (parts := chain(node)) and parts[0] in short:
                found.add(".".join([short[parts[0]], *parts[1:]]))
            elif isinstance(node, ast.Constant) and re.fullmatch(r"(torch|_C|autograd|nn)(\.\w+)+", str(node.value)):
                found.add("torch." + str(node.value).removeprefix("torch."))
    found.discard("torch._C")  # all of torch stands on it
    return {name for name in found if PRIVATE.search(name) and not set(name.split(".")) & OURS}


REMOVE = """
import importlib, sys, types
import torch, torch.nn, torch.optim, torch.utils.data, torch.distributions, torch.func, torch.export

class Gone(types.ModuleType):
    def __getattr__(self, name):
        raise AttributeError(name)

gone, kept = {names!r}, []
import torch.utils._pytree
import torch._dynamo
for name in gone:
    parts = name.split(".")
    at = next(k for k, part in enumerate(parts) if part.startswith("_"))
    if parts[:2] == ["torch", "_C"]:  # all of torch stands on it: one name of it is taken away
        at = 2
    holder = torch
    for part in parts[1:at]:
        holder = getattr(holder, part)
    target = parts[at]
    if not hasattr(holder, target):
        continue  # as another name of it took it away
    kept.append((holder, target, getattr(holder, target)))
    if parts[:2] == ["torch", "ops"]:
        def missing(*_, **__):
            raise AttributeError(target)
        setattr(holder, target, missing)
    elif name == "torch.utils._pytree":
        sys.modules[name] = Gone(name)  # for us; torch has its own name for it
    else:
        delattr(holder, target)
"""
TRAIN = """
import pkgutil, tiedlib
for found in pkgutil.walk_packages(tiedlib.__path__, "tiedlib."):
    if not found.name.endswith("__main__") and ".cluster" not in found.name:
        importlib.import_module(found.name)
for holder, name, thing in kept:  # what torch itself calls in a step, under whatever name
    if holder in (torch._C, torch.autograd.Variable, torch.nn.init):
        setattr(holder, name, thing)
from tiedlib.tying import LanguageModel
from tiedlib.optimizers import SGD
from tiedlib.training_loop import fit
from tiedlib import dropout
torch.manual_seed(0)
model = LanguageModel(11, 8, 8, 2, tied=True, dropout=0.5)
tokens = torch.randint(11, (4, 6))
before = model.embedding.weight.detach().clone()
def loss(model, batch, carry):
    nats, state = model.loss(batch["x"], batch["y"], carry and carry["state"])
    return nats, {{"state": state}}
batches = [{{"x": tokens, "y": tokens}}] * 2
events = list(fit(model, batches, SGD(model.parameters(), lr=1.0), loss=loss, epochs=1, clip=1.0, stateful=True))
assert len(events) == 3 and not torch.equal(before, model.embedding.weight)
lstm = dropout.WeightDropLSTM(3, 4, p=0.5)
lstm(torch.randn(2, 5, 3))[0].sum().backward()
assert dropout.monte_carlo(torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Dropout(0.5)), torch.ones(2, 3), samples=4).std() > 0
print("trained")
"""


def test_the_private_names_are_found():
    """What this file takes away is what the source names; a name more in the source is taken away too."""
    names = used()
    assert "torch._C._are_functorch_transforms_active" in names and "torch.utils._pytree" in names
    assert any(name.startswith("torch.ops.mkldnn._linear_pointwise") for name in names)


@pytest.mark.parametrize("keep", [True, False], ids=["as it is", "without its private parts"])
def test_all_is_imported_and_a_step_is_trained(keep):
    program = REMOVE.format(names=[] if keep else sorted(used())) + TRAIN.replace("{{", "{").replace("}}", "}")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip().endswith("trained"), done.stderr[-3000:]
