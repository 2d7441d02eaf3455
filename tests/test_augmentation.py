"""Augmentation: exactness, agreement with torchvision and Pillow, and what a draw may depend on."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from PIL import Image
from torch.nn import functional as nnf

from hubel.data import VIEWS, Augmentation, Preprocessing, View, augment, load, open_data, training_batches
from hubel.data.augmentation import colour, erasing, geometry, mixing, policies, views
from hubel.errors import UsageError

# isort: split
import reference  # noqa: F401 -- declares torchvision's operators, so it comes before torchvision

from torchvision.transforms.v2 import functional as tv  # isort: skip

UNIT = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # normalising to 0..255


def prepared(size, channels=3, **given):
    normal = {"mean": (0.485, 0.456, 0.406)[:channels], "std": (0.229, 0.224, 0.225)[:channels], **given}
    return Preprocessing(size=size, channels=channels, fit="pad", **normal)


def smooth(count=3, size=40, seed=0):
    """Pictures without sharp edges, uint8 N H W 3, on which two ways of interpolating may be compared."""
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    fine = nnf.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)
    return fine.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def rough(count=4, size=24, channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, channels), dtype=torch.uint8, generator=generator)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbers(*values):
    return torch.tensor(values)


# ------------------------------------------------------------------------------------------ exact moves


@given(st.integers(0, 3), st.booleans(), st.integers(0, 2**32))
@settings(max_examples=30)
def test_crops_and_flips_move_whole_pixels_only(padding, flip, seed):
    images = torch.arange(2 * 6 * 6 * 3, dtype=torch.uint8).reshape(2, 6, 6, 3)
    x = augment(Augmentation(padding, flip, (7, 8, 9)), images, seeded(seed), prepared(6, **UNIT))
    assert x.is_contiguous(memory_format=torch.channels_last)
    out = x.permute(0, 2, 3, 1).round().to(torch.uint8)
    canvas = torch.tensor((7, 8, 9), dtype=torch.uint8).repeat(2, 6 + 2 * padding, 6 + 2 * padding, 1)
    canvas[:, padding : padding + 6, padding : padding + 6] = images
    for picture, padded in zip(out, canvas, strict=True):
        seen = [padded[y : y + 6, x : x + 6] for y in range(2 * padding + 1) for x in range(2 * padding + 1)]
        seen += [view.flip(1) for view in seen] if flip else []
        assert any(torch.equal(picture, view) for view in seen)


def test_crops_and_flips_are_the_draws_they_have_always_been():
    """Runs made before the other keys existed go on in the same bits."""
    images, pad, generator = rough(count=64), 3, seeded(5)
    shift = torch.randint(0, 2 * pad + 1, (2, 64, 1), generator=generator)
    mirrored = torch.rand(64, 1, generator=generator) < 0.5
    canvas = torch.zeros(64, 30, 30, 3, dtype=torch.uint8)
    canvas[:, pad:-pad, pad:-pad] = images
    crops = torch.stack([c[y : y + 24, x : x + 24] for c, (y,), (x,) in zip(canvas, *shift.tolist(), strict=True)])
    crops = torch.where(mirrored[:, :, None, None], crops.flip(2), crops)
    expected = (crops.float() - torch.tensor((0.485, 0.456, 0.406)) * 255) / (torch.tensor((0.229, 0.224, 0.225)) * 255)
    result = augment(Augmentation(pad, True, (0, 0, 0)), images, seeded(5), prepared(24))
    assert torch.equal(result, expected.permute(0, 3, 1, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_switched_on_is_the_normalisation_to_the_bit(channels):
    images, preprocessing = rough(channels=channels), prepared(24, channels)
    assert torch.equal(augment(Augmentation(), images, seeded(), preprocessing), preprocessing.normalise(images))


def test_a_reflected_edge_equals_numpys():
    images = rough()
    right, down = torch.tensor([2, -2, 0, 1]), torch.tensor([-1, 0, 2, 1])
    shown = geometry.shifted(images, right, down, torch.zeros(4, dtype=torch.bool), torch.zeros(3), 2, "reflect")
    for picture, result, x, y in zip(images.numpy(), shown.numpy(), right.tolist(), down.tolist(), strict=True):
        padded = np.pad(picture, ((2, 2), (2, 2), (0, 0)), "reflect")
        np.testing.assert_array_equal(result, padded[2 - y : 26 - y, 2 - x : 26 - x])


# ------------------------------------------------------------------------------------- composed matrices


def some_affine(seed, count=3):
    draw = seeded(seed)
    return geometry.composed(
        geometry.rotation(erasing.uniform(count, -180, 180, draw)),
        geometry.shearing(*(erasing.uniform(count, -0.5, 0.5, draw) for _ in "xy")),
        geometry.scaling(*(erasing.uniform(count, 0.5, 2, draw) for _ in "xy")),
        geometry.translation(*(erasing.uniform(count, -9, 9, draw) for _ in "xy")),
    )


@given(st.integers(0, 2**32), st.integers(0, 2**32))
@settings(max_examples=20)
def test_composed_places_are_the_places_one_after_the_other(one, two):
    first, second = some_affine(one), some_affine(two)
    points = torch.rand(3, 2, 5, dtype=torch.float64, generator=seeded(one)) * 100 - 50
    after = first[:, :, :2] @ points + first[:, :, 2:]
    after = second[:, :, :2] @ after + second[:, :, 2:]
    both = geometry.composed(first, second)
    torch.testing.assert_close(both[:, :, :2] @ points + both[:, :, 2:], after)
    back = geometry.composed(both, geometry.inverse(both))
    torch.testing.assert_close(back, geometry.identity(3), atol=1e-9, rtol=0)


@given(st.integers(0, 2**32))
@settings(max_examples=20)
def test_composed_colours_are_the_colours_one_after_the_other(seed):
    draw = seeded(seed)
    planes = torch.rand(2, 3, 4, 4, generator=draw) * 255
    steps = [
        colour.brightness(erasing.uniform(2, 0, 2, draw), 3),
        colour.saturation(erasing.uniform(2, 0, 2, draw), 3),
        colour.hue(erasing.uniform(2, -0.5, 0.5, draw)),
        colour.shift(torch.randn(2, 3, generator=draw)),
    ]
    one_by_one = planes
    for step in steps:
        one_by_one = colour.multiplied(one_by_one, step)
    torch.testing.assert_close(colour.multiplied(planes, colour.composed(*steps)), one_by_one, atol=1e-3, rtol=1e-5)
    mean = colour.moved(colour.composed(*steps), planes.mean(dim=(2, 3)))
    torch.testing.assert_close(mean, one_by_one.mean(dim=(2, 3)), atol=1e-3, rtol=1e-5)


def test_one_resampling_equals_two_in_a_row_but_sharper():
    """A quarter turn each, where sampling points meet pixels and both ways are exact."""
    images, quarter, fill = rough(), geometry.rotation(torch.full((4,), 90.0)), torch.zeros(3)
    once = geometry.resampled(images, geometry.composed(quarter, quarter), (24, 24), fill)
    twice = geometry.resampled(images, quarter, (24, 24), fill).permute(0, 2, 3, 1)
    torch.testing.assert_close(once, geometry.resampled(twice, quarter, (24, 24), fill), atol=0.01, rtol=0)
    torch.testing.assert_close(once, images.permute(0, 3, 1, 2).flip(2, 3).float(), atol=0.01, rtol=0)


# ------------------------------------------------------------------------------------------ torchvision


def interior(planes):
    return planes[:, :, 3:-3, 3:-3]


@pytest.mark.parametrize(
    ("matrix", "known"),
    [
        (geometry.rotation(numbers(17.0)), {"angle": 17.0}),
        (geometry.scaling(numbers(1.3), numbers(1.3)), {"scale": 1.3}),
        (geometry.translation(numbers(5), numbers(-3)), {"translate": [5, -3]}),
        (geometry.shearing(torch.tan(torch.deg2rad(numbers(-12.0))), numbers(0.0)), {"shear": [12.0, 0.0]}),
        (
            geometry.composed(geometry.rotation(numbers(-30.0)), geometry.translation(numbers(4), numbers(2))),
            {"angle": -30.0, "translate": [4, 2]},
        ),
    ],
    ids=["rotate", "scale", "translate", "shear", "rotate and translate"],
)
def test_places_agree_with_torchvision(matrix, known):
    """To half a level, which torchvision rounds away."""
    options = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0], **known}
    images = smooth()
    theirs = tv.affine(images.permute(0, 3, 1, 2), **options, interpolation=tv.InterpolationMode.BILINEAR)
    ours = geometry.resampled(images, matrix.repeat(3, 1, 1), (40, 40), torch.zeros(3))
    torch.testing.assert_close(ours, theirs.float(), atol=0.51, rtol=0)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.3])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "greyscale"])
def test_colours_agree_with_torchvision(name, factor):
    """To a thousandth of a level, on floats: on bytes torchvision rounds down, twice for contrast and saturation."""
    images = smooth().permute(0, 3, 1, 2).float() / 255
    factors = torch.full((3,), factor)
    if name == "contrast":
        matrices = colour.contrast(factors, 255 * images.mean(dim=(2, 3)))
    else:
        matrices = {"brightness": colour.brightness, "saturation": colour.saturation}.get(
            name, lambda zero, channels: colour.saturation(0 * zero, channels)
        )(factors, 3)
    theirs = tv.rgb_to_grayscale(images, 3) if name == "greyscale" else getattr(tv, f"adjust_{name}")(images, factor)
    ours = colour.multiplied(255 * images, matrices).clamp(0, 255)
    torch.testing.assert_close(ours, 255 * theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("turn", [-1 / 3, 0.0, 1 / 3])
def test_hue_equals_torchvisions_at_thirds_of_a_turn(turn):
    images = smooth().permute(0, 3, 1, 2)
    ours = colour.multiplied(images.float(), colour.hue(torch.full((3,), turn)))
    torch.testing.assert_close(ours, tv.adjust_hue(images, turn).float(), atol=2.0, rtol=0)


def test_hue_turns_by_the_angle_that_torchvisions_does_in_between():
    """The colours differ (a matrix keeps the mean, HSV the largest channel), the angle about grey by 5 degrees at
    most.
    """

    def angle(planes):
        red, green, blue = planes.unbind(dim=1)
        return torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)

    images = smooth().permute(0, 3, 1, 2).float()
    for turn in (-0.1, 0.05, 0.1):
        ours = colour.multiplied(images, colour.hue(torch.full((3,), turn)))
        difference = angle(ours) - angle(tv.adjust_hue(images / 255, turn))
        wrapped = torch.rad2deg(torch.remainder(difference + math.pi, 2 * math.pi) - math.pi)
        assert wrapped.abs().max() < 5.0, wrapped.abs().max()


@pytest.mark.parametrize("name", ["posterise", "solarise", "equalise", "sharpness", "autocontrast"])
def test_what_is_no_matrix_agrees_with_torchvision(name):
    images = torch.cat([smooth(2, 24), rough(2)])
    planes = images.permute(0, 3, 1, 2)
    draw = policies.Drawn(
        torch.full((4,), policies.OPERATIONS.index(name)), torch.full((4,), 0.5), torch.ones(4), "randaugment"
    )
    theirs = {
        "posterise": lambda: tv.posterize(planes, 6),
        "solarise": lambda: tv.solarize(planes, 127.5),
        "equalise": lambda: tv.equalize(planes),
        "sharpness": lambda: tv.adjust_sharpness(planes, 1.45),
        "autocontrast": lambda: tv.autocontrast(planes),
    }[name]()
    if name == "autocontrast":
        floats = planes.float()
        tint = policies.tinted([draw], floats.mean((2, 3)), floats.amin((2, 3)), floats.amax((2, 3)))
        ours = colour.multiplied(floats, tint)
    else:
        ours = policies.tabled(draw, images).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(ours, theirs.float(), atol=1.01 if name in ("sharpness", "autocontrast") else 0, rtol=0)


# -------------------------------------------------------------------------------------------- antialias


@pytest.mark.parametrize(("divisor", "most"), [(2, 0.3), (2.5, 0.5), (3, 0.4), (4, 0.5), (6, 0.6)])
def test_strong_downscaling_does_not_alias(shared, divisor, most):
    """Root mean square distance to Pillow's antialiased result, as a share of plain bilinear's, on real photographs."""
    found, plain = [], []
    for path in sorted((shared / "photos").glob("*.png")):
        picture = Image.open(path).convert("RGB").crop((0, 0, 336, 336))
        size = round(336 / divisor)
        known = torch.from_numpy(np.array(picture.resize((size, size), Image.Resampling.BILINEAR))).float()
        images = torch.from_numpy(np.array(picture))[None]
        factor = torch.full((1,), size / 336)
        ours = geometry.resampled(images, geometry.scaling(factor, factor), (size, size), torch.zeros(3), "repeat")
        theirs = nnf.interpolate(images.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear")
        for distances, shown in ((found, ours), (plain, theirs)):
            distances.append(float((shown[0].permute(1, 2, 0) - known).square().mean().sqrt()))
    assert np.mean(found) < most * np.mean(plain), (np.mean(found), np.mean(plain))


# ------------------------------------------------------------------------------------- the whole of it


EVERYTHING = {
    "crop_padding": 2,
    "flip": True,
    "crop_scale": 0.4,
    "scale": 0.2,
    "rotate": 10.0,
    "shear": 5.0,
    "translate": 0.1,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.1,
    "grey": 0.2,
    "pca": 0.1,
    "noise": 0.05,
    "erasing": 0.5,
    "cutout": 6,
    "mixup": 0.2,
    "cutmix": 1.0,
    "policy": "randaugment",
}
AXES = ((0.05, 0.06, 0.05), (0.01, 0.0, -0.01), (0.001, -0.002, 0.001))


@pytest.mark.parametrize("key", [*EVERYTHING, "all"])
def test_every_key_has_an_effect_and_keeps_the_contract(key):
    keys = EVERYTHING if key == "all" else {key: EVERYTHING[key]}
    augmentation, preprocessing = Augmentation(**keys, pca_axes=AXES, fill=(9, 9, 9)), prepared(24)
    images = smooth(16, 24)
    x = augment(augmentation, images, seeded(1), preprocessing)
    plain = preprocessing.normalise(images)
    assert x.shape == plain.shape
    assert x.is_contiguous(memory_format=torch.channels_last)
    low, high = (preprocessing.normalise(torch.full((1, 24, 24, 3), value))[0, :, 0, 0] for value in (0, 255))
    assert (x.amin(dim=(0, 2, 3)) >= low - 1e-4).all()
    assert (x.amax(dim=(0, 2, 3)) <= high + 1e-4).all()
    if key in ("mixup", "cutmix"):
        x, _ = augmentation.mix(x, torch.arange(16), 16, seeded(1))
    assert not torch.equal(x, plain)
    again = augment(augmentation, images, seeded(1), preprocessing)
    if key in ("mixup", "cutmix"):
        again, _ = augmentation.mix(again, torch.arange(16), 16, seeded(1))
    assert torch.equal(x, again)
    assert augment(augmentation, images, seeded(1), preprocessing, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("key", sorted(set(EVERYTHING) - set(augmentation_coloured := ("saturation", "hue", "grey"))))
def test_grey_pictures_can_have_every_key_but_those_of_colour(key):
    augmentation = Augmentation(**{key: EVERYTHING[key]}, pca_axes=((0.1,),))
    x = augment(augmentation, smooth(8, 24)[..., :1].contiguous(), seeded(), prepared(24, 1))
    assert x.shape == (8, 1, 24, 24)
    for lost in augmentation_coloured:
        with pytest.raises(UsageError, match=f"{lost} would have no effect on grey pictures"):
            augment(Augmentation(**{lost: 0.1}), rough(channels=1), seeded(), prepared(24, 1))


@pytest.mark.parametrize("stored", [48, 33])
@pytest.mark.parametrize("key", ["crop_padding", "flip", "crop_scale", "rotate", "brightness", "policy"])
def test_stored_pictures_may_be_larger_than_the_networks(stored, key):
    x = augment(Augmentation(**{key: EVERYTHING[key]}), smooth(4, stored), seeded(), prepared(24))
    assert x.shape == (4, 3, 24, 24)


@given(st.floats(0.05, 1), st.integers(0, 2**32))
@settings(max_examples=20)
def test_random_resized_crops_lie_inside_and_keep_their_share(smallest, seed):
    matrices = geometry.inverse(_cropped(8, smallest, seed))
    corners = torch.tensor([[-12.0, 12, -12, 12], [-8, -8, 8, 8]], dtype=torch.float64)
    where = matrices[:, :, :2] @ corners + matrices[:, :, 2:]
    assert (where[:, 0].abs() <= 20 + 1e-4).all()
    assert (where[:, 1].abs() <= 15 + 1e-4).all()
    wide, high = where[:, 0, 1] - where[:, 0, 0], where[:, 1, 2] - where[:, 1, 0]
    share, ratio = wide * high / (40 * 30), (wide / 40) / (high / 30)
    assert ((share >= smallest - 1e-5) & (share <= 1 + 1e-5)).all()
    assert ((ratio >= 3 / 4 - 1e-4) & (ratio <= 4 / 3 + 1e-4)).all()


def _cropped(count, smallest, seed):
    from hubel.data.augmentation.placement import cropped

    return cropped(count, smallest, (30, 40), (16, 24), seeded(seed))


@pytest.mark.parametrize("key", ["rotate", "brightness", "noise"])
def test_a_picture_is_changed_the_same_way_whatever_the_cache_holds(key, monkeypatch):
    images, augmentation = smooth(9, 24), Augmentation(**{key: EVERYTHING[key]})
    whole = augment(augmentation, images, seeded(), prepared(24))
    monkeypatch.setattr("hubel.data.augmentation.apply.CACHED", 24 * 24 * 3 * 2)
    torch.testing.assert_close(augment(augmentation, images, seeded(), prepared(24)), whole)


# ------------------------------------------------------------------------------------------------ mixing


@given(st.sampled_from([(0.2, 0.0), (0.0, 1.0), (1.0, 1.0)]), st.integers(0, 2**32))
@settings(max_examples=30)
def test_mixed_targets_are_the_shares_of_what_is_seen(alphas, seed):
    labels = torch.tensor([0, 1, 2, 3, 4, 4])
    x = nnf.one_hot(labels, 5).float()[:, :, None, None].expand(-1, -1, 12, 10)  # channel k is 1 where class k is
    x = x.contiguous(memory_format=torch.channels_last)
    seen, targets = mixing.mixed(x, labels, 5, mixup=alphas[0], cutmix=alphas[1], generator=seeded(seed))
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(seen.mean(dim=(2, 3)), targets, atol=1e-5, rtol=0)
    if not alphas[0]:
        assert set(seen.unique().tolist()) <= {0.0, 1.0}
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_training_batches_carry_soft_targets_and_depend_on_seed_epoch_and_step_only():
    digits = load(open_data("digits"), size=8, channels=1)
    augmentation = Augmentation.measured(digits.train, crop_padding=1, rotate=10, noise=0.02, mixup=0.2)

    def made(seed, epoch, first=0):
        return list(
            training_batches(
                digits.train, 100, digits.preprocessing, augmentation, seed=seed, epoch=epoch, first=first, classes=10
            )
        )

    whole, later = made(1, 2), made(1, 2, 7)
    for (x, targets), (other_x, other) in zip(whole[7:], later, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(targets, other)
    assert targets.shape == (100, 10)
    for different in (made(2, 2), made(1, 3)):
        assert not torch.equal(different[0][0], whole[0][0])


# ------------------------------------------------------------------------------------------------ views


def test_views_are_the_pictures_moved():
    images = rough(size=24)
    assert torch.equal(View()(images, 24), images)
    assert torch.equal(View(flip=True)(images, 24), images.flip(2))
    assert torch.equal(View(right=1)(images, 24)[:, :, 1:], images[:, :, :-1])
    six = views.distinct(VIEWS["six"])
    assert list(six.values()) == [0.25, 0.125, 0.125] * 2
    padded = nnf.pad(images.permute(0, 3, 1, 2).float(), (1, 1, 1, 1), "reflect").permute(0, 2, 3, 1)
    shown = [view(images, 24).float() for view in six]
    for x, wanted in zip(shown, [padded[:, 1:-1, 1:-1], padded[:, :-2, :-2], padded[:, 2:, 2:]] * 2, strict=False):
        assert torch.equal(x, wanted) or torch.equal(x, wanted.flip(2))
    assert all(torch.equal(a, b.flip(2)) for a, b in zip(shown[:3], shown[3:], strict=True))


def test_a_view_as_matrix_is_the_view_as_shift():
    images = rough(size=24)
    for view in VIEWS["six"]:
        matrices = view.matrix((24, 24), 24).repeat(4, 1, 1)
        shown = geometry.resampled(images, matrices, (24, 24), torch.zeros(3))
        exact = view(images, 24).permute(0, 3, 1, 2).float()
        torch.testing.assert_close(interior(shown), interior(exact), atol=0.01, rtol=0)
    corner = View(zoom=256 / 224, corner=(-1, 1))(smooth(2, 256), 224)
    assert torch.equal(corner, smooth(2, 256)[:, 32:, :224])
    assert len(views.distinct(VIEWS["ten"])) == 10


# ------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"crop_scale": 0.0}, r"crop_scale is 0.0; it lies between 0.01 and 1"),
        ({"hue": 0.6}, r"hue is 0.6; it lies between 0 and 0.5"),
        ({"policy_count": 3}, "policy_count would have no effect: only policy=randaugment"),
        ({"policy": "trivialaugment", "policy_magnitude": 5}, "policy_magnitude would have no effect"),
        ({"pca": 0.1}, "pca needs the axes"),
    ],
)
def test_keys_out_of_range_or_without_effect_are_refused(keys, sentence):
    with pytest.raises(UsageError, match=sentence):
        Augmentation(**keys)
