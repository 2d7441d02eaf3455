"""Every network of the zoo: published figures, the contract, learning, and equality with the reference."""

import inspect

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import reference
from hubel import weights, zoo
from hubel.errors import ShapeError, UsageError

FACTS = zoo.facts()
NAMES = list(zoo.MODELS)
SMALL = [name for name in NAMES if FACTS[name]["macs"] < 20e9]
REFERENCES = [name for name in NAMES if "reference" in FACTS[name]]


def picture(name: str, batch: int = 1, device: str = "cpu") -> torch.Tensor:
    size = (batch, *FACTS[name]["input"])
    if device == "meta":
        return torch.empty(size, device=device)
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


def meta(name: str, **options) -> torch.nn.Module:
    with torch.device("meta"):
        return zoo.create(name, **options)


def test_every_model_has_facts_and_every_fact_a_model():
    assert set(FACTS) == set(zoo.MODELS)


@pytest.mark.parametrize("name", NAMES)
def test_published_parameters_and_macs_and_no_module_is_called_twice(name):
    net = meta(name).eval()
    assert sum(p.numel() for p in net.parameters()) == FACTS[name]["params"]
    calls: dict[str, int] = {}
    leaves = {n: m for n, m in net.named_modules() if not list(m.children())}
    for leaf, module in leaves.items():
        module.register_forward_hook(lambda *_, leaf=leaf: calls.__setitem__(leaf, calls.get(leaf, 0) + 1))
        assert not getattr(module, "inplace", False), f"{leaf} works in place"
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        logits = net(picture(name, device="meta"))
    assert logits.shape == (1, FACTS[name]["classes"])
    assert counter.get_total_flops() == 2 * FACTS[name]["macs"]
    assert not {leaf: n for leaf, n in calls.items() if n > 1}


@pytest.mark.parametrize("name", NAMES)
def test_contract_stem_stages_head(name):
    """The network is what its three parts make one after the other of the picture."""
    net = meta(name, num_classes=7, in_channels=2).eval()
    _, height, width = FACTS[name]["input"]
    at, went = torch.empty(2, 2, height, width, device="meta"), []
    assert [child for child, _ in net.named_children()][:2] == ["stem", "stages"]
    for part in (net.stem, net.stages, net.head):
        part.register_forward_hook(lambda part, inputs, output: went.append((part, inputs, output)))
    with torch.no_grad():
        logits = net(at)
    assert logits.shape == (2, 7)
    assert [part for part, _, _ in went] == [net.stem, net.stages, net.head]
    for _, (read,), output in went:
        assert read is at
        at = output
    assert logits is at


@pytest.mark.parametrize("name", REFERENCES)
def test_logits_equal_the_reference(name):
    torch.manual_seed(0)
    theirs = reference.build(FACTS[name]["reference"]).eval()
    for module in theirs.modules():  # running statistics that matter, so that a swapped pair cannot hide
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.05)
            module.running_var.uniform_(0.8, 1.2)
    ours = meta(name).to_empty(device="cpu").eval()  # every weight and statistic is the reference's
    weights.adopt(ours, theirs.state_dict())
    x = picture(name)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-4, rtol=0)


def test_unknown_names_options_and_depths_name_the_way_out():
    with pytest.raises(UsageError, match=r"unknown model 'resnet5O'; did you mean resnet50"):
        zoo.create("resnet5O")
    with pytest.raises(UsageError, match=r"resnet18 has no option 'num_clases'; did you mean num_classes"):
        zoo.create("resnet18", num_clases=3)
    with pytest.raises(UsageError, match=r"6n\+2 layers, 21 is not: take resnet20_cifar or resnet26_cifar"):
        zoo.create("resnet21_cifar")
    assert zoo.create("plain26_cifar", num_classes=3)(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_a_picture_too_small_names_layer_size_and_what_fits():
    with pytest.raises(ShapeError, match=r"lenet5: layer C3 does not fit a 8x8 picture .*>= 12"):
        zoo.create("lenet5", image_size=8)
    with pytest.raises(ShapeError, match=r"lenet5_paper: .*>= 16"):
        zoo.create("lenet5_paper", image_size=15)
    zoo.create("lenet5", image_size=12)
    zoo.create("lenet5_paper", image_size=16)


@pytest.mark.parametrize("name", SMALL)
def test_eval_output_of_a_picture_does_not_depend_on_its_batch(name):
    """On pictures of half the published side, where the layers let them through."""
    torch.manual_seed(0)
    net = zoo.create(name).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
            module.momentum = 1.0
    x = picture(name, batch=2)
    if x.shape[2] > 200 and "image_size" not in inspect.signature(zoo.MODELS[name]).parameters:
        x = x[:, :, ::2, ::2]
    with torch.inference_mode():
        net(x)  # running statistics of these pictures: with those of a new network, deep ones overflow in evaluation
        net.eval()
        together, alone = net(x)[:1], net(x[:1])
    # a thousand layers multiply the last bit of a float to some thousandths
    torch.testing.assert_close(together, alone, atol=0.01 * alone.abs().max().item(), rtol=0)
