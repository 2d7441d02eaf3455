"""What a PyTorch user guesses that summary, compare, lint and check_input take: it works, or one sentence says what
does.
"""

import pytest
import torch
from torch import nn

import hubel
from hubel.cli import main
from hubel.errors import ShapeError, UsageError

NET = hubel.create("lenet5")


@pytest.mark.parametrize("model", ["lenet5", "resnet20_cifar", "resnet18[:2]", "16c3p1 r p2 gap 10"])
def test_a_name_is_the_network_that_create_makes(model):
    made = hubel.summary(model)
    network = hubel.model(model) if " " in model else hubel.create(model)
    assert made.rows == hubel.summary(network, made.input).rows
    assert made.model == model
    assert hubel.lint(model) == hubel.lint(network, made.input)
    hubel.check_input(model)


@pytest.mark.parametrize(
    ("model", "input", "size"),
    [
        ("lenet5", 32, (1, 32, 32)),
        ("lenet5", None, (1, 28, 28)),
        ("resnet18", 64, (3, 64, 64)),
        ("resnet18", "3x64x96", (3, 64, 96)),
        ("resnet18", torch.Size([3, 64, 64]), (3, 64, 64)),
        ("16c3p1 r gap 10", 20, (3, 20, 20)),
        (NET, [1, 28, 28], (1, 28, 28)),
        (NET, "1x28x28", (1, 28, 28)),
        (nn.Linear(4, 2), (4,), (4,)),
    ],
)
def test_a_size_is_written_in_many_ways(model, input, size):
    assert hubel.summary(model, input).input == size


@pytest.mark.parametrize(
    ("model", "input", "sentence"),
    [
        (NET, 28, "input 28 leaves the channels open; for Network write (1, 28, 28)"),
        (NET, None, "which input does Network take? give channels, height and width, such as (1, 224, 224)"),
        (NET, (28, 28), "an input of 1x28x28 fits"),
        (NET, (1, 1, 28, 28), "one picture without the batch, 1x28x28, fits"),
        (NET, torch.zeros(1, 28, 28), "input of class Tensor is not channels x height x width"),
        (NET, (1, 28.0, 28), "input (1, 28.0, 28) is not channels x height x width"),
        (NET, (1, 0, 28), "input (1, 0, 28) is not"),
        (NET, 0, "input 0 is not"),
        (NET, "28 pixels", "input '28 pixels' is not"),
        ("lenet6", 28, "unknown model 'lenet6'; did you mean lenet5"),
        ("resnet18", (64, 64), "input 64x64 is not channels x height x width; resnet18 takes 3x224x224"),
        ("lenet5", (1, 28, 20), "lenet5 has a layer for square pictures only; 28x20 is not square"),
        ("mine.py:Net", None, "which input does mine.py:Net take? say it, such as input=3x224x224"),
        ("a.safetensors", None, "its network is hubel.load('a.safetensors').network"),
        (nn.Linear, 28, "the class Linear is no network; give an nn.Module, or a name such as 'resnet18'"),
        (28, NET, "an object of class int is no network"),
    ],
)
@pytest.mark.parametrize("instrument", [hubel.summary, hubel.lint, hubel.check_input])
def test_what_cannot_be_meant_is_one_sentence(instrument, model, input, sentence):
    with pytest.raises(UsageError) as error:
        instrument(model, input)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_networks_are_compared_by_name_or_as_they_are():
    names = hubel.compare(["lenet5", "resnet20_cifar"]).entries
    assert hubel.compare(["lenet5"], 28).entries == names[:1]
    assert [entry.name for entry in hubel.compare([NET, "lenet5"], (1, 28, 28)).entries] == ["Network", "lenet5"]
    assert hubel.compare({"mine": NET}, (1, 28, 28)).entries[0].macs == names[0].macs
    for wrong in (("alexnet", "vgg16"), (NET, (1, 28, 28))):
        with pytest.raises(UsageError, match="in one list, such as compare"):
            hubel.compare(*wrong)
    with pytest.raises(UsageError, match="which input does Network take"):
        hubel.compare({"mine": NET})


def test_a_file_of_layers_brings_its_input_which_a_given_one_replaces(tmp_path):
    path = tmp_path / "net.toml"
    path.write_text('layers = ["16c3p1", "r", "gap", 10]\ninput = [1, 20, 20]\n')
    assert hubel.summary(str(path)).input == (1, 20, 20)
    assert hubel.summary(str(path), 32).input == (1, 32, 32)
    assert hubel.summary(str(path), (3, 32, 32)).rows[1].params == 16 * (3 * 9 + 1)


def test_the_verb_takes_the_side_of_a_square_picture_too(capsys):
    assert main(["summary", "resnet20_cifar", "--input", "48", "--json"]) == 0
    assert '"input": [3, 48, 48]' in capsys.readouterr().out
    assert main(["summary", "resnet20_cifar", "--input", "48x48"]) == 2
    assert "write it as 3x224x224" in capsys.readouterr().err


def test_a_network_of_flat_numbers_is_not_asked_for_pictures():
    with pytest.raises(ShapeError, match="reads 4 numbers per picture and gets 5"):
        hubel.check_input(nn.Linear(4, 2), (5,))
