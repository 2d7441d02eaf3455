"""The inspector: what any network is made of and what it costs, found in one pass on the meta device.

trace.py            a forward pass without numbers, written down call by call
operators.py        names and multiply-accumulates of operators
field.py            receptive fields as algebra
receptive_field.py  what each operator does to them
memory.py           peak of an inference, bytes a training step keeps
fit.py              an input that does not fit: which layer, and what would
rows.py             Row, Total, Summary, summary()
tables.py           text, Markdown, CSV
"""

from hubel.analysis.fit import check_input
from hubel.analysis.operators import Window
from hubel.analysis.rows import Row, Summary, Total, summary

__all__ = ["Row", "Summary", "Total", "Window", "check_input", "summary"]
