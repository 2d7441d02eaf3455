"""The benchmark: Hubel beside what a user would take instead, on this machine, as ratios.

turns.py        contenders take turns in one process; medians and spreads
ceiling.py      what the machine's matrix multiplication can do, and what a network asks of it
conditions.py   hardware, versions, and whether anything else was running
peers.py        what is installed to compare with
cases.py        a case: one job at one size
networks.py     the networks of the cases
works.py        train, infer, data, summary: training.py, inference.py, input.py, inspection.py
alternatives.py what else one training could have chosen: `hubel train --explain-speed`
rows.py         from the turns of a case to rows: ours, baseline, ratio, share of the ceiling
chart.py        the rows as bars

"Plain loop" is the eager float32 NCHW loop of a tutorial, under glibc's own allocator.
"""

from hubel.benchmark.cases import Case, Options, Plan
from hubel.benchmark.chart import draw
from hubel.benchmark.conditions import Conditions, watching
from hubel.benchmark.rows import Row, rows
from hubel.benchmark.turns import Contender, Timing, Turn, interleave, timings
from hubel.benchmark.works import WORKS

__all__ = [
    "WORKS",
    "Case",
    "Conditions",
    "Contender",
    "Options",
    "Plan",
    "Row",
    "Timing",
    "Turn",
    "draw",
    "interleave",
    "rows",
    "timings",
    "watching",
]
