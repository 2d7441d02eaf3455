"""Fixtures the whole suite shares: real data where the checkout has it, two threads, a cache of its own."""

from pathlib import Path

import pytest

from hubel import process

process.tune()  # before torch is loaded, as the command line does

import hypothesis  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("hubel", deadline=None, derandomize=True)  # no test asserts a duration
hypothesis.settings.load_profile("hubel")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
_without: list[str] = []


@pytest.fixture(scope="session", autouse=True)
def _two_threads():
    torch.set_num_threads(2)


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    """Decoded pictures go to a folder of the test's own, never to the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("HUBEL_CACHE", str(folder))
    return folder


@pytest.fixture
def shared(request):
    """The folder of real pictures and weights beside the checkout; tests that need it say so when it is missing."""
    if not SHARED.is_dir():
        _without.append(request.node.nodeid)
        pytest.skip(f"no real data at {SHARED}")
    return SHARED


def pytest_terminal_summary(terminalreporter):
    terminalreporter.write_line(f"{len(_without)} tests ran without the real data of {SHARED}")
