"""AlexNet: as the lectures tabulate it, as two GPUs trained it, and as torchvision ships it.

Source: Krizhevsky, Sutskever & Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012,
Figure 2 and section 3.5.

The trap of 224 and 227: the paper prints 224x224 pictures and 55x55 maps behind an 11x11 filter of stride 4, but
(224 - 11) / 4 + 1 = 54.25; its maps need 227 px, or a padding the paper does not mention. The lecture's rows are those
of 227 px without padding. On 224 px the same layers give 54x54 maps, a last volume of 5x5x256 and an FC6 of 26M
instead of 38M numbers, which is what the lecture's complexity table counts. torchvision pads by 2 and takes 224 px.

`alexnet_lecture` ("simplified"): one GPU, so no groups; each pool comes before its norm.
`alexnet_paper`: CONV2, CONV4 and CONV5 read only the maps of their own GPU (two groups); each norm comes before its
pool (section 3.5). Departs from the paper: the picture is 227 px.
Both start with the paper's biases and dense layers (section 5) but with the convolutions of He et al. 2015: the paper's
deviation of 0.01 is meant for pixels of -128 to 127, and with pictures of unit deviation SGD stands still for hundreds
of steps.
`alexnet`: the 64-filter form of Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014,
with torchvision's padding, dropout before the dense layers, and an adaptive average pool that takes any larger picture.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from hubel.arithmetic import Window, last_size
from hubel.layers import Network, local_response_norm

Row = tuple[str, int, int, int, int, int, str]

# fmt: off
#    layer     maps  kernel stride pad groups  then
LECTURE = (
    ("CONV1",    96,   11,    4,    0,    1,   "pool norm"),
    ("CONV2",   256,    5,    1,    2,    1,   "pool norm"),
    ("CONV3",   384,    3,    1,    1,    1,   ""),
    ("CONV4",   384,    3,    1,    1,    1,   ""),
    ("CONV5",   256,    3,    1,    1,    1,   "pool"),
)
PAPER = (
    ("CONV1",    96,   11,    4,    0,    1,   "norm pool"),
    ("CONV2",   256,    5,    1,    2,    2,   "norm pool"),
    ("CONV3",   384,    3,    1,    1,    1,   ""),
    ("CONV4",   384,    3,    1,    1,    2,   ""),
    ("CONV5",   256,    3,    1,    1,    2,   "pool"),
)
TORCHVISION = (
    ("CONV1",    64,   11,    4,    2,    1,   "pool"),
    ("CONV2",   192,    5,    1,    2,    1,   "pool"),
    ("CONV3",   384,    3,    1,    1,    1,   ""),
    ("CONV4",   256,    3,    1,    1,    1,   ""),
    ("CONV5",   256,    3,    1,    1,    1,   "pool"),
)
DENSE = 4096          # FC6, FC7
POOL = (3, 2)         # kernel, stride: overlapping, section 3.4
ONES = (2, 4, 5, 6, 7)  # layers whose biases start at 1, section 5
# fmt: on


def stages(rows: Sequence[Row], in_channels: int, *, ceil_mode: bool = False) -> list[nn.Sequential]:
    """The convolutional layers of a table, one stage per resolution; a stage ends with its pool."""
    made: list[nn.Sequential] = []
    layers: list[nn.Module] = []
    c_in = in_channels
    for _, c_out, kernel, stride, padding, groups, then in rows:
        layers += [nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups), nn.ReLU()]
        for step in then.split():
            layers.append(local_response_norm() if step == "norm" else nn.MaxPool2d(*POOL, ceil_mode=ceil_mode))
        if "pool" in then:
            made.append(nn.Sequential(*layers))
            layers = []
        c_in = c_out
    return made


def windows(rows: Sequence[Row], *, ceil_mode: bool = False) -> list[Window]:
    """Every window of a table, for the size of the last maps."""
    chain = []
    for layer, _, kernel, stride, padding, _, then in rows:
        chain.append(Window(layer, kernel, stride, padding))
        if "pool" in then:
            chain.append(Window(f"MAX POOL behind {layer}", *POOL, ceil_mode=ceil_mode))
    return chain


def dense_head(c_in: int, num_classes: int, dropout: float) -> nn.Sequential:
    """FC6, FC7, FC8, with dropout behind the first two  (section 4.2)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c_in, DENSE), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(DENSE, DENSE), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(DENSE, num_classes),
    )  # fmt: skip


def initialise(net: nn.Module, ones: Sequence[int] = ()) -> None:
    """Convolutions as in He et al. 2015, equation 10; dense layers of standard deviation 0.01.

    Args:
        net: the network, whose layers are numbered from 1 in the order they are registered.
        ones: the layers whose biases start at 1; all others start at 0.
    """
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for number, layer in enumerate(layers, start=1):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        else:
            nn.init.normal_(layer.weight, std=0.01)
        if layer.bias is not None:
            nn.init.constant_(layer.bias, 1.0 if number in ones else 0.0)


def krizhevsky(
    name: str, rows: Sequence[Row], *, num_classes: int, in_channels: int, image_size: int, dropout: float = 0.5
) -> Network:
    """An AlexNet of 2012 from its table; its first dense layer depends on the size of the picture."""
    side = last_size(image_size, windows(rows), name)
    head = dense_head(rows[-1][1] * side * side, num_classes, dropout)
    net = Network(nn.Identity(), stages(rows, in_channels), head)
    initialise(net, ONES)
    return net


def alexnet(*, num_classes: int, in_channels: int, dropout: float = 0.5) -> Network:
    """The AlexNet of torchvision."""
    head = nn.Sequential(
        nn.AdaptiveAvgPool2d(6), nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(TORCHVISION[-1][1] * 6 * 6, DENSE), nn.ReLU(),
        nn.Dropout(dropout), nn.Linear(DENSE, DENSE), nn.ReLU(),
        nn.Linear(DENSE, num_classes),
    )  # fmt: skip
    return Network(nn.Identity(), stages(TORCHVISION, in_channels), head)


MODELS = {
    "alexnet": alexnet,
    "alexnet_lecture": partial(krizhevsky, "alexnet_lecture", LECTURE),
    "alexnet_paper": partial(krizhevsky, "alexnet_paper", PAPER),
}
