"""Weights made elsewhere, adopted by a network of ours.

A reference names its layers as it likes, so weights are matched by order. A file does not always keep that order
(safetensors sorts by name, old pickles list a batch norm's statistics first): `SIBLINGS` restores it from the names.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from hubel.errors import UsageError

NOT_WEIGHTS = ("num_batches_tracked",)
# what stands before every name because the network was wrapped: by parallel training, torch.compile, Lightning, a task
WRAPPERS = ("module", "_orig_mod", "model", "net", "network", "backbone", "encoder")

# Modules side by side, in the order in which torchvision and timm register them; "layer#" is layer1, layer2, ...
# fmt: off
SIBLINGS = [line.split() for line in (
    "weight bias running_mean running_var",
    "features classifier last_linear",                                                                  # many
    "conv1 bn1 conv2 bn2 conv3 bn3 se_module downsample layer# fc linear last_linear",                  # ResNet, SENet
    "fc1 fc2",                                                                          # a squeeze-and-excite block
    "squeeze expand1x1 expand3x3",                                                                      # SqueezeNet
    "conv_stem bn1 blocks classifier", "conv_dw bn1 conv_pw bn2",                                       # MobileNet v1
    "conv1 stage# conv5 fc", "branch#",                                                                 # ShuffleNet v2
    "conv0 norm0 denseblock1 transition1 denseblock2 transition2 denseblock3 transition3 denseblock4 norm5 classifier",
    "denselayer#", "norm1 conv1 norm2 conv2", "norm conv",                                              # DenseNet
    "conv1 conv2 conv3 inception3a inception3b inception4a inception4b inception4c inception4d inception4e "
    "inception5a inception5b aux# fc", "conv bn", "conv fc1 fc2",                                       # GoogLeNet
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 Mixed_5b Mixed_5c Mixed_5d Mixed_6a "
    "Mixed_6b "
    "Mixed_6c Mixed_6d Mixed_6e AuxLogits Mixed_7a Mixed_7b Mixed_7c fc", "conv0 conv1 fc",             # Inception-v3
    "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
    "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 "
    "branch7x7dbl_5 branch_pool",
    "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a branch3x3dbl_3b "
    "branch_pool",
    "branch0 branch1_0 branch1_1a branch1_1b branch2_0 branch2_1 branch2_2 branch2_3a branch2_3b branch3",  # -v4
    "conv2d_1a conv2d_2a conv2d_2b conv2d_3b conv2d_4a mixed_5b repeat mixed_6a repeat_1 mixed_7a repeat_2 block8 "
    "conv2d_7b classif", "branch# conv2d",                                                     # Inception-ResNet-v2
    "conv0 cell_stem_0 cell_stem_1 cell_0 cell_1 cell_2 cell_3 cell_4 cell_5 reduction_cell_0 cell_6 cell_7 cell_8 "
    "cell_9 "
    "cell_10 cell_11 reduction_cell_1 cell_12 cell_13 cell_14 cell_15 cell_16 cell_17 last_linear",     # NASNet-A large
    "conv_prev_1x1 conv_1x1 path_1 path_2 final_path_bn comb_iter_0_left comb_iter_0_right comb_iter_1_left "
    "comb_iter_1_right comb_iter_2_left comb_iter_2_right comb_iter_3_left comb_iter_3_right comb_iter_4_left "
    "comb_iter_4_right", "separable_1 bn_sep_1 separable_2 bn_sep_2", "depthwise_conv2d pointwise_conv2d",
)]
# fmt: on


def bare(names: Iterable[str]) -> dict[str, str]:
    """The names of a state_dict's entries without those of the wrappers around the network, by the full names.

    >>> bare(["model.module.conv.weight", "model.module.fc._orig_mod.bias"])
    {'model.module.conv.weight': 'conv.weight', 'model.module.fc._orig_mod.bias': 'fc.bias'}
    """
    short = {name: name.replace("._orig_mod.", ".") for name in names}
    heads = {name.partition(".")[0] for name in short.values()}
    while len(heads) == 1 and heads <= set(WRAPPERS) and all("." in name for name in short.values()):
        short = {name: inner.partition(".")[2] for name, inner in short.items()}
        heads = {name.partition(".")[0] for name in short.values()}
    return short


def entries(state: Mapping[str, Tensor], known: Sequence[Sequence[str]] = SIBLINGS) -> dict[str, Tensor]:
    """The learned numbers of a state_dict, in the order in which the modules of its network were registered.

    Args:
        state: tensors by name.
        known: modules side by side, in their order; those of no row stay as they are listed.

    Raises:
        UsageError: the names stand in alphabetical order and are of no known implementation.
    """
    kept = {_modern(name): value for name, value in state.items() if not name.endswith(NOT_WEIGHTS)}
    lost = list(kept) == sorted(kept)  # as safetensors stores them; a registered network has `weight` before `bias`
    return {name: kept[name] for name in _in_order([name.split(".") for name in kept], known, lost=lost)}


def _modern(name: str) -> str:
    """Today's name of an entry: DenseNet files of 2017 still say norm.1 where the network says norm1."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)", r"\1\2", name)


def _in_order(
    names: Sequence[Sequence[str]], known: Sequence[Sequence[str]], prefix: str = "", *, lost: bool
) -> Iterator[str]:
    """Full names of a tree of names, its siblings put in order: numbers by value, words as a row of `known` has
    them.
    """
    children: dict[str, list[Sequence[str]]] = {}
    for head, *rest in names:
        children.setdefault(head, []).append(rest)
    for child in _siblings(list(children), known, prefix, lost=lost):
        inner = [rest for rest in children[child] if rest]
        if len(inner) < len(children[child]):
            yield prefix + child
        yield from _in_order(inner, known, f"{prefix}{child}.", lost=lost)


def _siblings(words: list[str], known: Sequence[Sequence[str]], prefix: str, *, lost: bool) -> list[str]:
    if len(words) == 1:
        return words
    if all(word.isdigit() for word in words):
        return sorted(words, key=int)
    for row in known:
        places = []
        for word in words:
            stem = word.rstrip("0123456789")
            if word in row:
                places.append((row.index(word), 0))
            elif f"{stem}#" in row and word != stem:
                places.append((row.index(f"{stem}#"), int(word[len(stem) :])))
        if len(places) == len(words):
            return [word for _, word in sorted(zip(places, words, strict=True))]
    if lost:
        raise UsageError(
            f"weights stand in alphabetical order, which does not tell whether {prefix}{words[0]} or "
            f"{prefix}{words[1]} comes first in the network; give a file of torch.save(state_dict), "
            f"or one with the network's own names"
        )
    return words


def _pairs(model: nn.Module, state: Mapping[str, Tensor], without: Container[str] = ()) -> list[tuple[Tensor, Tensor]]:
    """(ours, theirs) of every entry: matched by name where all names agree, by order otherwise."""
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.endswith(NOT_WEIGHTS) and name not in without
    }
    given = {name: value for name, value in state.items() if not name.endswith(NOT_WEIGHTS)}
    short, theirs = bare(own), {name: given[full] for full, name in bare(given).items()}
    if set(short.values()) == theirs.keys():
        return _matched(list(own.items()), [(short[name], theirs[short[name]]) for name in own])
    errors = []
    for known in (SIBLINGS, SIBLINGS[:1]):  # at last the file's own order, for a network registered in one of its own
        try:
            return _matched(list(own.items()), list(entries(state, known).items()))
        except UsageError as error:
            errors.append(error)
    raise errors[0]


def _matched(ours: list[tuple[str, Tensor]], theirs: list[tuple[str, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    for (mine, to), (other, value) in zip(ours, theirs, strict=False):
        if to.shape != value.shape:
            raise UsageError(
                f"weights do not fit the network: {mine} has shape {tuple(to.shape)}, {other} has {tuple(value.shape)}"
            )
        if to.is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise UsageError(
                f"weights do not fit the network: {other} is {kind}, where {mine} has "
                f"floating-point numbers; quantised weights are not read"
            )
    if len(ours) != len(theirs):
        longer, kind = (ours, "the network") if len(ours) > len(theirs) else (theirs, "the file")
        raise UsageError(
            f"weights do not fit the network: it has {len(ours)} entries, the file {len(theirs)}; "
            f"the first one only in {kind} is {longer[min(len(ours), len(theirs))][0]}"
        )
    return [(to, value) for (_, to), (_, value) in zip(ours, theirs, strict=True)]


def fit(model: nn.Module, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether `adopt` would take them; the network may be on the meta device."""
    return not misfit(model, state_dict)


def misfit(model: nn.Module, state_dict: Mapping[str, Tensor], without: Container[str] = ()) -> str:
    """Why `adopt` would not take them: the first entry that differs; empty where it would."""
    try:
        return "" if _pairs(model, state_dict, without) else "they are empty"
    except UsageError as error:
        return str(error)


def adopt(model: nn.Module, state_dict: Mapping[str, Tensor], without: Container[str] = ()) -> None:
    """Copies the weights of a reference implementation into `model`, every shape checked.

    Entries are matched by name where all names agree. Otherwise they are matched by order, and names do not matter:
    both networks must register their modules in the same order, which `entries` restores where a file has not kept it.

    Args:
        model: whose weights are replaced.
        state_dict: of the reference implementation.
        without: entries of `model` that the file does not have, which stay as they are.

    Raises:
        UsageError: the entries differ in number or shape; `model` is then unchanged.
    """
    pairs = _pairs(model, state_dict, without)
    with torch.no_grad():
        for to, value in pairs:
            to.copy_(value)
