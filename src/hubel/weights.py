"""Weights made elsewhere: fetched once, read without executing anything, adopted by a network of ours.

A reference names its layers as it likes, so weights are matched by order. A file does not always keep that order
(safetensors sorts by name, old pickles list a batch norm's statistics first): `SIBLINGS` restores it from the names.
"""

import hashlib
import http.client
import pickle
import pickletools
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from hubel import caching, files, hub
from hubel.errors import FileError, UsageError

CHUNK = 1 << 20  # bytes of a download between two looks at its progress
TIMEOUT = 30  # seconds a server may stay silent
NOT_WEIGHTS = ("num_batches_tracked",)

# Modules side by side, in the order in which torchvision and timm register them; "layer#" is layer1, layer2, ...
# fmt: off
SIBLINGS = [line.split() for line in (
    "weight bias running_mean running_var",
    "features classifier last_linear",                                                                  # many
    "conv1 bn1 conv2 bn2 conv3 bn3 se_module downsample layer# fc last_linear",                         # ResNet, SENet
    "fc1 fc2",                                                                          # a squeeze-and-excite block
    "squeeze expand1x1 expand3x3",                                                                      # SqueezeNet
    "conv_stem bn1 blocks classifier", "conv_dw bn1 conv_pw bn2",                                       # MobileNet v1
    "conv1 stage# conv5 fc", "branch#",                                                                 # ShuffleNet v2
    "conv0 norm0 denseblock1 transition1 denseblock2 transition2 denseblock3 transition3 denseblock4 norm5 classifier",
    "denselayer#", "norm1 conv1 norm2 conv2", "norm conv",                                              # DenseNet
    "conv1 conv2 conv3 inception3a inception3b inception4a inception4b inception4c inception4d inception4e "
    "inception5a inception5b aux# fc", "conv bn", "conv fc1 fc2",                                       # GoogLeNet
    "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3 Mixed_5b Mixed_5c Mixed_5d Mixed_6a Mixed_6b "
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
    "conv0 cell_stem_0 cell_stem_1 cell_0 cell_1 cell_2 cell_3 cell_4 cell_5 reduction_cell_0 cell_6 cell_7 cell_8 cell_9 "
    "cell_10 cell_11 reduction_cell_1 cell_12 cell_13 cell_14 cell_15 cell_16 cell_17 last_linear",     # NASNet-A large
    "conv_prev_1x1 conv_1x1 path_1 path_2 final_path_bn comb_iter_0_left comb_iter_0_right comb_iter_1_left "
    "comb_iter_1_right comb_iter_2_left comb_iter_2_right comb_iter_3_left comb_iter_3_right comb_iter_4_left "
    "comb_iter_4_right", "separable_1 bn_sep_1 separable_2 bn_sep_2", "depthwise_conv2d pointwise_conv2d",
)]
# fmt: on


@dataclass(frozen=True, kw_only=True)
class PretrainedWeights:
    """Everything that travels with published weights.

    Args:
        url: where the file is.
        sha256: hexadecimal digest of the file, or its first digits.
        resize: the shorter side of a picture becomes this long [px] ...
        crop: ... and the centre square of this side [px] is the input.
        interpolation: of the resizing, "bilinear" or "bicubic".
        mean, std: per channel, of pixels in [0, 1].
        categories: class names, in the order of the logits.
        licence: under which the file is published; the terms of the pictures it was trained on may apply besides.
        source: the implementation and its name for these weights.
        top1, top5: published accuracy of these very weights in [0, 1]; None where there is none.
    """

    url: str
    sha256: str
    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    categories: tuple[str, ...]
    licence: str
    source: str
    top1: float | None = None
    top5: float | None = None


def fetch(url: str, sha256: str, folder: Path | None = None, track: files.Track[bytes] = files.silently) -> Path:
    """The file at a URL: from the cache, or downloaded now, checked and kept.

    Args:
        url: of the file; its last part is the name it is kept under.
        sha256: hexadecimal digest of the file, or at least its first 8 digits.
        folder: of the cache; `weights` in `files.cache_folder()` unless given.
        track: wraps the download, counted in MiB, to show progress.

    Raises:
        UsageError: `sha256` is not a digest.
        FileError: the server cannot be reached, breaks off or sends another file; nothing is left behind.
    """
    if not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise UsageError(f"sha256 is {sha256!r}; give the digest of {url}, or at least its first 8 hexadecimal digits")
    path = (folder or files.cache_folder() / "weights") / Path(urlsplit(url).path).name
    if path.is_file():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest().startswith(sha256):
                caching.used(path)
                return path
    hasher = hashlib.sha256()
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for chunk in _download(url, track):
            hasher.update(chunk)
            file.write(chunk)
        if not hasher.hexdigest().startswith(sha256):
            raise FileError(f"{url} is not the file it should be: its sha256 begins with "
                            f"{hasher.hexdigest()[: len(sha256)]}, expected {sha256} (nothing was kept)")  # fmt: skip
    caching.make_room(0)
    return path


def _download(url: str, track: files.Track[bytes]) -> Iterator[bytes]:
    """The bytes at a URL, piece by piece; every way in which a network fails becomes one sentence."""
    arrived = 0
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "hubel"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            size = int(response.headers.get("Content-Length") or 0)
            pieces = iter(lambda: response.read(CHUNK), b"")
            for chunk in track(pieces, f"downloading {url}", -(-size // CHUNK)):
                arrived += len(chunk)
                yield chunk
    except urllib.error.HTTPError as error:
        error.close()
        raise FileError(f"cannot download {url}: the server answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(f"cannot download {url}: {reason}; check the connection, or give the path of a copy "
                        f"(nothing was kept)") from error  # fmt: skip
    if arrived < size:
        raise FileError(f"cannot download {url}: the connection broke off after {arrived:,} of {size:,} bytes; try again "
                        f"(nothing was kept)")  # fmt: skip


def read(path: str | Path) -> dict[str, Tensor]:
    """The state_dict of a safetensors file or of a pickle that torch wrote; nothing in the file is ever executed.

    A state_dict under the key `state_dict` or `model` is unwrapped, the prefix `module.` of parallel training dropped.

    Args:
        path: of the file, or its name on the hub, see `hub.fetch`.

    Raises:
        FileError: missing, damaged, not a state_dict, or a pickle that asks for code.
    """
    path = hub.fetch(str(path)).path if hub.is_named(path) else Path(path)
    if not path.is_file():
        raise FileError(f"there is no weights file {path}")
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] == b"{":  # a safetensors header: 8 bytes of length, then JSON
        try:
            content: Any = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise FileError(f"{path} is damaged ({error}); restore it from a copy") from error
    else:
        content = _unpickled(path)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise FileError(
            f"{path} holds no weights: it is of type {type(content).__name__} where tensors by name should be"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise FileError(
                f"{path} holds no weights: its entry {name!r} is of type {type(value).__name__}, not a tensor"
            )
    return {name.removeprefix("module."): value for name, value in content.items()}


def _unpickled(path: Path) -> Any:
    """What a pickle holds, of tensors and plain containers only."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of what is told below in one sentence
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle makes its reader fail in any way there is
        text = str(error)
        asked = re.search(r"GLOBAL (\S*\w) was|unsupported GLOBAL (\S*\w) whose|but got (?:<class ')?([\w.]+)", text)
        name = next(filter(None, asked.groups())) if asked else _first_global(path)
        if isinstance(error, pickle.UnpicklingError) and name:
            raise FileError(f"{path} asks for {name}, which is no tensor: a pickle that calls code is not opened; "
                            f"save the state_dict alone, best as safetensors") from error  # fmt: skip
        if "TorchScript" in text:
            raise FileError(f"{path} is a TorchScript program, which is not executed; save its state_dict") from error
        reason = "not a pickle of tensors" if isinstance(error, pickle.UnpicklingError) else text.partition("\n")[0]
        raise FileError(f"{path} is damaged or no weights file ({reason or 'it ends too early'}); "
                        f"restore it from a copy") from error  # fmt: skip


def _first_global(path: Path) -> str | None:
    """What a plain pickle asks its reader to import, found by reading its opcodes without running them."""
    words: list[str] = []
    try:
        with path.open("rb") as file:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    words += str(argument).split(" ")
                if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                    name = ".".join(words[-2:])
                    if not name.startswith(("collections.OrderedDict", "torch.")):
                        return name
                elif isinstance(argument, str):
                    words.append(argument)
    except Exception:  # no pickle at all
        return None
    return None


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


def _in_order(names: Sequence[Sequence[str]], known: Sequence[Sequence[str]], prefix: str = "", *,
              lost: bool) -> Iterator[str]:  # fmt: skip
    """Full names of a tree of names, its siblings put in order: numbers by value, words as a row of `known` has them."""
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
        raise UsageError(f"weights stand in alphabetical order, which does not tell whether {prefix}{words[0]} or "
                         f"{prefix}{words[1]} comes first in the network; give a file of torch.save(state_dict), "
                         f"or one with the network's own names")  # fmt: skip
    return words


def _pairs(model: nn.Module, state: Mapping[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """(ours, theirs) of every entry: matched by name where all names agree, by order otherwise."""
    own = {name: value for name, value in model.state_dict().items() if not name.endswith(NOT_WEIGHTS)}
    given = {name: value for name, value in state.items() if not name.endswith(NOT_WEIGHTS)}
    if own.keys() == given.keys():
        return _matched(list(own.items()), [(name, given[name]) for name in own])
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
            raise UsageError(f"weights do not fit the network: {mine} has shape {tuple(to.shape)}, "
                             f"{other} has {tuple(value.shape)}")  # fmt: skip
    if len(ours) != len(theirs):
        longer, kind = (ours, "the network") if len(ours) > len(theirs) else (theirs, "the file")
        raise UsageError(f"weights do not fit the network: it has {len(ours)} entries, the file {len(theirs)}; "
                         f"the first one only in {kind} is {longer[min(len(ours), len(theirs))][0]}")  # fmt: skip
    return [(to, value) for (_, to), (_, value) in zip(ours, theirs, strict=True)]


def fit(model: nn.Module, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether `adopt` would take them; the network may be on the meta device."""
    return not misfit(model, state_dict)


def misfit(model: nn.Module, state_dict: Mapping[str, Tensor]) -> str:
    """Why `adopt` would not take them: the first entry that differs; empty where it would."""
    try:
        return "" if _pairs(model, state_dict) else "they are empty"
    except UsageError as error:
        return str(error)


def adopt(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Copies the weights of a reference implementation into `model`, every shape checked.

    Entries are matched by name where all names agree. Otherwise they are matched by order, and names do not matter: both
    networks must register their modules in the same order, which `entries` restores where a file has not kept it.

    Raises:
        UsageError: the entries differ in number or shape; `model` is then unchanged.
    """
    pairs = _pairs(model, state_dict)
    with torch.no_grad():
        for to, value in pairs:
            to.copy_(value)
