"""The design guidelines of the lectures as findings with numbers.

Source: the lectures' "Design Guidelines" (avoid tight bottlenecks; prefer chains of small filters; a receptive field
that is large enough; double the channels where the resolution halves), after Simonyan & Zisserman 2015 and Szegedy et
al. 2016.
A finding is an observation, not a verdict: several landmark networks have some.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn

from hubel import arithmetic as sums
from hubel.analysis import operators
from hubel.analysis.calls import Call, storage
from hubel.analysis.inputs import Inputs, picture
from hubel.analysis.named import Size, asked
from hubel.analysis.receptive_field import receptive_fields
from hubel.analysis.shadow import Shadow
from hubel.analysis.summary import Summary, summary
from hubel.analysis.tables import axes, left_over, volume
from hubel.analysis.trace import ROOT, Trace

FALL = 5  # a pooling by 2 divides the volume by 4, or nearly 5 where it drops an edge; more is a tight bottleneck
DENSE = 0.5  # share of the parameters in one dense layer from which on it is worth a word


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One guideline that a network does not follow, with the numbers."""

    rule: str
    layer: str
    message: str
    params: int = 0  # learnable numbers that following it would save
    macs: int = 0  # multiply-accumulates that following it would save, for one picture

    def __str__(self) -> str:
        return f"{self.layer}: {self.message}  [{self.rule}]"


class Case(NamedTuple):
    """What the rules look at."""

    summary: Summary
    trace: Trace
    readers: dict[int, list[Call]]  # storage -> the calls that read it
    moving: list[bool]  # per call: whether its positions still see different pixels


def lint(model: str | nn.Module, input: Size | Inputs | Sequence[Size] | None = None) -> list[Finding]:
    """Where a network departs from the design guidelines, in the order of `RULES`.

    Args:
        model: any module that takes a batch of pictures, left exactly as it is; or the name of a network, see `named`.
        input: size of one picture, C H W  [px], or of several inputs, see `summary`.

    Raises:
        ShapeError: a layer does not fit; it is named, with the sizes and with an input that would fit.
    """
    _, network, given = asked(model, input)
    described = summary(network, given)
    trace = Shadow(network).run(given)
    readers: dict[int, list[Call]] = defaultdict(list)
    for call in trace.calls:
        for key in set(call.reads):
            readers[key].append(call)
    moving = [
        f is not None and any(any(step != 0 for step in steps) for dim in f.dims for _, steps in dim)
        for f in receptive_fields(trace)
    ]
    case = Case(described, trace, readers, moving)
    return [finding for rule in RULES.values() for finding in rule(case)]


def _times(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _alive(trace: Trace) -> list[dict[int, Tensor]]:
    """What the rest of the network still reads, before the first call and after each: a cut through the graph."""
    last: dict[int, int] = {}
    for index, call in enumerate(trace.calls):
        last.update(dict.fromkeys(call.reads, index))
    last.update({storage(tensor): len(trace.calls) for tensor in trace.outputs})
    cuts = [{storage(tensor): tensor for tensor in trace.inputs}]
    for index, call in enumerate(trace.calls):
        made = {
            key: tensor
            for key, tensor in zip(call.writes, call.outputs, strict=True)
            if call.inputs and key not in trace.weights
        }
        cuts.append({key: tensor for key, tensor in (cuts[-1] | made).items() if last.get(key, -1) > index})
    return cuts


def bottlenecks(case: Case) -> Iterator[Finding]:
    """Volume that falls too fast: all numbers alive before a call against all alive after it, shortcuts included."""
    volumes = [sum(tensor.numel() for tensor in cut.values()) for cut in _alive(case.trace)]
    for call, moving, (before, after) in zip(case.trace.calls, case.moving, pairwise(volumes), strict=True):
        if moving and after and before > FALL * after:
            yield Finding(
                rule="bottleneck",
                layer=call.path,
                message=(
                    f"the volume falls from {before:,} to {after:,} numbers, {_times(before / after)} times in one "
                    "layer; "
                    f"let it fall more slowly, as a pooling by 2 does"
                ),
            )


def small_field(case: Case) -> Iterator[Finding]:
    """A receptive field smaller than the picture."""
    for size, pixels, axis in zip(
        case.summary.total.receptive_field, picture(case.summary.inputs)[1:], ("height", "width"), strict=False
    ):
        if size is not None and size < pixels:
            yield Finding(
                rule="receptive-field",
                layer=ROOT,
                message=(
                    f"the last feature map sees {size:.0f} of {pixels} px ({size / pixels:.0%}) of the {axis}; larger "
                    f"structures are invisible to it: more layers, a larger stride, or dilation"
                ),
            )
            return


def large_filters(case: Case) -> Iterator[Finding]:
    """A large filter that a chain of 3x3 filters with the same receptive field would replace for less."""
    for row in case.summary.rows:
        window = row.window
        if row.op != "conv2d" or window is None or row.groups != 1 or set(window.stride) != {1}:
            continue
        kernel = window.kernel
        if kernel[0] != kernel[1] or kernel[0] < 5 or kernel[0] % 2 == 0 or set(window.dilation) != {1}:
            continue
        c_out, c_in = row.weight[:2]
        chain, count = (kernel[0] - 1) // 2, kernel[0] ** 2 * c_in * c_out
        small = 9 * c_in * c_out + (chain - 1) * 9 * c_out**2
        if small < count:
            positions = (row.macs or 0) // count
            yield Finding(
                rule="large-filter",
                layer=row.name,
                params=count - small,
                macs=positions * (count - small),
                message=(
                    f"a {volume(kernel)} filter has {count:,} weights; {chain} filters of 3x3 see the same "
                    f"{kernel[0]} px with {small:,} ({1 - small / count:.0%} less)"
                ),
            )


def idle_biases(case: Case) -> Iterator[Finding]:
    """A convolution's bias right under a batch norm, whose mean takes it away again."""
    wasted: Counter[str] = Counter()
    for call in case.trace.calls:
        if call.name == "convolution" and call.args[2] is not None:
            readers = case.readers[call.writes[0]]
            if readers and all("batch_norm" in reader.name for reader in readers):
                wasted[call.path] += call.args[2].numel()
    for path, count in wasted.items():
        yield Finding(
            rule="idle-bias",
            layer=path,
            params=count,
            message=(f"its {count:,} biases do nothing, the batch norm after it subtracts them again; bias=False"),
        )


def dense_layers(case: Case) -> Iterator[Finding]:
    """Most parameters in one dense layer."""
    total = case.summary.total.params
    for row in case.summary.rows:
        if row.op == "linear" and row.weight and len(case.summary.rows) > 4 and row.params > DENSE * total:
            c_out, c_in = row.weight
            yield Finding(
                rule="dense-layer",
                layer=row.name,
                message=(
                    f"{row.params:,} of {total:,} parameters ({row.params / total:.0%}) sit in this {c_in:,} to "
                    f"{c_out:,} "
                    f"layer; global average pooling before it leaves only the channels"
                ),
            )


def skipped_pixels(case: Case) -> Iterator[Finding]:
    """A stride larger than the filter, where nothing else reads what it skips."""
    for call in case.trace.calls:
        if not _skips(call):
            continue
        if all(_skips(reader) for reader in case.readers[call.reads[0]]):
            window = operators.window(call)
            assert window is not None
            reach = [min(1.0, k / s) for k, s in zip(window.kernel, window.stride, strict=True)]
            unread = 1 - reach[0] * (reach[1] if len(reach) > 1 else 1)
            yield Finding(
                rule="stride",
                layer=call.path,
                message=(
                    f"stride {window.stride[0]} is larger than the {volume(window.kernel)} filter: {unread:.0%} of its "
                    f"input is read by nobody"
                ),
            )


def _skips(call: Call) -> bool:
    window = operators.window(call)
    return window is not None and any(s > k for k, s in zip(window.kernel, window.stride, strict=True))


def uneven_windows(case: Case) -> Iterator[Finding]:
    """A window whose steps do not divide the way, so that the last pixels are read by nobody: it "does not fit"."""
    for call in case.trace.calls:
        lost = _left_over(call)
        if not any(lost) or any(not any(_left_over(reader)) for reader in case.readers[call.reads[0]]):
            continue
        window, sides = operators.window(call), call.inputs[0].shape
        assert window is not None
        count = len(window.kernel)
        sizes = zip(sides[-count:], window.kernel, window.stride, window.padding, window.dilation, strict=True)
        first = next(one for one, pixels in zip(sizes, lost, strict=True) if pixels)
        yield Finding(
            rule="fit",
            layer=call.path,
            message=(
                f"{volume(sides[-count:])} input, {volume(window.kernel)} filter, stride {axes(window.stride)}: "
                f"{sums.fit_sum(*first)}"
            ),
        )


def _left_over(call: Call) -> tuple[int, ...]:
    window = operators.window(call)
    if window is None or (call.name == "convolution" and call.args[6]):  # transposed: its windows are in the output
        return ()
    return left_over(window, call.inputs[0].shape)


def channels(case: Case) -> Iterator[Finding]:
    """Channels that do not double where the resolution halves, at the places all information passes through."""
    last: dict[tuple[int, ...], tuple[str, int]] = {}
    for call, moving, cut in zip(case.trace.calls, case.moving, _alive(case.trace)[1:], strict=True):
        if moving and len(cut) == 1 and call.outputs[0].dim() == 4 and call.writes[0] in cut:
            _, c, *sides = call.shape
            first = last.get(tuple(sides), (call.path, 0))[0]
            last[tuple(sides)] = (first, c)
    for (old, (_, before)), (new, (path, after)) in pairwise(last.items()):
        if round(old[0] / new[0]) == 2 and after != 2 * before:
            yield Finding(
                rule="channels",
                layer=path,
                message=(
                    f"from {volume(old)} to {volume(new)} px the channels go from {before} to {after}; {2 * before} "
                    "would "
                    f"keep the operations of a layer the same"
                ),
            )


def dead_parameters(case: Case) -> Iterator[Finding]:
    """Parameters that no forward pass reads, or whose result never reaches the output."""
    for row in case.summary.rows:
        if row.op == "not called" and row.params:
            yield Finding(
                rule="dead", layer=row.name, params=row.params, message=(f"{row.params:,} parameters are never read")
            )
    needed = {storage(tensor) for tensor in case.trace.outputs}
    lost: Counter[str] = Counter()
    names = {storage(parameter): parameter.numel() for parameter in case.trace.parameters.values()}
    for call in reversed(case.trace.calls):
        given = set(call.reads)
        if any(key in needed for key in call.writes):
            needed |= given
        elif not operators.is_view(call):
            lost[call.path] += sum(names[key] for key in given if key in names and key not in needed)
    for path, count in lost.items():
        if count:
            yield Finding(
                rule="dead",
                layer=path,
                params=count,
                message=(f"{count:,} parameters are read, but the result never reaches the output"),
            )


def normalised_outputs(case: Case) -> Iterator[Finding]:
    """An output that has gone through a softmax or a sigmoid already: the losses of classes take logits."""
    makers = {key: call for call in case.trace.calls if not operators.is_view(call) for key in call.writes}
    for tensor in case.trace.outputs:
        call = makers.get(storage(tensor))
        if (
            call is None
            or tensor.dim() != 2
            or (found := next((NORMALISED[n] for n in NORMALISED if n in call.name), None)) is None
        ):
            continue
        what, effect = found
        yield Finding(
            rule="logits",
            layer=call.path,
            message=(
                f"the output is a {what}, and cross entropy takes it for logits: {effect}; return what comes before "
                "it, as "
                f"hubel train expects"
            ),
        )


NORMALISED = {
    "log_softmax": ("log-softmax", "a second log-softmax changes nothing but the time it takes"),
    "softmax": ("softmax", "it is applied twice, so the loss stays high and gradients are small"),
    "log_sigmoid": ("log-sigmoid", "all logits are below 0, and large ones have no gradient"),
    "sigmoid": ("sigmoid", "all logits lie between 0 and 1, so the loss stays high and gradients are small"),
}  # operators, those before others whose names they hold

RULES: dict[str, Callable[[Case], Iterator[Finding]]] = {
    "bottleneck": bottlenecks,
    "receptive-field": small_field,
    "large-filter": large_filters,
    "idle-bias": idle_biases,
    "dense-layer": dense_layers,
    "stride": skipped_pixels,
    "fit": uneven_windows,
    "channels": channels,
    "dead": dead_parameters,
    "logits": normalised_outputs,
}
