"""The vocabulary the architectures share."""

from hubel.layers.branches import Branches
from hubel.layers.network import Network
from hubel.layers.normalisation import local_response_norm
from hubel.layers.residual import PadShortcut, Residual, conv_norm
from hubel.layers.separable import inverted_residual, separable
from hubel.layers.shuffle import ChannelShuffle, HalfBranch

__all__ = [
    "Branches",
    "ChannelShuffle",
    "HalfBranch",
    "Network",
    "PadShortcut",
    "Residual",
    "conv_norm",
    "inverted_residual",
    "local_response_norm",
    "separable",
]
