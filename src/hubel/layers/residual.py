"""Residual blocks: a branch, a shortcut, their sum, and the loop that stacks them into stages."""

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional

Block = Callable[[int, int, int], nn.Module]
"""A block from (c_in, width, stride); its output has `width` channels times the widening of its family."""

Norm = Callable[[int], nn.Module]
"""A normalisation layer from the number of channels."""


def conv_norm(
    c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1, norm: Norm = nn.BatchNorm2d
) -> list[nn.Module]:
    """A convolution that keeps the size (divided by its stride) and its batch norm; the norm makes a bias useless."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, norm(c_out)]


def norm_conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Batch norm, ReLU, then the convolution: the order of pre-activation networks and of DenseNet."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
    return [nn.BatchNorm2d(c_in), nn.ReLU(), conv]


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


class PreActivated(nn.Module):
    """`branch(a) + shortcut(a)` with `a = activation(x)`: the pre-activation block that changes the shape.

    Source: He et al. 2016b, "Identity Mappings in Deep Residual Networks", appendix: the first activation of such a
    block stands before the two paths part. Where the shape is kept the block is a `Residual` without an activation.

    Args:
        shortcut: projection or `PadShortcut`.
        activation: batch norm and ReLU, shared by both paths.
        branch: begins with a convolution.
    """

    def __init__(self, shortcut: nn.Module, activation: nn.Module, branch: nn.Module) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.activation = activation
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C' H' W'."""
        x = self.activation(x)
        return self.branch(x) + self.shortcut(x)


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


def residual_stages(
    block: Block, widths: Sequence[int], counts: Sequence[int], c_in: int, widen: int = 1, first: Block | None = None
) -> list[nn.Module]:
    """One stage per width, of so many blocks; the first block of every stage but the first halves the picture.

    Args:
        block: makes a block from (c_in, width, stride).
        widths: width of a block's inner convolutions, per stage.
        counts: blocks per stage.
        c_in: channels that the stem delivers.
        widen: output channels of a block over its width.
        first: makes the very first block, where that one is special.
    """
    stages: list[nn.Module] = []
    for stage, (width, count) in enumerate(zip(widths, counts, strict=True)):
        layers = []
        for index in range(count):
            stride = 2 if stage > 0 and index == 0 else 1
            make = first if first and stage == index == 0 else block
            layers.append(make(c_in, width, stride))
            c_in = width * widen
        stages.append(nn.Sequential(*layers))
    return stages
