"""Squeeze-and-excitation: every channel weighed by what the whole picture holds.

Source: Hu, Shen & Sun, "Squeeze-and-Excitation Networks", CVPR 2018, Figure 2 and equations 2 to 4.
"""

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """`x * sigmoid(W2 activation(W1 mean(x)))`, the mean over the whole picture.

    Args:
        channels: of the input and the output.
        squeezed: channels between the two layers: `channels` over the reduction ratio r.
        activation: between the two layers.
    """

    def __init__(self, channels: int, squeezed: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1),
            activation(),  # fully connected: the map is 1x1
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """N C H W, kept."""
        return x * self.excite(self.squeeze(x))
