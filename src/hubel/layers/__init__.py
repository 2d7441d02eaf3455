"""The vocabulary the architectures share."""

from hubel.layers.auxiliary import AuxiliaryNetwork, AuxiliaryPool
from hubel.layers.branches import Branches
from hubel.layers.cell import Cell, Genotype
from hubel.layers.drop_path import DropPath, drop_paths, linear_decay
from hubel.layers.head import pooled_linear
from hubel.layers.inception import chain, conv_norm_relu, conv_relu, inception, mixed, naive_inception
from hubel.layers.network import Network
from hubel.layers.normalisation import local_response_norm
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
from hubel.layers.separable import inverted_residual, separable
from hubel.layers.shuffle import ChannelShuffle, HalfBranch
from hubel.layers.squeeze_excite import SqueezeExcite

__all__ = [
    "AuxiliaryNetwork",
    "AuxiliaryPool",
    "Block",
    "Branches",
    "Cell",
    "ChannelShuffle",
    "DropPath",
    "Genotype",
    "HalfBranch",
    "Network",
    "Norm",
    "PadShortcut",
    "PreActivated",
    "Residual",
    "SqueezeExcite",
    "chain",
    "conv_norm",
    "conv_norm_relu",
    "conv_relu",
    "drop_paths",
    "inception",
    "inverted_residual",
    "linear_decay",
    "local_response_norm",
    "mixed",
    "naive_inception",
    "norm_conv",
    "pooled_linear",
    "residual_stages",
    "separable",
]
