"""Each way to combine networks beside the networks alone, on a test part; the table of docs/ensembles.md.

    python benchmarks/ensembles.py measure runs/mobilenet_0 runs/mobilenet_1 runs/mobilenet_2 --other runs/squeezenet
    python benchmarks/ensembles.py table

`measure` takes runs on the same splits, the first ones of one architecture that started from the same weights, so that
these may average. Everything is chosen on validation pictures; the test part decides nothing. Beside every row stand
the test pictures that it reads rightly and the best single network (by validation) does not, and the reverse, with
McNemar's mid-p.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import commands
from hubel.classifier import Classifier
from hubel.ensemble import Ensemble
from hubel.ensemble.combine import Combine
from hubel.evaluation.comparison import mcnemar
from hubel.evaluation.metrics import logits_of
from hubel.files import silently
from hubel.machine import versions
from hubel.pipeline.members import Pictures
from hubel.pipeline.score_ensemble import combined
from hubel.training.run import Run

EVIDENCE = Path(__file__).parent / "evidence" / "ensembles.json"
FIGURES = ("n", "top1", "interval", "loss", "balanced_accuracy")


def measure(alike: list[str], others: list[str]) -> dict[str, Any]:
    """Scores every combination on the test part, and compares what its saved file answers with the best single
    network.
    """
    every = [*alike, *others]
    plan: list[tuple[Combine, list[str]]] = [
        ("mean", alike),
        ("mean", every),
        ("greedy", every),
        ("soup", alike),
        ("greedy_soup", alike),
        ("fusion", every),
    ]
    pictures = Pictures(every, [Classifier.load(path) for path in every], None, "test", silently)
    validation = {path: json.loads((Path(path) / "summary.json").read_text())["validation"]["top1"] for path in every}
    best = max(every, key=lambda path: validation[path])
    rows, right = [], {path: _right(Classifier.load(path), pictures) for path in every}
    with tempfile.TemporaryDirectory() as folder:
        for number, (combine, paths) in enumerate(plan):
            print(f"{combine} of {len(paths)}", file=sys.stderr, flush=True)
            file = Path(folder) / f"{number}{'.safetensors' if 'soup' in combine else '.json'}"
            found = combined(paths, split="test", combine=combine, engine="eager", save=str(file)).to_dict()
            title = f"{combine.replace('_', ' ')} of {len(paths)}"
            right[title] = _right(Classifier.load(file) if "soup" in combine else Ensemble.load(file), pictures)
            assert right[title].mean() == found["top1"], "the saved file answers as what was measured"
            weights = {Path(row["path"]).name: row["weight"] for row in found["members"]}
            rows.append(
                {"title": title, "weights": weights, **{key: found[key] for key in FIGURES}, "notes": found["notes"]}
            )
            if paths == every and not any("network" in row for row in rows):
                alone = [
                    {
                        "title": Path(row["path"]).name,
                        "network": row["model"],
                        "px": row["size"],
                        "validation": validation[row["path"]],
                        **{key: row[key] for key in FIGURES},
                    }
                    for row in found["members"]
                ]
                right |= {Path(path).name: right[path] for path in every}
                rows = [*alone, *rows]
    for row in rows:
        gained, lost = (
            int((a & ~b).sum()) for a, b in ((right[row["title"]], right[best]), (right[best], right[row["title"]]))
        )
        row |= {"gained": gained, "lost": lost, "p": mcnemar(gained, lost)[1]}
    runs = [Run.open(Path(path)) for path in every]
    return {
        "best": Path(best).name,
        "rows": rows,
        "trained": [commands.portable(run.info.command) for run in runs],
        "sizes": runs[0].info.splits.sizes,
        "command": commands.own(),
        "versions": versions(),
    }


def _right(classifier: Classifier | Ensemble, pictures: Pictures) -> NDArray[np.bool_]:
    """Which test pictures it reads rightly."""
    members = [classifier] if isinstance(classifier, Classifier) else classifier.readers
    outputs = [logits_of(member, pictures.asked(member)) for member in members]
    logits = outputs[0] if isinstance(classifier, Classifier) else classifier.together(outputs)
    return logits.argmax(dim=1).numpy() == pictures.asked(members[0]).labels


def table(found: dict[str, Any]) -> str:
    """The evidence as Markdown."""
    lines = [
        "| | weights | test accuracy | 95 % interval | log loss | against the best single: gained, lost | p |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in found["rows"]:
        alone = "network" in row
        low, high = (100 * end for end in row["interval"])
        weights = (
            ""
            if alone or len(set(row["weights"].values())) == 1
            else ", ".join(f"{weight:g} {name}" for name, weight in row["weights"].items() if weight)
        )
        title = f"{row['title']} ({row['px']} px)" if alone else f"**{row['title']}**"
        against = (
            ["", ""] if row["title"] == found["best"] else [f"+{row['gained']}, -{row['lost']}", f"{row['p']:.2g}"]
        )
        cells = [
            title,
            weights,
            f"{100 * row['top1']:.1f} %",
            f"{low:.1f} to {high:.1f} %",
            f"{row['loss']:.3f}",
            *against,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    runs = verbs.add_parser("measure", help="writes evidence/ensembles.json")
    runs.add_argument("alike", nargs="+", help="runs of one architecture from the same weights")
    runs.add_argument("--other", nargs="*", default=[], help="runs of other networks on the same splits")
    verbs.add_parser("table", help="prints the evidence as Markdown")
    arguments = parser.parse_args()
    if arguments.verb == "measure":
        EVIDENCE.write_text(json.dumps(measure(arguments.alike, arguments.other), indent=1) + "\n")
    print(table(json.loads(EVIDENCE.read_text())))
