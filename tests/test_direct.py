"""The inspector names the call of plain modules without running them: with the same result as running them."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hubel import zoo
from hubel.analysis import direct, summary
from hubel.errors import HubelError


class Forwards(nn.Conv2d):
    """A convolution that does something else as well."""

    def forward(self, x):
        return super().forward(x).relu()


def _patched():
    layer = nn.ReLU()
    layer.forward = lambda x: x.sigmoid()
    return layer


UNUSUAL = {
    "convolution": lambda: nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1, bias=False),
    "dilated": lambda: nn.Conv2d(3, 6, (3, 1), dilation=(2, 1), groups=3),
    "same": lambda: nn.Conv2d(3, 8, 3, padding="same"),
    "circular": lambda: nn.Conv2d(3, 8, 3, padding=1, padding_mode="circular"),
    "subclass": lambda: Forwards(3, 8, 3),
    "weight norm": lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 3)),
    "spectral norm by a hook": lambda: nn.utils.spectral_norm(nn.Conv2d(3, 8, 3)),
    "patched": _patched,
    "in place": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(4)),
    "without statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None, affine=False),
    "half": lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).half(),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_naming_a_modules_call_says_what_running_it_says(name, monkeypatch):
    net = UNUSUAL[name]().eval()
    shortcut = summary(net, (3, 12, 10))
    monkeypatch.setattr(direct, "OF", {})
    assert shortcut == summary(net, (3, 12, 10))


@pytest.mark.parametrize("net", [nn.Conv2d(4, 8, 3), nn.Conv2d(3, 8, 20), nn.BatchNorm2d(5)], ids=str)
def test_naming_a_call_that_does_not_fit_says_what_running_it_says(net, monkeypatch):
    errors = []
    for of in (direct.OF, {}):
        monkeypatch.setattr(direct, "OF", of)
        with pytest.raises(HubelError) as caught:
            summary(net, (3, 12, 10))
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


class Drawn(TorchDispatchMode):
    """Notes which operators fill memory."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names |= {func._opname} & {"normal_", "uniform_", "normal", "uniform", "fill_", "zero_"}
        return func(*args, **kwargs or {})


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg16", "googlenet", "efficientnet_b0", "densenet121", "nasnet_a_mobile"]
)
def test_nothing_is_drawn_for_weights_that_do_not_exist(name):
    with torch.device("meta"), Drawn() as drawn:
        empty = zoo.create(name)
    assert not drawn.names
    with Drawn() as drawn:
        real = zoo.create(name)
    assert drawn.names
    assert [(k, v.shape, v.dtype) for k, v in empty.state_dict().items()] == [
        (k, v.shape, v.dtype) for k, v in real.state_dict().items()
    ]
