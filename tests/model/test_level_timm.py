"""The level encoder of images that reads any network of timm: blocks and stages, class tokens, sizes."""

from typing import Any

import pytest
import timm
import torch

from modeling_msmaml.model.level_encoder import build_level_encoder, read_level_encoder, save_level_encoder


def tiny(architecture: str = "test_vit", **options) -> Any:
    torch.manual_seed(0)
    return build_level_encoder(
        {"encoder": "timm_features", "architecture": architecture, "input_size": 64, "views": ["whole"], **options}
    )


def pictures(height: int = 64, width: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_levels_of_a_vision_transformer_are_those_of_its_blocks():
    encoder, images = tiny(grids=[[2, 2]]), pictures()
    pixels, outputs = images / 127.5 - 1, []
    hooks = [block.register_forward_hook(lambda *call: outputs.append(call[2])) for block in encoder.model.blocks]
    embedding = encoder.model(pixels)
    for hook in hooks:
        hook.remove()
    found = encoder.encode(images)
    assert " ".join(encoder.level_sizes) == "C0 B0 C1 B1 C2 B2 B2g C3 B3 C4 B4 C5 B5 H"
    for number, tokens in enumerate(outputs):
        patches = tokens[:, 1:]
        statistics = torch.cat([patches.mean(dim=1), patches.std(dim=1, correction=0)], dim=1)
        torch.testing.assert_close(found[f"B{number}"], statistics, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[f"C{number}"], tokens[:, 0], rtol=1e-4, atol=1e-5)
    quarters = outputs[2][:, 1:].unflatten(1, (2, 2, 2, 2)).mean(dim=(2, 4)).flatten(1, 2).transpose(1, 2).flatten(1)
    torch.testing.assert_close(found["B2g"], quarters, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["H"], embedding, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["test_resnet", "test_convnext", "test_efficientnet"])
@torch.no_grad()
def test_levels_of_a_convolutional_network_are_those_of_the_features_of_timm(architecture):
    encoder, images = tiny(architecture), pictures()
    library = timm.create_model(architecture, features_only=True).eval()
    library.load_state_dict(dict(zip(library.state_dict(), encoder.model.state_dict().values(), strict=False)))
    mean, std = (torch.tensor(values)[:, None, None] for values in (encoder.mean, encoder.std))
    pixels = (images / 255 - mean) / std
    found, maps = encoder.encode(images), library(pixels)
    assert list(found) == [*(f"B{number}" for number in range(len(maps))), "H"]
    for number, hidden in enumerate(maps):
        statistics = torch.cat([hidden.mean(dim=(2, 3)), hidden.std(dim=(2, 3), correction=0)], dim=1)
        torch.testing.assert_close(found[f"B{number}"], statistics, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["H"], encoder.model(pixels), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet", "vit_tiny_patch16_224"])
def test_a_sample_does_not_depend_on_the_others_and_is_kept_in_a_folder(architecture, tmp_path):
    encoder, images = tiny(architecture, views=["whole", "top_left"]), pictures(30, 50)
    together = encoder.levels(images)
    alone = torch.cat([encoder.levels(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=2e-3, atol=2e-4)
    save_level_encoder(encoder, tmp_path)
    assert torch.equal(read_level_encoder(tmp_path).levels(images), encoder.half().float().levels(images))


def test_one_of_many_blocks_is_read_after_every_third():
    names = tiny("vit_tiny_patch16_224").level_sizes
    assert " ".join(names) == "C2 B2 C5 B5 C8 B8 C11 B11 H"
    assert " ".join(tiny(blocks=[4, 1]).level_sizes) == "C1 B1 C4 B4 H"
    assert list(tiny("vit_tiny_patch16_224", blocks=[11], levels=["H", "C11"]).level_sizes) == ["C11", "H"]


@pytest.mark.parametrize(
    ("architecture", "shape", "options", "expected"),
    [
        ("test_vit", (100, 100), {}, (64, 64)),
        ("test_vit", (100, 200), {}, (48, 96)),
        ("test_vit", (1, 1000), {}, (32, 256)),
        ("test_resnet", (100, 200), {}, (45, 91)),
        ("vit_small_patch14_dinov2", (100, 200), {"input_size": 98, "model_args": {"depth": 1}}, (70, 140)),
        ("beit_base_patch16_224", (100, 200), {"input_size": 224, "model_args": {"depth": 1}}, (224, 224)),
    ],
)
def test_views_have_whole_patches_in_the_aspect_of_the_image(architecture, shape, options, expected):
    encoder = tiny(architecture, **options)
    assert encoder.view_size(*shape) == expected
    if architecture == "test_vit":
        assert encoder.levels(pictures(*shape)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "nothing"}, "timm cannot build architecture='nothing'"),
        ({"blocks": [6]}, "block 6: 'test_vit' has blocks 0 to 5"),
        ({"model_args": {"colour": 1}}, "timm cannot build architecture='test_vit': .*colour"),
        ({"architecture": "beit_base_patch16_224", "model_args": {"depth": 1}}, "reads images of 224 pixels only"),
        ({"levels": ["C1"]}, "must include 'H'"),
        ({"views": ["left"]}, "choose one or more of whole"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tiny(**options)
