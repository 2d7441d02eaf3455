"""What a model's name means, read from its text once, at the door, where a user or a file gives it.

    resnet18               zoo          a network of the zoo; resnet18[:3] is its stem and first three stages
    mycode.py:Net          code         what the user's own code builds
    mycode.py              code_file    a file of code, of which no network is named yet
    16c3p1 r p2 gap 10     layers       a line of layers, see `analysis.sequence`
    net.toml               layer_file   the same in a file
    runs/photos-1          run          the folder of a training
    resnet18.pth           weights      a file of weights, Hubel's own or anybody's
    both.json              ensemble     the file of an ensemble
    hf-hub:OWNER/NAME      hub          weights on the Hugging Face Hub, see `hub.fetch`

Whether a bare word is a name of the zoo, and what lies at a path, is not asked here: the zoo says the one when it
builds, `ModelRef.resolve` asks the disk for the other.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubel.errors import UsageError

Kind = Literal["zoo", "code", "code_file", "layers", "layer_file", "run", "weights", "ensemble", "hub"]

HUB = "hf-hub:"
PREFIXES: dict[str, Kind] = {HUB: "hub"}  # before a name that another place gives
ENDINGS: dict[str, Kind] = {".json": "ensemble", ".toml": "layer_file"}  # of files that are not weights
CODE = re.compile(r"(?P<file>.*\.py):(?P<attribute>[^/\\]*)", re.DOTALL)
ENDING = re.compile(r"\.[A-Za-z]\w*\Z")  # begins with a letter: "16c3p1 r d0.5" is no file
SLICE = re.compile(r"(?P<whole>.+)\[:(?P<stages>[0-9]{1,6})\]", re.DOTALL)


@dataclass(frozen=True)
class ModelRef:
    """A model's name and what kind of name it is.

    Args:
        kind: see the table of this file.
        text: as it was given.
    """

    kind: Kind
    text: str

    @staticmethod
    def parse(model: "ModelName") -> "ModelRef":
        """Reads a name from its text alone; one that was read already is returned as it is.

        Raises:
            UsageError: it is no text.

        >>> ModelRef.parse("my nets/code.py:Net").kind, ModelRef.parse("resnet18[:3]").kind
        ('code', 'zoo')
        """
        if isinstance(model, ModelRef):
            return model
        if not isinstance(model, str | os.PathLike):
            raise UsageError(
                f"an object of class {type(model).__name__} is no model's name; write one, such as 'resnet18'"
            )
        text = os.fsdecode(model)
        return ModelRef(_kind(text), text)

    @staticmethod
    def find(model: "ModelName") -> "ModelRef":
        """Reads a name and asks the disk, where the name may lead to something trained; see `parse` and `resolve`."""
        return ModelRef.parse(model).resolve()

    def resolve(self) -> "ModelRef":
        """Asks the disk what lies under the name. Returns the reference, of another kind where the disk knows better.

        In this order:

        1. A name on the hub stays one.
        2. A folder is a run: where the name reads as a path, and under any other name where the folder holds a run.
        3. A file under a name without an ending is a file of weights.
        4. All else is what its text says, whether it is there or not.
        """
        if self.kind == "hub":
            return self
        if os.path.isdir(self.text):
            return ModelRef("run", self.text) if self.is_path or _holds_a_run(self.text) else self
        bare = self.kind in ("zoo", "layers", "run")
        return ModelRef("weights", self.text) if bare and os.path.exists(self.text) else self

    def __str__(self) -> str:
        """The name as it was given."""
        return self.text

    @property
    def is_code(self) -> bool:
        """Whether the user's own code builds the network."""
        return self.kind == "code"

    @property
    def is_trained(self) -> bool:
        """Whether the name leads to weights, not to the plan of a network."""
        return self.kind in ("run", "weights", "ensemble", "hub")

    @property
    def is_path(self) -> bool:
        """Whether the name is that of a file or a folder."""
        return self.kind in ("run", "weights", "ensemble", "layer_file", "code_file")

    @property
    def file(self) -> str:
        """The file of the user's own code; "" for other kinds."""
        found = CODE.fullmatch(self.text)
        return "" if self.kind not in ("code", "code_file") else found["file"] if found else self.text

    @property
    def attribute(self) -> str:
        """What builds the network in the file of the user's own code; "" for other kinds."""
        return self.text[len(self.file) + 1 :] if self.is_code else ""

    @property
    def stem(self) -> str:
        """A short word for the folder of a run that trains it: the file of code without folders and ending, else the
        name.
        """
        return Path(self.file).stem if self.file else self.text

    @property
    def first_stages(self) -> "tuple[ModelRef, int] | None":
        """The whole network and how many of its stages are kept, of a name such as resnet18[:3]; None for others.

        >>> str(ModelRef.parse("resnet18[:3]").first_stages[0]), ModelRef.parse("resnet18").first_stages
        ('resnet18', None)
        """
        found = SLICE.fullmatch(self.text) if self.kind == "zoo" else None
        return (ModelRef("zoo", found["whole"]), int(found["stages"])) if found else None

    def located(self) -> "ModelRef":
        """The reference with the whole path of its code, so that it is found from any folder; of other kinds as it
        is.
        """
        return ModelRef("code", f"{Path(self.file).resolve()}:{self.attribute}") if self.is_code else self


ModelName = str | os.PathLike[str] | ModelRef  # what the functions take that people call


def _kind(text: str) -> Kind:
    """What kind of name a text is; the first rule that fits decides."""
    for prefix, kind in PREFIXES.items():
        if text.startswith(prefix):
            return kind
    if found := CODE.fullmatch(text):
        return "code" if found["attribute"] else "code_file"
    if text.endswith(".py"):
        return "code_file"
    if found := ENDING.search(text):
        return ENDINGS.get(found[0], "weights")
    if "/" in text or "\\" in text or text in (".", ".."):
        return "run"
    return "layers" if " " in text.strip() else "zoo"


def _holds_a_run(folder: str) -> bool:
    """Whether a folder is a run's, or one of several runs."""
    own = any(os.path.isfile(os.path.join(folder, name)) for name in ("run.json", "best.safetensors"))
    return own or any(Path(folder).glob("*/run.json"))
