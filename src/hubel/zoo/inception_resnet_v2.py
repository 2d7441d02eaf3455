"""Inception-ResNet-v2: Inception branches behind a residual connection, their sum scaled down before it is added.

Source: Szegedy, Ioffe, Vanhoucke & Alemi, "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", AAAI 2017, Figures 15 to 19; scaling: section 3.3. Weights start as torch starts them, the paper being
silent.
Departs from the paper, as the authors' published code and timm's inception_resnet_v2 do: the stem is Inception-v3's and
a mixed module (not Inception-v4's stem); 10, 20 and 10 blocks (not 5, 10, 5); 320, 1088 and 2080 channels; a last block
without scaling and activation; a 1x1 convolution to 1536 channels at the end.
"""

from torch import Tensor, nn

from hubel.layers import Network, Residual, chain, mixed

# fmt: off
STEM = "3x3/2V 32, 3x3V 32, 3x3 64, max/2, 1x1 80, 3x3V 192, max/2"
MIXED_5B = ("1x1 96", "1x1 48, 5x5 64", "1x1 64, 3x3 96, 3x3 96", "avg, 1x1 64")
BLOCK_35 = ("1x1 32", "1x1 32, 3x3 32", "1x1 32, 3x3 48, 3x3 64")                       # Figure 16
REDUCE_A = ("3x3/2V 384", "1x1 256, 3x3 256, 3x3/2V 384", "max/2")                      # Figure 7
BLOCK_17 = ("1x1 192", "1x1 128, 1x7 160, 7x1 192")                                     # Figure 17
REDUCE_B = ("1x1 256, 3x3/2V 384", "1x1 256, 3x3/2V 288", "1x1 256, 3x3 288, 3x3/2V 320", "max/2")  # Figure 18
BLOCK_8 = ("1x1 192", "1x1 192, 1x3 224, 3x1 256")                                      # Figure 19
#    opens with  blocks    times  scale
STAGES = (
    (MIXED_5B,   BLOCK_35,    10,  0.17),      # 35 px
    (REDUCE_A,   BLOCK_17,    20,  0.10),      # 17 px
    (REDUCE_B,   BLOCK_8,      9,  0.20),      #  8 px; one more, unscaled, closes it
)
LAST = 1536
# fmt: on


class Scale(nn.Module):
    """A fixed factor on the residual, which keeps the training of wide networks stable  (section 3.3)."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Any shape, kept."""
        return x * self.factor


def block(width: int, branches: tuple[str, ...], scale: float, activation: nn.Module) -> Residual:
    """`activation(x + scale * conv1x1(branches(x)))`, the convolution with a bias and without batch norm."""
    inner, c_in = mixed(width, branches)
    return Residual(nn.Sequential(inner, nn.Conv2d(c_in, width, 1), Scale(scale)), nn.Identity(), activation)


def inception_resnet_v2(*, num_classes: int, in_channels: int, dropout: float = 0.2) -> Network:
    """Inception-ResNet-v2 at any picture of 75 px and more."""
    stem, width = chain(in_channels, STEM)
    stages = []
    for opening, branches, times, scale in STAGES:
        layer, width = mixed(width, opening)
        stages.append(nn.Sequential(layer, *(block(width, branches, scale, nn.ReLU()) for _ in range(times))))
    last, c_out = chain(width, f"1x1 {LAST}")
    stages[-1].append(block(width, BLOCK_8, 1.0, nn.Identity())).append(last)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(c_out, num_classes))
    return Network(stem, stages, head)


MODELS = {"inception_resnet_v2": inception_resnet_v2}
