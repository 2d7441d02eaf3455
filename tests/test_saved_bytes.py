"""What a training step keeps for its backward pass, against what autograd keeps of a real one on the CPU."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hubel.analysis import summary

MAPS, TOKENS = (4, 6, 6), (36, 8)


class Calls(nn.Module):
    """A function of the input and of some layers."""

    def __init__(self, function, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.function = function

    def forward(self, x):
        return self.function(x, *self.layers)


def conv(c_out: int = 4, **options) -> nn.Conv2d:
    return nn.Conv2d(4, c_out, 3, padding=1, **options)


def between(*layers: nn.Module, c: int = 4) -> nn.Module:
    """Layers between two convolutions, the second of which keeps what they hand on."""
    return nn.Sequential(conv(), *layers, nn.Conv2d(c, 2, 3))


def attends(value: int = 8, heads: int = 2, key_heads: int | None = None, mask=None, **options) -> nn.Module:
    def function(x, query, key, value):
        def headed(tokens, heads):
            return tokens.unflatten(-1, (heads, -1)).transpose(-2, -3)

        seen = {None: None, "bool": torch.ones(36, 36, dtype=torch.bool), "float": torch.zeros(36, 36)}[mask]
        seen = seen if seen is None else seen.to(x.device)
        q, k, v = headed(query(x), heads), headed(key(x), key_heads or heads), headed(value(x), key_heads or heads)
        return functional.scaled_dot_product_attention(q, k, v, seen, **options)

    narrow = 8 * (key_heads or heads) // heads
    return Calls(function, nn.Linear(8, 8), nn.Linear(8, narrow), nn.Linear(8, value * narrow // 8))


def itself(layer: nn.Module, **options) -> nn.Module:
    return Calls(lambda x, layer: layer(x, x, x, **options)[0], layer)


def recurrent(layer: nn.Module) -> nn.Module:
    return Calls(lambda x, layer: layer(x)[0], layer)


def mixed_precision(x, a, b):
    with torch.autocast("cpu", torch.bfloat16):
        return b(functional.gelu(a(x)))


def encoder(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options)


ON_TOKENS = {
    "fused": lambda: attends(),
    "fused, causal": lambda: attends(is_causal=True),
    "fused, masked": lambda: attends(mask="bool"),
    "fused, biased": lambda: attends(mask="float"),
    "fused, dropout": lambda: attends(dropout_p=0.1),
    "fused, few keys": lambda: attends(heads=4, key_heads=2, enable_gqa=True),
    "wide values": lambda: attends(value=16),
    "fused, double": lambda: attends().double(),
    "fused, bfloat16": lambda: attends().bfloat16(),
    "one head": lambda: Calls(lambda x, f: functional.scaled_dot_product_attention(f(x), x, x), nn.Linear(8, 8)),
    "multi-head": lambda: itself(nn.MultiheadAttention(8, 2, batch_first=True), need_weights=False),
    "multi-head with weights": lambda: itself(nn.MultiheadAttention(8, 2, batch_first=True)),
    "encoder": lambda: encoder(dropout=0.0),
    "encoder, norm first": lambda: encoder(dropout=0.0, norm_first=True, activation="gelu"),
    "encoder, dropout": lambda: encoder(dropout=0.1),
    "decoder": lambda: Calls(lambda x, f: f(x, x), nn.TransformerDecoderLayer(8, 2, 16, dropout=0, batch_first=True)),
    "gru": lambda: recurrent(nn.GRU(8, 6, num_layers=2, bidirectional=True, batch_first=True)),
    "rnn": lambda: recurrent(nn.RNN(8, 6, nonlinearity="relu", batch_first=True)),
    "lstm, double": lambda: recurrent(nn.LSTM(8, 6, batch_first=True)).double(),
    "lstm, projected": lambda: recurrent(nn.LSTM(8, 6, proj_size=3, batch_first=True)),
    "layer norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8)),
    "layer norm, bfloat16": lambda: nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.SiLU()).bfloat16(),
    "rms norm": lambda: nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), nn.Linear(8, 8)),
    "embedding": lambda: Calls(lambda x, f, g: g(f((x[..., 0] > 0).long())), nn.Embedding(3, 4), nn.Linear(4, 2)),
    "einsum": lambda: Calls(lambda x, f: torch.einsum("bnc,bmc->bnm", f(x), f(x)).softmax(-1), nn.Linear(8, 8)),
    "bmm": lambda: Calls(lambda x, f: torch.bmm(f(x), x.transpose(1, 2)), nn.Linear(8, 8)),
}
ON_MAPS = {
    "transposed": lambda: between(nn.ConvTranspose2d(4, 4, 3, 2, 1, 1), nn.ReLU()),
    "nearest": lambda: between(nn.Upsample(scale_factor=2)),
    "bilinear": lambda: between(nn.Upsample(scale_factor=2, mode="bilinear")),
    "pixel shuffle": lambda: between(nn.PixelShuffle(2), c=1),
    "group norm": lambda: between(nn.GroupNorm(2, 4), nn.SiLU()),
    "group norm, bfloat16": lambda: between(nn.GroupNorm(2, 4), nn.Mish()).bfloat16(),
    "instance norm": lambda: between(nn.InstanceNorm2d(4, affine=True)),
    "batch norm, in place": lambda: between(nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
    "channels last": lambda: nn.Sequential(conv(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)).to(
        memory_format=torch.channels_last
    ),
    "softmax": lambda: between(nn.Softmax(1), nn.PReLU()),
    "dropout": lambda: between(nn.Dropout(0.5), nn.Dropout2d(0.5)),
    "response norm": lambda: between(nn.LocalResponseNorm(3)),
    "frozen": lambda: nn.Sequential(conv().requires_grad_(False), nn.GELU(), conv(), nn.ELU(), conv()),
    "gate": lambda: Calls(lambda x, f, g: f(x) * torch.sigmoid(g(x).mean((2, 3), keepdim=True)), conv(), conv()),
}
UNKNOWN = {
    "lstm": (lambda: recurrent(nn.LSTM(8, 6, batch_first=True)), TOKENS, "oneDNN"),
    "autocast": (lambda: Calls(mixed_precision, conv(), conv()), MAPS, "autocast"),
    "embedding bag": (lambda: Calls(lambda x, f: f((x > 0).long()), nn.EmbeddingBag(3, 4)), (8,), "embedding bag"),
}


def really_saved(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Bytes of every storage that autograd packs away in a real training pass, parameters and buffers left out."""
    kept = {}

    def pack(tensor):
        memory = tensor.untyped_storage()
        kept[memory._cdata] = memory  # held, so that no address is used twice
        return tensor

    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    x = torch.randn(1, *shape, dtype=next(network.parameters()).dtype)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = network.train()(x)
    assert result is not None
    return sum(memory.nbytes() for key, memory in kept.items() if key not in own)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", [*ON_TOKENS, *ON_MAPS])
def test_saved_bytes_are_exactly_what_autograd_keeps_on_the_cpu(name):
    network = {**ON_TOKENS, **ON_MAPS}[name]()
    shape = TOKENS if name in ON_TOKENS else MAPS
    described = summary(network, shape)
    assert described.total.saved_bytes == really_saved(network, shape)
    assert described.total.saved_bytes == sum(row.saved_bytes or 0 for row in described.rows)


@pytest.mark.parametrize("name", UNKNOWN)
def test_saved_bytes_that_shapes_do_not_tell_are_unknown(name):
    make, shape, reason = UNKNOWN[name]
    described = summary(make(), shape)
    assert described.total.saved_bytes is None
    assert {row.saved_bytes for row in described.rows} == {None}
    assert reason in described.note


def test_attention_is_one_call_as_on_the_cpu():
    (row,) = [row for row in summary(attends(), TOKENS).rows if row.op == "attention"]
    assert row.macs == 36 * 36 * (8 + 8)
