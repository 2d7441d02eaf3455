"""Weights named on the Hugging Face Hub, hf-hub:OWNER/NAME: fetched, checked and cached by the hub's own library.

The library is an extra, `pip install 'hubel[hub]'`. It heeds HF_ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE and HF_TOKEN.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubel.errors import FileError, UsageError
from hubel.model_ref import HUB

NAME = re.compile(re.escape(HUB) + r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?(/(?P<file>.+))?")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # what the hub's libraries call them; the first that is there


@dataclass(frozen=True)
class Fetched:
    """Weights from the hub.

    Args:
        path: of the file, in the hub library's cache.
        name: with the commit, so that it stands for the same file for ever.
        url: of the file.
        config: what config.json says of the network, as timm writes it; empty where there is none.
        licence: as the repository's README.md states it, if it does.
    """

    path: Path
    name: str
    url: str
    config: Mapping[str, Any]
    licence: str | None

    def prepared(self) -> dict[str, Any]:
        """How pictures are prepared and what the classes are, as far as the configuration tells: keys of
        `PretrainedWeights`.

        The shorter side is resized to crop / crop_pct, as timm does it.
        """
        told = {**self.config, **(self.config.get("pretrained_cfg") or {})}
        found: dict[str, Any] = {key: tuple(map(float, told[key])) for key in ("mean", "std") if told.get(key)}
        if told.get("interpolation") in ("bilinear", "bicubic"):
            found["interpolation"] = told["interpolation"]
        if told.get("input_size"):
            crop = int(told["input_size"][-1])
            found |= {"crop": crop, "resize": int(crop / float(told.get("crop_pct") or 1))}
        names, words = told.get("label_names"), told.get("label_descriptions") or {}
        if names:
            found["categories"] = tuple(str(words.get(name, name)) for name in names)
        return found


def fetch(name: str) -> Fetched:
    """The weights that hf-hub:OWNER/NAME stands for; with @REVISION those of a branch, tag or commit, with /FILE that
    file.

    Raises:
        UsageError: the library is not installed, or the name has another form.
        FileError: no such repository, revision or file, or it may not be read, or the hub cannot be reached.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise UsageError(
            f"{name!r} is no name on the hub; it has the form {HUB}OWNER/NAME, with @REVISION or /FILE behind it "
            f"where the newest or the usual one is not meant"
        )
    for step in (*found["repository"].split("/"), *(found["file"] or "x").split("/")):
        if not step.strip(".") or not step.isprintable() or "\\" in step:
            raise UsageError(
                f"{name!r} is no name on the hub: {step!r} is no part of a path there; it has the form "
                f"{HUB}OWNER/NAME/FILE"
            )
    repository, wanted = found["repository"], (found["file"],) if found["file"] else WEIGHTS
    path = next(filter(None, (_file(name, repository, file, found["revision"]) for file in wanted)), None)
    if path is None:
        raise FileError(
            f"{name}: the repository has no {' and no '.join(wanted)}; name its weights: {HUB}{repository}/FILE"
        )
    inside = path.parts[path.parts.index("snapshots") + 1 :]  # commit, then the path in the repository
    commit, file = inside[0], "/".join(inside[1:])
    config, card = (_file(name, repository, beside, commit) for beside in ("config.json", "README.md"))
    named = f"{HUB}{repository}@{commit}" + (f"/{found['file']}" if found["file"] else "")
    return Fetched(
        path,
        named,
        f"{_endpoint()}/{repository}/resolve/{commit}/{file}",
        _config(config) if config else {},
        _licence(card) if card else None,
    )


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _file(name: str, repository: str, file: str, revision: str | None) -> Path | None:
    """One file of a repository, from the cache where it is there; None where the repository has none of that name."""
    try:
        from huggingface_hub import errors, hf_hub_download
    except ImportError as error:
        raise UsageError(
            f"{name} is fetched by huggingface_hub, which is not installed; pip install 'hubel[hub]', or give the "
            f"path of a copy of the weights"
        ) from error
    try:
        return Path(
            hf_hub_download(
                repository,
                file,
                revision=revision,
                library_name="hubel",
                cache_dir=os.environ.get("HF_HUB_CACHE"),
                endpoint=_endpoint(),
            )
        )
    except errors.HFValidationError as error:
        raise UsageError(f"{name!r} is no name on the hub: {_sentence(error)}") from error
    except errors.GatedRepoError as error:
        raise FileError(
            f"{name} is given out to those only who accept its terms: do so at {_endpoint()}/{repository}, then log in "
            f"with: hf auth login"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise FileError(
            f"there is no repository {repository} at {_endpoint()}, or it is private; look the name up there, or log "
            f"in with: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FileError(f"{name}: the repository has no revision {revision}; leave it out for the newest") from error
    except errors.LocalEntryNotFoundError as error:
        raise FileError(
            f"{name} is not in the hub's cache and {_endpoint()} cannot be reached; check the connection and "
            f"HF_HUB_OFFLINE, or give the path of a copy"
        ) from error
    except errors.EntryNotFoundError:
        return None
    except (errors.HfHubHTTPError, OSError) as error:
        raise FileError(f"cannot fetch {name} from {_endpoint()}: {_sentence(error)}") from error


def _config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return config if isinstance(config, dict) else {}


def _licence(path: Path) -> str | None:
    """From the block of YAML at the top."""
    head = re.match(r"---\n(.*?)\n---", path.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*['\"]?([\w.-]+)", head[1], re.MULTILINE) if head else None
    return found[1] if found else None


def _sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
