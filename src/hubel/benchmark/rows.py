"""From the turns of a case to its rows: Hubel beside each baseline."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hubel.benchmark.cases import Case, Plan
from hubel.benchmark.ceiling import ceiling_name
from hubel.benchmark.turns import Turn, timings


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hubel and one baseline at one job.  Speeds are medians over rounds; larger is better.

    Args:
        work: train, infer, data or summary.
        case: which of its cases.
        unit: of the speeds.
        ours: Hubel's speed.
        ours_spread: slowest and quickest round.
        baseline: the other's speed; it and what follows from it are None where nothing is installed to compare with.
        baseline_name: who it is.
        baseline_spread: slowest and quickest round.
        ratio: ours / baseline.
        ratio_spread: smallest and largest ratio of a round.
        n: rounds.
        precision: of Hubel's multiplications.
        ceiling: FLOP/s of the machine's matrix product in that precision, median of the same rounds.
        ceiling_share: Hubel's FLOP/s as a share of it; None where no matrix product bounds the job.
    """

    work: str
    case: str
    unit: str
    ours: float
    ours_spread: tuple[float, float]
    baseline: float | None = None
    baseline_name: str | None = None
    baseline_spread: tuple[float, float] | None = None
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    n: int
    precision: str | None
    ceiling: float | None
    ceiling_share: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def rows(plan: Plan, case: Case, turns: Sequence[Turn]) -> list[Row]:
    """One row per baseline, or a single one without where there is none."""
    found = timings(turns)
    rate = {(turn.contender, turn.round): turn.rate for turn in turns}
    hubel, *others = [contender.name for contender in case.contenders]
    ours = found[hubel]
    ceiling = found[ceiling_name(case.precision)].median if case.flop and case.precision else None
    alone = Row(
        work=plan.work,
        case=plan.title,
        unit=case.unit,
        ours=ours.median,
        ours_spread=(ours.low, ours.high),
        n=ours.n,
        precision=case.precision,
        ceiling=ceiling,
        ceiling_share=ours.median * case.flop / ceiling if ceiling and case.flop else None,
    )
    result = []
    for name in others:
        its = found[name]
        ratios = [rate[hubel, number] / rate[name, number] for number in range(its.n)]
        result.append(
            replace(
                alone,
                baseline=its.median,
                baseline_name=name,
                baseline_spread=(its.low, its.high),
                ratio=ours.median / its.median,
                ratio_spread=(min(ratios), max(ratios)),
            )
        )
    return result or [alone]
