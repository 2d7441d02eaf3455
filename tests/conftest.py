"""What the whole suite shares: real data where the checkout has it, one core per worker, a cache of its own."""

import os
from pathlib import Path

import pytest

from hubel import compiled, process

process.tune()  # before torch is loaded, as the command line does

import hypothesis  # noqa: E402
import torch  # noqa: E402

from pictures import encoded, noise  # noqa: E402

hypothesis.settings.register_profile("hubel", deadline=None, derandomize=True)  # no test asserts a duration
hypothesis.settings.load_profile("hubel")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Decoded pictures go to a folder of the test's own, never to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HUBEL_CACHE", str(folder))
    return folder


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
    """The kernels that need AVX512: as they are where the processor has it, elsewhere their arithmetic in portable C."""
    from hubel.inference import native
    from hubel.training.cpu import pointwise

    if compiled.c_compiler() is None:
        pytest.skip("no C compiler here")
    missing = not (pointwise.available() and native.available("bfloat16"))
    with pytest.MonkeyPatch.context() as patch:
        if missing:
            patch.setenv("HUBEL_KERNELS", "portable")
            compiled.library.cache_clear()
            assert pointwise.available()
        yield
    if missing:
        compiled.library.cache_clear()


def pytest_terminal_summary(terminalreporter):
    """Says how many tests had to do without the real data."""
    skipped = terminalreporter.stats.get("skipped", [])
    without = sum("no real data" in str(report.longrepr) for report in skipped)
    terminalreporter.write_line(f"{without} tests ran without the real data of {SHARED}")
