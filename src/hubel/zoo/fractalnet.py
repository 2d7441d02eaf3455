"""FractalNet: very deep without shortcuts; columns of 1, 2, 4, ... convolutions that meet in averages.

Source: Larsson, Maire & Shakhnarovich, "FractalNet: Ultra-Deep Neural Networks without Residuals", ICLR 2017: the
expansion rule (Figure 1), local and global drop-path, and the 20-layer CIFAR network of three columns and five blocks.
Departs from the paper: every picture draws its own paths. Pooling keeps the last row and column of an odd size, which
no 32 px picture has; the average after the last pooling is the identity at 32 px. The paper prints 38.6M parameters;
the layers it describes have 33.7M. The pooling after a block begins the next stage, the last one the head.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hubel.layers import conv_norm, pooled_linear

# fmt: off
#  name                  columns  channels of each block      <- longest path: 5 blocks of 2 ** (columns - 1) layers
TABLE = {
    "fractalnet20_cifar": (3,     (64, 128, 256, 512, 512)),
}
# fmt: on


class Join(nn.Module):
    """The mean of the paths that live; in evaluation all do.

    Args:
        columns: the column each path belongs to, shallowest first.
        drop: probability that a path is dropped in local drop-path; one always survives.
    """

    def __init__(self, columns: Sequence[int], drop: float) -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.drop = drop

    def forward(self, paths: Sequence[Tensor], column: Tensor | None = None) -> Tensor:
        """Paths of N C H W -> N C H W.

        Args:
            paths: one per column.
            column: per picture the one column that lives (global drop-path), or -1 for local drop-path.
        """
        if len(paths) == 1:
            return paths[0]
        if not self.training:
            return sum(paths[1:], paths[0]) / len(paths)
        keep = self._local(len(paths[0]), paths[0].device)
        if column is not None:
            mine = torch.tensor(self.columns, device=column.device)[:, None]
            keep = torch.where(column < 0, keep, mine == column)
        # a picture whose column does not pass here keeps no path: what the join then gives is not read
        share = (keep / keep.sum(dim=0).clamp(min=1)).to(paths[0].dtype)
        parts = [path * weight[:, None, None, None] for path, weight in zip(paths, share, strict=True)]
        return sum(parts[1:], parts[0])

    def _local(self, pictures: int, device: torch.device) -> Tensor:
        """Which paths live, paths x pictures; where all would be dropped one drawn at random survives."""
        paths = len(self.columns)
        keep = torch.rand(paths, pictures, device=device) >= self.drop
        spare = torch.randint(paths, (pictures,), device=device)
        return keep | (~keep.any(dim=0) & (torch.arange(paths, device=device)[:, None] == spare))


class Fractal(nn.Module):
    """The expansion rule: one convolution beside two fractals of one column less, their paths not yet joined.

    Args:
        c_in: channels of the input.
        c_out: channels of every path.
        columns: the columns it spans, shallowest first; the last are always the network's deepest.
        dropout: after each convolution.
        drop: of its joins.
    """

    def __init__(self, c_in: int, c_out: int, columns: Sequence[int], dropout: float, drop: float) -> None:
        super().__init__()
        layers = [*conv_norm(c_in, c_out, 3), nn.ReLU()]
        self.shallow = nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)
        deeper = columns[1:]
        self.first = Fractal(c_in, c_out, deeper, dropout, drop) if deeper else None
        self.join = Join(deeper, drop) if deeper else None
        self.second = Fractal(c_out, c_out, deeper, dropout, drop) if deeper else None

    def forward(self, x: Tensor, column: Tensor | None = None) -> list[Tensor]:
        """N c_in H W -> per column N c_out H W."""
        paths = [self.shallow(x)]
        if self.first and self.join and self.second:
            paths += self.second(self.join(self.first(x, column), column), column)
        return paths


def half() -> nn.Module:
    """Pooling to half the size, rounded up."""
    return nn.MaxPool2d(2, ceil_mode=True)


class FractalBlock(nn.Module):
    """Pooling to half the size in every block but the first, a fractal, the join of all its columns."""

    def __init__(self, c_in: int, c_out: int, columns: int, dropout: float, drop: float, *, pool: bool) -> None:
        super().__init__()
        self.pool = half() if pool else nn.Identity()
        self.fractal = Fractal(c_in, c_out, range(columns), dropout, drop)
        self.join = Join(range(columns), drop)

    def forward(self, x: Tensor, column: Tensor | None = None) -> Tensor:
        """N c_in H W -> N c_out H W, or half of H and W where it pools."""
        return self.join(self.fractal(self.pool(x), column), column)


class FractalNet(nn.Module):
    """Fractal blocks under the contract of `hubel.layers.Network`.

    Args:
        stages: fractal blocks.
        head: from the last feature maps to logits.
        columns: of every block.
        single_column: share of the training pictures that pass through one column of the whole network (global
            drop-path); the others drop paths join by join.
    """

    def __init__(self, stages: Sequence[FractalBlock], head: nn.Module, columns: int, single_column: float) -> None:
        super().__init__()
        self.stem = nn.Identity()
        self.stages = nn.Sequential(*stages)
        self.head = head
        self.columns = columns
        self.single_column = single_column

    def forward(self, x: Tensor) -> Tensor:
        """Logits, N num_classes, of pictures N C H W."""
        x = self.stem(x)
        if not self.training:
            return self.head(self.stages(x))
        alone = torch.rand(len(x), device=x.device) < self.single_column
        column = torch.where(alone, torch.randint(self.columns, (len(x),), device=x.device), -1)
        for stage in self.stages:
            x = stage(x, column)
        return self.head(x)


def fractalnet(
    columns: int,
    widths: tuple[int, ...],
    *,
    num_classes: int,
    in_channels: int,
    drop_path: float = 0.15,
    single_column: float = 0.5,
    dropout: float = 0.4,
) -> FractalNet:
    """A FractalNet from its row of the table.

    Args:
        columns: C of the paper.
        widths: channels of each block.
        num_classes: logits per picture.
        in_channels: channels of a picture.
        drop_path: local: probability that a join drops a path.
        single_column: global: share of the training pictures that see one column only.
        dropout: in the last block; grows linearly from 0 in the first.
    """
    stages, c_in = [], in_channels
    for block, width in enumerate(widths):
        rate = dropout * block / (len(widths) - 1)
        stages.append(FractalBlock(c_in, width, columns, rate, drop_path, pool=block > 0))
        c_in = width
    net = FractalNet(stages, nn.Sequential(half(), *pooled_linear(c_in, num_classes)), columns, single_column)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return net


MODELS = {name: partial(fractalnet, *row) for name, row in TABLE.items()}
