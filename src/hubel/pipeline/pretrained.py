"""What a training starts from and whom it learns from: trained networks, named as a run, a file, or one of the zoo."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from hubel import zoo
from hubel.analysis.network_check import require_logits
from hubel.classifier import Classifier, lasting, sha256_of
from hubel.data import Splits
from hubel.errors import DataError, UsageError, listed
from hubel.hashing import weights_sha256
from hubel.model_ref import ModelRef
from hubel.recipe import Recipe
from hubel.seeding import seeded
from hubel.training.distillation import Teacher
from hubel.training.freezing import Freezing, norms
from hubel.training.run_info import WeightsInfo
from hubel.weights.tensor_file import is_ours
from hubel.zoo.recognition import by_class
from hubel.zoo.user_code import code_sha256


@dataclass(frozen=True)
class Pretrained:
    """A trained network with what the record of a run says of it.

    Args:
        name: as the user gave it.
        classifier: the network, its classes and how pictures are prepared for it.
        sha256: of its file.
    """

    name: str
    classifier: Classifier
    sha256: str

    @staticmethod
    def load(
        name: str | None, model: str | None = None, sha256: str | None = None, *, body: bool = True
    ) -> "Pretrained | None":
        """The network that a name stands for (see `Classifier.load`); None where there is no name.

        With `body`, weights without the layer of the classes will do.

        Raises:
            DataError: the file is not the one with this `sha256` any more.
        """
        if name is None:
            return None
        return Pretrained(name, Classifier.load(name, model, body=body), _unchanged(name, sha256_of(name), sha256))

    def describe(self) -> WeightsInfo:
        """For the run's record: what the weights are, and where they come from as far as is known."""
        about = self.classifier.about
        known = about.get("weights") or {}
        return {
            "from": lasting(self.name),
            "model": str(ModelRef.parse(self.classifier.model).located()),
            "sha256": self.sha256,
            "classes": len(self.classifier.classes),
            "source": known.get("source") or f"trained on {about.get('data')}",
            "licence": known.get("licence"),
        }


def _unchanged(name: str, found: str, recorded: str | None) -> str:
    """The digest that was found, which is the one that a run has recorded, if any."""
    if recorded not in (None, found):
        raise DataError(
            f"{name} has changed since the run was started (sha256 {found[:12]}, then {recorded[:12]}); restore it, or "
            f"start a new run"
        )
    return found


def apply_pretrained(recipe: Recipe, pretrained: Pretrained | None) -> Recipe:
    """The recipe with the network, size and channels of what it starts from, where they are left open.

    Raises:
        UsageError: pictures of other channels than the weights read.
    """
    if pretrained is None:
        return recipe
    if recipe.budget is not None and recipe.unfreeze == "head":
        recipe = recipe.with_(cache_features=False)  # a budget is planned from steps that all cost the same
    wanted = pretrained.classifier.preprocessing
    if recipe.channels not in (None, wanted.channels):
        raise UsageError(
            f"channels={recipe.channels} does not fit {pretrained.name}, whose first layer reads {wanted.channels}; "
            f"leave it out, and pictures are converted"
        )
    return recipe.with_(
        model=recipe.model or pretrained.classifier.model, size=recipe.size or wanted.size, channels=wanted.channels
    )


def keep_folded_norms(recipe: Recipe, pretrained: Pretrained | None) -> Recipe:
    """The recipe with freeze_batch_norm=all, where that is open and the weights hold no statistics: mean 0, variance 1.

    Such batch norms were folded into the convolutions before them. By a batch's statistics, which are others, they
    would compute something else from the first step on, and nothing of what was learned would be left.
    """
    if pretrained is None or recipe.freeze_batch_norm is not None:
        return recipe
    found = [(norm.running_mean, norm.running_var) for norm in norms(pretrained.classifier.network)]
    empty = all(
        bool((mean == 0).all() and ((variance - 1).abs() < 1e-4).all())
        for mean, variance in found
        if mean is not None and variance is not None
    )
    return recipe.with_(freeze_batch_norm="all") if found and empty else recipe


def normalize_as(splits: Splits, pretrained: Pretrained | None) -> Splits:
    """The data with the normalisation that the weights are used to."""
    if pretrained is None:
        return splits
    mean, std = pretrained.classifier.preprocessing.mean, pretrained.classifier.preprocessing.std
    return replace(splits, preprocessing=replace(splits.preprocessing, mean=mean, std=std))


def transfer_weights(model: nn.Module, pretrained: Pretrained, classes: Sequence[str], size: int) -> str:
    """Copies the weights into a fresh network, all but the head's layer of the classes; that too, where they are the
    same.

    Args:
        model: for `classes`.
        pretrained: whose network has the same layers, for classes of its own.
        classes: of the data.
        size: of the pictures [px].

    Returns:
        What became of the layer of the classes, for a person.

    Raises:
        UsageError: the body does not fit, because its layers are made for another size.
    """
    given, own = pretrained.classifier.network.state_dict(), model.state_dict()
    theirs = pretrained.classifier.classes
    wanted = pretrained.classifier.preprocessing
    missing = pretrained.classifier.about.get("missing") or ()
    dimension = by_class(ModelRef.parse(pretrained.classifier.model), max(len(theirs), 1), wanted.channels, wanted.size)
    kept = sorted(theirs) == sorted(classes)
    columns = [theirs.index(name) for name in classes] if kept else []
    for name, value in given.items():
        if name in missing:
            continue
        if name in dimension:
            if kept:
                own[name].copy_(value.index_select(dimension[name], torch.tensor(columns, device=value.device)))
        elif own[name].shape != value.shape:
            at = wanted.size
            raise UsageError(
                f"size={size} does not fit the weights of {pretrained.name}: {name} has shape "
                f"{tuple(own[name].shape)} at that size, {tuple(value.shape)} at the {at} px it was trained at; "
                f"leave size out"
            )
        else:
            own[name].copy_(value)
    if kept:
        return f"the head is kept: the {len(classes)} classes are the same"
    if missing:
        return (
            f"a new head for {len(classes)} classes ({listed(classes, 4)}): the weights have none "
            f"({listed(missing, 2)})"
        )
    return f"a new head for {len(classes)} classes ({listed(classes, 4)}) in the place of the {len(theirs)} it had"


def describe_start(model: nn.Module, recipe: Recipe, pretrained: Pretrained, head: str, features: str = "") -> str:
    """What starts from where, what of it trains, and what becomes of the rest, in a line."""
    freezing = Freezing(model, recipe)
    total = sum(parameter.numel() for parameter in model.parameters())
    still = sum(parameter.numel() for part in freezing.frozen() for parameter in part.parameters())
    share = f"{total - still:,} of {total:,} parameters train"
    if recipe.unfreeze == "gradual":
        share += " at first, and all of them from the middle of the epochs on"
    elif not still:
        share = f"all {total:,} parameters train"
    if recipe.freeze_batch_norm == "all":
        share += "; batch norm keeps the statistics of the weights"
    return (
        f"starts from {pretrained.name} ({pretrained.classifier.model}); {head}; "
        f"{share}{'; ' * bool(features)}{features}"
    )


def load_teacher(recipe: Recipe, splits: Splits, recorded: WeightsInfo | None = None) -> Pretrained | None:
    """The teacher that a recipe names: weights as `Pretrained.load` takes them, or a network of the user's own code.

    What FILE.py:NAME builds, with the weights its code loads or those of a bare file, is for the classes of the data in
    their order, numbers 0, 1, ... in that of their value, and is shown the pictures as the student sees them.

    Args:
        recipe: with `teacher` and `teacher_model`.
        splits: the data that the student learns.
        recorded: how the teacher of a run that is resumed was described.

    Raises:
        UsageError: code builds a network with other weights each time, which nobody has trained; or a key without
        effect.
        DataError: the teacher has changed since the run was started.
    """
    if recipe.teacher is None:
        return None
    name, model, sha256 = recipe.teacher, recipe.teacher_model, None
    if recorded:
        name, model, sha256 = recorded["from"], model and recorded["model"], recorded["sha256"]
    named = ModelRef.parse(name)
    if named.is_code and model is not None:
        raise UsageError(f"teacher_model={model} would have no effect: teacher={name} is a network already")
    code = named if named.is_code else ModelRef.parse(model or "")
    if not code.is_code or _described(ModelRef.find(name)):
        return Pretrained.load(name, model, sha256, body=False)
    wanted, built = splits.preprocessing, []
    for seed in (0, 1):
        with seeded(seed):
            built.append(
                zoo.build(
                    code,
                    num_classes=len(splits.classes),
                    in_channels=wanted.channels,
                    image_size=wanted.size,
                    pretrained=None if code is named else name,
                ).eval()
            )
    require_logits(
        built[0], str(code), (wanted.channels, wanted.size, wanted.size), len(splits.classes), training=False
    )
    found, again = (weights_sha256(network.state_dict()) for network in built)
    if found != again:
        raise UsageError(
            f"teacher={name} builds other weights each time, so it is not trained; load its weights where it is "
            f"built, or name them: teacher=WEIGHTS teacher_model={name}"
        )
    numbers = tuple(str(number) for number in range(len(splits.classes)))
    classes = numbers if set(numbers) == set(splits.classes) else splits.classes
    classifier = Classifier(built[0], classes, wanted, str(code), {"weights": {"source": f"as {code} builds it"}})
    digest = hashlib.sha256(f"{code_sha256(code)}{found}".encode()).hexdigest()
    return Pretrained(name, classifier, _unchanged(name, digest, sha256))


def _described(ref: ModelRef) -> bool:
    """Tells whether weights say themselves which classes and pictures they are for: a run's, or a classifier file's."""
    return ref.kind == "run" or (ref.kind == "weights" and os.path.isfile(str(ref)) and is_ours(Path(str(ref))))


def align_teacher(teacher: Pretrained | None, splits: Splits) -> Teacher | None:
    """The network that a training learns from, for the classes of the data.

    Raises:
        DataError: it does not know all of them.
    """
    if teacher is None:
        return None
    classifier = teacher.classifier
    return Teacher(
        classifier.network,
        classifier.preprocessing,
        splits.preprocessing,
        classifier.places(splits.classes, splits.name, "teacher"),
    )
