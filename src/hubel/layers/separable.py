"""Depthwise separable convolutions: one filter per channel, then a 1x1 convolution across the channels."""

from torch import nn

from hubel.layers.residual import Residual, conv_norm


def separable(c_in: int, c_out: int, stride: int = 1) -> nn.Sequential:
    """3x3 depthwise, then 1x1, each with batch norm and ReLU6  (Howard et al. 2017, Figure 3)."""
    return nn.Sequential(
        *conv_norm(c_in, c_in, 3, stride, groups=c_in),
        nn.ReLU6(),
        *conv_norm(c_in, c_out, 1),
        nn.ReLU6(),
    )


def inverted_residual(c_in: int, c_out: int, stride: int, expand: int, kernel: int = 3) -> nn.Module:
    """1x1 to widen, depthwise, 1x1 to narrow without activation; a shortcut between the narrow ends.

    Source: Sandler et al., "MobileNetV2", CVPR 2018, Table 1 and Figure 4(d).

    Args:
        c_in: channels read.
        c_out: channels written.
        stride: of the depthwise convolution.
        expand: how many times wider the middle is; 1 leaves the widening convolution out.
        kernel: of the depthwise convolution.
    """
    width = c_in * expand
    widen = [] if expand == 1 else [*conv_norm(c_in, width, 1), nn.ReLU6()]
    branch = nn.Sequential(
        *widen,
        *conv_norm(width, width, kernel, stride, groups=width),
        nn.ReLU6(),
        *conv_norm(width, c_out, 1),
    )
    if stride > 1 or c_in != c_out:
        return branch
    return Residual(branch, nn.Identity(), nn.Identity())
