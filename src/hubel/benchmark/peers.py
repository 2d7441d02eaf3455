"""What is installed to compare with.  Nothing here is needed to run Hubel; what is absent is no contender."""

import importlib
import sys
import warnings
from typing import Any

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # operators live as long as the library that declares them


def peer(name: str) -> Any:
    """The module of this name, or None where it is absent or does not load here."""
    found = _loaded(name)
    if found is None and name.partition(".")[0] == "torchvision" and not _declared:
        _declare_operators()
        found = _loaded(name)
    return found


def _loaded(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs, at import
            return importlib.import_module(name)
    except Exception:  # a wheel for another torch fails in ways of its own
        for loaded in [key for key in sys.modules if key.partition(".")[0] == name.partition(".")[0]]:
            del sys.modules[loaded]  # half of a package
        return None


def _declare_operators() -> None:
    """Declares the two operators torchvision's Python code asks for, where its wheel cannot register its own.

    The wheel registers kernels only beside the build of torch it was made with; its networks and transforms need none.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for signature in OPERATORS:
        try:
            library.define(signature)
        except RuntimeError as error:  # declared by somebody else already
            if "multiple" not in str(error) and "already" not in str(error):
                raise
    _declared.append(library)
