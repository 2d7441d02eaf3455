"""The rows of a network's table, and the totals they add up to: plain records, which tables and pages show."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from hubel.analysis.inputs import Inputs
from hubel.analysis.operators import Window

Axes = tuple[float | None, ...]


class Row(NamedTuple):
    """One operator call for one picture. None is unknown; a total of anything unknown is unknown."""

    name: str  # path of the module that issued the call
    module: str  # its class
    op: str
    output: tuple[int, ...]  # without the batch
    params: int  # learnable numbers read here for the first time
    macs: int | None  # convolutions, linear layers, matrix products; biases not counted
    activation_bytes: int  # of the result; 0 for views and work in place
    saved_bytes: int | None  # of what was made here, kept for the backward pass of a training step
    receptive_field: Axes = ()  # [px] per axis; the picture's size where all of it is seen
    jump: Axes = ()  # [px] of the picture from one position to the next
    start: Axes = ()  # [px] the first pixel the first position sees; negative: in the padding
    share: Axes = ()  # [0..1] of the picture that the central position sees
    inputs: tuple[tuple[int, ...], ...] = ()  # of activations, without the batch
    weight: tuple[int, ...] = ()  # shape of a convolution's or linear layer's weight
    bias: bool = False
    groups: int = 1
    window: Window | None = None
    moving: bool = False  # whether some positions of the output still see other pixels than others

    @property
    def flops(self) -> int | None:
        """Floating-point operations: 2 per MAC, and nothing that is not a MAC."""
        return None if self.macs is None else 2 * self.macs


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """What the rows add up to, for one picture."""

    params: int
    training_params: int  # those of them that only training uses, such as auxiliary heads
    macs: int | None
    activation_bytes: int
    peak_activation_bytes: int  # of an inference that frees what it no longer needs
    saved_bytes: int | None
    receptive_field: Axes  # of one position of the last feature map, before the picture is pooled or flattened into one
    receptive_field_of: str  # the row whose it is: rows after it read all positions

    @property
    def flops(self) -> int | None:
        """2 per MAC."""
        return None if self.macs is None else 2 * self.macs


class NetworkTable(Protocol):
    """What tables and pages read of a `Summary`, which offers them as its methods."""

    @property
    def model(self) -> str:
        """Return the network's name."""
        ...

    @property
    def inputs(self) -> Inputs:
        """Return what it is called with."""
        ...

    @property
    def input(self) -> tuple[int, ...]:
        """Return the size of the image, C H W [px]."""
        ...

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return a row per operator call."""
        ...

    @property
    def total(self) -> Total:
        """Return their sums."""
        ...

    @property
    def classes(self) -> Mapping[str, str]:
        """Return the class name of each module, by its path."""
        ...

    @property
    def note(self) -> str:
        """Return what could not be found out, and why."""
        ...


def row_json(row: Row) -> dict[str, Any]:
    """Return a row as plain values that scripts can rely on."""
    return {
        "name": row.name,
        "module": row.module,
        "op": row.op,
        "output": list(row.output),
        "params": row.params,
        "macs": row.macs,
        "flops": row.flops,
        "activation_bytes": row.activation_bytes,
        "saved_bytes": row.saved_bytes,
        "receptive_field": list(row.receptive_field),
        "jump": list(row.jump),
        "start": list(row.start),
        "share": list(row.share),
        "groups": row.groups,
        "window": asdict(row.window) if row.window else None,
    }
