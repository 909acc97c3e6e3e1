"""Matrix products by either library, and `linear`, against float64."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from modeling_msmaml.model import products
from modeling_msmaml.model.execution import scripted
from modeling_msmaml.model.products import _Linear, linear, with_bmm, with_onednn

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


def matrices(shape: tuple[int, int, int, int], transposed: str, dtype: torch.dtype):
    """Two that can be multiplied; those named are the transpose of contiguous ones."""
    tasks, rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(tasks, rows, inner, generator=generator, dtype=torch.float64).to(dtype)
    second = torch.randn(tasks, inner, columns, generator=generator, dtype=torch.float64).to(dtype)
    if "first" in transposed:
        first = first.transpose(1, 2).contiguous().transpose(1, 2)
    if "second" in transposed:
        second = second.transpose(1, 2).contiguous().transpose(1, 2)
    return first, second


@needs_onednn
@pytest.mark.parametrize("transposed", ["", "first", "second", "first and second"])
@pytest.mark.parametrize("shape", [(1, 150, 320, 128), (1, 7, 1000, 160), (2, 150, 320, 128), (1, 5, 3, 4)])
@pytest.mark.parametrize("compiled", [False, True])
def test_both_libraries_compute_the_product(shape, transposed, compiled):
    first, second = matrices(shape, transposed, torch.float32)
    expected = first.double() @ second.double()
    multiply = scripted(with_onednn) if compiled else with_onednn
    for product in (with_bmm, multiply):
        found = product(first, second)
        assert found.dtype == torch.float32
        assert (found - expected).norm() <= 1e-6 * expected.norm()


@needs_onednn
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 5, 3, 4), torch.float32), ((2, 150, 320, 128), torch.float32), ((1, 150, 320, 128), torch.float64)],
)
def test_small_products_several_tasks_and_other_dtypes_are_left_to_bmm(shape, dtype):
    first, second = matrices(shape, "", dtype)
    assert torch.equal(with_onednn(first, second), torch.bmm(first, second))


@pytest.mark.parametrize(
    ("available", "bmm", "onednn", "expected"),
    [(True, 2.0, 1.0, True), (True, 1.1, 1.0, False), (True, 1.0, 2.0, False), (False, 2.0, 1.0, False)],
)
def test_onednn_is_taken_only_where_it_is_clearly_faster(monkeypatch, available, bmm, onednn, expected):
    seconds = {with_bmm: bmm, with_onednn: onednn}
    threads = torch.get_num_threads()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(products, "_least_seconds", lambda product, *_: seconds[product])
    assert products.takes_onednn() is expected
    assert torch.get_num_threads() == threads


@needs_onednn
@pytest.mark.parametrize(("chosen", "expected"), [("bmm", False), ("onednn", True)])
def test_the_library_may_be_chosen(monkeypatch, chosen, expected):
    monkeypatch.setattr(products, "_least_seconds", lambda *_: pytest.fail("nothing is to be measured"))
    monkeypatch.setenv(products.VARIABLE, chosen)
    assert products.takes_onednn() is expected
    monkeypatch.setenv(products.VARIABLE, "mkl")
    with pytest.raises(ValueError, match="MSMAML_PRODUCTS='mkl' must be 'bmm' or 'onednn'"):
        products.takes_onednn()


def test_linear_can_be_differentiated_twice():
    generator = torch.Generator().manual_seed(0)
    arguments = [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 3), (4, 3))]
    inputs, weight = (tensor.requires_grad_() for tensor in arguments)
    assert gradcheck(_Linear.apply, (inputs, weight))
    assert gradgradcheck(_Linear.apply, (inputs, weight))


@pytest.mark.parametrize("product", [with_bmm, with_onednn])
@pytest.mark.parametrize("samples", [2, 20])
def test_linear_is_that_of_torch_with_either_library(monkeypatch, product, samples):
    monkeypatch.setattr(products, "product", product)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, 50, 320, generator=generator)
    weight = torch.randn(128, 320, generator=generator).requires_grad_()
    expected = torch.nn.functional.linear(inputs.double(), weight.double())
    found = linear(inputs, weight)
    torch.testing.assert_close(found, expected.float(), atol=1e-4, rtol=1e-5)
    (gradient,) = torch.autograd.grad(found.square().sum(), weight)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), weight)
    assert (gradient - expected_gradient).norm() <= 1e-5 * expected_gradient.norm()


@pytest.mark.parametrize("in_dims", [(0, 0), (None, 0), (0, None)])
def test_linear_of_several_tasks_at_once_is_that_of_each(monkeypatch, in_dims):
    monkeypatch.setattr(products, "product", with_onednn)
    generator = torch.Generator().manual_seed(0)
    inputs, weight = (torch.randn(3, *shape, generator=generator) for shape in ((2, 6, 5), (4, 5)))
    inputs, weight = (t if dim == 0 else t[0] for t, dim in zip((inputs, weight), in_dims, strict=True))
    found = torch.vmap(linear, in_dims)(inputs, weight)
    expected = torch.vmap(torch.nn.functional.linear, in_dims)(inputs, weight)
    torch.testing.assert_close(found, expected)


def test_linear_is_that_of_torch_under_autocast(monkeypatch):
    monkeypatch.setattr(products, "product", with_onednn)
    inputs, weight = torch.ones(20, 50, 320), torch.ones(128, 320)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = linear(inputs, weight)
        assert torch.equal(found, torch.nn.functional.linear(inputs, weight))
    assert found.dtype == torch.bfloat16
