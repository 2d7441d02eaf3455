"""The page of the baselines: the table, and what the linear classifier looks for."""

from typing import Any

import numpy as np

from hubel.report import page as run_page

SHOWN = 40  # templates


def render(summary: dict[str, Any], templates: np.ndarray | None) -> str:
    """The page as HTML: styles and pictures inside, no script, nothing fetched.

    Args:
        summary: summary.json of a baseline.
        templates: uint8 K S S C, one per class; None where no linear classifier of pixels was asked for.
    """
    rows = [*summary["rows"], *([summary["run"]] if summary["run"] else [])]
    part = "test" if all(row["test"] for row in rows) else "validation"
    best = max((row for row in summary["rows"]), key=lambda row: row["validation"]["top1"])
    shown = [] if templates is None else list(zip(summary["classes"], templates[:SHOWN], strict=False))
    return (
        run_page.environment()
        .get_template("baseline.html.jinja")
        .render(
            summary=summary,
            rows=rows,
            part=part,
            best=best,
            run=summary["run"],
            sizes=summary["splits"]["sizes"],
            templates=[(name, run_page.picture(pixels)) for name, pixels in shown],
            shown=SHOWN,
        )
    )
