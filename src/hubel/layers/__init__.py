"""The vocabulary the architectures share."""

from hubel.layers.drop_path import DropPath, drop_paths, linear_decay
from hubel.layers.head import pooled_linear
from hubel.layers.network import Network
from hubel.layers.residual import (
    Block,
    Norm,
    PadShortcut,
    PreActivated,
    Residual,
    conv_norm,
    norm_conv,
    residual_stages,
)
from hubel.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "Block",
    "DropPath",
    "Network",
    "Norm",
    "PadShortcut",
    "PreActivated",
    "Residual",
    "SqueezeExcite",
    "conv_norm",
    "drop_paths",
    "linear_decay",
    "norm_conv",
    "pooled_linear",
    "residual_stages",
]
