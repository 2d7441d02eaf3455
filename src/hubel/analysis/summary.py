"""The table of a network: a row per operator call, and the totals they add up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from hubel.analysis import field, fit, memory, operators, page, tables
from hubel.analysis.calls import Call, storage
from hubel.analysis.inputs import Inputs, picture
from hubel.analysis.named import Size, asked, assumed
from hubel.analysis.receptive_field import pictures, receptive_fields
from hubel.analysis.rows import Row, Total, row_json
from hubel.analysis.seen import Seen
from hubel.analysis.seen import seen as numbers
from hubel.analysis.shadow import Shadow
from hubel.analysis.trace import ROOT, Stopped, Trace
from hubel.errors import UsageError, nearest
from hubel.process import uncollected

TRAINING_ONLY = "training only"
Kept = dict[tuple[str, str, int], int]  # bytes kept for backward, by module, operator and how-manieth call of it


@dataclass(frozen=True)
class Summary:
    """A network described: rows, totals, and the ways to show them."""

    model: str
    inputs: Inputs
    rows: tuple[Row, ...]
    total: Total
    classes: dict[str, str]  # module path -> class name
    note: str = ""  # what could not be found out, and why

    @property
    def input(self) -> tuple[int, ...]:
        """The one whose pixels receptive fields count: the picture."""
        return picture(self.inputs)

    def calls(self, name: str) -> list[Row]:
        """The rows of a layer, by its path.

        Raises:
            UsageError: no layer has this path; the nearest one is named.
        """
        found = [row for row in self.rows if row.name == name]
        if not found:
            raise UsageError(f"{self.model} has no row {name!r}; {nearest(name, {row.name for row in self.rows})}")
        return found

    def json(self) -> dict[str, Any]:
        """One object that scripts can rely on."""
        total = {
            "params": self.total.params,
            "training_params": self.total.training_params,
            "macs": self.total.macs,
            "flops": self.total.flops,
            "peak_activation_bytes": self.total.peak_activation_bytes,
            "saved_bytes": self.total.saved_bytes,
            "receptive_field": list(self.total.receptive_field),
            "receptive_field_of": self.total.receptive_field_of,
            "activation_bytes": self.total.activation_bytes,
        }
        shapes = [list(one.shape) for one in self.inputs]
        return {
            "model": self.model,
            "input": shapes[0] if len(shapes) == 1 else shapes,
            "rows": [row_json(row) for row in self.rows],
            "total": total,
        }

    def text(self, depth: int | None = None) -> str:
        """A table for the terminal; `depth` modules deep, or every call."""
        return tables.text(self, depth)

    def markdown(self, depth: int | None = None) -> str:
        """The table as Markdown."""
        return tables.markdown(self, depth)

    def csv(self, depth: int | None = None) -> str:
        """The table as comma-separated values."""
        return tables.comma_separated(self, depth)

    def html(self, depth: int | None = None) -> str:
        """The table as one self-contained page, the volumes drawn to scale."""
        return page.page(self, depth)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return page.fragment(self)

    def __str__(self) -> str:
        return self.text()


@uncollected()
def summary(model: str | nn.Module, input: Size | Inputs | Sequence[Size] | None = None, *, name: str = "") -> Summary:
    """What a network is made of and what it costs, for one picture, found on the meta device.

    Args:
        model: any module that takes a batch of pictures, left exactly as it is; or the name of a network, see `named`.
        input: size of one picture, C H W  [px]; of a network by name as published unless given, and an integer is the
            side of a square picture. Of a network of several inputs a list of their sizes, [(3, 32, 32), (10,)], each
            also with its kind of numbers, "20:int64".
        name: what to call the network; its class unless given.

    Raises:
        ShapeError: a layer does not fit; it is named, with the sizes and with an input that would fit.
        UsageError: no such network, no size, or the forward pass cannot be followed on shapes alone.
    """
    title, network, given = asked(model, input)
    with Shadow(network) as shadow:
        found = _described(shadow, given, name or title)
    return replace(found, note=" ".join(filter(None, (assumed(model), found.note))))


def _described(shadow: Shadow, input: Inputs, name: str) -> Summary:
    note = ""
    trace, saved = memory.inference_and_saved(shadow, input) or (fit.checked(shadow, input), None)
    if saved is None:
        try:
            saved = memory.saved_for_backward(shadow, input)
        except Stopped as stopped:
            note = f"saved bytes unknown: in training mode {stopped.path} fails: {stopped.error}"
    kept = _kept(saved)
    fresh = {key: path for key, path in trace.weights.items() if path in trace.parameters}
    rows = _rows(trace, kept, fresh, picture(input))
    rows += _rest(trace, saved, kept, fresh)
    if saved and saved.trace.unsure:
        note = f"saved bytes unknown: {saved.trace.unsure}"
    if note:
        rows = [row._replace(saved_bytes=None) for row in rows]
    return Summary(name, input, tuple(rows), _total(rows, trace), trace.classes, note)


def _total(rows: Sequence[Row], trace: Trace) -> Total:
    macs, saved = [row.macs for row in rows], [row.saved_bytes for row in rows]
    maps = [row for row in rows if row.moving and row.activation_bytes and row.op != "input"]
    last = (maps or [row for row in rows if row.output])[-1]
    return Total(
        params=sum(row.params for row in rows),
        training_params=sum(row.params for row in rows if row.op == TRAINING_ONLY),
        macs=None if None in macs else sum(filter(None, macs)),
        activation_bytes=sum(row.activation_bytes for row in rows),
        peak_activation_bytes=memory.peak(trace),
        saved_bytes=None if None in saved else sum(filter(None, saved)),
        receptive_field=last.receptive_field,
        receptive_field_of=last.name,
    )


def _rows(trace: Trace, kept: Kept, fresh: dict[int, str], input: tuple[int, ...]) -> list[Row]:
    """The input, and every call that computes something or gives the picture another shape.

    What they account for is taken out of `kept` (bytes for backward) and `fresh` (parameters nobody has read yet).
    """
    fields = receptive_fields(trace)
    seen_by = {id(found): numbers(found, input[1:]) for found in {id(each): each for each in fields}.values()}
    seeing = set(map(id, pictures(trace)))
    rows = []
    for nth_input, tensor in enumerate(trace.inputs):
        seen = numbers(field.picture(tensor.shape) if id(tensor) in seeing else None, input[1:])
        rows.append(
            Row(
                name=f"input {nth_input + 1}" if len(trace.inputs) > 1 else "input",
                module="",
                op="input",
                output=tuple(tensor.shape[1:]),
                params=0,
                macs=0,
                activation_bytes=tensor.untyped_storage().nbytes(),
                saved_bytes=kept.pop(("input", "", nth_input), 0),
                receptive_field=seen.size,
                jump=seen.jump,
                start=seen.start,
                share=seen.share,
                moving=seen.moving,
            )
        )
    nth: dict[tuple[str, str], int] = {}
    activations = {storage(tensor) for tensor in trace.inputs}
    unseen = {storage(tensor) for tensor in trace.inputs if id(tensor) not in seeing}  # and what is made of them alone
    for call, found in zip(trace.calls, fields, strict=True):
        given = [tensor for tensor, key in zip(call.inputs, call.reads, strict=True) if key in activations]
        if found or not unseen.isdisjoint(call.reads):
            activations.update(call.writes)
            unseen.update([] if found else call.writes)
        where = (call.path, call.name)
        nth[where] = index = nth.get(where, -1) + 1
        mine = kept.pop((*where, index), 0)
        view = operators.is_view(call)
        if _is_row(call, view, depends=not activations.isdisjoint(call.writes)) or mine:
            read = [] if view else [fresh.pop(key) for key in call.reads if key in fresh]
            params = sum([trace.parameters[path].numel() for path in read]) if read else 0
            op = operators.op_name(call, weighted=len(given) < len(call.inputs))
            rows.append(_row(call, seen_by[id(found)], op, given, params, mine, trace))
    return rows


def _is_row(call: Call, view: bool, *, depends: bool) -> bool:
    """Whether a call shows: it computes, or it changes the shape of something that depends on the picture."""
    if not call.inputs or not call.outputs:
        return False
    if view:
        return depends and call.shape != call.inputs[0].shape
    return call.name not in ("empty_like", "lift_fresh", "detach", "new_empty")


def _kept(saved: memory.Saved | None) -> Kept:
    """Bytes kept for backward, by the call that made them: module, operator, and the how-manieth of these it was."""
    if saved is None:
        return {}
    left = dict(saved.bytes)
    kept = {("input", "", at): left.pop(storage(tensor), 0) for at, tensor in enumerate(saved.trace.inputs)}
    nth: Counter[tuple[str, str]] = Counter()
    for call in saved.trace.calls:
        key = (call.path, call.name)
        made = sum([left.pop(key, 0) for key in call.writes])
        if made:
            kept[*key, nth[key]] = made
        nth[key] += 1
    if left:
        kept["(constants)", "constant", 0] = sum(left.values())
    return kept


def _rest(trace: Trace, saved: memory.Saved | None, kept: Kept, fresh: dict[int, str]) -> list[Row]:
    """What an inference does not touch: what only training calls, and parameters nobody reads."""
    trained = {key for call in saved.trace.calls for key in call.reads} if saved else set()
    params, extra = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for key, path in fresh.items():
        owner = path.rpartition(".")[0] or ROOT
        params[owner, TRAINING_ONLY if key in trained else "not called"] += trace.parameters[path].numel()
    for (path, _, _), size in kept.items():
        extra[path, TRAINING_ONLY] += size
    order = {path or ROOT: index for index, path in enumerate(trace.classes)}
    names = sorted({*params, *extra}, key=lambda name: order.get(name[0], len(order)))
    return [
        Row(
            name=path,
            module=_class(trace, path),
            op=op,
            output=(),
            params=params[path, op],
            macs=0,
            activation_bytes=0,
            saved_bytes=extra[path, op],
        )
        for path, op in names
    ]


def _class(trace: Trace, path: str) -> str:
    return trace.classes.get("" if path == ROOT else path, "")


def _row(call: Call, seen: Seen, op: str, given: list[Tensor], params: int, saved: int, trace: Trace) -> Row:
    weight, groups, bias = (), 1, False
    name = call.name
    if name == "convolution":
        weight, groups, bias = tuple(call.args[1].shape), call.args[8], call.args[2] is not None
    elif op == "linear":
        weight, bias = tuple(call.args[-1].shape[::-1]), name == "addmm"
    return Row(
        name=call.path,
        module=_class(trace, call.path),
        op=op,
        output=_shape(call.shape),
        params=params,
        macs=operators.macs(call),
        activation_bytes=memory.output_bytes(call, trace),
        saved_bytes=saved,
        receptive_field=seen.size,
        jump=seen.jump,
        start=seen.start,
        share=seen.share,
        moving=seen.moving,
        inputs=tuple([_shape(tensor.shape) for tensor in given]),
        weight=weight,
        bias=bias,
        groups=groups,
        window=operators.window(call),
    )


def _shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the batch of one."""
    shape = tuple(shape)  # a torch.Size is slow to cut
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
