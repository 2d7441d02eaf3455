"""The inspector: what any network is made of and what it costs, found in one pass on the meta device.

calls.py            one operator call
shadow.py           a network without numbers, run in the place of the user's
trace.py            its forward pass, written down call by call
cpu.py              what torch decides by the device, decided as on the CPU
direct.py           plain modules, whose call is named instead of made
shapes.py           output shapes where the generic way is slow
operators.py        names and multiply-accumulates of operators
field.py, seen.py   receptive fields as algebra, and in numbers
phases.py           steps after upsampling, where neighbours see different pixels
mixing.py, moving.py, resizing.py  what operators do to them
receptive_field.py  the fields of a traced pass
memory.py           peak of an inference, bytes a training step keeps
fit.py              an input that does not fit: which layer, and what would
inputs.py           one picture, or several inputs of their own shapes and kinds of numbers
named.py            what is asked about: a network or its name, and the size of a picture
rows.py             Row, Total: the records
tables.py           text, Markdown, CSV of them
page.py             one HTML page of them, volumes to scale
summary.py          summary(), and the Summary that offers these
sums.py             the sums behind a row, with their numbers
compare.py          networks side by side: table and bubble chart
lint.py             the design guidelines of the lectures as findings
sequence.py         a network from one line of text
"""

from hubel.analysis.compare import Comparison, compare
from hubel.analysis.fit import check_input
from hubel.analysis.inputs import Given, Inputs, several
from hubel.analysis.lint import Finding, lint
from hubel.analysis.named import asked, assumed, named, size_of
from hubel.analysis.operators import Window
from hubel.analysis.rows import Row, Total
from hubel.analysis.sequence import model
from hubel.analysis.summary import Summary, summary
from hubel.analysis.sums import arithmetic

__all__ = [
    "Comparison",
    "Finding",
    "Given",
    "Inputs",
    "Row",
    "Summary",
    "Total",
    "Window",
    "arithmetic",
    "asked",
    "assumed",
    "check_input",
    "compare",
    "lint",
    "model",
    "named",
    "several",
    "size_of",
    "summary",
]
