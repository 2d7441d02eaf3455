"""The vocabulary the architectures share."""

from hubel.layers.network import Network
from hubel.layers.residual import PadShortcut, Residual, conv_norm

__all__ = ["Network", "PadShortcut", "Residual", "conv_norm"]
