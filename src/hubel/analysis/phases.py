"""Positions that take turns: after upsampling neighbours see different pixels, in an order that repeats.

Along one axis, position i of a dimension lies `step * i` pixels behind the first one where the step is a number. Where
it is `Phases`, the positions are counted in rounds: a round is so many pixels from the next one, and every place in it
sees a stretch of its own.
"""

from collections.abc import Callable, Iterable
from fractions import Fraction
from math import gcd, lcm
from typing import NamedTuple

Number = int | Fraction
Stretch = tuple[Number, Number]  # from the first pixel to the last one, as seen from the first position  [px]
LONGEST = 20_000  # positions of a round; beyond, what they see is unknown


class Phases(NamedTuple):
    """What the positions of a round see, and how far a round moves on  [px]."""

    every: Number
    places: tuple[Stretch | None, ...]  # None: no pixel at all, as between the windows of a transposed convolution


Step = Number | Phases | None  # None: not evenly, in no way that is known


def slope(step: Number | Phases) -> Number:
    """Pixels from one position to the next, on average."""
    return Fraction(step.every) / len(step.places) if isinstance(step, Phases) else step


def at(step: Number | Phases, position: int) -> Stretch | None:
    """The stretch that a position sees; positions before the first and after the last go on in the same way."""
    if not isinstance(step, Phases):
        return step * position, step * position
    rounds, place = divmod(position, len(step.places))
    stretch = step.places[place]
    return stretch and (stretch[0] + rounds * step.every, stretch[1] + rounds * step.every)


def hull(stretches: Iterable[Stretch | None]) -> Stretch | None:
    """The smallest stretch that covers all."""
    found = [stretch for stretch in stretches if stretch]
    return (min(first for first, _ in found), max(last for _, last in found)) if found else None


def reach(step: Number | Phases, n: int) -> Stretch:
    """What n positions see together."""
    if isinstance(step, Phases):
        return hull(at(step, position) for position in range(n)) or (0, 0)
    return min(0, (n - 1) * step), max(0, (n - 1) * step)


def widest(step: Number | Phases, n: int) -> Number:
    """Most pixels that one of n positions sees beyond the first pixel of its own."""
    if not isinstance(step, Phases):
        return 0
    return max((stretch[1] - stretch[0] for stretch in step.places[:n] if stretch), default=0)


def rounds(every: Number, places: list[Stretch | None]) -> tuple[Stretch, Number | Phases] | None:
    """The first stretch, and the step that leads on from it: a number where that is all there is to say.

    None where no position sees anything.
    """
    first = next((stretch for stretch in places if stretch), None)
    if first is None:
        return None
    moved = [stretch and (stretch[0] - first[0], stretch[1] - first[1]) for stretch in places]
    step = Fraction(every) / len(moved)
    if all(stretch == (step * i, step * i) for i, stretch in enumerate(moved)):
        return first, int(step) if step.denominator == 1 else step
    return first, Phases(every, tuple(moved))


def through(
    step: Number | Phases, reads: Callable[[int], Iterable[int]], outputs: int, inputs: int, n: int
) -> tuple[Stretch, Number | Phases] | None:
    """What windows see that read positions.

    Args:
        step: of the positions.
        reads: the positions that an output reads.
        outputs: so many outputs on...
        inputs: ... the same is read so many positions on.
        n: outputs there are; a longer round is cut short, which matters only to what padding would see.

    Returns:
        The stretch of the first output and the outputs' step; None where it is unknown.
    """
    have = len(step.places) if isinstance(step, Phases) else 1
    times = have // gcd(have, inputs) if inputs else 1
    length = outputs * times
    every: Number = slope(step) * inputs * times
    if length > n:
        every, length = every * n / Fraction(length), n
    if length > LONGEST:
        return None
    return rounds(every, [hull(at(step, position) for position in reads(output)) for output in range(length)])


def together(
    a: Number | Phases, b: Number | Phases, around_a: Stretch, around_b: Stretch, n: int
) -> tuple[Stretch, Number | Phases] | None:
    """What n positions see that see what those of two inputs see; `around`: the stretch of each input's first."""
    length = lcm(*(len(step.places) if isinstance(step, Phases) else 1 for step in (a, b)))
    apart = slope(a) != slope(b)  # such as a map resized to one of a size that is no multiple of its own
    length = n if apart else min(length, n)
    if length > LONGEST:
        return None
    places = [
        hull(
            stretch and (stretch[0] + around[0], stretch[1] + around[1])
            for stretch, around in ((at(a, i), around_a), (at(b, i), around_b))
        )
        for i in range(length)
    ]
    return rounds(max(slope(a), slope(b)) * length, places)


def folded(outer: Step, n: int, inner: Step) -> Step:
    """The step along a dimension of n positions that is walked through once for every step of an outer one."""
    if outer is None or inner is None or n > LONGEST:
        return None
    turns = len(outer.places) if isinstance(outer, Phases) else 1
    if turns * n > LONGEST:
        return None
    places = []
    for turn in range(turns):
        for position in range(n):
            one, other = at(outer, turn), at(inner, position)
            places.append(one and other and (one[0] + other[0], one[1] + other[1]))
    found = rounds(slope(outer) * turns, places)
    return found and (found[1] if found[0] == (0, 0) else None)


def unfolded(step: Step, n: int) -> tuple[Step, Step] | None:
    """The reverse: the steps along an outer dimension and along one of n positions inside; None where it is no whole
    round.
    """
    if not isinstance(step, Phases):
        return (None, None) if step is None else (step * n, step)
    if n % len(step.places):
        return None
    return slope(step) * n, step
