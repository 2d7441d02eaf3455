"""The command line from end to end: what it trains, prints, refuses, and the exit codes."""

import io
import json
import re
import resource
import signal
import subprocess
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from rich.console import Console

import hubel
from forked import Forked
from hubel.cli import VERBS, main
from hubel.cli.models import listed, table
from hubel.cli.parsing import parsed
from hubel.errors import UsageError
from hubel.pipeline import verify_resume
from hubel.recipe import OPTIONS, Recipe
from hubel.recipe.fields import TITLES
from hubel.terminal import conclude, epoch_line


@pytest.fixture(autouse=True)
def _inside(tmp_path, monkeypatch):
    """Runs and relative paths land in a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def ended(arguments, capsys) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A short finished run on digits, and what it printed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder / "cache"))
        done = Forked(["train", "digits", "epochs=2", "--name", "a", f"--project={folder}", "--json"])
    out, err = done.communicate()
    assert done.returncode == 0, err
    return folder / "a", SimpleNamespace(stdout=out, stderr=err)


# ---------------------------------------------------------------------------------------- a whole run


def test_train_leaves_a_whole_run(finished):
    run, done = finished
    summary = json.loads(done.stdout)
    assert summary == json.loads((run / "summary.json").read_text())
    assert {
        "model",
        "data",
        "seed",
        "classes",
        "epochs",
        "seconds",
        "images_per_second",
        "validation",
        "test",
        "weights_sha256",
    } <= set(summary)
    low, high = summary["test"]["interval"]
    assert 0.5 < low < summary["test"]["top1"] < high < 1
    assert sorted(path.name for path in run.iterdir()) == [
        "best.safetensors",
        "curves.png",
        "evaluation.json",
        "last.safetensors",
        "metrics.jsonl",
        "openings.jsonl",
        "report.html",
        "run.json",
        "split.json",
        "summary.json",
    ]
    page = (run / "report.html").read_text()
    assert f"{100 * summary['test']['top1']:.1f}" in page
    about = json.loads((run / "run.json").read_text())
    assert about["recipe"]["flip"] is False
    assert about["splits"]["sizes"] == {"train": 1259, "val": 269, "test": 269}
    assert {"hubel", "python", "torch"} <= set(about["versions"])
    assert "train digits epochs=2" in about["command"]


def test_the_terminal_shows_epochs_result_and_report(finished):
    shown = finished[1].stderr
    assert re.search(r"^ +1/2 +\d\.\d{4} +\d+\.\d\d % ", shown, re.MULTILINE)
    assert re.search(r"test accuracy \d\d\.\d\d %\s+\(95 % interval", shown)
    assert "report.html" in shown


def test_resume_of_a_finished_run_gives_its_result(finished, capsys):
    code, out, _ = ended(["resume", str(finished[0]), "--json"], capsys)
    assert (code, json.loads(out)) == (0, json.loads(finished[1].stdout))


def test_val_matches_the_summary_and_records_looks_at_the_test_part(finished, capsys):
    run, done = finished
    summary = json.loads(done.stdout)
    code, out, _ = ended(["val", str(run), "--json"], capsys)
    assert (code, json.loads(out)["top1"]) == (0, summary["validation"]["top1"])
    before = len((run / "openings.jsonl").read_text().splitlines())
    code, out, _ = ended(["val", str(run), "digits", "split=test", "--json"], capsys)
    assert json.loads(out)["top1"] == summary["test"]["top1"]
    assert len((run / "openings.jsonl").read_text().splitlines()) == before + 1
    assert "opened 2 times" in (run / "report.html").read_text()
    code, out, _ = ended(["val", str(run)], capsys)
    assert "macro F1" in out


def test_val_on_other_data_matches_labels_by_name(finished, capsys, tmp_path):
    for name in ("7", "3"):  # a subset of the classes, in folders
        (tmp_path / "new" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (8, 8), 10 * i).save(tmp_path / "new" / name / f"{i}.png")
    code, out, _ = ended(["val", str(finished[0]), "new", "--json"], capsys)
    result = json.loads(out)
    assert code == 0
    assert (result["n"], [row["support"] for row in result["per_class"]]) == (6, [0, 0, 0, 3, 0, 0, 0, 3, 0, 0])
    (tmp_path / "new" / "7").rename(tmp_path / "new" / "seven")
    code, _, err = ended(["val", str(finished[0]), "new"], capsys)
    assert code == 3
    assert "has the class 'seven' that the classifier does not know" in err


def test_predict_answers_and_names_what_it_cannot_read(finished, capsys, tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a b.png")
    (tmp_path / "broken.png").write_bytes(b"")
    code, out, _ = ended(["predict", str(finished[0]), "a b.png", "broken.png", "--top", "2", "--json"], capsys)
    good, bad = json.loads(out)["predictions"]
    assert code == 3
    assert len(good["classes"]) == len(good["probabilities"]) == 2
    assert bad == {"path": "broken.png", "reason": "the file is empty (0 bytes)"}
    code, out, _ = ended(["predict", str(finished[0]), "a b.png"], capsys)
    assert code == 0
    assert re.fullmatch(r"a b\.png: \d [\d.]+ %, \d [\d.]+ %, \d [\d.]+ %\n", out)
    code, _, err = ended(["predict", str(finished[0]), "none.png"], capsys)
    assert (code, err) == (3, "hubel: there is no picture none.png\n")


# ------------------------------------------------------------------------------ stopping and going on


@pytest.mark.usefixtures("kernels")
def test_ctrl_c_stops_cleanly_and_the_run_goes_on(tmp_path):
    command = [sys.executable, "-u", "-m", "hubel", "train", "digits", "epochs=200", "--name", "a"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if " 2/200" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert "nothing is lost, go on with: hubel resume runs/a" in out
    assert err == ""
    assert (tmp_path / "runs" / "a" / "last.safetensors").is_file()


def test_ctrl_c_before_training_leaves_nothing(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("hubel.pipeline.prepare.load", interrupted)
    code, _, err = ended(["train", "digits"], capsys)
    assert (code, err) == (130, "hubel: stopped\n")
    assert list(tmp_path.iterdir()) == []


def test_verify_resume_proves_equality_after_kills(capsys, monkeypatch):
    def started(command, **_):
        python, *options, module = command[:4]
        assert (python, options, module) == (sys.executable, ["-u", "-m"], "hubel")
        return Forked(command[4:])

    monkeypatch.setattr(verify_resume, "subprocess", SimpleNamespace(Popen=started, PIPE=subprocess.PIPE))
    code, out, _ = ended(["verify-resume", "digits", "epochs=2", "kills=3", "checkpoint_seconds=0.1", "--json"], capsys)
    verdict = json.loads(out)
    assert (code, verdict["same"]) == (0, True)
    assert verdict["kills"] >= 1
    assert verdict["undisturbed"] == verdict["resumed"]


def test_changed_data_cannot_be_resumed(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / "p" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (16, 16), (i, 0, 255 * (name == "b"))).save(tmp_path / "p" / name / f"{i}.png")
    code, _, err = ended(["train", "p", "epochs=1", "--name", "a", "model=linear"], capsys)
    assert (code, err) == (0, "")
    (tmp_path / "runs" / "a" / "summary.json").unlink()
    Image.new("RGB", (16, 16), "white").save(tmp_path / "p" / "a" / "3.png")
    code, _, err = ended(["resume", "runs/a"], capsys)
    assert code == 3
    assert "have changed since runs/a was started" in err


def test_a_network_of_ones_own_is_named_again_and_its_code_may_not_change(tmp_path, capsys):
    code = (
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))\n"
    )
    (tmp_path / "mine.py").write_text(code)
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    found, _, err = ended(["train", "digits", "model=mine.py:net", "epochs=1", "--name", "a"], capsys)
    assert (found, err) == (0, "")
    found, _, err = ended(["predict", "runs/a", "a.png"], capsys)
    assert found == 2
    assert "a file does not choose what is run" in err
    found, out, _ = ended(["predict", "runs/a", "a.png", "model=mine.py:net"], capsys)
    assert (found, out[:6]) == (0, "a.png:")
    (tmp_path / "mine.py").write_text(code + "# changed\n")
    (tmp_path / "runs" / "a" / "summary.json").unlink()
    found, _, err = ended(["resume", "runs/a", "model=mine.py:net"], capsys)
    assert found == 3
    assert "mine.py has changed since runs/a was started" in err


# ----------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "digits", "--modle", "lenet5"], 2, "hubel train has no key 'modle'; did you mean --model?"),
        (["train", "digits", "modle=lenet5"], 2, "hubel train has no key 'modle'; did you mean --model?"),
        (["trian", "digits"], 2, "unknown verb 'trian'; did you mean train"),
        (["train", "nowhere"], 3, "no such data: 'nowhere'"),
        (["train", "digits", "model=lenet6"], 2, "unknown model 'lenet6'; did you mean lenet5"),
        (["train", "digits", "model=lenet5", "size=8"], 2, "layer C3 does not fit a 8x8 picture"),
        (["train", "digits", "fit=crop"], 2, "fit=crop would have no effect"),
        (["train", "digits", "lr=-1"], 2, "lr is -1.0; it lies between 0 and 1,000"),
        (["train", "digits", "device=cuda:7"], 2, "use device=cpu"),
        (["train", "digits", "lr=1e3", "weight_decay=10", "epochs=2"], 1, "smaller one, lr="),
        (["resume", "runs/none"], 3, "runs/none is not a run"),
        (["predict", "nothing.safetensors", "x.jpg"], 3, "there is no nothing.safetensors"),
        (["summary", "resnet18", "input=224x224"], 2, "write it as 3x224x224"),
        (["summary", "lenet5", "input=1x8x8"], 2, "layer C3 does not fit"),
        (["train", "digits", "batch=1"], 2, "use batch=2 or more"),
        (["train", "digits", "model=nowhere.py:Net"], 2, "there is no file"),
        (["resume", "runs/none", "json=flase"], 2, "unknown value of json 'flase'; did you mean false"),
        (["predict", "runs/none", "x.png", "top=0"], 2, "top is 0"),
        (["verify-resume", "kills=0"], 2, "kills is 0; it lies between 1 and 10,000"),
        (["models", "zzz"], 2, "no model matches 'zzz'"),
    ],
)
def test_a_mistake_is_one_sentence_and_an_exit_code(arguments, code, sentence, capsys, tmp_path):
    found, _, err = ended(arguments, capsys)
    assert found == code
    assert sentence in err
    assert err.startswith("hubel: ")
    assert "Traceback" not in err
    assert err.count("\n") == 1
    half = [path for path in tmp_path.rglob("*") if "hubel-part" in path.name]
    assert half == []


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["epochs=many"], "epochs is 'many'; it is a whole number"),
        (["--epochs", "1.5"], "epochs is '1.5'; it is a whole number"),
        (["--epochs"], "epochs has no value; write epochs=VALUE, see hubel train --help"),
        (["--optimizer", "adamx"], "optimizer is 'adamx'; did you mean adam or adamw?"),
        (["monitor=f1"], "monitor is 'f1'; known: balanced_accuracy, last, loss, macro_f1, top1"),
        (["unfreeze=haed"], "unfreeze is 'haed'; did you mean head? Or give a whole number"),
        (["--flip"], "flip has no value; write flip=VALUE, see hubel train --help"),
        (["flip=maybe"], "unknown value of flip 'maybe'; known: 0, 1, false, no, true, yes"),
        (["channels=2"], "channels is '2'; known: 1, 3"),
    ],
)
def test_wrong_values_are_one_sentence_that_names_the_right_ones(given, sentence, capsys):
    assert main(["train", "digits", *given]) == 2
    assert capsys.readouterr().err == f"hubel: {sentence}\n"


@pytest.mark.parametrize("name", sorted(VERBS))
def test_a_command_that_no_verb_can_take_is_one_sentence_with_the_way_out(name, capsys):
    """Nothing, a word too many, a key of nobody, a key without a value: refused before anything is loaded."""
    verb = VERBS[name]
    wrong = [["--zzz"], ["-z"], ["--zzz=1", "a"], ["--"]]
    if any(f.default is MISSING and f.default_factory is MISSING for f in fields(verb.arguments)):
        wrong.append([])
    several = any("tuple" in str(f.type) for f in fields(verb.arguments) if f.name in verb.positional)
    if not several:
        more = ["--weights", "w"] if name == "advise" else []
        wrong += [[*more, "a", "b", "c"], [*more, "a", "b", "--json", "c"]]
    for arguments in wrong:
        code, out, err = ended([name, *arguments], capsys)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("hubel: ")
        assert f"hubel {name} --help" in err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("summary", "hubel summary needs MODEL; see hubel summary --help, or try: hubel summary lenet5"),
        ("shard photos", "hubel shard needs FOLDER; see hubel shard --help"),
        ("advise photos", "hubel advise needs --weights; see hubel advise --help, or try: hubel advise photos/ --from"),
        ("sumary", "unknown verb 'sumary'; did you mean summary? See hubel --help"),
        ("--json summary", "a verb comes before the key '--json': hubel VERB --json; see hubel --help"),
        ("summary lenet5 more", "'more' is a word too many for hubel summary; it has MODEL 'lenet5' already"),
        ("summary lenet5 --json a", "'a' is a word too many for hubel summary; --json takes no value"),
        (
            "summary lenet5 --html a",
            "'a' is a word too many for hubel summary; a file for --html ends in .html or .htm",
        ),
        (
            "train digits lr 0.1",
            "'lr' is a word too many for hubel train; did you mean lr=VALUE? See hubel train --help",
        ),
        ("train digits -lr 0.1", "hubel train has no key '-lr'; did you mean --lr? See hubel train --help"),
        ("train digits early_stopping=true", "early_stopping is no switch here: give patience=VALUE, a whole number"),
        ("train digits amp=true", "amp is no switch here: give precision=VALUE, bfloat16 or float32"),
        ("train digits max_epochs=x", "epochs is 'x'; it is a whole number"),
        (
            "train digits activation=sigmoid",
            "hubel train has no key 'activation': the activation belongs to the network",
        ),
        (
            "lr-find digits --kernel-size 3",
            "hubel lr-find has no key 'kernel_size': the size of a filter belongs to the network",
        ),
        ("arithmetic 5x5", "'5x5' is a word too many for hubel arithmetic; it takes keys only"),
        ("summary lenet5 --html a.html --csv b.csv", "one form at a time: html and csv exclude each other"),
        ("summary lenet5 --html a.html --output b", "one file at a time: b and a.html exclude each other"),
    ],
)
def test_what_is_missing_or_too_much_is_named(arguments, sentence, capsys):
    assert main(arguments.split()) == 2
    assert capsys.readouterr().err.startswith(f"hubel: {sentence}")


def test_a_key_for_a_file_may_stand_alone_or_name_it(capsys, tmp_path):
    for arguments, file in [
        ("lenet5 --html", "lenet5.html"),
        ("--html lenet5", "lenet5.html"),
        ("lenet5 html=x.html", "x.html"),
        ("lenet5 --html page.html", "page.html"),
        ("--csv a.csv lenet5", "a.csv"),
        ("lenet5 --markdown t.md", "t.md"),
        ("lenet5 html=true output=o.html", "o.html"),
    ]:
        assert ended(["summary", *arguments.split()], capsys) == (0, f"{file}\n", "")
        assert [path.name for path in tmp_path.iterdir()] == [file]
        (tmp_path / file).unlink()
    code, out, _ = ended(["compare", "alexnet", "resnet18", "--chart"], capsys)
    assert (code, out.splitlines()[-1]) == (0, "comparison.png")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert ended(["train", "--plot-schedule", "rates.png", "digits", "epochs=2"], capsys)[:2] == (0, "rates.png\n")


def test_the_version_is_told(capsys):
    assert ended(["--version"], capsys) == (0, f"hubel {hubel.__version__}\n", "")


def help_of(words, capsys):
    with pytest.raises(SystemExit) as ended_with:
        main(words)
    assert ended_with.value.code == 0
    return capsys.readouterr().out


def described_keys(shown):
    """The keys that have a row of their own."""
    return re.findall(r"^\W*--([a-z][a-z0-9-]*)", shown, re.MULTILINE)


@pytest.mark.parametrize("words", ["train --help all", "train --help=all", "help train all", "train help=all"])
def test_the_whole_help_names_every_key_once_and_no_default_where_none_is(words, capsys):
    shown = help_of(words.split(), capsys)
    assert shown.startswith("usage: hubel train [-h] [OPTIONS] DATA")
    assert "None" not in shown
    assert "default: False" not in shown
    keys = {key.replace("_", "-") for key in VERBS["train"].keys()}  # noqa: SIM118
    assert sorted(described_keys(shown)) == sorted(keys)


def test_help_shows_what_matters_first_and_names_the_rest(capsys):
    shown = help_of(["train", "--help"], capsys)
    first = {key.replace("_", "-") for key, row in OPTIONS.items() if row.first}
    assert first <= set(described_keys(shown))
    assert len(first) <= 14
    assert not {"beta1", "cutmix", "swa-epochs"} & set(described_keys(shown))
    assert set(OPTIONS) <= set(re.findall(r"\w+", shown))


@pytest.mark.parametrize("group", TITLES)
def test_help_about_a_group_shows_its_keys_alone(group, capsys):
    shown = help_of(["train", "--help", group], capsys)
    keys = {key.replace("_", "-") for key, row in OPTIONS.items() if row.group == group}
    assert sorted(described_keys(shown)) == sorted(keys)


def test_help_about_what_is_no_group_names_the_nearest(capsys):
    sentence = "hubel: hubel train has no group 'optin' of keys; did you mean optim? See hubel train --help\n"
    assert ended(["train", "--help", "optin"], capsys) == (2, "", sentence)


def test_a_full_disk_stops_training_with_one_sentence(tmp_path):
    """A real limit on file size: the checkpoint cannot be written whole, and nothing half-written stays."""
    done = Forked(["train", "digits", "epochs=1", "--name", "a"], limits={resource.RLIMIT_FSIZE: 200_000})
    _, said = done.communicate()
    assert done.returncode == 3
    assert re.search(r"^hubel: cannot write .*safetensors: File too large", said)
    assert said.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "runs" / "a").iterdir()) == ["run.json", "split.json"]


# ---------------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_examples(verb, capsys):
    with pytest.raises(SystemExit) as ended_with:
        main([verb, "--help"])
    assert ended_with.value.code == 0
    shown = capsys.readouterr().out
    for example in VERBS[verb].examples:
        assert example in shown
    keys = VERBS[verb].keys()
    if "json" in keys:
        assert "--json" in shown
    assert "None}" not in shown
    assert "None|" not in shown
    usage = shown.splitlines()[0]
    assert all(name.upper().replace("_", "-") in usage for name in VERBS[verb].positional)


def test_hubel_alone_lists_the_verbs_without_loading_torch():
    code = "import sys, hubel.cli; hubel.cli.main([]); assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(verb in done.stdout for verb in VERBS)


def test_models_and_summary_as_json(capsys):
    _, out, _ = ended(["models", "resnet*_cifar", "--json"], capsys)
    rows = json.loads(out)["models"]
    assert {"name", "params", "macs", "input", "source"} <= set(rows[0])
    _, out, _ = ended(["summary", "lenet5", "--input", "1x28x28", "--json"], capsys)
    table = json.loads(out)
    assert table["total"]["params"] == sum(row["params"] for row in table["rows"]) == 61_706
    assert table["total"]["macs"] == sum(row["macs"] for row in table["rows"]) == 416_520


def test_other_tools_words_are_understood(capsys):
    code, out, _ = ended(["train", "digits", "arch=linear", "batch_size=32", "--epochs=1", "wd=0", "--json"], capsys)
    assert code == 0
    assert json.loads(out)["model"] == "linear"


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("--markdown", "**lenet5**, input 1x28x28"),
        ("--csv", "name,module,op,output,params"),
        ("--json", "{"),
        ("--depth=1", "lenet5, input 1x28x28"),
    ],
)
def test_a_summary_has_many_forms(form, begins, capsys):
    code, out, _ = ended(["summary", "lenet5", form], capsys)
    assert code == 0
    assert out.lstrip().startswith(begins)


def test_a_summary_as_a_page_and_as_sums(capsys, tmp_path):
    code, out, _ = ended(["summary", "lenet5", "--html"], capsys)
    assert (code, out) == (0, "lenet5.html\n")
    assert "<svg" in (tmp_path / "lenet5.html").read_text()
    _, out, _ = ended(["summary", "lenet5", "arithmetic=stages.1.0"], capsys)
    assert "(14 - 5 + 2*0)/1 + 1 = 10" in out
    code, _, err = ended(["summary", "lenet5", "arithmetic=stages.1.O"], capsys)
    assert code == 2
    assert "did you mean stages.1." in err
    code, _, err = ended(["summary", "lenet5", "--html", "--csv"], capsys)
    assert (code, "exclude each other" in err) == (2, True)
    code, _, err = ended(["summary", "lenet5", "depth=1", "--json"], capsys)
    assert (code, "depth would have no effect" in err) == (2, True)


def test_networks_of_lines_and_runs_can_be_inspected(capsys, finished):
    _, out, _ = ended(["summary", "16c3p1 r p2 gap 10", "input=1x28x28", "--json"], capsys)
    assert json.loads(out)["total"]["params"] == 16 * 9 + 16 + 16 * 10 + 10
    _, out, _ = ended(["summary", str(finished[0]), "--json"], capsys)
    assert (json.loads(out)["model"], json.loads(out)["input"]) == ("resnet8_cifar", [1, 8, 8])


def test_compare_draws_and_lint_finds(capsys, tmp_path):
    code, out, _ = ended(["compare", "alexnet", "resnet18", "chart=c.png", "--json"], capsys)
    assert code == 0
    assert [entry["name"] for entry in json.loads(out)["models"]] == ["alexnet", "resnet18"]
    assert (tmp_path / "c.png").stat().st_size > 10_000
    code, out, _ = ended(["lint", "vgg16"], capsys)
    assert code == 1
    assert "102,764,544 of 138,357,544 parameters (74%)" in out
    code, out, _ = ended(["lint", "resnet18", "--json"], capsys)
    assert code == (1 if json.loads(out)["findings"] else 0)


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("class_weight=cat:2", "there is no class 'cat'"),
        ("hue=0.1", "hue would have no effect on grey pictures"),
        ("policy_count=3", "policy_count would have no effect"),
    ],
)
def test_what_cannot_be_meant_for_the_data_is_refused_before_there_is_a_run(key, sentence, capsys, tmp_path):
    assert main(["train", "digits", "epochs=1", key]) == 2
    out, err = capsys.readouterr()
    assert sentence in err
    assert out.strip() == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("width", ["80", "100"])
def test_the_list_of_networks_never_loses_a_figure(width, capsys):
    rows = listed("*")
    console = Console(width=int(width), color_system=None)
    console.print(table(rows, int(width)))
    shown = capsys.readouterr().out.splitlines()[1:]
    for row, line in zip(rows, shown, strict=True):
        assert line.startswith(row["name"])
        assert "x".join(map(str, row["input"])) in line
        assert re.search(r"\d ?[kMG] .*\d ?[kMG] ", line)
    assert main(["models"]) == 0  # into a pipe: nothing is cut
    whole = capsys.readouterr().out
    assert "…" not in whole
    assert all(row["source"] in whole for row in rows)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["summary", "lenet5", "--classes", "-3"], "classes is -3; it lies between 1 and 10,000,000"),
        (["summary", "lenet5", "--classes", "0"], "classes is 0; it lies between 1 and 10,000,000"),
        (["summary", "lenet5", "--depth", "-1"], "depth is -1; it lies between 0 and 1,000"),
        (["lr-find", "digits", "samples=1"], "1 rates are too few; at least 20 are needed to see how the loss falls"),
    ],
)
def test_numbers_that_mean_nothing_are_one_sentence(arguments, sentence, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.strip() == f"hubel: {sentence}"


def test_the_sums_of_a_module_are_those_of_its_layers(capsys):
    def shown(layer):
        assert main(["summary", "lenet5", "--arithmetic", layer]) == 0
        return capsys.readouterr().out

    assert shown("head") == "".join(shown(f"head.{i}") for i in range(6))


def test_epochs_of_a_budget_have_no_end_that_could_be_passed():
    epoch = SimpleNamespace(
        epoch=14,
        train_loss=0.1,
        train_top1=1.0,
        val_loss=0.1,
        val_top1=1.0,
        images_per_second=1.0,
        seconds=1.0,
        best=False,
    )
    planned, fixed = (epoch_line(epoch, Recipe(epochs=9, budget=budget)) for budget in (30.0, None))
    assert planned.split()[0] == "14"
    assert fixed.split()[0] == "14/9"
    assert len(planned) == len(fixed)


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Pictures twice as wide as high whose class stands at their ends, and a run that learned from all of them."""
    folder = tmp_path_factory.mktemp("wide")
    for name, colour in (("blue", (0, 0, 255)), ("red", (255, 0, 0))):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(30):
            picture = Image.new("RGB", (64, 32), colour)
            picture.paste((i, 2 * i, i), (16, 0, 48, 32))  # the centre says nothing
            picture.save(folder / "data" / name / f"{i}.png")
    run = [
        "train",
        str(folder / "data"),
        "model=linear",
        "size=16",
        "epochs=8",
        "batch=8",
        "lr=0.01",
        "fit=pad",
        "--name",
        "wide",
    ]
    assert main([*run, "--project", str(folder / "runs")]) == 0
    return folder


def test_fit_means_the_same_to_train_val_and_predict(wide, capsys):
    run, picture = str(wide / "runs" / "wide"), str(wide / "data" / "red" / "0.png")

    def top1(*given):
        assert main(["val", run, "--json", *given]) == 0
        told = json.loads(capsys.readouterr().out)
        return told["top1"], told["notes"]

    capsys.readouterr()
    page = (wide / "runs" / "wide" / "report.html").read_bytes()
    as_trained, cropped = top1(), top1("fit=crop")
    assert (as_trained, top1("fit=pad")) == ((1.0, []), (1.0, []))
    assert cropped[0] < 1  # the ends are cut off
    assert cropped[1] == ["pictures are made square by fit=crop; the network was trained with fit=pad"]
    assert top1(str(wide / "data"), "fit=crop")[0] < 1
    assert (wide / "runs" / "wide" / "report.html").read_bytes() == page
    answers = []
    for fit in ("pad", "crop"):
        assert main(["predict", run, picture, "--json", f"fit={fit}"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["predictions"][0])
    assert answers[0] != answers[1]
    assert main(["predict", run, picture, "fit=stretch"]) == 2
    assert "fit is 'stretch'; known: crop, pad, squash" in capsys.readouterr().err


def test_an_accuracy_that_was_scored_again_says_so():
    def said(while_training):
        console = Console(file=io.StringIO(), width=60)
        summary = {
            "stopped": None,
            "epochs": 2,
            "seconds": 1.0,
            "images_per_second": 1.0,
            "best_epoch": 2,
            "validation": {"top1": 0.375},
            "test": None,
        }
        conclude(SimpleNamespace(summary=summary, run=SimpleNamespace(folder=Path("runs/a"))), console, while_training)
        return console.file.getvalue().splitlines()[0]

    assert said(0.375).endswith("validation accuracy 37.50 %")  # and no line is cut where nobody looks at a terminal
    assert said(0.3958).endswith("37.50 % (scored again in float32; 39.58 % above is in the arithmetic of training)")


@pytest.mark.parametrize(
    "words",
    [
        ["runs/a", "data=photos"],
        ["runs/a", "--data", "photos"],
        ["data=photos", "runs/a"],
        ["run=runs/a", "data=photos"],
        ["runs/a", "--ensemble", "runs/b", "runs/c", "data=photos"],
        ["--json", "runs/a", "split=test", "--data=photos"],
    ],
)
def test_a_word_without_a_key_may_be_named(words):
    arguments = parsed(words, "val", VERBS["val"])
    assert (arguments.run, arguments.data) == ("runs/a", "photos")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["runs/a", "photos", "data=others"], "data is given twice, as 'photos' and as 'others'"),
        (["data=photos"], "needs RUN"),
    ],
)
def test_a_word_is_named_once_and_the_one_before_it_too(words, sentence):
    with pytest.raises(UsageError, match=sentence):
        parsed(words, "val", VERBS["val"])
