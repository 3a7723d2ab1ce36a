"""Tensors inside of anything: as torch's own trees where those know the type, and the same types without them."""

import collections
import dataclasses
import importlib
import types
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.utils import rnn

from tiedlib._trees import leaves, mapped


class Pair(NamedTuple):
    x: object
    y: object


class Checked(collections.namedtuple("Checked", "x")):
    def __new__(cls, only):
        return super().__new__(cls, only)


@dataclasses.dataclass
class Batch:
    x: object
    name: str = "words"


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: object


class Registered:
    def __init__(self, x):
        self.x = x


importlib.import_module("torch.utils._pytree").register_pytree_node(
    Registered, lambda one: ([one.x], None), lambda parts, _: Registered(*parts)
)
KINDS = {
    "tuple": lambda x: (x, 1),
    "list": lambda x: ["words", x],
    "dict": lambda x: {"a": None, "x": x},
    "ordered": lambda x: collections.OrderedDict(b=x, a=2),
    "default": lambda x: collections.defaultdict(list, x=x),
    "user": lambda x: collections.UserDict(x=x),
    "proxy": lambda x: types.MappingProxyType({"x": x}),
    "deque": lambda x: collections.deque([x], maxlen=3),
    "named": lambda x: Pair(x, None),
    "checked": Checked,
    "dataclass": Batch,
    "frozen": Frozen,
    "registered": Registered,
    "nested": lambda x: {"a": [Pair(Batch(x), ({"deep": x},))], "b": "words"},
}


@pytest.fixture(params=["torch's trees are there", "and are not"])
def with_and_without(request, monkeypatch):
    if request.param == "and are not":
        monkeypatch.delattr("torch.utils._pytree.SUPPORTED_NODES")
    return request.param == "and are not"


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_is_mapped_and_every_type_stays(kind, with_and_without):
    if kind == "registered" and with_and_without:
        pytest.skip("only torch knows this type")
    x = torch.ones(3, requires_grad=True) * 2
    tree = KINDS[kind](x)
    twin = mapped(torch.Tensor.detach, tree)
    tensors = [leaf for leaf in leaves(twin) if isinstance(leaf, torch.Tensor)]
    assert tensors and not any(t.requires_grad for t in tensors)
    assert all(leaf.requires_grad for leaf in leaves(tree) if isinstance(leaf, torch.Tensor)), (
        "the first tree is as it was"
    )
    assert type(twin) is type(tree)
    others = [[leaf for leaf in leaves(one) if not isinstance(leaf, torch.Tensor)] for one in (tree, twin)]
    assert others[0] == others[1]
    if isinstance(tree, collections.abc.Mapping):
        assert list(twin) == list(tree)
    if kind == "default":
        assert twin.default_factory is list
    if kind == "deque":
        assert twin.maxlen == 3


PYTREE = importlib.import_module("torch.utils._pytree")
TREES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=3), st.integers(0, 3).map(torch.ones)),
    lambda t: st.one_of(
        st.lists(t, max_size=3),
        st.lists(t, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), t, max_size=3),
        st.builds(Pair, t, t),
        st.builds(collections.deque, st.lists(t, max_size=3)),
        st.builds(Registered, t),
    ),
    max_leaves=8,
)


@given(TREES)
def test_leaves_are_torchs_in_torchs_order(tree):
    assert [id(leaf) for leaf in leaves(tree)] == [id(leaf) for leaf in PYTREE.tree_leaves(tree)]


def test_a_packed_sequence_stays_one():
    packed = rnn.pack_sequence([torch.ones(3, 2, requires_grad=True), torch.ones(2, 2)])
    twin = mapped(torch.Tensor.detach, packed)
    assert isinstance(twin, rnn.PackedSequence) and not twin.data.requires_grad
    assert torch.equal(rnn.pad_packed_sequence(twin)[0], rnn.pad_packed_sequence(packed)[0])


def test_a_tree_without_tensors_is_the_same_object():
    for tree in ({"a": (1, "b")}, "words", None, torch.Size([1, 2]), Batch(3), b"bytes", range(3)):
        assert mapped(torch.Tensor.detach, tree) is tree


def test_what_torch_returns_in_named_fields():
    found = torch.max(torch.ones(2, 3, requires_grad=True), dim=1)
    twin = mapped(torch.Tensor.detach, found)
    assert type(twin) is type(found) and not twin.values.requires_grad
