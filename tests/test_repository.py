"""The repository keeps its own promises: lint, types, one test command, documents that are true."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hubel

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "src", "tests", "benchmarks"],
        ["ruff", "format", "--check", "src", "tests", "benchmarks"],
        ["pyright", "--warnings", "--pythonpath", sys.executable],
    ],
    ids=["lint", "format", "types"],
)
@pytest.mark.timeout(1800)  # types take a minute and a half of one core, and other programs may hold it
def test_lint_format_and_types(command):
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_calls_the_very_test_command_of_the_readme():
    (command,) = set(re.findall(r"^pip install .*pytest$", README, re.MULTILINE))
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()
    assert command in (ROOT / "CONTRIBUTING.md").read_text().splitlines()


def test_every_link_of_the_readme_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert link.startswith("http") or (ROOT / link).exists(), link


def test_the_design_names_every_room():
    source = ROOT / "src" / "hubel"
    rooms = {path.name for path in source.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.name for path in source.glob("*.py")} - {"__init__.py", "__main__.py"}
    missing = {room for room in rooms if not re.search(rf"^  {re.escape(room)}/?\s", DESIGN, re.MULTILINE)}
    assert not missing


def test_the_version_is_written_once_and_cited():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert hubel.__version__ == version
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


def test_public_names_are_importable():
    assert all(getattr(hubel, name) is not None for name in hubel.__all__)
    assert set(hubel.__all__) <= set(dir(hubel))


def test_importing_hubel_does_not_load_torch():
    code = "import sys, hubel; assert 'torch' not in sys.modules; hubel.create; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_torchvision_and_timm_are_never_needed_at_run_time():
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torchvision|timm)", path.read_text(), re.MULTILINE), path


def test_evidence_names_no_path_of_the_machine_that_measured():
    for path in (ROOT / "benchmarks" / "evidence").glob("*.json*"):
        assert not re.findall(r"""(?<![^\s"'=])/\w[^"' ]*""", path.read_text(encoding="utf-8")), path


def test_a_command_is_kept_without_the_paths_of_its_machine(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from commands import portable

    near = ROOT.parent / "shared" / "data"
    monkeypatch.chdir(ROOT)
    assert portable(f"hubel train {near} --from=/a/b/mnv2.safetensors size=128") == (
        "hubel train ../shared/data --from=mnv2.safetensors size=128"
    )
