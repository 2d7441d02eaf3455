"""Residual blocks: a branch, a shortcut, their sum."""

from torch import Tensor, nn
from torch.nn import functional


def conv_norm(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (divided by its stride) and its batch norm; the norm makes a bias useless."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(c_out)]


class Residual(nn.Module):
    """`activation(branch(x) + shortcut(x))`  (He et al. 2016, Figure 2).

    Args:
        branch: F in the paper.
        shortcut: identity where the shapes agree, else a projection or `PadShortcut`.
        activation: after the sum; `nn.Identity()` for pre-activation blocks.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C' H' W'."""
        return self.activation(self.branch(x) + self.shortcut(x))


class PadShortcut(nn.Module):
    """Option A of He et al. 2016, section 3.3: subsample, then pad the channels with zeros; no parameters.

    The zeros are shared out before and after the channels, as the authors' CIFAR networks do.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.before = (c_out - c_in) // 2
        self.after = c_out - c_in - self.before
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """N c_in H W -> N c_out H/stride W/stride."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))
