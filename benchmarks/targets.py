"""Writes the table of targets in README.md from the evidence beside it: no figure in it is typed.

python benchmarks/targets.py
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
EVIDENCE = HERE / "evidence"
BUSY = 0.15  # cores that others kept busy; above, a figure is shown but decides nothing
START, END = "<!-- targets -->\n", "<!-- end of targets -->\n"


@dataclass(frozen=True)
class Figure:
    """A measured figure: what it is, between what it lay, how often it was measured, and what else ran."""

    value: float
    spread: tuple[float, float] | None
    n: int
    others: float | None


@dataclass(frozen=True)
class Target:
    """One line of the table.

    Args:
        what: the target, with its number.
        least: the number, in the unit of the figure.
        form: how a figure is written.
        evidence: file and, within it, the beginning of the case, of the baseline (the whole of it before a `$`) and the
            field.
        command: what measures it.
        without: why there is no figure, where none can be.
        needs: how many figures, of different cases, the evidence has to hold.
    """

    what: str
    least: float
    form: str
    evidence: tuple[str, str, str, str]
    command: str
    without: str = "not yet measured"
    needs: int = 1


TRAIN, DATA, INFER = "hubel benchmark train", "hubel benchmark data", "python benchmarks/inference.py NETWORK"
RATIO, SHARE = "ratio", "ceiling_share"
SUMMARY, PROBE = "hubel benchmark summary threads=1", "python benchmarks/probe.py CLOTHING/train WEIGHTS"
WHOLE, MNIST = "python benchmarks/whole_job.py CLOTHING", "python benchmarks/mnist.py MNIST recipe=mnist"
FOLDER = "JPEG folder, 224 px"
PLAIN, FIRST, LATER = "plain loop", f"{FOLDER}, first", f"{FOLDER}, later"

# fmt: off
TARGETS = (
    Target("ResNet-18, CIFAR stem, batch 128: 2.2x the plain loop", 2.2, "x",
           ("train.json", "resnet18_small", PLAIN, RATIO), TRAIN),
    Target("the same: 85 % of the bf16 ceiling", 0.85, "%", ("train.json", "resnet18_small", PLAIN, SHARE), TRAIN),
    Target("ResNet-50, 224 px, batch 16: 2.7x", 2.7, "x", ("train.json", "resnet50", PLAIN, RATIO), TRAIN),
    Target("the same: 80 % of the bf16 ceiling", 0.80, "%", ("train.json", "resnet50", PLAIN, SHARE), TRAIN),
    Target("MobileNet-v2, 224 px, batch 16: 2.5x", 2.5, "x", ("train.json", "mobilenet_v2", PLAIN, RATIO), TRAIN),
    Target("bf16 as accurate as float32 over 5 seeds: no loss resolved, the worst of two sets", 0.0, "difference",
           ("precision.jsonl", "", "", "differences"), "python benchmarks/seeds.py DATA --variants ...", needs=4),
    Target("32 px in memory, crop and flip: 10x torchvision's dataset and DataLoader", 10, "x",
           ("data.json", "in memory", "torchvision", RATIO), DATA),
    Target("JPEG folder to 224 px batches: 1.5x ImageFolder and DataLoader", 1.5, "x",
           ("data.json", FIRST, "ImageFolder", RATIO), DATA),
    Target("the same from the second epoch on: 5x", 5, "x", ("data.json", LATER, "ImageFolder", RATIO), DATA),
    Target("twelve augmentations: 5x kornia", 5, "x", ("data.json", "twelve", "kornia", RATIO), DATA),
    Target("twelve augmentations: 3x Pillow", 3, "x", ("data.json", "twelve", "torchvision on Pillow", RATIO), DATA),
    Target("inference, equal precision: 0.97 of the best engine, the worst of five networks at batch 1 and 16", 0.97,
           "x", ("inference.jsonl", "", "", "over_best_at_equal_precision"), INFER, needs=20),
    Target("inference, default precision: 1.9x ONNX Runtime's float32, the worst of the ten", 1.9, "x",
           ("inference.jsonl", "", "", "default_over_onnxruntime_float32"), INFER, needs=10),
    Target("whole job, first epoch included: 2.2x the tutorial's loop", 2.2, "x",
           ("whole_job_10.json", "", "tutorial", RATIO), f"{WHOLE} --epochs 10"),
    Target("whole job: validation accuracy after 10 epochs at least the tutorial's", 0.0, "points",
           ("whole_job_10.json", "", "tutorial", "top1"), f"{WHOLE} --epochs 10"),
    Target("MNIST 99.2 %: in a tenth of the official example's time", 10, "x",
           ("mnist.json", "", "official", RATIO), MNIST),
    Target("MNIST: 99.2 % on the test part", 0.992, "%", ("mnist.json", "", "official", "test_top1"), MNIST),
    Target("summary of VGG-16: 10x torchinfo with a real forward", 10, "x",
           ("summary.json", "vgg16, 224 px$", "torchinfo$", RATIO), SUMMARY),
    Target("summary of ResNet-152: the same", 10, "x",
           ("summary.json", "resnet152, 224 px$", "torchinfo$", RATIO), SUMMARY),
    Target("the same, built from its name too", 10, "x",
           ("summary.json", "resnet152, 224 px, from its name$", "torchinfo$", RATIO), SUMMARY),
    Target("summary of ResNet-152: no slower than torchinfo on the meta device", 1, "x",
           ("summary.json", "resnet152, 224 px$", "torchinfo, meta", RATIO), SUMMARY),
    Target("probe of 1,000 pictures at 224 px: 10x fine-tuning all layers for 10 epochs", 10, "x",
           ("probe.json", "", "", RATIO), PROBE),
    Target("features at the speed of logits: 0.97", 0.97, "x", ("probe.json", "", "", "features_to_logits"), PROBE),
    Target("Grad-CAM in at most 3 forward passes, the worst of six networks: passes under 3", 0.0, "passes",
           ("grad_cam.json", "", "", "spare"), "python benchmarks/grad_cam.py"),
    Target("CIFAR-10: 94 %, beating 2.59 s and then 1.83 s", 0.94, "%", ("cifar10.json", "", "", "top1"),
           "hubel train CIFAR10 recipe=cifar10_record", "not yet measured (needs a GPU, and CIFAR-10)"),
    Target("CIFAR-10: 94 % on two cores in under 15 minutes", 0.94, "%", ("cifar10.json", "", "", "top1"),
           "hubel train CIFAR10 recipe=cifar10_record", "not yet measured (needs CIFAR-10)"),
)
# fmt: on


def figures(target: Target) -> Iterator[Figure]:
    """The figures of a target that the evidence holds."""
    name, case, baseline, field = target.evidence
    path = EVIDENCE / name
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    records = [json.loads(line) for line in lines if line.strip()]
    for record in records:
        others = record.get("conditions", {}).get("others")
        for row in record.get("rows", [record]):
            if not matches(row.get("case", ""), case) or not matches(row.get("baseline_name") or "", baseline):
                continue
            if field == "top1":
                best = {who: max(run["top1"] for run in runs) for who, runs in row["runs"].items()}
                yield Figure(100 * (best["hubel"] - best["tutorial"]), None, row["n"], others)
            elif field == "differences":
                found = [figures["validation accuracy"] for figures in row[field].values()]
                yield from (Figure(its["mean"], tuple(its["interval"]), its["n"], None) for its in found)
            elif isinstance(row.get(field), dict):
                yield from (Figure(value, None, row["n"], others) for value in row[field].values())
            elif row.get(field) is not None:
                spread = tuple(row[f"{field}_spread"]) if row.get(f"{field}_spread") else None
                yield Figure(row[field], spread, row.get("n", 1), others)


def matches(name: str, wanted: str) -> bool:
    """Whether a name begins so, or is so where a `$` says that it ends."""
    return f"{name}$".startswith(wanted)


def written(value: float, form: str) -> str:
    """A figure with its unit."""
    return {
        "x": f"{value:.2f}x",
        "%": f"{100 * value:.1f} %",
        "points": f"{value:+.1f} points",
        "difference": f"{value:+.2f} points",
        "passes": f"{value:.2f}",
    }[form]


def line(target: Target) -> str:
    """A row of the table: the worst figure where there are several."""
    found = sorted(figures(target), key=lambda figure: figure.value)
    if not found:
        return f"| {target.what} | | | | | `{target.command}` | {target.without} |"
    worst, count = found[0], len(found)
    spread = (
        f"{written(worst.spread[0], target.form)} to {written(worst.spread[1], target.form)}" if worst.spread else ""
    )
    accuracy = target.form == "difference"  # which other work on the machine does not change
    if count > 1 and not accuracy:
        spread = f"{written(worst.value, target.form)} to {written(found[-1].value, target.form)}, {count} figures"
    others = "" if accuracy else "not recorded" if worst.others is None else f"{worst.others:.2f} cores"
    reached = min(figure.spread[1] for figure in found if figure.spread) if accuracy else worst.value
    verdict = "met" if reached >= target.least else "not met"
    if count < target.needs:
        verdict = f"not yet measured in full ({count} of {target.needs} figures)"
    if not accuracy and (worst.others is None or worst.others > BUSY):
        verdict = "not yet measured on a quiet machine"
    value = written(worst.value, target.form)
    return f"| {target.what} | {value} | {worst.n} | {spread} | {others} | `{target.command}` | {verdict} |"


def table() -> str:
    """The whole table in Markdown."""
    head = "| target | measured | n | spread | others | command | met |\n|---|---|---|---|---|---|---|\n"
    return head + "".join(f"{line(target)}\n" for target in TARGETS)


def main() -> None:
    readme = HERE / "README.md"
    before, _, rest = readme.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    readme.write_text(f"{before}{START}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
