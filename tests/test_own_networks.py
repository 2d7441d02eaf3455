"""Networks of one's own in the inspector: how they are built, what they may look like, and without any memory."""

import resource
import warnings
from pathlib import Path

import pytest
import torch

from hubel import analysis, zoo
from hubel.analysis import sequence
from hubel.analysis.network_check import require_logits
from hubel.commands.gradcheck import gradcheck
from hubel.commands.summary import compared, linted, named_network, summarise
from hubel.errors import UsageError
from hubel.explanation.attribution import Settings, saliency
from hubel.explanation.private import private
from hubel.model_ref import ModelRef

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, num_classes)
    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))
class Positional(Net):
    def __init__(self, num_classes=10, image_size=4, /):
        super().__init__(num_classes)
class Plain(Net):
    def __init__(self):
        super().__init__()
class Keywords(Net):
    def __init__(self, **options):
        super().__init__(**options)
class Sized(Net):
    def __init__(self, image_size=32, in_channels=3):
        super().__init__()
        self.sizes = image_size, in_channels
class Needs(Net):
    def __init__(self, width):
        super().__init__(width)
class Broken(Net):
    def __init__(self):
        raise KeyError("width")
class Rates(Net):
    def __init__(self):
        super().__init__()
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]
class Lazy(nn.Sequential):
    def __init__(self):
        super().__init__(nn.LazyConv2d(8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(10))
class Mapping(Net):
    def forward(self, x):
        y = super().forward(x)
        return {"logits": y, "more": [(y, y * 2)]}
class Two(Net):
    def forward(self, x, y):
        return super().forward(x) + y
class Numpy(Net):
    def forward(self, x):
        return super().forward(torch.from_numpy(x.detach().numpy()))
class Decides(Net):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)
class Wrong(Net):
    def forward(self, x):
        return super().forward(x).no_such_method()
class Nothing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
class Ends(Net):
    def __init__(self):
        raise SystemExit(7)
class EndsLater(Net):
    def forward(self, x):
        raise SystemExit(7)
class InPlace(Net):
    def forward(self, x):
        return super().forward(x.clamp_(0))
class Extra(Net):
    def get_extra_state(self):
        return {"width": 1}
    def set_extra_state(self, state):
        pass
parts = nn.ModuleList([Net()])
class Huge(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(36_000_000, 100)
    def forward(self, x):
        return self.head(x.flatten(1)[:, :1].expand(-1, 36_000_000))

def factory(num_classes=10):
    return Net(num_classes)
there = Net()
"""
PARAMS = 3 * 9 * 8 + 8 + 8 * 10 + 10
GOOD = ("Net", "Positional", "Plain", "Keywords", "Sized", "Rates", "Lazy", "Mapping", "factory", "there")
BAD = {
    "Needs": "needs a 'width', and nothing here gives one",
    "Broken": "cannot be built: KeyError: 'width'",
    "Two": r"forward of Two takes 2 inputs \(x, y\), and one is given",
    "Numpy": "needs the numbers of a tensor",
    "Decides": "needs the numbers of a tensor",
    "Wrong": "its forward pass fails: AttributeError",
    "Nothing": r"Module \[Nothing\] is missing the required \"forward\" function; write what it computes",
    "parts": r"Module \[ModuleList\] is missing the required \"forward\" function; write what it computes",
    "Ends": "cannot be built: SystemExit: 7",
    "EndsLater": "its forward pass fails: SystemExit",
}


@pytest.fixture(scope="module")
def code(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "mycode.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("name", GOOD)
def test_every_way_to_write_a_network_is_inspected(code, name):
    reference = f"{code}:{name}"
    assert summarise(reference, "3x16x16").total.params == PARAMS
    assert linted(reference, "3x16x16")
    assert [entry.params for entry in compared([reference, reference], "3x16x16").entries] == [PARAMS, PARAMS]
    assert all(not parameter.is_meta for parameter in zoo.create(reference).parameters())


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_network_is_one_sentence(code, name):
    for verb in (summarise, linted):
        with pytest.raises(UsageError, match=BAD[name]):
            verb(f"{code}:{name}", "3x16x16")


def test_the_number_of_classes_reaches_own_code_or_stays_at_its_default(code):
    assert summarise(f"{code}:Positional", "3x16x16", classes=4).total.params == PARAMS - 6 * 9
    assert zoo.create(f"{code}:Sized", image_size=20).sizes == (20, 3)
    assert zoo.create(f"{code}:Keywords", num_classes=4, in_channels=3).head.out_features == 4


def test_what_a_file_of_weights_cannot_hold_is_found_before_a_training(code):
    network = zoo.create(f"{code}:Extra")
    with pytest.raises(UsageError, match=r"_extra_state of Extra is a dict, and a file of weights holds tensors alone"):
        require_logits(network, "Extra", (3, 8, 8), 10, training=True)
    with pytest.raises(UsageError, match=r"EndsLater cannot compute pictures of 3x8x8 \(SystemExit: 7\)"):
        require_logits(zoo.create(f"{code}:EndsLater"), "EndsLater", (3, 8, 8), 10, training=True)


def test_a_part_in_torchscript_is_not_looked_into():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is said to go
        network = torch.nn.Sequential(torch.jit.script(torch.nn.Conv2d(3, 4, 3)), torch.nn.ReLU())
    with pytest.raises(UsageError, match="0 is a TorchScript program, which cannot be looked into"):
        private(network)


def test_a_network_that_works_in_place_on_its_input_is_explained(code):
    network, x = zoo.create(f"{code}:InPlace").eval(), torch.randn(2, 3, 8, 8)
    before, leaf = x.clone(), x.clone().requires_grad_()
    network(leaf.clone())[:, 1].sum().backward()
    found = saliency(network, x, torch.tensor([1, 1]), Settings())
    torch.testing.assert_close(found, leaf.grad)
    torch.testing.assert_close(x, before)


def test_gradients_of_own_code_and_of_lines_are_checked_on_real_weights(code):
    assert all(layer.passed for layer in gradcheck(f"{code}:Net", "3x8x8"))
    assert all(layer.passed for layer in gradcheck("2c3 r gap 3", "1x8x8"))


def test_a_file_of_code_without_a_name_is_told_its_networks(code):
    with pytest.raises(UsageError, match=r"say which network in it: .*mycode.py:Net, .*mycode.py:Positional"):
        summarise(str(code), "3x8x8")
    with pytest.raises(UsageError, match=r"nothing.py:Net"):
        zoo.create("nothing.py")


def test_huge_networks_are_inspected_without_memory_for_them(code):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert summarise("flat 100", "3x2000x2000").total.params == 1_200_000_100
    assert summarise(f"{code}:Huge", "3x8x8").total.params == 3_600_000_100
    assert linted("flat 100", "3x2000x2000") == []
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


def test_lines_keep_their_shapes_without_weights():
    _, network, _ = named_network(ModelRef.find("8c3 bn r p2 [8c3p1 bn] gap 10"), "3x16x16")
    assert all(tensor.is_meta for tensor in network.state_dict().values())
    real = analysis.model("8c3 bn r p2 [8c3p1 bn] gap 10", input=(3, 16, 16))
    assert [tensor.shape for tensor in real.state_dict().values()] == [t.shape for t in network.state_dict().values()]
    assert torch.isfinite(real(torch.zeros(1, 3, 16, 16))).all()


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("resnet99999998_cifar", "the deepest is resnet6002_cifar"),
        ("plain" + "9" * 5000 + "_cifar", "the deepest is plain6002_cifar"),
        ("resnet18[:" + "9" * 5000 + "]", "unknown model"),
        ("9999999999c3 gap 3", "numbers go up to"),
        ("8c1000000000 gap 3", "numbers go up to"),
        ("8c3s" + "9" * 5000 + " gap 3", "numbers go up to"),
        ("(8c3p1 r)x999999 gap 3", "999,999 times 2 words are more than 10,000 layers"),
        ("((8c3p1 r)x5000)x5000 gap 3", "more than 10,000 layers"),
        ("x" * 300, "unknown model"),
        ("a\0b", "unknown model"),
    ],
)
def test_absurd_names_are_refused_before_anything_is_built(model, sentence):
    with pytest.raises(UsageError, match=sentence):
        summarise(model)


@pytest.mark.parametrize("size", ["9" * 5000, "3x" + "9" * 5000 + "x3", "3x99999999x99999999", "3x0x3"])
def test_absurd_sizes_are_refused(size):
    with pytest.raises(UsageError, match="input"):
        summarise("resnet18", size)
    with pytest.raises(UsageError, match="at most"):
        summarise("resnet18", classes=10**20)


def test_a_line_may_be_longer_than_the_name_of_a_file():
    line = "8c3p1 " * 200 + "gap 3"
    assert summarise(line, "3x8x8").total.params == len(sequence.parse(line)[:-2]) * (8 * 8 * 9 + 8) - 5 * 9 * 8 + 27
    assert len(compared([line, "lenet5"]).entries) == 2
