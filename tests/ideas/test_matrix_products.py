"""tiedlib._matrix_products: either kernel equals torch's documented calls, and the choice falls back without a word."""

import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tiedlib import _matrix_products as matrix_products
from tiedlib._matrix_products import BACKENDS, OuterSum, backend, fastest, linear, room, softmax_, use, using

SIZES = st.integers(1, 40)


@pytest.fixture
def anew():
    """The choice is made once a process; here, and afterwards, it is made again."""
    matrix_products._has_onednn.cache_clear()
    fastest.cache_clear()
    yield
    matrix_products._has_onednn.cache_clear()
    fastest.cache_clear()


@given(
    rows=SIZES, inner=SIZES, out=SIZES, name=st.sampled_from(BACKENDS), bias=st.booleans(), turned=st.booleans(),
    old=st.booleans(), dtype=st.sampled_from([torch.float32, torch.float64]),
)  # fmt: skip
def test_linear_equals_torchs(rows, inner, out, name, bias, turned, old, dtype):
    x, w = torch.randn(rows, inner, dtype=dtype), torch.randn(out, inner, dtype=dtype)
    w = w.t().contiguous().t() if turned else w
    b = torch.randn(out, dtype=dtype) if bias else None
    place = torch.full((rows, out), float("nan"), dtype=dtype) if old else None  # what lay there must not count
    with using(name):
        torch.testing.assert_close(linear(x, w, b, place), F.linear(x, w, b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_results_share_a_room_where_the_kernel_does_not_bring_one(name, dtype):
    x, w, b = torch.randn(3, 4).to(dtype), torch.randn(5, 4).to(dtype), torch.randn(5).to(dtype)
    with using(name):
        place = room(7, x, w)
        if dtype in {"torch": (), "onednn-bfloat16": (torch.bfloat16,)}.get(backend(), (torch.float32, torch.bfloat16)):
            assert place is None
        else:
            assert place.shape == (7, 5) and place.dtype is dtype
            for bias in (b, None):
                assert linear(x, w, bias, place[:3]).data_ptr() == place.data_ptr()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_linear_in_bfloat16_is_rounded_once(name, turned, bias):
    x, w, b = (torch.randn(s).bfloat16() for s in ((33, 70), (41, 70), (41,)))
    w = w.t().contiguous().t() if turned else w
    with using(name):
        ours = linear(x, w, b if bias else None)
    exact = x.double() @ w.double().t() + (b.double() if bias else 0)
    assert ours.dtype is torch.bfloat16
    # half a unit in the last of 8 bits; torch's own adds the bias to a sum already rounded
    units = 0.5 if name != "torch" and matrix_products._has_onednn() else 1.0
    torch.testing.assert_close(ours.double(), exact, rtol=1.01 * units * 2.0**-7, atol=1e-4)


@pytest.mark.parametrize("allowed", [True, False])
@given(
    rows=SIZES, n=SIZES, scale=st.sampled_from([1e-3, 1.0, 1e4]), dtype=st.sampled_from([torch.float32, torch.float64])
)
def test_softmax_over_its_own_input(allowed, rows, n, scale, dtype):
    z = scale * torch.randn(rows, n, dtype=dtype)
    expected = torch.softmax(z.double(), -1)
    with pytest.MonkeyPatch.context() as patch:
        if not allowed:
            patch.setattr(matrix_products, "_softmax_overwrites", lambda: False)
            patch.setattr(torch, "softmax", lambda *_, **__: pytest.fail("it may not write over its input"))
        assert softmax_(z) is z
    torch.testing.assert_close(z.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@given(sizes=st.lists(SIZES, min_size=1, max_size=4), m=SIZES, n=SIZES, name=st.sampled_from(BACKENDS))
def test_outer_sum_over_blocks(dtype, sizes, m, n, name):
    g, h = (torch.randn(sum(sizes), k).to(dtype) for k in (m, n))
    with using(name):
        total = OuterSum()
        for part_g, part_h in zip(g.split(sizes), h.split(sizes), strict=True):
            total.add(part_g, part_h)
        found = total.take(torch.tensor(0.5))
        with pytest.raises(ValueError, match="add was not called"):
            total.take(torch.tensor(0.5))  # it was given away
    assert found.is_contiguous() and found.shape == (m, n)
    expected = 0.5 * g.double().T @ h.double()
    rtol = {torch.float32: 1e-5, torch.float64: 1e-12}.get(dtype, 2e-2)
    scale = float(expected.abs().max()) + sum(sizes) ** 0.5
    assert float((found.double() - expected).abs().max()) <= rtol * scale


def test_a_sum_of_nothing_has_no_shape():
    with pytest.raises(ValueError, match="add was not called"):
        OuterSum().take(torch.ones(()))


def test_other_dtypes_take_torchs_own(monkeypatch):
    if not matrix_products._has_onednn():
        pytest.skip("this machine has one kernel only")
    monkeypatch.setattr(matrix_products, "_onednn_linear", None)  # calling it would be a TypeError
    for dtype in (torch.float64, torch.float16):
        x = torch.ones(2, 3, dtype=dtype)
        with using("onednn"):
            assert linear(x, x).dtype is dtype
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(2, 3, dtype=dtype)
        with using("onednn"), pytest.raises(TypeError):
            linear(x, x)


def missing(*_):
    raise AttributeError("no such operator")


def refusing(*_):
    raise RuntimeError("not on this processor")


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    "broken",
    [
        missing,
        refusing,
        lambda x, w, b: 1.0001 * F.linear(x, w, b),
        lambda x, w, b: F.linear(x, w, b) * (1.0 if x.dtype is torch.float32 else 1.02),
    ],
)
@pytest.mark.parametrize("call", ["_onednn_linear", "_onednn_add"])
def test_a_kernel_that_is_missing_fails_or_is_wrong_is_left_alone(monkeypatch, recwarn, broken, call):
    monkeypatch.setattr(matrix_products, call, broken)
    assert not matrix_products._is_right()
    assert fastest() == backend() == "torch"
    with using("onednn"):  # as from a checkpoint of another machine
        assert backend() == "torch"
        torch.testing.assert_close(linear(torch.eye(3), torch.ones(2, 3)), torch.ones(3, 2))
    assert not recwarn.list


def test_a_softmax_that_may_not_write_over_its_input_is_noticed(monkeypatch):
    true = torch.softmax

    def spoiled(z, dim, out=None):
        result = true(z, dim)
        return result if out is None else out.copy_(1.001 * result)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "softmax", spoiled)
        assert not matrix_products._softmax_overwrites.__wrapped__()
    assert matrix_products._softmax_overwrites()


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize(
    ("name", "mkl", "expected"),
    [
        ("Intel Xeon", True, "onednn-bfloat16"),
        ("Intel64 Family 6 Model 143 Stepping 8, GenuineIntel", True, "onednn-bfloat16"),
        ("Intel Xeon", False, "onednn"),  # torch multiplies with another library
        ("AMD EPYC 9555", True, "onednn"),
        ("", True, "onednn"),
    ],
)
def test_mkl_is_left_alone_on_its_makers_processors(monkeypatch, name, mkl, expected):
    monkeypatch.setattr(matrix_products, "_processor", lambda: name)
    monkeypatch.setattr(matrix_products, "_is_right", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: mkl)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert fastest() == expected
    with using("onednn"):  # as from a checkpoint of another machine: it goes on with what it has
        assert backend() == "onednn"


def test_the_processors_name_where_torch_does_not_tell_it(monkeypatch):
    monkeypatch.setattr(matrix_products.platform, "processor", lambda: "as the system says")
    for tell in (dict, lambda: {"cpu_name": ""}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", tell, raising=False)
        assert matrix_products._processor() == "as the system says"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": "AMD EPYC"}, raising=False)
    assert matrix_products._processor() == "AMD EPYC"
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert matrix_products._processor() == "as the system says"


@pytest.mark.usefixtures("anew")
@pytest.mark.parametrize("capability", ["DEFAULT", "AVX2"])
def test_a_processor_without_avx512_keeps_torchs_choice(monkeypatch, capability):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert fastest() == "torch"


@pytest.mark.usefixtures("anew")
def test_the_choice_draws_no_numbers_and_does_not_depend_on_the_surroundings():
    expected = fastest()
    fastest.cache_clear()
    matrix_products._has_onednn.cache_clear()
    state = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", torch.bfloat16), torch.device("meta"), torch.inference_mode():
            assert fastest() == expected
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_choice_holds_inside_and_is_its_threads_own():
    before, seen = backend(), []
    with using("torch"):
        assert backend() == "torch"
        thread = threading.Thread(target=lambda: seen.append(backend()))
        thread.start()
        thread.join()
        with using():
            use(before)
            assert backend() == before
        assert backend() == "torch"
    assert backend() == before and seen == [fastest()]


@pytest.mark.parametrize("call", [use, lambda name: using(name).__enter__()])
def test_an_unknown_kernel_is_named(call):
    with pytest.raises(ValueError, match="name is 'mkl'; it must be one of 'torch', 'onednn', 'onednn-bfloat16'"):
        call("mkl")
