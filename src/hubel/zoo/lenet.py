"""LeNet-5, as its paper has it and as it is written in PyTorch today.

Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 1998,
section II.B, Figure 2 and Table I.
`lenet5_paper` departs from the paper: the centres of the output units are random codes of -1 and +1 (drawn once, never
trained) instead of drawn bitmaps, because only digits have bitmaps; training uses cross-entropy on minus half the
distances, which is the paper's discriminative criterion (equation 9) up to its constant.
`lenet5` is the lectures' form: padding 2 for 28 px pictures, full connection in C3, max pooling, ReLU, linear output.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel.arithmetic import Window, last_size
from hubel.layers import Network

# fmt: off
#   name   channels  kernel  pool       <- Figure 2: C1 S2, C3 S4
ROWS = (
    ("C1",        6,      5,    2),
    ("C3",       16,      5,    2),
)
DENSE = (120, 84)                     # C5, F6

# Table I: which of the six S2 maps each of the sixteen C3 maps reads
C3_READS = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)
# fmt: on


class ScaledTanh(nn.Module):
    """The paper's squashing function, 1.7159 tanh(2/3 x)  (appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return 1.7159 * torch.tanh(x * (2 / 3))


class Subsampling(nn.Module):
    """S2, S4: the sum over a 2x2 window times one trainable coefficient, plus one trainable bias per map."""

    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.weight = nn.Parameter(torch.full((channels, 1, 1), 1.0 / window**2))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C H/window W/window."""
        return functional.avg_pool2d(x, self.window) * self.window**2 * self.weight + self.bias


class PartialConv(nn.Module):
    """C3: a convolution in which each output map reads only some input maps."""

    def __init__(self, reads: tuple[tuple[int, ...], ...], kernel: int) -> None:
        super().__init__()
        self.reads = reads
        self.convs = nn.ModuleList(nn.Conv2d(len(maps), 1, kernel) for maps in reads)

    def forward(self, x: Tensor) -> Tensor:
        """N 6 H W -> N 16 H-4 W-4."""
        return torch.cat([conv(x[:, maps]) for maps, conv in zip(self.reads, self.convs, strict=True)], dim=1)


class RadialBasis(nn.Module):
    """The output layer: minus half the squared distance to a fixed code per class."""

    codes: Tensor

    def __init__(self, c_in: int, num_classes: int) -> None:
        super().__init__()
        drawn = torch.randint(0, 2, (num_classes, c_in), generator=torch.Generator().manual_seed(1998), device="cpu")
        self.register_buffer("codes", (drawn * 2.0 - 1.0).to(torch.get_default_device()))

    def forward(self, x: Tensor) -> Tensor:
        """N c_in -> N num_classes."""
        return -0.5 * (x[:, None, :] - self.codes).square().sum(dim=2)


def _maps_side(image_size: int, padding: int, name: str) -> int:
    """Side of the last pooled maps [px]; a picture that is too small is refused by layer."""
    windows = []
    for layer, _, kernel, pool in ROWS:
        windows += [
            Window(layer, kernel, padding=padding if layer == "C1" else 0),
            Window(f"{layer}'s pooling", pool, pool),
        ]
    return last_size(image_size, windows, name)


def lenet5(*, num_classes: int, in_channels: int, image_size: int) -> Network:
    """LeNet-5 as the lectures write it in PyTorch."""
    side = _maps_side(image_size, padding=2, name="lenet5")
    (_, c1, k1, p1), (_, c3, k3, p3) = ROWS
    return Network(
        stem=nn.Identity(),
        stages=[
            nn.Sequential(nn.Conv2d(in_channels, c1, k1, padding=2), nn.ReLU(), nn.MaxPool2d(p1)),
            nn.Sequential(nn.Conv2d(c1, c3, k3), nn.ReLU(), nn.MaxPool2d(p3)),
        ],
        head=nn.Sequential(
            nn.Flatten(),
            nn.Linear(c3 * side * side, DENSE[0]), nn.ReLU(),
            nn.Linear(DENSE[0], DENSE[1]), nn.ReLU(),
            nn.Linear(DENSE[1], num_classes),
        ),
    )  # fmt: skip


def lenet5_paper(*, num_classes: int, in_channels: int, image_size: int) -> Network:
    """LeNet-5 as published: 60,000 trainable numbers at 1x32x32 and 10 classes."""
    side = _maps_side(image_size, padding=0, name="lenet5_paper")
    (_, c1, k1, p1), (_, c3, k3, p3) = ROWS
    return Network(
        stem=nn.Identity(),
        stages=[
            nn.Sequential(nn.Conv2d(in_channels, c1, k1), ScaledTanh(), Subsampling(c1, p1), ScaledTanh()),
            nn.Sequential(PartialConv(C3_READS, k3), ScaledTanh(), Subsampling(c3, p3), ScaledTanh()),
        ],
        head=nn.Sequential(
            nn.Conv2d(c3, DENSE[0], side), ScaledTanh(), nn.Flatten(),  # C5: convolutional in the paper
            nn.Linear(DENSE[0], DENSE[1]), ScaledTanh(),
            RadialBasis(DENSE[1], num_classes),
        ),
    )  # fmt: skip


MODELS = {"lenet5": lenet5, "lenet5_paper": lenet5_paper}
