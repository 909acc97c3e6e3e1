"""The level encoder of images: stages, grids, views and aspect."""

import pytest
import torch
import torch.nn.functional as F

from modeling_msmaml.model.level_views import view_size

from .level_encoders import raw_rows, tiny


def flat(encoder, images: torch.Tensor) -> torch.Tensor:
    return torch.cat(list(encoder.encode(images).values()), dim=1)


def pictures(height: int = 32, width: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, height, width), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_levels_are_statistics_of_the_stages_of_timm():
    encoder, images = tiny("image", views=["whole"]), pictures()
    pixels = images / 127.5 - 1
    maps = []
    hooks = [stage.register_forward_hook(lambda *call: maps.append(call[2])) for stage in encoder.model.blocks]
    last = encoder.model.forward_features(pixels)
    for hook in hooks:
        hook.remove()
    found = encoder.encode(images)
    expected = {f"B{i}": torch.cat([maps[i].mean((2, 3)), maps[i].std((2, 3), correction=0)], 1) for i in (1, 2, 3, 4)}
    expected |= {"H": last.mean((2, 3)), "Hx": last.amax((2, 3))}
    quarters = [maps[3][:, :, rows, columns].mean((2, 3)) for rows in CUT for columns in CUT]
    expected["B3g"] = torch.stack(quarters, dim=2).flatten(1)
    for name, level in expected.items():
        torch.testing.assert_close(found[name], level, rtol=1e-4, atol=1e-5)
    assert expected["B3g"].shape[1] == encoder.level_sizes["B3g"]
    torch.testing.assert_close(encoder.model(pixels), found["H"], rtol=1e-4, atol=1e-5)


CUT = (slice(0, 1), slice(1, 2))  # of the two rows and columns of the map after stage 3


def test_levels_are_means_over_the_views():
    images = pictures()
    four = flat(tiny("image"), images)
    one = [flat(tiny("image", views=[view]), images) for view in ("whole", "mirrored", "top_left", "bottom_right")]
    torch.testing.assert_close(four, torch.stack(one).mean(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("view", "seen"),
    [
        ("mirrored", lambda images: images.flip(3)),
        ("top_left", lambda images: images[:, :, :40, :48]),
        ("bottom_right", lambda images: images[:, :, 10:, 12:]),
    ],
)
def test_a_view_is_what_it_says(view, seen):
    images = pictures(50, 60)
    found = flat(tiny("image", views=[view]), images)
    torch.testing.assert_close(found, flat(tiny("image", views=["whole"]), seen(images)), rtol=1e-4, atol=1e-5)


def test_images_are_resized_with_their_aspect():
    encoder, images = tiny("image", views=["whole"]), pictures(20, 80)
    resized = F.interpolate(images / 255, size=(32, 64), mode="bicubic", antialias=True).clamp(0, 1)
    wide = tiny("image", views=["whole"], input_size=45)  # reads these as they are, having about as many pixels
    torch.testing.assert_close(flat(encoder, images), flat(wide, resized), rtol=1e-4, atol=1e-5)
    assert flat(encoder, images).shape == flat(encoder, pictures()).shape


@pytest.mark.parametrize(
    ("height", "width", "side", "expected"),
    [
        (28, 28, 128, (128, 128)),
        (1, 1, 128, (128, 128)),
        (100, 400, 128, (64, 256)),
        (400, 100, 128, (256, 64)),
        (3000, 4000, 128, (111, 148)),
        (10, 10_000, 128, (32, 512)),
        (10, 90, 33, (32, 99)),
    ],
)
def test_views_have_the_area_of_a_square_in_the_aspect_of_the_image(height, width, side, expected):
    assert view_size(height, width, side) == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 3), (4, 4), (31, 1), (500, 3)])
def test_small_and_thin_images_are_read(shape):
    encoder = tiny("image")
    images = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    assert flat(encoder, images).isfinite().all()


def test_floats_and_integers_are_the_same():
    encoder, images = tiny("image"), raw_rows("image")
    torch.testing.assert_close(flat(encoder, images / 255), flat(encoder, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 32, 32, 3), (2, 3, 0, 32)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"an image has shape .*, but the encoder takes \(3, height, width\)"):
        tiny("image").levels(torch.zeros(shape, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input_size": 16}, "input_size=16 must be an integer of at least 32"),
        ({"views": []}, "choose one or more of whole, mirrored, top_left, bottom_right"),
        ({"views": ["whole", "upside_down"]}, r"not \['upside_down'\]"),
        ({"stages": [5]}, "stage 5: 'test_efficientnet' has stages 0 to 4"),
        ({"grids": [[7, 2]]}, "stage 7: 'test_efficientnet' has stages 0 to 4"),
        ({"architecture": "test_vit"}, "has no conv_stem and no conv_head"),
        ({"architecture": "no_such_network"}, "timm cannot build architecture='no_such_network'"),
    ],
)
def test_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny("image", **changes)
