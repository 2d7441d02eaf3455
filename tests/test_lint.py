"""The design guidelines as findings, and networks compared side by side."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import reference
from hubel import zoo
from hubel.analysis import compare, lint, summary, tables
from hubel.errors import UsageError

with torch.device("meta"):
    VGG11 = summary(zoo.create("vgg11"), (3, 224, 224))


def findings(net, input=(3, 64, 64)):
    return {finding.rule: finding for finding in lint(net, input)}


def stack(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


def test_volume_that_falls_too_fast():
    found = findings(stack(nn.Conv2d(3, 96, 3, padding=1), nn.Conv2d(96, 32, 3, 4, padding=1)))["bottleneck"]
    assert found.layer == "1"
    assert "from 393,216 to 8,192 numbers, 48 times" in found.message
    gentle = stack(nn.Conv2d(3, 32, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1))
    assert "bottleneck" not in findings(gentle)


def test_a_narrow_branch_beside_a_shortcut_is_no_bottleneck():
    with torch.device("meta"):
        net = reference.build("torchvision:resnet50")
    assert "bottleneck" not in findings(net, (3, 224, 224))


def test_receptive_field_smaller_than_the_picture():
    small = stack(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1))
    assert "sees 5 of 64 px (8%)" in findings(small)["receptive-field"].message
    large = stack(nn.Conv2d(3, 32, 33, padding=16), nn.Conv2d(32, 32, 33, padding=16))
    assert "receptive-field" not in findings(large)


def test_a_large_filter_and_what_a_chain_saves():
    found = findings(stack(nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 32, 5, padding=2, bias=False)))["large-filter"]
    assert (found.layer, found.params) == ("1", 25 * 32 * 32 - 2 * 9 * 32 * 32)
    assert found.macs == found.params * 64 * 64
    assert "28% less" in found.message
    assert "large-filter" not in findings(stack(nn.Conv2d(3, 32, 5, padding=2)))  # few channels in: a chain costs more
    assert "large-filter" not in findings(stack(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 5, groups=32)))


def test_a_bias_under_batch_norm():
    idle = stack(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU())
    assert findings(idle)["idle-bias"].params == 32
    for fine in (nn.Conv2d(3, 32, 3, bias=False), nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU())):
        assert "idle-bias" not in findings(stack(fine, nn.BatchNorm2d(32)))


def test_most_parameters_in_one_dense_layer():
    with torch.device("meta"):
        net = reference.build("torchvision:vgg16")
    found = findings(net, (3, 224, 224))["dense-layer"]
    assert found.layer == "classifier.0"
    assert "102,764,544 of 138,357,544 parameters (74%)" in found.message


def test_a_stride_that_leaves_pixels_unread():
    found = findings(stack(nn.Conv2d(3, 32, 1, stride=2)))["stride"]
    assert "stride 2 is larger than the 1x1 filter: 75% of its input is read by nobody" in found.message
    with torch.device("meta"):
        net = reference.build("torchvision:resnet18")  # its strided 1x1 shortcuts stand beside 3x3 filters
    assert "stride" not in findings(net, (3, 224, 224))


def test_channels_that_do_not_double_where_the_maps_halve():
    def net(c):
        return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(32, c, 3, padding=1))

    assert "from 32 to 48; 64 would" in findings(net(48))["channels"].message
    assert "channels" not in findings(net(64))


class Dead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.ignored, self.idle = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3), nn.Linear(4, 4)

    def forward(self, x):
        self.ignored(x)
        return self.used(x)


def test_parameters_that_nobody_reads_and_results_that_nobody_uses():
    found = {finding.layer: finding for finding in lint(Dead(), (3, 8, 8)) if finding.rule == "dead"}
    assert (found["idle"].params, found["ignored"].params) == (20, 3 * 8 * 9 + 8)
    assert "used" not in found


def test_a_network_that_follows_the_guidelines_has_no_findings():
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    assert lint(net, (1, 6, 6)) == []


def test_compare_has_a_line_per_network_and_draws_those_with_a_published_accuracy(tmp_path):
    found = compare(["lenet5", "resnet18", "resnet50"])
    assert [entry.macs for entry in found.entries] == [zoo.facts()[entry.name]["macs"] for entry in found.entries]
    assert found.entries[0].top1 is None
    text = found.text()
    assert "1,814,073,344" in text
    assert "69.8 %" in text
    assert found.json()["models"][2]["flops"] == 2 * zoo.facts()["resnet50"]["macs"]
    assert found.chart(tmp_path / "chart.png").read_bytes()[1:4] == b"PNG"
    assert "<svg" in found.chart(tmp_path / "chart.svg").read_text()
    with pytest.raises(UsageError, match="published accuracy"):
        compare(["lenet5"]).chart(tmp_path / "none.png")
    with pytest.raises(UsageError, match="did you mean resnet50"):
        compare(["resnet5O"])
    own = compare({"mine": nn.Conv2d(3, 4, 3), "yours": nn.Conv2d(3, 8, 3)}, input=(3, 8, 8))
    assert [entry.params for entry in own.entries] == [112, 224]


@pytest.mark.parametrize("size", range(7, 12))
@pytest.mark.parametrize("padding", [0, 1])
def test_a_window_that_does_not_fit_says_so_exactly_where_pixels_reach_no_output(size, padding):
    net = nn.Conv2d(1, 2, 3, stride=3, padding=padding)
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    net(x).sum().backward()
    unread = int((x.grad[0, 0].abs().sum(0) == 0).sum())  # columns that reach nothing
    found = findings(net, (1, size, size)).get("fit")
    assert (found is not None) == (unread > 0)
    assert ("Does not fit" in str(summary(net, (1, size, size)))) == (unread > 0)
    if found is not None:
        assert f"{size}x{size} input, 3x3 filter, stride 3" in found.message
        assert f"the last {unread} px" in found.message
        for fits in (int(word) for word in found.message.split("; ")[1].split() if word.isdigit()):
            assert "fit" not in findings(net, (1, fits, fits))


def test_what_one_window_leaves_another_may_read():
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(1, 2, 2, stride=2)

        def forward(self, x):
            return self.wide(x).mean() + self.narrow(x).mean()

    assert "fit" not in findings(Beside(), (1, 7, 7))


@given(width=st.integers(40, 200))
@settings(max_examples=20, deadline=None)
def test_a_table_leaves_columns_out_until_it_has_room_and_names_them(width):
    described, whole = VGG11, tables.text(VGG11, 1)
    shown = tables.text(described, 1, width)
    heading = next(line for line in shown.splitlines() if "params" in line)
    missing = [name for name in tables.COLUMNS if name not in heading]
    assert set(missing) <= set(tables.SPARE)  # never the layer, its output, its parameters and MACs
    if missing:
        assert ", ".join(missing) in " ".join(shown.split())
        least = len(missing) == len(tables.SPARE)
        assert least or all(len(line) <= width for line in shown.splitlines())
    else:
        assert max(map(len, whole.splitlines()[:8])) <= width + tables.GAP
    assert "132,863,336" in shown


def test_what_only_training_uses_is_counted_apart():
    entry = compare(["googlenet"]).entries[0]
    assert entry.params + entry.training_params == zoo.facts()["googlenet"]["params"]
    with torch.device("meta"):
        alone = zoo.create("googlenet").auxiliary
    assert entry.training_params == sum(p.numel() for p in alone.parameters())
    assert "6,379,984 more parameters in layers that only training uses" in compare(["googlenet"]).text()


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (nn.Softmax(1), "a softmax, and cross entropy takes it for logits: it is applied twice"),
        (
            nn.LogSoftmax(1),
            "a log-softmax, and cross entropy takes it for logits: a second log-softmax changes nothing",
        ),
        (nn.Sigmoid(), "a sigmoid, and cross entropy takes it for logits: all logits lie between 0 and 1"),
        (nn.Sequential(nn.Softmax(1), nn.Dropout(), nn.Flatten()), "a softmax"),
    ],
)
def test_an_output_that_is_no_logits_any_more(last, what):
    found = findings(nn.Sequential(stack(nn.Conv2d(3, 32, 3)), last))["logits"]
    assert found.layer.startswith("1")
    assert what in found.message
    for inside in (nn.Softmax(1), nn.Sigmoid()):
        assert "logits" not in findings(stack(nn.Conv2d(3, 32, 3), inside))


@pytest.mark.parametrize("scripted", [nn.Conv2d(3, 32, 3), nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU())])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scripted_layer_is_read(scripted):
    net = stack(torch.jit.script(scripted))
    assert "dead" not in findings(net)
    rows = summary(net, (3, 64, 64)).rows
    assert sum(row.params for row in rows if row.op != "not called") == sum(p.numel() for p in net.parameters())
