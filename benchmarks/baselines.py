"""The tables of docs/baselines.md, from what `hubel baseline` and `hubel train` wrote.

    python benchmarks/baselines.py tables > tables.md
    python benchmarks/baselines.py keep runs/clothing-baseline-1 [RUN ...]

`keep` puts the figures of a baseline, and of further runs on the same splits, into evidence/baselines.jsonl, a line per
data set; `tables` writes them as Markdown. The document holds exactly these tables (a test).
"""

import json
import sys
from pathlib import Path
from typing import Any

import commands

EVIDENCE = Path(__file__).parent / "evidence" / "baselines.jsonl"
KEPT = ("command", "size", "most", "seed", "rows", "notes", "versions")


def keep(folder: Path, runs: list[Path]) -> None:
    """Replaces the line of the data set, or adds it."""
    from hubel.commands.baseline import row_of
    from hubel.training.run import Run

    summary = json.loads((folder / "summary.json").read_text())
    found = {key: summary[key] for key in KEPT}
    about = summary["splits"]
    found |= {
        "data": Path(summary["data"]).name,
        "sizes": about["sizes"],
        "fingerprint": about["fingerprint"],
        "runs": [],
    }
    for run in [*([summary["run"]["method"]] if summary["run"] else []), *runs]:
        ours = Run.open(folder.parent / run)
        assert ours.info.splits.fingerprint == about["fingerprint"]
        assert ours.info.splits.counts == about["counts"], "other splits"
        found["runs"].append(row_of(ours) | {"command": commands.portable(ours.info.command)})
    lines = [json.loads(line) for line in EVIDENCE.read_text().splitlines()] if EVIDENCE.exists() else []
    lines = [line for line in lines if line["data"] != found["data"]] + [found]
    EVIDENCE.write_text("".join(json.dumps(line) + "\n" for line in sorted(lines, key=lambda line: line["data"])))


def table(found: dict[str, Any]) -> str:
    """The rows of one data set as Markdown."""
    lines = [
        "| method | chosen on validation | validation | test | 95 % interval | balanced | features | fit | predict |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in [*found["rows"], *found["runs"]]:
        test, seconds = row["test"], row["seconds"]
        times = ["" if seconds[key] is None else f"{seconds[key]:.1f} s" for key in ("features", "fit", "predict")]
        title = f"**{row['title']}**" if "command" in row else row["title"]
        low, high = (100 * end for end in test["interval"])
        cells = [
            title,
            row["setting"],
            f"{100 * row['validation']['top1']:.1f} %",
            f"{100 * test['top1']:.1f} %",
            f"{low:.1f} to {high:.1f} %",
            f"{100 * test['balanced_accuracy']:.1f} %",
            *times,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def tables() -> dict[str, str]:
    """The table of each data set."""
    return {(found := json.loads(line))["data"]: table(found) for line in EVIDENCE.read_text().splitlines()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        keep(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
    else:
        print("\n\n".join(f"## {name}\n\n{text}" for name, text in tables().items()))
