"""A tie cannot break in silence: whatever torch, safetensors or a reader does to a tied model, there is one Parameter, or an
error before anything is trained or saved. `LanguageModel` and `TiedSoftmax` alike."""

import copy
import io
import pickle
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from tiedlib._ties import same_numbers
from tiedlib.tying import LanguageModel, TiedSoftmax

TOKENS = torch.randint(7, (2, 5), generator=torch.Generator().manual_seed(0))


def language_model():
    return LanguageModel(7, 4, 4, 2, tied=True)


class Small(nn.Module):
    """A reader's own model around TiedSoftmax; `first` stands before the embedding, where torch comes to it earlier."""

    def __init__(self, output_first=False):
        super().__init__()
        embedding = nn.Embedding(7, 4)
        if output_first:
            self.output = TiedSoftmax(embedding)
        self.embedding = embedding
        if not output_first:
            self.output = TiedSoftmax(embedding)

    def forward(self, tokens):
        return (self.output(self.embedding(tokens).cumsum(1)),)


class Wrapped(nn.Module):
    """Inside of a larger model, which torch walks from above."""

    def __init__(self):
        super().__init__()
        self.inner = language_model()

    @property
    def embedding(self):
        return self.inner.embedding

    @property
    def output(self):
        return self.inner.output

    def forward(self, tokens):
        return self.inner(tokens)


MODELS = {
    "LanguageModel": language_model,
    "inside another": Wrapped,
    "TiedSoftmax": Small,
    "TiedSoftmax first": lambda: Small(output_first=True),
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())


def check(model, expected=None):
    """One Parameter in both places, counted once; zeros where zeros are; what is saved is the model, and a step moves both."""
    logits = model(TOKENS)[0]
    assert model.output.weight is model.embedding.weight
    assert sum(p.shape == (7, 4) for p in model.parameters()) == 1
    assert getattr(model, "tied", True)
    for name, buffer in model.named_buffers():
        assert not buffer.is_meta and not buffer.any(), name
    if expected is not None:
        torch.testing.assert_close(logits, expected)
    fresh = type(model)() if not isinstance(model, LanguageModel) else language_model()
    fresh.to(logits.dtype).load_state_dict(model.state_dict())
    torch.testing.assert_close(fresh(TOKENS)[0], logits)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.embedding.weight.detach().clone()
    F.cross_entropy(logits.flatten(0, 1), TOKENS.flatten()).backward()
    optimizer.step()
    assert model.output.weight is model.embedding.weight and not torch.equal(model.output.weight, before)


def state_of(model, add=0.0):
    return {name: value.clone() + add for name, value in model.state_dict().items()}


@models
@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict(make, assign):
    torch.manual_seed(1)
    source, model = make(), make()
    model.load_state_dict(state_of(source), assign=assign)
    check(model, source(TOKENS)[0])


@models
@pytest.mark.parametrize("assign", [False, True])
def test_to_empty_from_meta_and_load(make, assign):
    source = make()
    with torch.device("meta"):
        model = make()
    if not assign:
        model.to_empty(device="cpu")
    model.load_state_dict(state_of(source), assign=assign)
    check(model, source(TOKENS)[0])


@models
def test_to_empty_leaves_zeros_in_the_buffers(make):
    model = make()
    for buffer in model.buffers():
        buffer.fill_(7.0)
    model.to_empty(device="cpu")
    assert all(not buffer.any() for buffer in model.buffers())


@models
@pytest.mark.parametrize("way", ["set_overwrite_module_params_on_conversion", "set_swap_module_params_on_conversion"])
def test_conversion_with_other_parameters(make, way):
    model = make()
    expected = copy.deepcopy(model).double()(TOKENS)[0]
    getattr(torch.__future__, way)(True)
    try:
        model.double()
        assert model.output.weight is model.embedding.weight
        assert sum(p.shape == (7, 4) for p in model.parameters()) == 1
    finally:
        getattr(torch.__future__, way)(False)
    check(model, expected)


def through_torch(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@models
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m)), through_torch, lambda m: m.share_memory()],
    ids=["deepcopy", "copy", "pickle", "torch.save", "share_memory"],
)
def test_copies(make, copied):
    model = make()
    check(copied(model), model(TOKENS)[0].detach())


@models
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_back(make, dtype):
    model = make().to(dtype)
    assert model.output.weight is model.embedding.weight and model.output.weight.dtype is dtype
    check(model.float())


@models
def test_another_weight_in_either_place_is_in_both(make):
    for place in ("embedding", "output"):
        model, weight = make(), nn.Parameter(torch.randn(7, 4))
        getattr(model, place).weight = weight
        assert model.embedding.weight is weight
        check(model)


@models
def test_another_weight_of_the_wrong_shape_is_refused(make):
    with pytest.raises(ValueError, match=r"^weight is of shape \(8, 4\); it must have the embedding's shape \(7, 4\)"):
        make().output.weight = nn.Parameter(torch.randn(8, 4))
    with pytest.raises(ValueError, match=r"^weight is None"):
        make().output.weight = None
    model = make()
    model.embedding.weight = nn.Parameter(torch.randn(8, 4))  # more words: the bias has none for them
    with pytest.raises(ValueError, match="bias has 7 entries and the embedding 8 words"):
        model(TOKENS)


def test_another_embedding_is_the_outputs_too():
    model, other = language_model(), nn.Embedding(7, 4)
    model.embedding = other
    assert model.output.weight is other.weight and model.tied
    check(model)
    wrapped = nn.Sequential(model.embedding, nn.Dropout(0.5))  # still the same matrix inside
    model.embedding = wrapped
    assert model.tied and model.output.weight is wrapped[0].weight
    model.eval()(TOKENS)
    with pytest.raises(ValueError, match=r"^embedding is Embedding\(8, 4\).*weight \(7, 4\)"):
        model.embedding = nn.Embedding(8, 4)
    with pytest.raises(ValueError, match=r"^embedding is Linear"):
        model.embedding = nn.Linear(7, 4)


def test_an_embedding_exchanged_past_the_model_is_an_error():
    model = language_model()
    model._modules["embedding"] = nn.Embedding(7, 4)
    assert not model.tied
    with pytest.raises(RuntimeError, match="exchanged behind the model's back"):
        model(TOKENS)
    with pytest.raises(RuntimeError, match="exchanged behind the model's back"):
        model.state_dict()


def test_another_output_is_no_tie_and_nothing_is_lost():
    model = language_model()
    model.output = nn.Linear(4, 7)
    assert not model.tied and "output.weight" in model.state_dict()
    model.output.weight = model.embedding.weight  # plain torch's way
    assert model.tied and "output.weight" not in model.state_dict()


class Double(nn.Module):
    def forward(self, x):
        return 2 * x


@models
def test_a_parametrized_embedding_is_read_as_it_is(make):
    model = make()
    nn.utils.parametrize.register_parametrization(model.embedding, "weight", Double())
    model(TOKENS)
    torch.testing.assert_close(model.output.weight, 2 * model.embedding.parametrizations.weight.original)
    assert sum(p.shape == (7, 4) for p in model.parameters()) == 1
    twin = make()
    assert not [name for name in model.state_dict() if name.endswith("output.weight")]
    nn.utils.parametrize.register_parametrization(twin.embedding, "weight", Double())
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(twin(TOKENS)[0], model(TOKENS)[0])
    nn.utils.parametrize.remove_parametrizations(model.embedding, "weight")
    check(model)


@models
def test_a_normalized_or_pruned_embedding_is_read_as_it_is(make):
    for change in (
        lambda e: nn.utils.parametrizations.weight_norm(e),
        lambda e: prune.l1_unstructured(e, "weight", 0.5),
    ):
        model = make()
        change(model.embedding)
        model(TOKENS)
        torch.testing.assert_close(model.output.weight, model.embedding.weight)
        weight = model.embedding.weight
        logits = model(TOKENS)[0]
        assert logits.grad_fn is not None and weight.shape == (7, 4)


@models
def test_the_outputs_own_weight_cannot_be_changed_alone(make):
    for change in (
        lambda o: nn.utils.parametrize.register_parametrization(o, "weight", Double()),
        lambda o: nn.utils.parametrizations.weight_norm(o),
        lambda o: prune.l1_unstructured(o, "weight", 0.5),
        lambda o: delattr(o, "weight"),
    ):
        model = make()
        with pytest.raises(ValueError, match="reads the matrix of its embedding"):
            change(model.output)
        check(model)


@models
def test_swapped_tensors(make):
    model, weight = make(), nn.Parameter(torch.randn(7, 4))
    values = weight.detach().clone()
    torch.utils.swap_tensors(model.embedding.weight, weight)
    assert torch.equal(model.output.weight, values)
    check(model)


@models
def test_safetensors(make, tmp_path):
    files = pytest.importorskip("safetensors.torch")
    source, model = make(), make()
    files.save_model(source, str(tmp_path / "model"))
    files.load_model(model, str(tmp_path / "model"))
    check(model, source(TOKENS)[0])


@models
@pytest.mark.parametrize("as_parameters", [False, True])
def test_functional_call(make, as_parameters):
    model = make()
    params = {name: 2 * p.detach() for name, p in model.named_parameters()}
    if as_parameters:
        params = {name: nn.Parameter(p) for name, p in params.items()}
    doubled = copy.deepcopy(model)
    with torch.no_grad():
        for p in doubled.parameters():
            p *= 2
    torch.testing.assert_close(torch.func.functional_call(model, params, (TOKENS,))[0], doubled(TOKENS)[0])
    check(model)


@models
@pytest.mark.usefixtures("unchecked")
def test_compiled_and_exported(make):
    model = make().eval()
    expected = model(TOKENS)[0]
    torch.testing.assert_close(torch.compile(model, backend="eager")(TOKENS)[0], expected)
    exported = torch.export.export(model, (TOKENS,)).module()
    torch.testing.assert_close(exported(TOKENS)[0], expected)
    check(model, expected.detach())


@models
def test_replicas_on_several_devices_read_their_own_copy(make, monkeypatch):
    """What nn.DataParallel does, with two copies on the processor in the place of two on GPUs."""
    replicate = sys.modules["torch.nn.parallel.replicate"]
    monkeypatch.setattr(replicate, "_get_device_index", lambda device, *_: device)
    monkeypatch.setattr(
        replicate,
        "_broadcast_coalesced_reshape",
        lambda tensors, devices, detach: [[t * 1 for t in tensors] for _ in devices],
    )
    model = make()
    expected = model(TOKENS)[0]
    for replica in replicate.replicate(model, [0, 1]):
        assert replica.output.weight is replica.embedding.weight is not model.embedding.weight
        logits = replica(TOKENS)[0]
        torch.testing.assert_close(logits, expected)
        logits.sum().backward()
    torch.testing.assert_close(
        model.embedding.weight.grad, 2 * torch.autograd.grad(model(TOKENS)[0].sum(), model.embedding.weight)[0]
    )
    model.zero_grad()
    check(model, expected.detach())


@pytest.mark.parametrize("prefix", ["", "inner."])
def test_a_checkpoint_of_plain_torch_has_both_names(prefix):
    """Equal numbers are one matrix, NaN and the meta device included; others are refused before anything is loaded."""
    source = language_model()
    state = {prefix + name: value for name, value in state_of(source).items()}
    model = Wrapped() if prefix else language_model()
    state[prefix + "output.weight"] = state[prefix + "embedding.weight"].clone()
    state[prefix + "embedding.weight"][0, 0] = state[prefix + "output.weight"][0, 0] = torch.nan
    model.load_state_dict(state)
    assert model.embedding.weight[0, 0].isnan() and model.output.weight is model.embedding.weight
    state[prefix + "output.weight"] = state[prefix + "output.weight"] + 1
    with pytest.raises(RuntimeError, match="weights of an untied model"):
        model.load_state_dict(state)
    only = {k: v for k, v in state.items() if not k.endswith("embedding.weight")}
    only[prefix + "output.weight"] = torch.full((7, 4), 0.25)
    model.load_state_dict(only)
    assert (model.embedding.weight == 0.25).all(), "one name of the two is enough"
    with torch.device("meta"):
        empty = Wrapped() if prefix else language_model()
    meta = {k: v.to("meta") for k, v in state.items()}
    empty.load_state_dict(meta, assign=True)
    assert empty.output.weight is empty.embedding.weight


def test_same_numbers():
    a = torch.tensor([1.0, torch.nan, torch.inf])
    assert same_numbers(a, a.clone()) and same_numbers(a, a.double()) and same_numbers(a, a.to("meta"))
    assert not same_numbers(a, torch.tensor([1.0, 2.0, torch.inf])) and not same_numbers(a, a[:2])
    assert not same_numbers(a, torch.tensor([2.0, torch.nan, torch.inf]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_bias_is_where_the_embedding_is(dtype):
    layer = TiedSoftmax(nn.Embedding(7, 4, device="meta", dtype=dtype))
    assert layer.bias.is_meta and layer.bias.dtype is dtype
    with torch.device("meta"):
        embedding = nn.Embedding(7, 4, device="cpu", dtype=dtype)
        assert TiedSoftmax(embedding).bias.device.type == "cpu"


def test_a_plain_attribute_cannot_take_the_weights_place():
    layer = TiedSoftmax(nn.Embedding(7, 4))
    with pytest.raises(TypeError, match="weight"):
        layer.weight = torch.zeros(7, 4)
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
