"""The contract of every network of the zoo: stem, stages, head."""

from collections.abc import Sequence

from torch import Tensor, nn


class Network(nn.Module):
    """`head(stages(stem(x)))`: what transfer, Grad-CAM and feature extraction walk.

    Args:
        stem: from the picture to the first feature maps, N C H W.
        stages: one module per resolution (or per group of blocks in the paper's table).
        head: from the last feature maps to logits, N num_classes.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits, N num_classes, of pictures N C H W."""
        return self.head(self.stages(self.stem(x)))
