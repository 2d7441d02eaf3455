"""Receptive fields after upsampling, against the pixels that a gradient reaches."""

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from hubel.analysis import summary


class Resized(nn.Module):
    """`interpolate` by keyword."""

    def __init__(self, **how) -> None:
        super().__init__()
        self.how = how

    def forward(self, x):
        return functional.interpolate(x, **self.how)


class UNet(nn.Module):
    """Convolutions and poolings down, and up again over skip connections."""

    def __init__(self, levels: int, up: str, join: str = "cat") -> None:
        super().__init__()
        self.down = nn.ModuleList(nn.Conv2d(1 if level == 0 else 2, 2, 3, padding=1) for level in range(levels + 1))
        ups = [
            nn.ConvTranspose2d(2, 2, 2, 2) if up == "transposed" else nn.Conv2d(2, 2, 3, padding=1)
            for _ in range(levels)
        ]
        self.ups = nn.ModuleList(ups)
        self.after = nn.ModuleList(nn.Conv2d(4 if join == "cat" else 2, 2, 3, padding=1) for _ in range(levels))
        self.up, self.join = up, join

    def forward(self, x):
        skips = []
        for level, layer in enumerate(self.down):
            x = layer(x)
            if level < len(self.ups):
                skips.append(x)
                x = functional.avg_pool2d(x, 2)
        for up, after in zip(self.ups, self.after, strict=True):
            skip = skips.pop()
            if self.up == "transposed":
                x = up(x)
            else:
                aligned = {} if self.up == "nearest" else {"align_corners": self.up == "aligned"}
                mode = "nearest" if self.up == "nearest" else "bilinear"
                x = up(functional.interpolate(x, size=skip.shape[2:], mode=mode, **aligned))
            x = after(torch.cat([x, skip], 1) if self.join == "cat" else x + skip)
        return x


def conv(kernel: int = 3, stride: int = 1, c_in: int = 2, c_out: int = 2, **options) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, **options)


def shuffled() -> nn.Module:
    return nn.Sequential(conv(c_out=8), nn.PixelShuffle(2))


class ShuffledByHand(nn.Module):
    """Sub-pixel convolution written as views and a permutation."""

    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c // 4, 2 * h, 2 * w)


NETWORKS = {
    "unet, transposed": lambda: UNet(2, "transposed"),
    "unet, nearest": lambda: UNet(2, "nearest"),
    "unet, bilinear": lambda: UNet(2, "bilinear"),
    "unet, three levels, added": lambda: UNet(3, "transposed", "add"),
    "decoder": lambda: nn.Sequential(
        conv(4, 4, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1), nn.ConvTranspose2d(2, 2, 4, 2, 1)
    ),
    "transposed, output padding": lambda: nn.Sequential(conv(3, 2, 1), nn.ConvTranspose2d(2, 2, 3, 2, 1, 1), conv()),
    "transposed, dilated": lambda: nn.Sequential(
        conv(3, 2, 1), nn.ConvTranspose2d(2, 2, 3, 2, 2, 1, dilation=2), conv()
    ),
    "transposed, stride 3": lambda: nn.Sequential(conv(3, 3, 1), nn.ConvTranspose2d(2, 2, 5, 3, 1), conv(5)),
    "transposed, gaps": lambda: nn.Sequential(conv(3, 2, 1), nn.ConvTranspose2d(2, 2, 1, 2), conv(3)),
    "transposed, stride 1": lambda: nn.Sequential(conv(3, 1, 1), nn.ConvTranspose2d(2, 2, 3, 1, 1)),
    "super-resolution": lambda: nn.Sequential(conv(5, 1, 1), conv(), shuffled(), conv(), shuffled(), conv(3)),
    "shuffled by hand": lambda: nn.Sequential(conv(3, 1, 1, 8), ShuffledByHand(), conv(3)),
    "unshuffled": lambda: nn.Sequential(nn.PixelUnshuffle(2), conv(3, 1, 4), shuffled(), conv()),
    "nearest": lambda: nn.Sequential(conv(3, 2, 1), nn.Upsample(scale_factor=2), conv()),
    "nearest, twice": lambda: nn.Sequential(
        conv(3, 4, 1), nn.Upsample(scale_factor=2), conv(), nn.Upsample(scale_factor=2), conv()
    ),
    "nearest-exact": lambda: nn.Sequential(conv(3, 2, 1), Resized(scale_factor=1.5, mode="nearest-exact"), conv()),
    "bilinear": lambda: nn.Sequential(conv(3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear"), conv()),
    "bilinear, by 3": lambda: nn.Sequential(conv(3, 3, 1), nn.Upsample(scale_factor=3, mode="bilinear"), conv()),
    "bilinear, down": lambda: nn.Sequential(conv(3, 1, 1), Resized(scale_factor=0.5, mode="bilinear"), conv()),
    "bilinear, by 2.5": lambda: nn.Sequential(conv(3, 2, 1), Resized(scale_factor=2.5, mode="bilinear"), conv()),
    "bilinear, to a size": lambda: nn.Sequential(conv(3, 2, 1), Resized(size=(40, 24), mode="bilinear"), conv()),
    "antialiased": lambda: nn.Sequential(
        conv(3, 1, 1), Resized(size=(12, 12), mode="bilinear", antialias=True), conv()
    ),
    "bicubic": lambda: nn.Sequential(conv(3, 2, 1), nn.Upsample(scale_factor=2, mode="bicubic"), conv()),
    "adaptive, uneven": lambda: nn.Sequential(conv(3, 1, 1), nn.AdaptiveAvgPool2d(14), conv()),
    "dilated": lambda: nn.Sequential(
        conv(3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3, padding=4, dilation=4)
    ),
    "strided": lambda: nn.Sequential(conv(3, 2, 1), nn.Upsample(scale_factor=3), conv(3, 2), conv()),
    "cropped": lambda: nn.Sequential(
        conv(3, 2, 1), nn.ConvTranspose2d(2, 2, 3, 2), nn.ZeroPad2d((-1, 2, 1, -3)), conv()
    ),
}
ODD = {"unet of an odd picture": lambda: UNet(2, "nearest"), "unet, aligned corners": lambda: UNet(2, "aligned")}


def supports(network: nn.Module, side: int, axis: int, positions) -> dict[int, tuple[int, int]]:
    """The first and the last pixel that positions of the last map depend on, along one axis; positive weights cancel
    nothing.
    """
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(0.5, 1.0, generator=torch.Generator().manual_seed(0))
    x = torch.ones(1, 1, side, side, dtype=torch.double, requires_grad=True)
    y = network(x).sum((0, 1, 3 - axis))
    found = {}
    for position in positions(len(y)):
        (gradient,) = torch.autograd.grad(y[position], x, retain_graph=True)
        touched = gradient.abs().amax((0, 1, 3 - axis)).gt(1e-12).nonzero().flatten()
        if len(touched):
            found[position] = (touched.min().item(), touched.max().item())
    return found


def inside(found: dict[int, tuple[int, int]], side: int) -> list[tuple[int, int]]:
    """The supports that no edge of the picture cuts."""
    return [(first, last) for first, last in found.values() if first > 0 and last < side - 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_receptive_field_after_upsampling_is_the_support_of_the_gradient(name):
    side = 96 if "three" in name else 44 if "unet" in name else 30
    network = NETWORKS[name]()
    total = summary(network, (1, side, side)).total.receptive_field
    row = [row for row in summary(network, (1, side, side)).rows if row.output][-1]
    for axis in (0, 1) if name in ("cropped", "bilinear, to a size") else (0,):
        found = supports(network, side, axis, range)
        assert total[axis] == max(last - first + 1 for first, last in inside(found, side))
        first, last = found.get((row.output[1 + axis] - 1) // 2, (0, -1))
        assert row.share[axis] == pytest.approx((last - first + 1) / side, abs=1e-4)


@pytest.mark.parametrize("name", ODD)
def test_maps_that_do_not_divide_have_a_receptive_field_too(name):
    side, network = 50, ODD[name]()
    (size, _) = summary(network, (1, side, side)).total.receptive_field
    found = supports(network, side, 0, range)
    assert size is not None
    assert max(last - first + 1 for first, last in found.values()) <= size
    assert size <= max(last - first + 1 for first, last in inside(found, side)) + 8


@st.composite
def decoders(draw):
    """A few layers down, then a few up, of any window."""
    layers: list[nn.Module] = [conv(3, draw(st.sampled_from([1, 2, 4])), 1)]
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["transposed", "nearest", "bilinear", "shuffle", "conv", "pool"]))
        factor, kernel = draw(st.sampled_from([2, 3])), draw(st.integers(1, 5))
        if kind == "transposed":
            padding = draw(st.integers(0, kernel // 2))
            layers.append(nn.ConvTranspose2d(2, 2, kernel, factor, padding, draw(st.integers(0, factor - 1))))
        elif kind == "conv":
            layers.append(conv(kernel, draw(st.sampled_from([1, 2])), dilation=draw(st.sampled_from([1, 2]))))
        elif kind == "pool":
            layers.append(nn.AvgPool2d(factor, draw(st.sampled_from([1, 2]))))
        elif kind == "shuffle":
            layers.append(shuffled())
        else:
            layers.append(nn.Upsample(scale_factor=factor, mode=kind))
    return nn.Sequential(*layers)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(decoders())
def test_what_the_central_position_of_any_decoder_sees_is_the_support_of_its_gradient(network):
    side = 48
    described = summary(network, (1, side, side))
    row = [row for row in described.rows if row.output][-1]
    centre = (row.output[1] - 1) // 2
    found = supports(network, side, 0, lambda _: [centre])
    if not found:  # between the windows of a transposed convolution nothing is seen
        assert row.share[0] in (0, None)
        return
    first, last = found[centre]
    assert row.share[0] == pytest.approx((last - first + 1) / side, abs=1e-4)
    assert row.receptive_field[0] is not None
    assert last - first + 1 <= row.receptive_field[0]


def test_the_jump_after_upsampling_is_a_fraction_of_a_pixel():
    rows = [row for row in summary(NETWORKS["nearest, twice"](), (1, 64, 64)).rows if row.output]
    assert [row.jump[0] for row in rows] == [1, 4, 2, 2, 1, 1]
    assert [row.jump[0] for row in summary(nn.Upsample(scale_factor=2, mode="bilinear"), (1, 8, 8)).rows] == [1, 0.5]


def test_long_maps_are_followed_too():
    audio = nn.Sequential(
        nn.Conv1d(1, 2, 9, 4), nn.Upsample(scale_factor=2), nn.Conv1d(2, 2, 3), nn.Upsample(scale_factor=2)
    )
    (size,) = summary(audio, (1, 100_000)).total.receptive_field
    assert size == 13
    assert ceil(size) == size
