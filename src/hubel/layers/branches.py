"""Parallel branches over one input, their maps side by side."""

import torch
from torch import Tensor, nn


class Branches(nn.Module):
    """Every branch reads the same maps; their outputs are concatenated by channel."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N (sum of the branches' channels) H' W'."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)
