"""Before convolution: the linear classifier and the two-layer perceptron, the yardsticks of the lectures.

Source: the lectures' linear classifier on the stretched picture (32x32x3 -> 3072), and the same with one hidden layer
of 100 ReLU units (scikit-learn's default width).
"""

from functools import partial
from itertools import pairwise

from torch import nn

from hubel.layers import Network


def perceptron(hidden: tuple[int, ...], *, num_classes: int, in_channels: int, image_size: int) -> Network:
    """A chain of fully connected layers on the pixels of one picture."""
    sizes = (in_channels * image_size * image_size, *hidden)
    layers: list[nn.Module] = []
    for c_in, c_out in pairwise(sizes):
        layers += [nn.Linear(c_in, c_out), nn.ReLU()]
    return Network(nn.Flatten(), [nn.Sequential(*layers)] if layers else [], nn.Linear(sizes[-1], num_classes))


# fmt: off
#   name      hidden units
TABLE = {
    "linear": (),
    "mlp":    (100,),
}
# fmt: on

MODELS = {name: partial(perceptron, hidden) for name, hidden in TABLE.items()}
