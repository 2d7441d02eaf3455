"""Weights named on the hub: a server on this machine speaks the hub's protocol, its own library fetches from it."""

import hashlib
import http.server
import json
import sys
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from hubel import hub, weights, zoo
from hubel.classifier import Classifier
from hubel.errors import DataError, FileError, UsageError
from hubel.pipeline.pretrained import Pretrained

pytest.importorskip("huggingface_hub")

FIRST, SECOND = "a" * 40, "b" * 40  # commits
DIGITS = "hf-hub:someone/digits"
CONFIG = {
    "architecture": "lenet5",
    "num_classes": 10,
    "pretrained_cfg": {
        "input_size": [1, 28, 28],
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": [0.25],
        "std": [0.5],
        "label_names": list("abcdefghij"),
        "label_descriptions": {"a": "ay"},
    },
}
CARD = "---\ntags:\n- image-classification\nlicense: apache-2.0\n---\n# Digits\nlicense: none of this\n"


class Hub(http.server.BaseHTTPRequestHandler):
    """/OWNER/NAME/resolve/REVISION/FILE, with the headers that the hub's library asks for."""

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        self.answer(send=True)

    def answer(self, *, send: bool) -> None:
        owner, name, _, revision, file = self.path.lstrip("/").split("/", 4)
        self.server.asked.append(self.path)
        commits = self.server.repositories.get(f"{owner}/{name}")
        commit = max(commits or [""]) if revision == "main" else revision
        if commits is None or commit not in commits or file not in commits[commit]:
            code = "RepoNotFound" if commits is None else "EntryNotFound" if commit in commits else "RevisionNotFound"
            self.refuse(404, code, commit)
        elif owner == "gated":
            self.refuse(403, "GatedRepo", commit)
        else:
            body = commits[commit][file]
            self.send_response(200)
            for key, value in {
                "X-Repo-Commit": commit,
                "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
                "Content-Length": str(len(body)),
            }.items():
                self.send_header(key, value)
            self.end_headers()
            if send:
                self.wfile.write(body)

    def refuse(self, status: int, code: str, commit: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def lenet(seed: int) -> tuple[torch.nn.Module, bytes]:
    torch.manual_seed(seed)
    network = zoo.create("lenet5").eval()
    return network, safetensors.torch.save(network.state_dict())


@pytest.fixture
def served(monkeypatch, tmp_path):
    """A hub with a repository of LeNet-5 in the older of its commits; `served.repositories` by name, commit and
    file.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as serving:
        files = {
            "model.safetensors": lenet(0)[1],
            "config.json": json.dumps(CONFIG).encode(),
            "README.md": CARD.encode(),
        }
        serving.repositories = {
            "someone/digits": {FIRST: files},
            "someone/plain": {FIRST: {"net.safetensors": lenet(0)[1]}},
            "gated/digits": {FIRST: files},
        }
        serving.asked = []
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{serving.server_address[1]}")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        thread = threading.Thread(target=serving.serve_forever, args=(0.02,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def test_a_name_on_the_hub_is_a_classifier_with_what_its_configuration_says(served):
    classifier, (network, raw) = Classifier.load(DIGITS), lenet(0)
    x = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(classifier.network(x), network(x))
    about, preprocessing = classifier.about["weights"], classifier.preprocessing
    assert classifier.classes == ("ay", *"bcdefghij")
    assert (preprocessing.mean, preprocessing.std, preprocessing.size) == ((0.25,), (0.5,), 28)
    where = f"http://127.0.0.1:{served.server_address[1]}/someone/digits/resolve/{FIRST}/model.safetensors"
    digest = hashlib.sha256(raw).hexdigest()
    assert about == {
        "source": f"{DIGITS}@{FIRST}",
        "licence": "apache-2.0",
        "sha256": digest,
        "top1": None,
        "url": where,
    }
    picture = np.random.default_rng(0).integers(0, 256, (90, 64), dtype=np.uint8)
    square = Image.fromarray(picture).resize((32, 45), Image.Resampling.BICUBIC).crop((2, 8, 30, 36))  # 28 / 0.875 = 32
    found = preprocessing.decode(_png(picture))[..., 0]
    assert np.abs(found.astype(int) - np.asarray(square).astype(int)).max() <= 2


def _png(picture: np.ndarray) -> bytes:
    import io

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "png")
    return file.getvalue()


def test_what_was_fetched_is_in_the_cache_and_a_commit_asks_nobody(served):
    found = hub.fetch(DIGITS)
    assert found.name == f"{DIGITS}@{FIRST}"
    served.asked.clear()
    again = hub.fetch(found.name)
    assert (again, served.asked) == (found, [])
    assert weights.read(found.name).keys() == lenet(0)[0].state_dict().keys()


@pytest.mark.usefixtures("served")
def test_a_file_of_another_name_is_named_with_the_repository():
    with pytest.raises(
        FileError,
        match=r"hf-hub:someone/plain: the repository has no model.safetensors and no pytorch_model.bin; "
        r"name its weights: hf-hub:someone/plain/FILE",
    ):
        hub.fetch("hf-hub:someone/plain")
    found = hub.fetch("hf-hub:someone/plain/net.safetensors")
    assert (found.config, found.licence) == ({}, None)
    assert found.name == f"hf-hub:someone/plain@{FIRST}/net.safetensors"
    assert Classifier.load("hf-hub:someone/plain/net.safetensors").classes[0] == "class 0"


def test_a_run_records_the_commit_and_finds_the_same_weights_when_the_repository_has_moved_on(served):
    pretrained = Pretrained.load(DIGITS)
    assert pretrained is not None
    recorded = pretrained.describe()
    assert (recorded["from"], recorded["licence"]) == (f"{DIGITS}@{FIRST}", "apache-2.0")
    files = served.repositories["someone/digits"]
    files[SECOND] = files[FIRST] | {"model.safetensors": lenet(1)[1]}
    assert Pretrained.load(recorded["from"], sha256=recorded["sha256"]).sha256 == pretrained.sha256
    with pytest.raises(DataError, match="hf-hub:someone/digits has changed since the run was started"):
        Pretrained.load(DIGITS, sha256=recorded["sha256"])


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("hf-hub:nobody/digits", "there is no repository nobody/digits at http.*, or it is private"),
        (f"{DIGITS}@v2", r"hf-hub:someone/digits@v2: the repository has no revision v2; leave it out"),
        (
            "hf-hub:gated/digits",
            "given out to those only who accept its terms: do so at http.*/gated/digits, then log in",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_said_in_a_sentence(name, words):
    with pytest.raises(FileError, match=words):
        Classifier.load(name)


@pytest.mark.parametrize("name", ["hf-hub:digits", "hf-hub:", "hf-hub:a/b@", "hf-hub:a b/c", "hf-hub:.a./-b-"])
def test_a_name_of_another_form_is_refused_before_anything_is_asked(served, name):
    with pytest.raises(UsageError, match="is no name on the hub"):
        Classifier.load(name)
    assert served.asked == []


@pytest.mark.usefixtures("served")
def test_without_the_hub_the_cache_serves_and_a_new_name_is_refused(monkeypatch):
    known = hub.fetch(DIGITS)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.fetch(DIGITS).path == known.path
    with pytest.raises(
        FileError, match=r"hf-hub:someone/plain/net.safetensors is not in the hub's cache and http.* cannot be"
    ):
        hub.fetch("hf-hub:someone/plain/net.safetensors")


def test_without_the_extra_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"huggingface_hub, which is not installed; pip install 'hubel\[hub\]'"):
        Classifier.load(DIGITS)


def test_weights_of_no_network_of_ours_are_named_with_their_architecture(served):
    served.repositories["someone/digits"][FIRST] |= {
        "model.safetensors": safetensors.torch.save({"a.weight": torch.zeros(3, 3), "a.bias": torch.zeros(3)}),
        "config.json": json.dumps(CONFIG | {"architecture": "vit_tiny"}).encode(),
    }
    with pytest.raises(
        UsageError, match=rf"{DIGITS}@{FIRST} \(of the architecture vit_tiny, by its configuration\): no net"
    ):
        Classifier.load(DIGITS)
