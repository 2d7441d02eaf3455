"""The network of the CIFAR-10 speed records: eight layers, of which the first is computed instead of trained.

Source: Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498), section 3; the whitening
follows Page, "How to Train Your ResNet", 2018-19. The forms are those of the airbench repository: airbench94 and the
wider airbench95; airbench16 is ours, for digits and for training in seconds.
Departs from the source: the logits' scale (1/9, or 1/width with Muon) is inside the initial weights of the linear
layer, which gives the same function at the start and the same training at a rate smaller by its square; the last
pooling takes the maximum of whole maps, which at 32 px is the source's 3x3 window and at other sizes fits too.
"""

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from hubel.layers import Network

WHITENING = 2  # px, the side of the patches; also how often each direction appears: once with each sign
NOISE = 5e-4  # added to the variances, so that directions without signal are not blown up to its size


class GlobalMax(nn.Module):
    """The largest value of each map."""

    def forward(self, x: Tensor) -> Tensor:
        """N C H W -> N C."""
        return x.amax(dim=(2, 3))


def _conv(c_in: int, c_out: int) -> nn.Conv2d:
    """3x3, its first c_in filters the identity at the start (the rest keep their random weights)."""
    conv = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(conv.weight[:c_in])
    return conv


def _norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm that trains its bias only and forgets quickly: its averages move by 0.4 a step."""
    norm = nn.BatchNorm2d(channels, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)
    return norm


def _group(c_in: int, c_out: int) -> nn.Sequential:
    """Conv, pool, conv: the resolution halves."""
    return nn.Sequential(
        _conv(c_in, c_out), nn.MaxPool2d(2), _norm(c_out), nn.GELU(),
        _conv(c_out, c_out), _norm(c_out), nn.GELU(),
    )  # fmt: skip


def airbench(widths: tuple[int, ...], *, num_classes: int, in_channels: int) -> Network:
    """Whitening, three groups of two convolutions, the maximum of each map, one linear layer without bias."""
    patch = in_channels * WHITENING**2
    first = nn.Conv2d(in_channels, WHITENING * patch, WHITENING)
    first.weight.requires_grad_(False)
    nn.init.zeros_(first.bias)  # type: ignore[arg-type]
    last = nn.Linear(widths[-1], num_classes, bias=False)
    nn.init.normal_(last.weight, std=1 / widths[-1])
    return Network(
        stem=nn.Sequential(first, nn.GELU()),
        stages=[_group(c_in, c_out) for c_in, c_out in pairwise((WHITENING * patch, *widths))],
        head=nn.Sequential(GlobalMax(), last),
    )


@torch.no_grad()
def whiten(model: nn.Module, pictures: Tensor) -> None:
    """Sets the first layer so that its outputs on 2x2 patches are uncorrelated and of equal variance.

    The filters are the eigenvectors of the patches' covariance divided by the roots of their eigenvalues, once with
    each sign, as the activation keeps only positive values (arXiv 2404.00498, section 3).

    Args:
        model: of this file.
        pictures: of the training part, as the network sees them, N C H W float32.
    """
    filters = model.get_parameter("stem.0.weight")
    patches = pictures.unfold(2, WHITENING, 1).unfold(3, WHITENING, 1)  # N C H-1 W-1 2 2
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, filters[0].numel())
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    whitening = (directions / (variances + NOISE).sqrt()).T.reshape(-1, *filters.shape[1:])
    filters.copy_(torch.cat((whitening, -whitening)))


# fmt: off
#   name          widths of the groups       <- the repository's scripts of these names; the first is ours
TABLE = {
    "airbench16": ( 16,  32,  64),
    "airbench94": ( 64, 256, 256),
    "airbench95": (128, 384, 384),
}
# fmt: on

MODELS = {name: partial(airbench, widths) for name, widths in TABLE.items()}
FROM_DATA = dict.fromkeys(MODELS, whiten)
