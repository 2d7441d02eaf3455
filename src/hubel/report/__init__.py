"""A training run as one self-contained HTML page, and its curves as a picture.

page.py     RunPage (plain values in) and render (the page out)
charts.py   the curves: geometry for the page, a PNG for the run's folder
diagrams.py reliability, rejection, robustness: geometry for the page
robustness.py  the sheet of challenges, a PNG
findings.py the page of `hubel check`: what is wrong with a data set
"""

from hubel.report.charts import draw_curves
from hubel.report.findings import FindingsPage, Group, Shown, render_findings
from hubel.report.page import RunPage, render

__all__ = ["FindingsPage", "Group", "RunPage", "Shown", "draw_curves", "render", "render_findings"]
