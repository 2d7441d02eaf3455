"""Networks of several inputs, and inputs that are no pictures, as `summary` and `lint` take them."""

import json
import re

import pytest
import torch
from torch import nn

import hubel
from hubel import analysis
from hubel.cli import main
from hubel.errors import UsageError

CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.meta = nn.Linear(10, 4)
        self.head = nn.Linear(12, num_classes)

    def forward(self, image, meta):
        return self.head(torch.cat([self.body(image), self.meta(meta).relu()], 1))

class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 16)
        self.head = nn.Linear(16, 5)

    def forward(self, words):
        return self.head(self.embedding(words).mean(1))
"""
MACS = 9 * 3 * 8 * 32 * 32 + 10 * 4 + 12 * 1000
PARAMS = 9 * 3 * 8 + 8 + 44 + 13 * 1000


@pytest.fixture
def code(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(CODE)
    return path


@pytest.mark.parametrize("written", [("--input", "3x32x32", "--input", "10"), ("input=3x32x32", "input=10")])
def test_the_command_line_takes_an_input_after_the_other(code, capsys, written):
    assert main(["summary", f"{code}:Net", *written, "json=true"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input"] == [[3, 32, 32], [10]]
    assert (found["total"]["params"], found["total"]["macs"]) == (PARAMS, MACS)
    assert found["total"]["receptive_field"] == [3, 3]
    assert [row["output"] for row in found["rows"] if row["op"] == "input"] == [[3, 32, 32], [10]]
    assert main(["lint", f"{code}:Net", *written, "json=true"]) in (0, 1)
    assert main(["summary", f"{code}:Net", *written, f"html={code.with_suffix('.html')}"]) == 0
    assert "input 3x32x32 and 10" in code.with_suffix(".html").read_text()


def test_one_input_stays_one_list(code, capsys):
    assert main(["summary", f"{code}:Words", "--input", "20:int64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["input"] == [20]
    assert (found["total"]["params"], found["total"]["macs"]) == (1600 + 85, 80)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("3x32x32",), r"takes 2 inputs \(image, meta\), and one is given.*--input 3x32x32 --input 10"),
        (("3x32x32", "10", "7"), r"takes 2 inputs \(image, meta\), and 3 are given"),
        (("3x32x32", "11"), r"layer meta \(Linear\).*reads 10 numbers per picture and gets 11.*3x32x32 and 11"),
        (("3x32x32", "10:int99"), "no kind of numbers 'int99'; did you mean"),
        (("3x32x32", "ten"), "input 'ten' is no size"),
    ],
)
def test_inputs_that_do_not_fit_are_told(code, capsys, given, says):
    assert main(["summary", f"{code}:Net", *(f"input={one}" for one in given)]) != 0
    assert re.search(says, capsys.readouterr().err)


def test_a_network_of_the_zoo_takes_one():
    with pytest.raises(UsageError, match="takes one picture of real numbers, and 2 inputs are given"):
        hubel.summary("resnet18", ["3x32x32", "10"])


class Both(nn.Module):
    """Two pictures through one body, and a vector that scales the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3))
        self.scale = nn.Linear(10, 4)

    def forward(self, a, b, v):
        return (self.body(a) - self.body(b)) * self.scale(v)[:, :, None, None]


def test_parts_add_up_and_autograd_keeps_as_much():
    net, sizes = Both(), [(3, 16, 16), (3, 16, 16), (10,)]
    table = hubel.summary(net, sizes)
    alone = analysis.summary(net.body, (3, 16, 16)).total
    assert table.total.params == alone.params + 44
    assert table.total.macs == 2 * alone.macs + 40
    assert table.total.receptive_field == (5, 5)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = net(*(torch.randn(1, *size) for size in sizes))
    for parameter in net.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    assert out.shape == (1, 4, 12, 12)
    assert table.total.saved_bytes == sum(kept.values())


def test_a_number_of_classes_that_nothing_gives_is_the_zoos(code):
    from hubel.commands.summary import linted, summarise

    table = summarise(f"{code}:Net", ["3x32x32", "10"])
    assert (table.total.params, table.total.macs) == (PARAMS, MACS)
    assert "num_classes is 1000" in table.note
    assert "num_classes is 1000" in table.text()
    assert "num_classes" not in summarise(f"{code}:Net", ["3x32x32", "10"], classes=7).note
    assert "num_classes" not in summarise(f"{code}:Words", "20:int64").note
    assert isinstance(linted(f"{code}:Net", ["3x32x32", "10"]), list)


def test_the_total_receptive_field_says_whose_it_is_in_every_form():
    table = hubel.summary(analysis.model("16c3p1 r p2 32c3p1 r flat 10", input=(1, 28, 28)), (1, 28, 28))
    total, rows = table.json()["total"], table.json()["rows"]
    assert rows[-1]["receptive_field"] == [28, 28]
    assert total["receptive_field"] != rows[-1]["receptive_field"]
    assert (
        total["receptive_field"]
        == [row for row in rows if row["name"] == total["receptive_field_of"]][-1]["receptive_field"]
    )
    sentence = (
        f"{total['receptive_field'][0]} px of the last feature map, one position of it; the rows after it read all"
    )
    assert sentence in table.text()
    assert sentence in table.markdown()
    assert sentence in table.html()
    assert "px receptive field of a position of the last feature map" in table.html()
