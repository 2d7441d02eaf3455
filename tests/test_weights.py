"""Weights made elsewhere: fetched, read without executing anything, put in order, adopted; what travels with them."""

import hashlib
import http.server
import math
import os
import pickle
import re
import runpy
import threading

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import reference
from hubel import files, weights, zoo
from hubel.errors import FileError, UsageError

FACTS = zoo.facts()
REFERENCES = [name for name, fact in FACTS.items() if "reference" in fact]
PRETRAINED = [name for name, fact in FACTS.items() if "weights" in fact]
SHIFTED = ("googlenet", "inception_v3")  # torchvision turns (pixel - mean) / std into (pixel - 0.5) / 0.5 inside
MEAN, STD = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def normalised(images: np.ndarray, mean: torch.Tensor = MEAN, std: torch.Tensor = STD) -> torch.Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return zoo.create("resnet20_cifar").state_dict()


# --- known answers of real files


@pytest.mark.parametrize(("depth", "file", "least"), [(20, "12fca82f", 0.99), (56, "4bfd9763", 1.0)])
def test_published_cifar_weights_classify_their_training_pictures(shared, depth, file, least):
    with np.load(shared / "cifar10_2000" / "train_first2000.npz") as data:
        images, labels = data["images"][:500], torch.from_numpy(data["labels"][:500])
    net = zoo.create(f"resnet{depth}_cifar", pretrained=shared / "weights" / f"resnet{depth}-{file}.th").eval()
    with torch.inference_mode():
        assert (net(normalised(images)).argmax(1) == labels).float().mean() >= least


@pytest.mark.parametrize("name", ["squeezenet1_0", "mobilenet_v2"])
def test_imagenet_weights_reproduce_the_reference_logits(shared, tmp_path, name):
    file = shared / "weights" / f"{name}.safetensors"
    if name == "mobilenet_v2":
        file = tmp_path / "mobilenet_v2.safetensors"
        save_file(runpy.run_path(str(shared / "weights" / "mobilenet_v2.py"))["state_dict"](), file)
    with np.load(shared / "photos" / "reference_logits.npz") as data:
        (images,) = (data[key] for key in data if data[key].dtype == np.uint8)
        (logits,) = (data[key] for key in data if name.split("_")[0].rstrip("1") in key.lower())
    known = zoo.pretrained(name)
    net = zoo.create(name, pretrained=file).eval()
    with torch.inference_mode():
        ours = net(normalised(images, *(torch.tensor(v).view(3, 1, 1) for v in (known.mean, known.std))))
    torch.testing.assert_close(ours, torch.from_numpy(logits), atol=1e-4, rtol=0)
    if name == "mobilenet_v2":
        found = [known.categories[i] for i in ours.argmax(1).tolist()]
        assert found[:5] == ["chickadee", "Egyptian cat", "dragonfly", "military uniform", "hotdog"]


# --- the order of entries


@pytest.mark.parametrize("name", REFERENCES)
def test_the_order_of_every_reference_is_restored_from_its_names(name):
    with torch.device("meta"):
        state = reference.build(FACTS[name]["reference"]).state_dict()
    registered = [key for key in state if not key.endswith("num_batches_tracked")]
    for mixed in (sorted(state), list(reversed(state))):
        assert list(weights.entries({key: state[key] for key in mixed})) == registered


def test_densenet_files_of_2017_are_read():
    with torch.device("meta"):
        state = reference.build("torchvision:densenet121").state_dict()
    old = {re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", key): value for key, value in state.items()}
    assert old.keys() != state.keys()
    assert list(weights.entries(old)) == list(weights.entries(state))


def test_own_weights_are_matched_by_name_from_a_file_that_sorts_them(tmp_path):
    state = small_state()
    save_file(state, tmp_path / "own.safetensors")
    net = zoo.create("resnet20_cifar", pretrained=tmp_path / "own.safetensors")
    torch.testing.assert_close(net.state_dict(), state, atol=0, rtol=0)


def test_an_order_that_is_lost_is_an_error_and_one_of_its_own_is_kept():
    def net(first: str, second: str) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.ModuleDict({first: torch.nn.Linear(2, 2), second: torch.nn.Linear(2, 2)}))

    ours, theirs = net("a", "b"), net("zebra", "antelope")
    weights.adopt(ours, theirs.state_dict())
    torch.testing.assert_close(ours[0]["a"].weight, theirs[0]["zebra"].weight, atol=0, rtol=0)
    with pytest.raises(UsageError, match=r"alphabetical order.* whether 0\.antelope or 0\.zebra comes first"):
        weights.adopt(ours, dict(sorted(theirs.state_dict().items())))


def test_a_network_registered_in_an_order_of_its_own_adopts_a_file_that_kept_it():
    def block(*names: str) -> torch.nn.Module:
        return torch.nn.ModuleDict(
            {n: torch.nn.BatchNorm2d(4) if "n" in n[:2] else torch.nn.Conv2d(4, 4, 3) for n in names}
        )

    theirs, ours = block("bn1", "conv1"), block("norm_a", "filter_a")
    theirs["bn1"].weight.data.fill_(3)
    weights.adopt(ours, theirs.state_dict())
    assert ours["norm_a"].weight[0] == 3


# --- reading


def test_prefixes_and_wrappers_are_taken_off(tmp_path):
    state = {"a.weight": torch.ones(2), "a.bias": torch.zeros(2)}
    for number, content in enumerate(
        [
            state,
            {"model": state, "epoch": 3},
            {"state_dict": {f"module.{k}": v for k, v in state.items()}, "best": 0.9},
        ]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=number != 1)
        assert list(weights.read(path)) == list(state)


class Evil:
    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", [0, 2, 4, None])
def test_a_pickle_that_would_execute_code_is_refused_by_name(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    if protocol is None:
        torch.save({"state_dict": Evil()}, "evil.pth")
    else:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol))
    with pytest.raises(FileError, match=r"evil.pth asks for (posix|nt)\.system, which is no tensor"):
        weights.read("evil.pth")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pth")
    with pytest.raises(FileError, match=r"asks for torch\.nn\.modules\.linear\.Linear"):
        weights.read(tmp_path / "net.pth")


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors", "html", "empty"])
def test_a_damaged_file_is_named(tmp_path, kind):
    path, state = tmp_path / "w", {"w": torch.ones(5000)}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    path.write_bytes({"html": b"<html>404</html>", "empty": b""}.get(kind, whole[: len(whole) // 2]))
    with pytest.raises(FileError, match=f"{re.escape(str(path))} is damaged"):
        weights.read(path)


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save({"weight": torch.ones(1), "epoch": 3}, tmp_path / "mixed.pth")
    torch.save(torch.ones(1), tmp_path / "tensor.pth")
    with pytest.raises(FileError, match=r"its entry 'epoch' is of type int"):
        weights.read(tmp_path / "mixed.pth")
    with pytest.raises(FileError, match=r"it is of type Tensor"):
        weights.read(tmp_path / "tensor.pth")
    with pytest.raises(FileError, match=r"there is no weights file .*absent\.pth"):
        weights.read(tmp_path / "absent.pth")


# --- fetching


@pytest.fixture
def server(monkeypatch):
    """A server on this machine: `server.files` by path; a body may be announced longer than it is."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            if self.path not in self.server.files:
                self.send_error(404)
                return
            body, announced = self.server.files[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.files, serving.asked = {}, []
        serving.url = f"http://127.0.0.1:{serving.server_address[1]}"
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join(10)


BODY = bytes(range(256)) * 10_000  # 2.4 MiB: three pieces
DIGEST = hashlib.sha256(BODY).hexdigest()


def test_a_file_is_downloaded_once_and_then_served_from_the_cache(server, cache_folder):
    server.files["/a/net-x.pth"] = (BODY, len(BODY))
    seen = []

    def track(items, description, total):
        seen.append((description, total))
        yield from items

    path = weights.fetch(f"{server.url}/a/net-x.pth", DIGEST[:8], track=track)
    assert path == cache_folder / "weights" / "net-x.pth"
    assert path.read_bytes() == BODY
    assert seen == [(f"downloading {server.url}/a/net-x.pth", 3)]
    assert weights.fetch(f"{server.url}/a/net-x.pth", DIGEST, track=track) == path
    assert len(server.asked) == len(seen) == 1
    path.write_bytes(b"changed by someone")
    assert weights.fetch(f"{server.url}/a/net-x.pth", DIGEST).read_bytes() == BODY
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("path", "digest", "sentence"),
    [
        ("/cut.pth", DIGEST, r"broke off after 1,000 of 2,560,000 bytes"),
        ("/nothing.pth", DIGEST, r"the server answers 404 Not Found"),
        ("/whole.pth", "0" * 8, rf"sha256 begins with {DIGEST[:8]}, expected 00000000"),
    ],
)
def test_a_failed_download_is_one_sentence_and_leaves_nothing(server, cache_folder, path, digest, sentence):
    server.files |= {"/cut.pth": (BODY[:1000], len(BODY)), "/whole.pth": (BODY, len(BODY))}
    with pytest.raises(FileError, match=sentence) as caught:
        weights.fetch(server.url + path, digest)
    assert "\n" not in str(caught.value)
    assert not [found for found in cache_folder.rglob("*") if found.is_file()]


def test_no_server_no_address_no_digest(server, cache_folder):
    server.shutdown()
    server.server_close()
    with pytest.raises(FileError, match=r"cannot download .*refused.*give the path of a copy"):
        weights.fetch(f"{server.url}/x.pth", DIGEST)
    with pytest.raises(FileError, match=r"cannot download nonsense: unknown url type"):
        weights.fetch("nonsense", DIGEST)
    with pytest.raises(UsageError, match=r"sha256 is 'abc'"):
        weights.fetch(f"{server.url}/x.pth", "abc")
    assert not [found for found in cache_folder.rglob("*") if found.is_file()]


def test_an_interrupt_leaves_nothing_and_a_folder_that_cannot_be_written_is_named(server, cache_folder):
    server.files["/x.pth"] = (BODY, len(BODY))

    def interrupted(items, *_):
        for item in items:
            yield item
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.fetch(f"{server.url}/x.pth", DIGEST, track=interrupted)
    (cache_folder / "weights").rmdir()  # and so: nothing lies in it
    (cache_folder / "weights").write_text("in the way")
    with pytest.raises(FileError, match="cannot write"):
        weights.fetch(f"{server.url}/x.pth", DIGEST)


# --- create(pretrained=...)


def test_create_with_reference_weights_downloads_checks_and_adopts(server, tmp_path, monkeypatch):
    theirs = reference.build("torchvision:squeezenet1_1")
    torch.save(theirs.state_dict(), tmp_path / "w.pth")
    body = (tmp_path / "w.pth").read_bytes()
    server.files["/squeezenet1_1-x.pth"] = (body, len(body))
    fact = FACTS["squeezenet1_1"]["weights"]
    monkeypatch.setitem(fact, "url", f"{server.url}/squeezenet1_1-x.pth")
    monkeypatch.setitem(fact, "sha256", hashlib.sha256(body).hexdigest()[:8])
    ours = zoo.create("squeezenet1_1", pretrained="reference")
    torch.testing.assert_close(list(ours.state_dict().values()), list(theirs.state_dict().values()), atol=0, rtol=0)
    with pytest.raises(UsageError, match=r"tell 1000 classes apart, not 7; take num_classes=1000"):
        zoo.create("squeezenet1_1", pretrained="reference", num_classes=7)


def test_weights_that_do_not_fit_name_the_entry_and_the_network_that_fits(tmp_path):
    torch.save(small_state(), tmp_path / "w.pth")
    with pytest.raises(
        UsageError,
        match=r"resnet32_cifar cannot take .*w\.pth: .* has shape \(16, 16, 3, 3\), .*"
        r" has \(32, 16, 3, 3\); these weights fit resnet20_cifar",
    ):
        zoo.create("resnet32_cifar", pretrained=tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"fit resnet20_cifar with num_classes=10 and in_channels=3$"):
        zoo.create("resnet20_cifar", num_classes=4, pretrained=tmp_path / "w.pth")
    torch.save(zoo.create("resnet20_cifar", num_classes=4, in_channels=1).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"fit resnet20_cifar with num_classes=4 and in_channels=1"):
        zoo.create("resnet32_cifar", pretrained=tmp_path / "w.pth")
    assert zoo.create("resnet20_cifar", num_classes=4, in_channels=1, pretrained=tmp_path / "w.pth")
    torch.save({"odd.weight": torch.ones(3, 5)}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="no network of the zoo fits these weights"):
        zoo.create("lenet5", pretrained=tmp_path / "w.pth")


def test_a_network_of_ones_own_takes_a_file_but_has_no_reference(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\ndef Net(num_classes):\n    return torch.nn.Linear(4, num_classes)\n"
    )
    state = {"fc.weight": torch.randn(3, 4), "fc.bias": torch.randn(3)}
    torch.save(state, tmp_path / "w.pth")
    own = f"{tmp_path / 'mine.py'}:Net"
    net = zoo.create(own, num_classes=3, pretrained=tmp_path / "w.pth")
    torch.testing.assert_close(net.weight, state["fc.weight"], check_stride=False)
    with pytest.raises(UsageError, match=r"weight has shape \(2, 4\), fc\.weight has \(3, 4\)"):
        zoo.create(own, num_classes=2, pretrained=tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"there are no reference weights of .*mine\.py:Net"):
        zoo.create(own, num_classes=3, pretrained="reference")


def test_networks_without_reference_weights_and_odd_values_name_the_way_out():
    with pytest.raises(UsageError, match=r"no reference weights of lenet5; .*take one of alexnet, .*resnet18"):
        zoo.create("lenet5", pretrained="reference")
    with pytest.raises(UsageError, match=r"unknown model 'resnet5O'; did you mean resnet50"):
        zoo.pretrained("resnet5O")
    with pytest.raises(UsageError, match=r'pretrained is True; give the path of a file, or "reference"'):
        zoo.create("resnet18", pretrained=True)


# --- what travels with weights, recomputed from the packages it was taken from


@pytest.mark.parametrize("name", PRETRAINED)
def test_what_travels_with_weights_is_what_the_reference_says(name):
    known = zoo.pretrained(name)
    package, model = FACTS[name]["reference"].split(":")
    if package == "timm":
        import timm

        said = timm.get_pretrained_cfg(model)
        assert (known.url, known.interpolation, known.mean, known.std) == (
            said.url,
            said.interpolation,
            said.mean,
            said.std,
        )
        assert (known.crop, known.resize) == (said.input_size[1], math.floor(said.input_size[1] / said.crop_pct))
        assert known.licence.lower() == said.license
        assert known.source == f"timm:{model} {said.tag}"
        assert (known.top1, said.num_classes) == (None, len(known.categories))
    else:
        import torchvision

        said = torchvision.models.get_model_weights(model)["IMAGENET1K_V1"]
        prepared, accuracy = said.transforms(), said.meta["_metrics"]["ImageNet-1K"]
        assert (known.url, known.interpolation) == (said.url, prepared.interpolation.value)
        assert ([known.crop], [known.resize]) == (prepared.crop_size, prepared.resize_size)
        if name not in SHIFTED:
            assert (list(known.mean), list(known.std)) == (prepared.mean, prepared.std)
        assert list(known.categories) == said.meta["categories"]
        assert (known.top1, known.top5) == (
            pytest.approx(accuracy["acc@1"] / 100),
            pytest.approx(accuracy["acc@5"] / 100),
        )
        assert known.source == f"torchvision:{model} IMAGENET1K_V1"
    assert f"-{known.sha256}.pth" in known.url


@pytest.mark.parametrize("name", SHIFTED)
def test_googlenet_and_inception_v3_see_the_pixels_that_torchvision_shows_them(name):
    theirs = reference.build(f"torchvision:{name}", transform_input=True)
    known = zoo.pretrained(name)
    pixels = torch.rand(2, 3, 8, 8)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (known.mean, known.std))
    torch.testing.assert_close((pixels - mean) / std, theirs._transform_input((pixels - MEAN) / STD))


def test_the_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("HUBEL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "hubel"
