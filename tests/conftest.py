"""What the whole suite shares: real data where the checkout has it, one core per worker, a cache of its own."""

import os
import shutil
from pathlib import Path

import pytest

from hubel import compiled, process

process.tune()  # before torch is loaded, as the command line does

import hypothesis  # noqa: E402
import torch  # noqa: E402

from hubel import machine  # noqa: E402
from hubel.training import system  # noqa: E402
from pictures import encoded, noise  # noqa: E402

hypothesis.settings.register_profile("hubel", deadline=None, derandomize=True)  # no test asserts a duration
hypothesis.settings.load_profile("hubel")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WORKER = "PYTEST_XDIST_WORKER" in os.environ


@pytest.fixture(scope="session", autouse=True)
def _cores():
    """A worker has one core, also for a training that takes as many as there are."""
    with pytest.MonkeyPatch.context() as patch:
        if WORKER:
            for room in (machine, system):
                patch.setattr(room, "physical_cores", lambda: 1)
        yield


@pytest.fixture(scope="session", autouse=True)
def _common_cache(tmp_path_factory):
    """What the fixtures of several tests keep goes to a folder of this run that the workers share."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if WORKER else folder) / "common-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def _threads():
    """A training leaves torch with the threads it took."""
    torch.set_num_threads(1 if WORKER else 2)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Decoded pictures go to a folder of the test's own, never to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HUBEL_CACHE", str(folder))
    return folder


@pytest.fixture
def kernels(_common_cache, cache_folder):
    """A fresh process finds the libraries that every training calls in its cache, and need not compile them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HUBEL_CACHE", str(_common_cache))
        made = [path for path in map(compiled._made, compiled.TRAINING) if path]
    for library in made:
        shutil.copytree(library.parent, cache_folder / "kernels", dirs_exist_ok=True)


@pytest.fixture
def photos(tmp_path):
    """Two classes of twenty pictures in a folder of class folders."""
    for name in ("cat", "dog"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for i in range(20):
            (folder / f"{i:02}.jpg").write_bytes(encoded(noise(), "JPEG"))
    return tmp_path / "photos"


@pytest.fixture
def shared():
    """The folder of real pictures and weights beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


@pytest.fixture(scope="module")
def avx512():
    """The kernels that need AVX512: as they are where the processor has it, elsewhere their arithmetic in portable
    C.
    """
    from hubel.inference import native
    from hubel.training.cpu import pointwise

    if compiled.c_compiler() is None:
        pytest.skip("no C compiler here")
    missing = not (pointwise.available() and native.available("bfloat16"))
    with pytest.MonkeyPatch.context() as patch:
        if missing:
            patch.setenv("HUBEL_KERNELS", "portable")
            compiled.library.cache_clear()
            assert all((pointwise.available(), native.available("float32"), native.available("bfloat16")))
        yield
    if missing:
        compiled.library.cache_clear()
        for source in compiled.TRAINING:  # found in the common cache, which the next test has not
            compiled.library(source)


def pytest_terminal_summary(terminalreporter):
    """Says how many tests had to do without the real data."""
    skipped = terminalreporter.stats.get("skipped", [])
    without = sum("no real data" in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"{without} tests ran without the real data of {SHARED}")
