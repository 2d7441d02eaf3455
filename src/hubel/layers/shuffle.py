"""Channel shuffle and channel split: how grouped branches exchange their maps."""

import torch
from torch import Tensor, nn


class ChannelShuffle(nn.Module):
    """Deals the channels out like cards, so that every group of the next layer reads from every group of the last.

    Source: Zhang, Zhou, Lin & Sun, "ShuffleNet", CVPR 2018, Figure 1: (groups, n) channels, transposed, flattened.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """N C H W, kept; C a multiple of `groups`."""
        return x.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)


class HalfBranch(nn.Module):
    """Half of the channels passes untouched, the other half goes through the branch.

    Source: Ma, Zhang, Zheng & Sun, "ShuffleNet V2", ECCV 2018, Figure 3(c): "channel split".
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """N C H W, kept; C even."""
        kept, worked = x.chunk(2, dim=1)
        return torch.cat((kept, self.branch(worked)), dim=1)
