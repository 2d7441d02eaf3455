"""Auxiliary classifiers: logits from inner feature maps, which only training sees."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional


class AuxiliaryNetwork(nn.Module):
    """A `Network` whose training also reads inner maps  (Szegedy et al. 2015, section 5).

    Args:
        stem: from the picture to the first feature maps.
        stages: chains of blocks, one per resolution.
        head: from the last feature maps to logits.
        auxiliary: classifiers by the (stage, block) whose output they read, in the order they are met.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Sequential],
        head: nn.Module,
        auxiliary: Mapping[tuple[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.auxiliary = nn.ModuleList(auxiliary.values())
        self.head = head
        self.reads = tuple(auxiliary)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits, N num_classes; while training a tuple: the main logits, then those of each auxiliary head."""
        if not self.training or not self.reads:
            return self.head(self.stages(self.stem(x)))
        x, inner = self.stem(x), []
        for stage, blocks in enumerate(self.stages.children()):
            for block, layer in enumerate(blocks.children()):
                x = layer(x)
                if (stage, block) in self.reads:
                    inner.append(self.auxiliary[len(inner)](x))
        return self.head(x), *inner


class AuxiliaryPool(nn.Module):
    """The 5x5 average pool of stride 3 of an auxiliary head; at other picture sizes than the paper's an adaptive one.

    Args:
        side: of the maps it must return [px].
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C side side."""
        if all((size - 5) // 3 + 1 == self.side for size in x.shape[-2:]):
            return functional.avg_pool2d(x, 5, 3)
        return functional.adaptive_avg_pool2d(x, self.side)
