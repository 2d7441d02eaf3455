"""Hostile command lines for every verb: drawn from its keys and their types, run, and watched.

    python tests/fuzz.py 2500 --seed 1 --workers 2      # each in a process of its own; prints what went wrong

A command may refuse or succeed; a traceback, an exit code that says neither, more than a minute or more than 4 GB is
wrong. `test_fuzz.py` draws from the same lines.
"""

import argparse
import importlib
import json
import os
import pkgutil
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from shlex import join
from shutil import rmtree
from typing import Any

import numpy as np
import torch
from PIL import Image

import hubel
from hubel import zoo
from hubel.cli import VERBS, main
from hubel.cli.arguments import File
from hubel.cli.door import FILES, FOLDERS
from hubel.cli.values import kinds_of, takes_several
from hubel.data.preprocessing import Preprocessing
from hubel.weights import tensor_file

SECONDS, BYTES = 60.0, 4 << 30  # more of either is wrong
RIGHT = (0, 1, 2, 3, 130)  # exit codes

NUMBERS = (
    "0",
    "-1",
    "1",
    "2",
    "3",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-320",
    "0.5",
    "1.5",
    "-0.0",
    "99999999999999999999",
    "2147483648",
    "4294967296",
    "18446744073709551616",
    "9" * 5000,
    "0x10",
    "\uff11\uff12",
    "1_0",
    "true",
    "",
    " ",
    "one",
)
WORDS = (
    "",
    " ",
    "a\0b",
    "a\nb",
    "\x1b[31mred\x07",
    "[bold]cat[/]",
    "[/]",
    "[link=x]",
    "{x}",
    "%s",
    "$x^2$",
    "猫",
    "🐈",
    "\u202egnp.cat",
    "\udcff\udc80",
    "=1+1",
    "'",
    '"',
    "null",
    "*",
    "[",
    "-",
    "--",
    "=",
    "a" * 300,
    "é" * 200,
    "a" * 5000,
    "a/" * 2000,
    "<script>",
    "x.py:Net",
    "hf-hub:a/b/../../x",
    ".",
    ":cat:",
    "3x",
    "3x0x0",
    "99999x99999x99999",
    "1x8x8",
    "-1x8x8",
    "gap 10",
    "16c3p1 r p2 gap 10",
    "16c" * 200,
)
NETWORKS = ("resnet8_cifar", "lenet5", "linear", "nonsense", "16c3p1 r p2 gap 2", "resnet99999998_cifar")
LONG = {"train", "lr-find", "verify-resume", "baseline", "advise", "benchmark", "check", "gradcheck"}
ASKED = ("explain_speed", "thorough", "do")  # for what takes minutes
CHEAP = {  # keys that keep a command short where it is not refused, unless drawn
    "train": ("epochs=1", "size=8", "model=resnet8_cifar", "threads=1"),
    "lr-find": ("samples=20", "size=8", "model=resnet8_cifar", "threads=1"),
    "verify-resume": ("kills=1", "epochs=1", "size=8", "model=resnet8_cifar"),
    "benchmark": ("rounds=1", "seconds=0.1", "model=lenet5", "batch=2", "threads=1"),
    "baseline": ("most=8", "size=8", "methods=majority"),
    "gradcheck": ("samples=1",),
    "features": ("steps=0",),
    "arithmetic": ("seconds=0",),
}


@dataclass(frozen=True)
class Material:
    """Files to name on a command line.

    Args:
        good: by what they are: data, run, picture.
        bad: files, folders and devices that are none of these.
    """

    good: dict[str, list[str]]
    bad: list[str]


def classifier_file(path: Path, classes: Sequence[str], size: int = 8) -> Path:
    """The file of a small network of these classes, which has learnt nothing."""
    torch.manual_seed(0)
    network = zoo.create("resnet8_cifar", num_classes=len(classes), in_channels=3, image_size=size)
    network.train()(torch.randn(16, 3, size, size))  # batch norm gets statistics
    preparation = Preprocessing(size=size, channels=3, fit="pad", mean=(0.5,) * 3, std=(0.25,) * 3)
    about = {
        "model": "resnet8_cifar",
        "classes": list(classes),
        "preprocessing": preparation.to_dict(),
        "data": "photos",
    }
    tensor_file.save(path, network.state_dict(), about)
    return path


def material(folder: Path, *, trained: bool = True) -> Material:
    """Makes them: a folder of pictures, a run where one is to be trained, and what may lie about on a disk."""
    rng = np.random.default_rng(0)
    classes = ("[bold]dog[\u2215]", "cat")
    for name in classes:
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(10):
            picture = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            picture.save(folder / "photos" / name / f"{i}.png")
    photos, runs = str(folder / "photos"), [str(classifier_file(folder / "known.safetensors", classes))]
    lines = [f"photos/cat/{i}.png,{'=cat' if i % 2 else '@dog'}" for i in range(10)]
    (folder / "labels.csv").write_text("path,label\n" + "\n".join(lines))
    np.savez(
        folder / "arrays.npz", images=rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8), labels=np.arange(20) % 2
    )
    if trained:
        _silently(
            [
                "train",
                photos,
                "epochs=1",
                "size=8",
                "model=resnet8_cifar",
                "name=a",
                f"project={folder / 'runs'}",
                "threads=1",
            ]
        )
        assert (folder / "runs" / "a" / "summary.json").exists(), "the run of the fuzz could not be trained"
        runs += [str(folder / "runs" / "a")] * 2
    for name, content in {
        "empty": b"",
        "words.txt": b"no picture",
        "empty.csv": b"",
        "nul.csv": b"path,label\n\0,\0\n",
        "broken.npz": b"PK\3\4" + bytes(90),
        "broken.png": b"\x89PNG\r\n\x1a\n" + bytes(40),
        "broken.safetensors": b"\xff" * 64,
        "broken.json": b"{",
        "list.json": b"[]",
        "own.py": b"from torch import nn\nNet = lambda n: nn.Sequential(nn.Flatten(), nn.LazyLinear(n))\n",
        "bad.py": b"raise ValueError('no')",
        "exclude.csv": b"path,exclude\ncat/0.png,maybe\n",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "nothing").mkdir()
    (folder / "edited").mkdir()
    (folder / "edited" / "run.json").write_text("{}")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "dangling").symlink_to(folder / "nowhere")
    lying = [
        name
        for name in sorted(os.listdir(folder))
        if name not in ("photos", "runs", "labels.csv", "arrays.npz", "known.safetensors")
    ]
    return Material(
        {
            "data": [photos, photos, str(folder / "labels.csv"), str(folder / "arrays.npz")],
            "run": runs,
            "picture": [str(folder / "photos" / "cat" / "1.png"), photos],
        },
        [
            *(str(folder / name) for name in lying),
            f"{folder}/own.py:Net",
            f"{folder}/own.py:Nothing",
            f"{folder}/bad.py:Net",
            "/dev/null",
            str(folder / "nowhere"),
            str(folder / ("n" * 300)),
            f"{folder}/empty/below",
            "/proc/self/mem",
        ],
    )


def lines(
    seed: int, found: Material, verbs: Sequence[str] = tuple(VERBS), *, short: bool = False
) -> Iterator[list[str]]:
    """Command lines without end; the same for the same seed.

    Args:
        seed: of the draw.
        found: files to name.
        verbs: to draw from, one after the other.
        short: every line of a verb that takes long has something wrong, so that few of them do any work.
    """
    draw = random.Random(seed)
    while True:
        for name in verbs:
            yield _line(draw, name, found, wrong=short and name in LONG)


def _line(draw: random.Random, name: str, found: Material, *, wrong: bool) -> list[str]:
    verb = VERBS[name]
    own = {field.name: field for field in fields(verb.arguments)}
    words = [name]
    for key in verb.positional:
        if own[key].default is MISSING or draw.random() < 0.6:
            words += [
                _place(draw, key, found) for _ in range(draw.choice((1, 1, 2)) if takes_several(own[key].type) else 1)
            ]
    keys = {key: kind for key, kind in verb.keys().items() if key not in ASKED}
    drawn = draw.sample(sorted(keys), k=min(len(keys), draw.choice((0, 1, 1, 2, 3) if not wrong else (1, 2))))
    needed = [key for key, field in own.items() if key not in (*verb.positional, *drawn) and field.default is MISSING]
    for key in (*drawn, *needed):
        words.append(_written(draw, key, _value(draw, key, keys[key], found)))
    words += [
        cheap for cheap in CHEAP.get(name, ()) if cheap.split("=")[0] not in drawn and cheap.split("=")[0] in keys
    ]
    if name in ("verify-resume", "benchmark"):  # what they are asked for takes minutes
        words.append(draw.choice(("seed=-1", "epochs=nan", "nonsense=1", "threads=-1")))
    if draw.random() < 0.05:
        words.insert(draw.randrange(1, len(words) + 1), draw.choice(WORDS))
    return words


def _place(draw: random.Random, key: str, found: Material) -> str:
    kind = {"data": "data", "images": "picture", "image": "picture", "run": "run", "weights": "run"}.get(key)
    if key in ("model", "models") and draw.random() < 0.7:
        return draw.choice((*NETWORKS, *found.good["run"]))
    if key == "works" and draw.random() < 0.5:
        return "summary"
    if kind and draw.random() < 0.65:
        return draw.choice(found.good[kind])
    return draw.choice(found.bad if draw.random() < 0.6 else WORDS)


def _value(draw: random.Random, key: str, kind: Any, found: Material) -> str | None:
    """A value of a key, sane in half of the cases; None where the key stands alone."""
    if kind is bool:
        return draw.choice((None, None, "true", "false", "maybe", ""))
    if key in (*FILES, *FOLDERS):
        if kind is File and draw.random() < 0.3:
            return None
        ending = draw.choice((".png", ".html", ".csv", ".json", ".npz", ".safetensors", ".svg", ".gif", ".md", ""))
        return draw.choice(
            (
                f"out{ending}",
                f"new/out{ending}",
                f"{draw.choice(WORDS)}{ending}",
                draw.choice(found.bad[-8:]),
                "/dev/stdout",
                "/dev/full",
            )
        )
    kinds = kinds_of(kind)
    if draw.random() < 0.5:
        literal = sorted(str(word) for word in kinds if not isinstance(word, type))
        if literal:
            return draw.choice(literal)
        if kinds & {int, float}:
            return draw.choice(("1", "2", "0.1", "8"))
        if key in ("teacher", "weights", "split", "ensemble"):
            return draw.choice(found.good["run"])
        if key in ("data", "query", "exclude"):
            return draw.choice(found.good["data"])
        return draw.choice(("last", "cat", "0", "cpu", "resnet8_cifar", "1x8x8", "flips"))
    return draw.choice(NUMBERS) if kinds & {int, float} else draw.choice((*WORDS, *found.bad))


def _written(draw: random.Random, key: str, value: str | None) -> str:
    if value is None:
        return f"--{key.replace('_', '-')}"
    return f"{key}={value}" if draw.random() < 0.8 else f"--{key.replace('_', '-')}={value}"


# ------------------------------------------------------------------------------------------------- running them


def _silently(command: Sequence[str]) -> int:
    """Runs a command in this process without its output."""
    with open(os.devnull, "w") as nowhere:
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = nowhere
        try:
            return main(command)
        finally:
            sys.stdout, sys.stderr = before


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal), time, the most memory it had above its start, what it
    said.
    """

    code: int
    seconds: float
    bytes: int
    said: str

    @property
    def wrong(self) -> str:
        """What is wrong; empty where nothing is."""
        if "Traceback (most recent call last)" in self.said:
            return "traceback"
        if self.seconds > SECONDS:
            return "too long"
        if self.bytes > BYTES:
            return "too large"
        return "" if self.code in RIGHT else f"exit code {self.code}"


def ended(command: Sequence[str]) -> Ended:
    """Runs a command in a copy of this process, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="hubel-fuzz-"))
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            out = os.open(folder.with_suffix(".out"), os.O_CREAT | os.O_WRONLY)
            for number in (1, 2):
                os.dup2(out, number)
            os.chdir(folder)
            sys.argv = ["hubel", *command]
            code = main(command)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code & 0xFF)
    most = 0
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
        most = max(most, _memory(child))
        if time.monotonic() - began > SECONDS + 2 or most > BYTES + (1 << 29):
            os.killpg(child, signal.SIGKILL)
    most = max(most, usage.ru_maxrss << 10)
    said = folder.with_suffix(".out").read_text(errors="replace")
    folder.with_suffix(".out").unlink()
    rmtree(folder, ignore_errors=True)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - began, most, said)


def _memory(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def run(count: int, seed: int, workers: int, verbs: Sequence[str], seconds: float, short: bool) -> int:
    """Runs so many lines, prints the wrong ones and the figures; 1 where one is wrong."""
    for module in pkgutil.walk_packages(hubel.__path__, "hubel."):  # loaded once, before the copies are made
        if module.name != "hubel.__main__":
            importlib.import_module(module.name)
    for name in (
        "sklearn.linear_model",
        "sklearn.manifold",
        "sklearn.neural_network",
        "skimage.data",
        "matplotlib.figure",
        "torch._dynamo",
    ):
        importlib.import_module(name)

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HUBEL_CACHE"] = f"{folder}/cache"
        made = os.fork()
        if made == 0:  # the run is trained in a copy: what starts threads cannot be copied any more
            material_folder = Path(folder, "material")
            material_folder.mkdir()
            kept = material(material_folder)
            Path(folder, "material.json").write_text(json.dumps([kept.good, kept.bad]))
            os._exit(0)
        os.waitpid(made, 0)
        found = Material(*json.loads(Path(folder, "material.json").read_text()))
        drawn = [line for line, _ in zip(lines(seed, found, verbs, short=short), range(count), strict=False)]
        until = time.monotonic() + seconds
        children = []
        for worker in range(workers):
            if (child := os.fork()) == 0:
                with Path(folder, f"{worker}.jsonl").open("w") as file:
                    for number in range(worker, count, workers):
                        if time.monotonic() > until:
                            break
                        end = ended(drawn[number])
                        file.write(
                            json.dumps([number, end.code, end.seconds, end.bytes, end.wrong, end.said[-1500:]]) + "\n"
                        )
                        file.flush()
                        if end.wrong:
                            print(
                                f"#{number} {end.wrong}: hubel {ascii(join(drawn[number]))[1:600]}\n    "
                                f"{end.said[-900:]}",
                                flush=True,
                            )
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        rows = [
            json.loads(line)
            for worker in range(workers)
            for line in Path(folder, f"{worker}.jsonl").read_text().splitlines()
        ]
    codes, wrong = Counter(row[1] for row in rows), Counter(row[4] for row in rows if row[4])
    spent = Counter()
    for row in rows:
        spent[drawn[row[0]][0]] += row[2]
    print("seconds by verb:", {name: round(seconds) for name, seconds in spent.most_common(8)})
    print(
        f"{len(rows):,} command lines, seed {seed}: exit codes {dict(sorted(codes.items()))}; "
        f"longest {max(r[2] for r in rows):.1f} s, largest {max(r[3] for r in rows) / 1e9:.2f} GB; "
        f"wrong: {dict(wrong) or 'none'}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no line after these")
    parser.add_argument("--short", action="store_true", help="every line of a verb that takes long has something wrong")
    parser.add_argument("--verbs", nargs="*", default=list(VERBS))
    given = parser.parse_args()
    sys.exit(run(given.count, given.seed, given.workers, given.verbs, given.seconds, given.short))
