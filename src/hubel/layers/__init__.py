"""The vocabulary the architectures share."""

from hubel.layers.auxiliary import AuxiliaryNetwork, AuxiliaryPool
from hubel.layers.inception import Branches, conv_norm_relu, conv_relu, inception, naive_inception
from hubel.layers.network import Network
from hubel.layers.residual import PadShortcut, Residual, conv_norm

__all__ = [
    "AuxiliaryNetwork",
    "AuxiliaryPool",
    "Branches",
    "Network",
    "PadShortcut",
    "Residual",
    "conv_norm",
    "conv_norm_relu",
    "conv_relu",
    "inception",
    "naive_inception",
]
