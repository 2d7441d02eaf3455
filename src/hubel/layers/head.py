"""The end of most networks since 2014: global average pooling and one linear layer."""

from torch import nn


def pooled_linear(c_in: int, num_classes: int, dropout: float = 0.0) -> nn.Sequential:
    """N c_in H W -> N num_classes, for feature maps of any size; dropout before the linear layer where it is > 0."""
    drop = [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *drop, nn.Linear(c_in, num_classes))
