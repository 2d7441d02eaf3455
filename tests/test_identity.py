"""Which data are these: pictures are known by what they show, whatever they are called; code is run where it is
named.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hubel.cli import main
from hubel.commands.compare import compare_runs
from hubel.commands.embedding import embedding_map
from hubel.commands.explain import explained
from hubel.commands.features import _pictures
from hubel.commands.knn import knn
from hubel.commands.probe import probe_stages
from hubel.data import open_data
from hubel.data.likeness import copied, looks
from hubel.errors import DataError, FileError, HubelError, UsageError
from hubel.pipeline import multi_run
from hubel.pipeline.identity import is_own, met
from hubel.pipeline.labelled_images import seen
from hubel.pipeline.load_for_eval import evaluate_run, load_for_eval
from hubel.pipeline.prepare import splits_of
from hubel.pipeline.resume import resume
from hubel.pipeline.score_ensemble import combined
from hubel.pipeline.train import start
from hubel.recipe import Recipe
from hubel.training.run import Run

SIDE, OLD, NEW = 12, 80, 20


def shot(number: int) -> np.ndarray:
    """Noise of a number: meaningless, and like no other."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def written(folder: Path, numbers, name="{label}/{number:03}.png", of=lambda number: number % 2) -> Path:
    for number in numbers:
        path = folder / name.format(label="ab"[of(number)], number=number, other=(number * 37) % 1000)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shot(number)).save(path)
    return folder


def edited(path: Path, change) -> None:
    """Changes a document on purpose: its digest is removed."""
    about = json.loads(path.read_text())
    change(about)
    del about["sha256"]
    path.write_text(json.dumps(about))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """run, and far of another seed: trained by heart on eighty pictures of noise; old keeps no digests, as older
    versions.
    """
    folder = tmp_path_factory.mktemp("identity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        written(folder / "data", range(OLD))
        for name, seed in (("run", 0), ("far", 1)):
            recipe = Recipe(
                model="linear", epochs=12, lr=0.1, batch=16, threads=1, seed=seed, augment="none", size=SIDE
            )
            list(start(folder / "data", recipe, name=name, project=str(folder), drawn=False))
    shutil.copytree(folder / "run", folder / "old")
    edited(folder / "old" / "split.json", lambda split: split.pop("contents"))
    return folder


def parts(run: Path) -> dict[str, set[int]]:
    """The numbers of the pictures of every part of a run: its source is sorted by class."""
    order = [number for label in (0, 1) for number in range(OLD) if number % 2 == label]
    return {
        name: {order[place] for place in places}
        for name, places in json.loads((run / "split.json").read_text())["parts"].items()
    }


def renamed(folder):
    """Other names, other depth."""
    written(folder, range(OLD + NEW), "{label}/deep/{other:04}x.png")


def saved_anew(folder):
    """Other bytes, the same pixels."""
    written(folder, range(OLD + NEW), "{label}/{number}.bmp")


def in_parts(folder):
    """Under a train folder with other pictures, all of the run's under test."""
    written(folder / "train", range(500, 510))
    written(folder / "test", range(OLD + NEW))


def in_csv(folder):
    written(folder, range(OLD + NEW), "loose/{other:04}.png")
    rows = [f"loose/{(number * 37) % 1000:04}.png,{'ab'[number % 2]}" for number in reversed(range(OLD + NEW))]
    (folder / "list.csv").write_text("path,label\n" + "\n".join(rows))
    return folder / "list.csv"


def in_npz(folder):
    numbers = np.random.default_rng(0).permutation(OLD + NEW)
    np.savez(folder / "all.npz", images=np.stack([shot(n) for n in numbers]), labels=numbers % 2, classes=["a", "b"])
    return folder / "all.npz"


def in_shards(folder):
    renamed(folder / "pictures")
    assert main(["shard", str(folder / "pictures"), str(folder / "shards")]) == 0
    return folder / "shards"


def with_other_labels(folder):
    """The content decides, not the label."""
    written(folder, range(OLD + NEW), of=lambda number: (number + 1) % 2)


PLACES = [renamed, saved_anew, in_parts, in_csv, in_npz, in_shards, with_other_labels]


@pytest.fixture(params=PLACES, ids=lambda make: make.__name__)
def elsewhere(request, tmp_path):
    """The eighty pictures of the run and twenty new ones, somewhere else."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return request.param(folder) or folder


def test_pictures_that_a_run_was_trained_on_or_chosen_by_are_left_out_wherever_they_lie(home, elsewhere):
    run = "old" if elsewhere.suffix == ".npz" else "run"  # as well without digests, while the data are there
    own = parts(home / run)
    found = load_for_eval(home / run, str(elsewhere), engine="eager")
    assert len(found.part) == NEW + len(own["test"])
    assert found.left_out == len(own["train"] | own["val"])
    told = " ".join(found.notes)
    assert f"{found.left_out} of the {OLD + NEW} pictures are left out" in told
    assert f"trained on {len(own['train'])} of them and chosen by {len(own['val'])}" in told
    again = load_for_eval(home / run, str(elsewhere), engine="eager", include_trained=True)
    assert (len(again.part), again.left_out) == (OLD + NEW, 0)
    assert "optimistic" in " ".join(again.notes)


def test_a_copy_of_a_runs_data_is_its_own_data(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "copy")
    here, there = (load_for_eval(home / "run", data, engine="eager") for data in (None, str(tmp_path / "copy")))
    assert np.array_equal(here.part.places, there.part.places)
    assert here.name == there.name == "val"
    assert "the very data" in " ".join(there.notes)
    assert (
        evaluate_run(home / "run", str(tmp_path / "copy"), engine="eager").top1
        == evaluate_run(home / "run", engine="eager").top1
    )


def test_a_look_at_pictures_of_the_test_part_is_recorded_wherever_they_lie(home, tmp_path):
    before = len(Run.open(home / "run").openings())
    written(tmp_path / "c", [*parts(home / "run")["test"], *range(300, 310)], "{label}/{other}.png")
    found = load_for_eval(home / "run", str(tmp_path / "c"), engine="eager")
    assert "of the test part" in " ".join(found.notes)
    assert len(Run.open(home / "run").openings()) == before + 1
    written(tmp_path / "d", range(300, 310))
    load_for_eval(home / "run", str(tmp_path / "d"), engine="eager")
    assert len(Run.open(home / "run").openings()) == before + 1


def test_pictures_listed_twice_are_left_out_twice(home, tmp_path):
    own = parts(home / "run")
    known = sorted(own["train"])[:6]
    written(tmp_path, [*known, *range(200, 210)], "{number}.png")
    rows = [f"{number}.png,{'ab'[number % 2]}" for number in [*known, *known, *range(200, 210)]]
    (tmp_path / "list.csv").write_text("path,label\n" + "\n".join(rows))
    found = load_for_eval(home / "run", str(tmp_path / "list.csv"), engine="eager")
    assert (found.left_out, len(found.part)) == (12, 10)


def test_nothing_new_to_judge_by_is_one_sentence(home, tmp_path, capsys):
    written(tmp_path / "c", parts(home / "run")["train"], "{label}/{other}.png")
    assert main(["val", str(home / "run"), str(tmp_path / "c")]) == 3
    said = capsys.readouterr().err
    assert f"none of the {len(parts(home / 'run')['train'])} pictures" in said
    assert "include_trained=true" in said
    assert main(["val", str(home / "run"), str(tmp_path / "c"), "include_trained=true", "engine=eager", "--json"]) == 0
    assert "optimistic" in json.loads(capsys.readouterr().out)["notes"][0]


def test_what_cannot_be_known_is_said(home, tmp_path):
    shutil.copytree(home / "old", tmp_path / "old")
    edited(tmp_path / "old" / "run.json", lambda about: about.update(data=str(tmp_path / "gone")))
    written(tmp_path / "c", range(10), "{label}/{other}.png")
    assert "is not known" in " ".join(load_for_eval(tmp_path / "old", str(tmp_path / "c"), engine="eager").notes)
    shutil.copy(home / "run" / "best.safetensors", tmp_path / "alone.safetensors")
    assert "is not known" in " ".join(
        load_for_eval(tmp_path / "alone.safetensors", str(tmp_path / "c"), engine="eager").notes
    )


def test_an_ensemble_and_a_comparison_leave_out_what_any_of_them_has_met(home, tmp_path):
    renamed(tmp_path / "c")
    met_by_one = set().union(*(parts(home / run)[part] for run in ("run", "far") for part in ("train", "val")))
    left = OLD + NEW - len(met_by_one)
    together = combined([str(home / "run"), str(home / "far")], str(tmp_path / "c"), engine="eager")
    assert together.evaluation.n == left
    assert any("left out" in note for note in together.notes)
    compared = compare_runs([home / "run", home / "far"], str(tmp_path / "c"))
    assert compared.n == left
    assert any("left out" in note for note in compared.notes)
    with pytest.raises(UsageError, match=r"trained on .* of the .* val pictures"):
        combined([str(home / "run"), str(home / "far")], engine="eager")


def test_a_member_of_a_copy_of_the_data_is_refused_where_it_was_trained_on_the_pictures(home, tmp_path):
    shutil.copytree(home / "data", tmp_path / "copy")
    recipe = Recipe(model="linear", epochs=1, threads=1, seed=5, size=SIDE)
    list(start(tmp_path / "copy", recipe, name="third", project=str(tmp_path), drawn=False))
    with pytest.raises(UsageError, match=r"trained on .* of the .* val pictures"):
        combined([str(home / "run"), str(tmp_path / "third")], engine="eager")
    list(start(tmp_path / "copy", recipe.with_(split_seed=0), name="same", project=str(tmp_path), drawn=False))
    assert compare_runs([home / "run", tmp_path / "same"]).n == len(parts(home / "run")["val"])


def test_probes_neighbours_and_maps_judge_by_new_pictures_only(home, tmp_path):
    renamed(tmp_path / "c")
    own = parts(home / "run")
    known = seen(home / "run", str(tmp_path / "c"))
    splits = known.splits
    assert len(splits.train) + len(splits.val) + len(splits.test) == NEW + len(own["test"])
    assert "left out" in known.notes[0]
    run = Run.open(home / "run")
    for part in ("train", "val", "test"):
        names = [int(Path(name).stem[:-1]) for name in getattr(splits, part).names]
        assert not set(names) & {(number * 37) % 1000 for number in own["train"] | own["val"]}
    near = knn(home / "run", str(tmp_path / "c"), stage="penultimate", output=tmp_path / "n.html", engine="eager")
    assert "left out" in near.notes[0]
    probed = probe_stages(home / "run", str(tmp_path / "c"), plot=tmp_path / "p.png", engine="eager")
    assert "left out" in probed.notes[0]
    drawn = embedding_map(home / "run", str(tmp_path / "c"), method="pca", output=str(tmp_path / "m.png"))
    assert len(drawn.names) == NEW + len(own["test"])
    assert met(run, open_data(str(tmp_path / "c")), ["all"])["all"].part.shape == (OLD + NEW,)


def test_weights_that_know_the_pictures_held_out_are_refused_also_from_a_copy(home, tmp_path):
    renamed(tmp_path / "c")
    recipe = Recipe(weights=str(home / "run"), epochs=1, threads=1, size=SIDE)
    with pytest.raises(UsageError, match=r"training pictures of .*know them"):
        list(start(tmp_path / "c", recipe, name="x", project=str(tmp_path)))
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------ copies encoded anew


def photograph(number: int, side: int = 150) -> Image.Image:
    """Something smooth of a number, as photographs are, and larger than a network sees it."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side * 4 // 3, side), Image.Resampling.BICUBIC)


def photographs(folder: Path, numbers, ending: str, **how) -> Path:
    for number in numbers:
        path = folder / "ab"[number % 2] / f"{number:03}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number).save(path, **how)
    return folder


@pytest.fixture(scope="module", params=[16, 64])
def reduced(request, tmp_path_factory):
    """A run on forty JPEGs, which a network of 16 px decodes at a quarter."""
    folder = tmp_path_factory.mktemp("reduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        photographs(folder / "data", range(40), "jpg", quality=95)
        recipe = Recipe(model="linear", epochs=1, threads=1, augment="none", size=request.param)
        list(start(folder / "data", recipe, name="run", project=str(folder), drawn=False))
    return folder


def as_png(path: Path, out: Path) -> None:
    Image.open(path).save(out.with_suffix(".png"))


def as_jpeg(path: Path, out: Path) -> None:
    Image.open(path).save(out.with_suffix(".jpg"), quality=85)


def at_half_size(path: Path, out: Path) -> None:
    whole = Image.open(path)
    whole.resize((whole.width // 2, whole.height // 2)).save(out.with_suffix(".webp"), quality=80)


@pytest.mark.parametrize("anew", [as_png, as_jpeg, at_half_size], ids=lambda make: make.__name__)
def test_copies_that_were_encoded_anew_are_left_out_and_named(reduced, tmp_path, anew, request):
    for path in sorted((reduced / "data").glob("*/*.jpg")):
        (tmp_path / "c" / path.parent.name).mkdir(parents=True, exist_ok=True)
        anew(path, tmp_path / "c" / path.parent.name / path.name)
    photographs(tmp_path / "c", range(100, 110), "png")
    found = load_for_eval(reduced / "run", str(tmp_path / "c"), engine="eager")
    kept = {name: len(places) for name, places in json.loads((reduced / "run/split.json").read_text())["parts"].items()}
    assert found.left_out == kept["train"] + kept["val"]
    assert len(found.part) == 10 + kept["test"]
    exact = anew is as_png and "64" in request.node.name  # decoded whole: the very pixels
    told = f"({found.left_out} of these are copies that were encoded anew or resized)" in " ".join(found.notes)
    assert told is not exact


def test_what_is_known_of_a_run_is_enough_without_its_data(reduced, tmp_path):
    """And the other way round: without digests the data are."""
    shutil.copytree(reduced / "run", tmp_path / "old")
    edited(tmp_path / "old" / "split.json", lambda split: split.pop("contents"))
    for path in sorted((reduced / "data").glob("*/*.jpg"))[::3]:
        (tmp_path / "c" / path.parent.name).mkdir(parents=True, exist_ok=True)
        as_jpeg(path, tmp_path / "c" / path.parent.name / path.name)
    opened = open_data(str(tmp_path / "c"))
    from_data = met(Run.open(tmp_path / "old"), opened, ["all"])["all"]
    (reduced / "data").rename(reduced / "away")
    from_digests = met(Run.open(reduced / "run"), opened, ["all"])["all"]
    (reduced / "away").rename(reduced / "data")
    assert (from_digests.part >= 0).all()
    assert from_digests.anew.all()
    assert np.array_equal(from_digests.part, from_data.part)


def test_pictures_that_only_resemble_each_other_are_no_copies():
    generator = np.random.default_rng(0)
    digits = open_data("digits").source.parts["all"].pictures
    coarse = looks(digits, 8, 1)
    assert not copied(coarse[::2], coarse[1::2]).any()
    assert copied(coarse, coarse).all()
    blank = np.full((20, 32, 32, 3), 200, np.uint8) + generator.integers(0, 3, (20, 32, 32, 3), dtype=np.uint8)
    shades = np.linspace(0, 255, 20).astype(np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    noise = generator.integers(0, 256, (40, 224, 224, 3), dtype=np.uint8)
    small = generator.integers(0, 256, (400, 8, 8, 3), dtype=np.uint8)
    for pictures, size in ((blank, 32), (shades, 32), (noise, 224), (small, 8)):
        seen = looks(pictures, size, 3)
        assert not copied(seen[::2], seen[1::2]).any()


def test_a_thing_on_the_same_ground_is_another_picture():
    """A product before a wall: the wall is all but a block."""
    ground = np.asarray(photograph(0, 60).resize((64, 64)))
    other = ground.copy()
    other[24:36, 24:36] = 255 - other[24:36, 24:36]
    first, second = (looks(each[None], 64, 3) for each in (ground, other))
    assert not copied(first, second).any()


def test_the_runs_own_near_duplicates_do_not_stand_in_the_way(tmp_path):
    """Who goes on from weights divides the data as they were, whatever the parts have in common."""
    photographs(tmp_path / "data", range(24), "jpg", quality=95)
    for number in range(24):  # each twice
        photograph(number).save(tmp_path / "data" / "ab"[number % 2] / f"{number:03}.png")
    recipe = Recipe(model="linear", epochs=1, threads=1, augment="none", size=64)
    list(start(tmp_path / "data", recipe, name="a", project=str(tmp_path), drawn=False))
    further = Recipe(weights=str(tmp_path / "a"), split=str(tmp_path / "a"), epochs=1, threads=1, size=64)
    list(start(tmp_path / "data", further, name="b", project=str(tmp_path), drawn=False))
    assert Run.open(tmp_path / "b").finished


def test_a_darker_part_of_deep_pictures_is_read_by_the_runs_black_and_white(tmp_path):
    """12 bits in all, but 10 in the part that is looked at: by its own values it would be four times brighter."""
    dark = []
    for number in range(40):
        top = 1000 if number < 20 else 4000
        values = np.random.default_rng(number).integers(0, top, (SIDE, SIDE)).astype(np.uint16)
        path = tmp_path / "data" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)
        if number < 20:
            dark.append(values)
            other = tmp_path / "dark" / "ab"[number % 2] / f"{number:02}.tif"
            other.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(other)
    np.savez(tmp_path / "dark.npz", images=np.stack(dark)[..., None], labels=np.arange(20) % 2, classes=["a", "b"])
    recipe = Recipe(model="linear", epochs=1, threads=1, augment="none", size=SIDE)
    list(start(tmp_path / "data", recipe, name="run", project=str(tmp_path), drawn=False))
    for name in ("dark", "dark.npz"):
        found = met(Run.open(tmp_path / "run"), open_data(str(tmp_path / name)), ["all"])["all"]
        assert (found.part >= 0).all()
        assert not found.anew.any()
    shown = load_for_eval(tmp_path / "run", str(tmp_path / "dark.npz"), engine="eager", include_trained=True)
    as_files = load_for_eval(tmp_path / "run", str(tmp_path / "dark"), engine="eager", include_trained=True)
    order = np.argsort(as_files.part.labels, kind="stable"), np.argsort(shown.part.labels, kind="stable")
    assert np.array_equal(as_files.part.take(order[0]), shown.part.take(order[1]))


# ------------------------------------------------------------------------------------------------ moved data


@pytest.fixture
def moved(home, tmp_path):
    """The run as it was stopped before its result, its data gone from where they lay, and where they lie now."""
    shutil.copytree(home / "data", tmp_path / "there")
    shutil.copytree(home / "run", tmp_path / "run")
    edited(tmp_path / "run" / "run.json", lambda about: about.update(data=str(tmp_path / "here")))
    return tmp_path / "run", str(tmp_path / "there")


REOPENING = {
    "resume": lambda run, data: list(resume(run, data=data)),
    "val": lambda run, data: evaluate_run(run, data, engine="eager"),
    "explain": lambda run, data: explained(
        str(run), [], methods=["saliency"], count=2, data=data, output=str(run / "explain.html")
    ),
    "knn": lambda run, data: knn(run, data, stage="penultimate", output=run.parent / "n.html", engine="eager"),
    "map": lambda run, data: embedding_map(run, data, method="pca", output=str(run.parent / "m.png")),
    "probe": lambda run, data: probe_stages(run, data, plot=run.parent / "p.png", engine="eager"),
    "compare": lambda run, data: compare_runs([run, shutil.copytree(run, run.parent / "second")], data),
    "ensemble": lambda run, data: combined(
        [str(run), str(shutil.copytree(run, run.parent / "second"))], data, engine="eager"
    ),
    "splits": lambda run, data: splits_of(Run.open(run), data=data),
}


@pytest.mark.parametrize("verb", REOPENING)
def test_moved_data_can_be_named(moved, verb):
    run, there = moved
    if verb == "resume":
        (run / "summary.json").unlink()
    with pytest.raises(DataError, match=r"are not at .*/here any more.*data="):
        REOPENING[verb](run, None)
    shutil.rmtree(run.parent / "second", ignore_errors=True)
    assert REOPENING[verb](run, there)
    if verb == "resume":
        kept = json.loads((run / "summary.json").read_text())
        assert kept["weights_sha256"]


@pytest.mark.parametrize("verb", ["resume", "explain", "splits"])
def test_other_data_than_a_runs_are_refused_with_both_fingerprints(moved, verb, tmp_path):
    run, _ = moved
    (run / "summary.json").unlink()
    wrong = written(tmp_path / "wrong", range(300, 340))
    with pytest.raises(DataError, match=r"fingerprint [0-9a-f]{12}, the run's is [0-9a-f]{12}"):
        REOPENING[verb](run, str(wrong))
    assert not is_own(Run.open(run), str(wrong))


def test_the_features_of_moved_data_are_those_of_the_validation_part(moved, home):
    run, there = moved
    classifier = seen(home / "run", None).classifier
    assert len(_pictures(str(run), classifier, there, lambda items, *_: items)) == len(parts(run)["val"])


# ------------------------------------------------------------------------------------------------------- code

EVIL = """
from pathlib import Path
Path({mark!r}).write_text("run")
from torch import nn
def net(num_classes, in_channels, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size ** 2, num_classes))
"""


@pytest.fixture
def own(tmp_path):
    """A file of code that leaves a mark where it is run, and the mark."""
    mark = tmp_path / "mark"
    (tmp_path / "mine.py").write_text(EVIL.format(mark=str(mark)))
    return f"{tmp_path / 'mine.py'}:net", mark


def started(tmp_path, **keys) -> Path:
    records = start("digits", Recipe(epochs=2, threads=1, **keys), name="r", project=str(tmp_path), drawn=False)
    for record in records:
        if type(record).__name__ == "Epoch":
            break
    records.close()
    return tmp_path / "r"


def test_a_folder_never_chooses_the_code_that_resume_runs(tmp_path, own):
    code, mark = own
    run = started(tmp_path, model=code)
    mark.unlink()
    with pytest.raises(UsageError, match=r"does not choose what is run, so name it: model=.*mine.py:net"):
        list(resume(run))
    assert not mark.exists()
    with pytest.raises(UsageError, match=r"is not what .* was started with"):
        list(resume(run, model=code.replace(":net", ":other")))
    text = (tmp_path / "mine.py").read_text()
    (tmp_path / "mine.py").write_text(text + "# changed\n")
    with pytest.raises(DataError, match=r"mine\.py has changed since"):
        list(resume(run, model=code))
    assert not mark.exists()
    (tmp_path / "mine.py").write_text(text)
    *_, ended = list(resume(run, model=code))
    assert mark.exists()
    assert ended.summary["epochs"] == 2


@pytest.mark.parametrize(
    "where", ["model", "recipe.model", "recipe.teacher", "recipe.teacher_model", "teacher.from", "teacher.model"]
)
def test_code_planted_into_a_run_is_not_run(tmp_path, own, where):
    code, mark = own
    run = started(tmp_path, model="linear")
    about = json.loads((run / "run.json").read_text())
    del about["sha256"]
    about["recipe"] |= {"teacher": str(run), "distill_weight": 0.5, "distill_temperature": 2.0}
    about["teacher"] = {"from": str(run), "model": "linear", "sha256": "0"}
    *outer, key = where.split(".")
    (about[outer[0]] if outer else about)[key] = code
    (run / "run.json").write_text(json.dumps(about))
    with pytest.raises(HubelError):
        list(resume(run))
    assert not mark.exists()


def test_code_that_nothing_needs_is_refused(tmp_path, own):
    code, mark = own
    run = started(tmp_path, model="linear")
    for keys in ({"model": code}, {"teacher_model": code}):
        with pytest.raises(UsageError, match="would have no effect"):
            list(resume(run, **keys))
    assert not mark.exists()


def ended(records):
    """The last record of a series, every run of it trained."""
    for record in records:
        if isinstance(record, multi_run.SeriesRun):
            list(record.records)
    return record


def test_a_series_that_is_resumed_asks_for_code_and_one_that_goes_on_does_not(tmp_path, own):
    code, mark = own
    recipe = Recipe(model=code, epochs=1, threads=1, folds=2)
    again = lambda: multi_run.train_series("digits", recipe, name="s", project=str(tmp_path))  # noqa: E731
    for record in again():
        list(record.records)
        break
    mark.unlink()
    with pytest.raises(UsageError, match=r"does not choose what is run, so name it: model="):
        ended(multi_run.resume_series(tmp_path / "s"))
    assert not mark.exists()
    assert ended(again()).summary["out_of_fold"]["n"] == 1797
    shutil.rmtree(tmp_path / "s" / "fold-2")
    (tmp_path / "s" / "summary.json").unlink()
    mark.unlink()
    assert ended(multi_run.resume_series(tmp_path / "s", model=code)).summary["out_of_fold"]["n"] == 1797
    assert mark.exists()


def test_a_series_whose_code_is_planted_does_not_run_it(tmp_path, own):
    """In a fold that is not finished; what is finished is not built from its run.json."""
    code, mark = own
    for record in multi_run.train_series(
        "digits", Recipe(model="linear", epochs=1, threads=1, folds=2), name="s", project=str(tmp_path)
    ):
        list(record.records)
        break
    (tmp_path / "s" / "fold-1" / "summary.json").unlink()
    for path in (tmp_path / "s" / "series.json", tmp_path / "s" / "fold-1" / "run.json"):
        text = path.read_text()
        about = json.loads(text)
        about["recipe"]["model"] = code
        about.pop("sha256", None)
        path.write_text(json.dumps(about | ({"model": code} if "model" in about else {})))
        with pytest.raises((UsageError, FileError)):
            ended(multi_run.resume_series(tmp_path / "s"))
        path.write_text(text)
    assert not mark.exists()
