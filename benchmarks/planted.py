"""Faults planted among real photographs, and which of them `hubel check` finds.

    python benchmarks/planted.py ../shared/data/clothing --from mobilenet_v2.safetensors --seeds 3
    python benchmarks/planted.py ../shared/data/clothing --from mobilenet_v2.safetensors --swaps 100:120   # labels
    alone python benchmarks/planted.py ../shared/data/clothing --from mobilenet_v2.safetensors --thorough --swaps
    100:105

In a copy of the folder, 200 pictures get a duplicate in their part and class (JPEG or WebP of quality 40 to 95 or PNG,
0.5 to 1.8 times as large, half of them mirrored), 40 training pictures one in another part, 25 get a wrong label, and
12 files are broken (empty, cut short, not a picture). No picture is used twice. What else is found is compared with
what is found in the untouched copy, so that copies that were there before are counted apart; what remains are false
alarms.

A label may be swapped without touching what is seen on the picture: with --swaps FIRST:END the pictures are looked at
once, in place, and for every seed of that range 25 labels of the training part are swapped and judged. How labels are
judged was chosen with the seeds 0 to 19 of another generator, so any range is held out.
"""

import argparse
import io
import json
import platform
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hubel.audit import audit
from hubel.audit.check import check
from hubel.audit.judges import judge, judge_data
from hubel.audit.label_issues import bound, label_issues
from hubel.classifier import Classifier
from hubel.data import open_data, open_source

PLANTED = {"duplicate": 200, "leak": 40, "label_error": 25, "broken": 12}
COPIES = ("duplicate", "near_duplicate", "leak", "label_conflict")


def copy(raw: bytes, random: np.random.Generator) -> tuple[bytes, str]:
    """The same picture encoded anew, of another size, mirrored or not; and its ending."""
    image = Image.open(io.BytesIO(raw)).convert("RGB")
    scale = random.uniform(0.5, 1.8)
    size = max(16, round(image.width * scale)), max(16, round(image.height * scale))
    image = image.resize(size, [Image.Resampling.BILINEAR, Image.Resampling.LANCZOS][random.integers(2)])
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    buffer, kind = io.BytesIO(), ["JPEG", "WEBP", "PNG"][random.integers(3)]
    image.save(buffer, kind, quality=int(random.integers(40, 96)))
    return buffer.getvalue(), {"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}[kind]


def plant(root: Path, counts: dict[str, int], seed: int) -> dict[str, list[set[str]]]:
    """Plants faults in a folder; per kind the file names that a finding has to name."""
    random = np.random.default_rng(seed)
    pictures = sorted(path for path in root.rglob("*") if path.is_file())
    parts = sorted(path.name for path in root.iterdir() if path.is_dir())
    train = next(part for part in parts if part.startswith("train"))
    classes = sorted(path.name for path in (root / train).iterdir())
    free = [path for path in pictures if path.relative_to(root).parts[0] == train]
    chosen = iter([free[i] for i in random.permutation(len(free))])
    planted: dict[str, list[set[str]]] = {kind: [] for kind in counts}
    for kind in ("duplicate", "leak"):
        for number in range(counts[kind]):
            path = next(chosen)
            raw, ending = copy(path.read_bytes(), random)
            folder = path.parent
            if kind == "leak":
                folder = root / [part for part in parts if part != train][number % (len(parts) - 1)] / path.parent.name
            target = folder / f"planted-{kind}-{number}{ending}"
            target.write_bytes(raw)
            planted[kind].append({path.name, target.name})
    for number in range(counts["label_error"]):
        path = next(chosen)
        others = [name for name in classes if name != path.parent.name]
        target = root / train / others[random.integers(len(others))] / f"planted-label-{number}{path.suffix}"
        path.rename(target)
        planted["label_error"].append({target.name})
    for number in range(counts["broken"]):
        path = next(chosen)
        raw = path.read_bytes()
        path.write_bytes([b"", raw[: len(raw) // 2], b"<html>404 Not Found</html>"][number % 3])
        planted["broken"].append({path.name})
    return planted


def names(finding: dict[str, Any]) -> set[str]:
    return {Path(path).name for path in finding["paths"]}


def score(
    planted: dict[str, list[set[str]]],
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    pictures: int,
) -> dict[str, dict[str, Any]]:
    """Per kind: planted, found, false alarms, and findings that the data had of their own."""
    own = [names(finding) for finding in before if finding["kind"] in COPIES]
    scored = {}
    for kind, wanted in planted.items():
        kinds = ("duplicate", "near_duplicate") if kind == "duplicate" else (kind,)
        found = [names(finding) for finding in after if finding["kind"] in kinds]
        hit = sum(any(want <= seen for seen in found) for want in wanted)
        others = [seen for seen in found if not any(want <= seen for want in wanted)]
        known = [seen for seen in others if kind in COPIES and any(seen <= had for had in own)]
        false = len(others) - len(known)
        scored[kind] = {
            "planted": len(wanted),
            "found": hit,
            "false_alarms": false,
            "false_alarm_share": false / pictures,
            "the_datas_own": len(known),
        }
    return scored


def curve(own: np.ndarray, swapped: np.ndarray) -> list[dict[str, float]]:
    """Of swapped labels: how many are found for how many false alarms, were the bound another one."""
    hits = swapped[np.argsort(own, kind="stable")]
    found, false = np.cumsum(hits), np.cumsum(~hits)
    return [
        {"false_alarm_share": share, "found": int(found[np.searchsorted(false, share * len(hits), "right") - 1])}
        for share in (0.005, 0.01, 0.02, 0.03, 0.05, 0.1)
    ]


def expected(answers: np.ndarray, labels: np.ndarray, which: np.ndarray) -> float:
    """Of all wrong labels that these pictures could have, the share that would be doubted.

    Nobody who judges a picture knows its label, so one judgement answers for all of them, and varies less than what
    became of 25.
    """
    doubted = answers < bound(answers)
    doubted[np.arange(len(answers)), answers.argmax(axis=1)] = False
    doubted[np.arange(len(answers)), labels] = False
    return float(doubted[which].sum() / (len(which) * (answers.shape[1] - 1)))


def swaps(folder: Path, weights: str | None, thorough: bool, seeds: range) -> list[dict[str, Any]]:
    """Swaps labels, judges them, scores; the pictures are looked at once."""
    opened = open_data(folder, lenient=True)
    seen = audit(opened)
    look = judge_data(seen, Classifier.load(weights) if weights else None, opened, thorough=thorough)
    pictures = look.images
    inventory, alike = seen.inventory, seen.alike[pictures]
    train = np.flatnonzero(inventory.part[pictures] == list(inventory.parts).index("train"))
    classes, rows = len(inventory.classes), []
    for seed in seeds:
        random = np.random.default_rng(seed)
        labels, swapped = inventory.labels[pictures].copy(), np.zeros(len(pictures), bool)
        swapped[random.permutation(train)[: PLANTED["label_error"]]] = True
        labels[swapped] = (labels[swapped] + random.integers(1, classes, swapped.sum())) % classes
        answers = judge(look, labels, alike, classes)
        doubted = np.isin(np.arange(len(labels)), [issue.image for issue in label_issues(answers, labels)])
        rows.append(
            {
                "seed": seed,
                "judge": look.judge,
                "found": int((doubted & swapped).sum()),
                "expected": PLANTED["label_error"] * expected(answers, labels, train[~swapped[train]]),
                "false_alarms": int((doubted & ~swapped).sum()),
                "false_alarm_share": float((doubted & ~swapped).mean()),
                "curve": curve(answers[np.arange(len(labels)), labels], swapped),
            }
        )
        row = rows[-1]
        print(
            f"seed {seed}  found {row['found']} of {PLANTED['label_error']} ({row['expected']:.2f} expected), false "
            "alarms "
            f"{row['false_alarms']} ({100 * row['false_alarm_share']:.2f} %), {words(row['curve'])}",
            flush=True,
        )
    return rows


def words(points: list[dict[str, float]]) -> str:
    return "swapped labels found against false alarms: " + ", ".join(
        f"{point['found']} at {100 * point['false_alarm_share']:g} %" for point in points
    )


def measured(folder: Path, weights: str | None, thorough: bool, seed: int, counts: dict[str, int]) -> dict[str, Any]:
    """Plants, checks, scores."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "data"
        shutil.copytree(folder, root, copy_function=shutil.copyfile)
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        root.chmod(0o755)
        before = check(root, labels=False).to_dict()["findings"]
        planted = plant(root, counts, seed)
        checked = check(root, weights=weights, thorough=thorough)
        record = checked.to_dict()
    pictures = sum(record["pictures"].values())
    wanted = set().union(*planted["label_error"])
    swapped = np.array([Path(checked.audit.inventory.names[int(number)]).name in wanted for number in checked.judged])
    return {
        "seed": seed,
        "pictures": pictures,
        "seconds": record["seconds"],
        "labels": record["label_errors"],
        "kinds": score(planted, before, record["findings"], pictures),
        "swapped_labels_curve": curve(checked.own, swapped),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--from", dest="weights")
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--swaps", metavar="FIRST:END")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.swaps:
        rows = swaps(
            arguments.folder, arguments.weights, arguments.thorough, range(*map(int, arguments.swaps.split(":")))
        )
        summary = {
            key: {"mean": statistics.mean(row[key] for row in rows), "sd": statistics.stdev(row[key] for row in rows)}
            for key in ("found", "expected", "false_alarm_share")
        }
        print(json.dumps(summary))
        if arguments.output:
            arguments.output.write_text(
                json.dumps(summary | {"runs": rows, "python": platform.python_version()}) + "\n"
            )
        return
    classes = len(open_source(arguments.folder).classes)
    runs = []
    for seed in range(arguments.seeds):
        run = measured(arguments.folder, arguments.weights, arguments.thorough, seed, PLANTED)
        runs.append(run)
        for kind, row in run["kinds"].items():
            print(
                f"seed {seed}  {kind:<12} found {row['found']:>3} of {row['planted']:>3}   false alarms "
                f"{row['false_alarms']:>3} "
                f"({100 * row['false_alarm_share']:.2f} % of {run['pictures']:,})   the data's own "
                f"{row['the_datas_own']}",
                flush=True,
            )
        print(f"seed {seed}  {words(run['swapped_labels_curve'])}", flush=True)
    found = {
        kind: statistics.mean(run["kinds"][kind]["found"] / count for run in runs) for kind, count in PLANTED.items()
    }
    evidence = {
        "data": arguments.folder.name,
        "classes": classes,
        "weights": arguments.weights and Path(arguments.weights).name,
        "found_share": found,
        "runs": runs,
        "python": platform.python_version(),
    }
    print(json.dumps(found))
    if arguments.output:
        arguments.output.write_text(json.dumps(evidence) + "\n")


if __name__ == "__main__":
    main()
