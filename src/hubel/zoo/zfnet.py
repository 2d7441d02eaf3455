"""ZFNet: AlexNet with a first layer that looks closer, found by looking at what the layers see.

Source: Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014 (arXiv 2013), Figure 3.
`zfnet` is Figure 3; `zfnet_lecture` is the form the lectures name, with 512, 1024 and 512 maps in layers 3, 4 and 5.
Departs from the paper: "contrast normalised across feature maps" is AlexNet's local response norm, since the paper
gives no formula; convolutions start as in He et al. 2015, because the paper's 10^-2 is meant for pixels of -128 to 127;
filters are not renormalised to a fixed norm during training. The figure's sizes (110, 55, 26, 13, 6 px) need padding 1
in layer 1 and pools that round up.
"""

from collections.abc import Sequence
from functools import partial

from torch import nn

from hubel.arithmetic import last_size
from hubel.layers import Network
from hubel.zoo.alexnet import Row, dense_head, initialise, stages, windows

# fmt: off
#    layer      maps  kernel stride pad groups  then           <- Figure 3
OPENING = (
    ("layer 1",   96,    7,    2,    1,    1,   "pool norm"),
    ("layer 2",  256,    5,    2,    0,    1,   "pool norm"),
)
FIGURE = (
    *OPENING,
    ("layer 3",  384,    3,    1,    1,    1,   ""),
    ("layer 4",  384,    3,    1,    1,    1,   ""),
    ("layer 5",  256,    3,    1,    1,    1,   "pool"),
)
LECTURE = (
    *OPENING,
    ("layer 3",  512,    3,    1,    1,    1,   ""),
    ("layer 4", 1024,    3,    1,    1,    1,   ""),
    ("layer 5",  512,    3,    1,    1,    1,   "pool"),
)
# fmt: on


def zeiler(
    name: str, rows: Sequence[Row], *, num_classes: int, in_channels: int, image_size: int, dropout: float = 0.5
) -> Network:
    """A ZFNet from its table; its first dense layer depends on the size of the picture."""
    side = last_size(image_size, windows(rows, ceil_mode=True), name)
    head = dense_head(rows[-1][1] * side * side, num_classes, dropout)
    net = Network(nn.Identity(), stages(rows, in_channels, ceil_mode=True), head)
    initialise(net)
    return net


MODELS = {
    "zfnet": partial(zeiler, "zfnet", FIGURE),
    "zfnet_lecture": partial(zeiler, "zfnet_lecture", LECTURE),
}
