"""Augmentation in one pass: the numbers of torch's operators, whatever is drawn, for any share and any threads."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hubel import compiled
from hubel.data import Augmentation, Preprocessing, augment
from hubel.data.augmentation import kernels
from hubel.errors import UsageError
from hubel.recipe import Recipe
from hubel.training.system import choose
from hubel.zoo import create

pytestmark = pytest.mark.skipif(compiled.c_compiler() is None, reason="no C compiler here")
KEYS = {
    "crop_padding": 3,
    "flip": True,
    "crop_scale": 0.4,
    "scale": 0.3,
    "rotate": 40,
    "shear": 20,
    "translate": 0.2,
    "brightness": 0.4,
    "contrast": 0.4,
    "saturation": 0.4,
    "hue": 0.2,
    "grey": 0.3,
    "noise": 0.05,
    "erasing": 0.6,
    "cutout": 7,
    "policy": "randaugment",
    "edge": "reflect",
}
COLOURED = {"saturation", "hue", "grey"}


def prepared(size: int, channels: int) -> Preprocessing:
    return Preprocessing(size=size, channels=channels, fit="pad", mean=(0.45,) * channels, std=(0.25,) * channels)


def pictures(count: int, height: int, width: int, channels: int) -> torch.Tensor:
    """Smooth ones: what is between two pixels then differs little from either."""
    coarse = torch.randint(0, 256, (count, channels, 5, 5), dtype=torch.float32)
    fine = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).to(torch.uint8)


def drawn() -> torch.Generator:
    return torch.Generator().manual_seed(11)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sets(st.sampled_from(sorted(KEYS))), st.sampled_from([1, 3]), st.sampled_from([(24, 24), (31, 24), (40, 52)]))
def test_any_keys_give_what_torch_gives(names, channels, stored):
    keys = {name: KEYS[name] for name in names if channels == 3 or name not in COLOURED}
    torch.manual_seed(len(keys))
    images, plain = pictures(9, *stored, channels), Augmentation(fill=(90,) * channels, **keys)
    normal = prepared(24, channels)
    expected, found = augment(plain, images, drawn(), normal), augment(plain.with_(fused=True), images, drawn(), normal)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)  # float32 columns on one side, -1..1 on the other


def test_the_kernels_are_what_computes(monkeypatch):
    calls = []
    monkeypatch.setattr(kernels, "show", lambda *given: calls.append(given))
    images = pictures(2, 24, 24, 3)
    augment(Augmentation(rotate=10, fused=True), images, drawn(), prepared(24, 3))
    augment(Augmentation(rotate=10), images, drawn(), prepared(24, 3))
    assert len(calls) == 1
    augment(
        Augmentation(fused=True, rotate=10), pictures(2, 96, 96, 3), drawn(), prepared(24, 3)
    )  # read from halved copies
    assert len(calls) == 1


MOVING = [
    {"crop_padding": 5},
    {"flip": True},
    {"crop_padding": 40},
    {"crop_padding": 23, "edge": "reflect"},
    {"crop_padding": 3, "noise": 0.1, "erasing": 0.9},
]


@pytest.mark.parametrize("keys", MOVING, ids=str)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_moves_by_whole_pixels_has_the_bits_of_torch(monkeypatch, keys, channels, dtype):
    """Channels of different means, pictures of noise, more of them than are worked on at once."""
    images = torch.randint(0, 256, (9, 24, 24, channels), dtype=torch.uint8)
    normal = Preprocessing(
        size=24,
        channels=channels,
        fit="pad",
        mean=(0.1, 0.45, 0.7, 0.2)[:channels],
        std=(0.2, 0.25, 0.3, 0.4)[:channels],
    )
    plain = Augmentation(fill=(90, 10, 200, 3)[:channels], **{"flip": True, **keys})
    expected = augment(plain, images, drawn(), normal, dtype)
    monkeypatch.setattr("hubel.data.augmentation.apply.CACHED", 4 * 24 * 24 * channels)
    monkeypatch.setattr("hubel.data.augmentation.geometry.shifted", None)
    found = augment(plain.with_(fused=True), images, drawn(), normal, dtype)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "keys", [{"crop_padding": 4}, {"rotate": 20, "contrast": 0.5}, {"crop_scale": 0.4}, {}], ids=str
)
def test_bits_depend_on_neither_threads_nor_share(keys):
    images, normal = pictures(8, 33, 29, 3), prepared(24, 3)
    augmentation, threads = Augmentation(fused=True, flip=True, **keys), torch.get_num_threads()
    whole = augment(augmentation, images, drawn(), normal)
    try:
        torch.set_num_threads(threads + 1)
        assert torch.equal(augment(augmentation, images, drawn(), normal), whole)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(augment(augmentation, images[3:6], drawn(), normal, first=3, of=8), whole[3:6])


def test_nothing_is_read_or_written_beyond_the_pictures():
    normal, every = prepared(16, 3), Augmentation(rotate=90, scale=0.4, fused=True, fill=(7, 7, 7))
    for stored in ((16, 16), (15, 17), (9, 11)):
        images = pictures(3, *stored, 3)
        alone = torch.cat([augment(every, images[i : i + 1], drawn(), normal, first=i, of=3) for i in range(3)])
        assert torch.equal(
            alone, augment(every, images, drawn(), normal)
        )  # a picture's last bytes end an array, or do not


def test_without_a_compiler_it_is_refused_where_asked_and_left_out_where_not(monkeypatch):
    monkeypatch.setattr(kernels, "available", lambda: False)
    net = create("lenet5")
    assert choose(Recipe(device="cpu"), net, 10).fused_input is False
    with pytest.raises(UsageError, match="fused_input=true needs"):
        choose(Recipe(device="cpu", fused_input=True), net, 10)
    assert choose(Recipe(device="cpu", fused_input=False), net, 10).fused_input is False
