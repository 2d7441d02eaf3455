"""The vocabulary the architectures share."""

from hubel.layers.auxiliary import AuxiliaryNetwork, AuxiliaryPool
from hubel.layers.branches import Branches
from hubel.layers.cell import Cell, Genotype
from hubel.layers.inception import chain, conv_norm_relu, conv_relu, inception, mixed, naive_inception
from hubel.layers.network import Network
from hubel.layers.residual import PadShortcut, Residual, conv_norm

__all__ = [
    "AuxiliaryNetwork",
    "AuxiliaryPool",
    "Branches",
    "Cell",
    "Genotype",
    "Network",
    "PadShortcut",
    "Residual",
    "chain",
    "conv_norm",
    "conv_norm_relu",
    "conv_relu",
    "inception",
    "mixed",
    "naive_inception",
]
