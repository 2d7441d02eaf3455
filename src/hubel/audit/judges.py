"""How the labels of data are judged: by what a network sees on the pictures, or by edges and colours."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hubel.audit import Audit
from hubel.audit.descriptors import edges_and_colours
from hubel.audit.fine_tuning import Halves, fine_tune_in_folds, halves, maps
from hubel.audit.label_issues import combine_features, out_of_fold
from hubel.classifier import Classifier
from hubel.data import Opened
from hubel.data.splits import decode_part
from hubel.files import Track, silently
from hubel.transfer import extract, stages
from hubel.transfer.features import Features, example_of
from hubel.transfer.holdout import Joined

DEPTH = 2  # stages of the network that are looked at, counted from its end
CELLS, WIDEST = 3, 4096  # the first of them also in 3 x 3 parts of the picture, or in fewer for at most so many numbers


@dataclass(frozen=True)
class JudgeData:
    """What the judges see of the images whose labels they judge.

    Args:
        images: their numbers, N.
        values: what is seen, N d.
        judge: how, in words.
        network: where it is fine-tuned, its halves and what the first of them makes of the pictures, 2 N C H W.
    """

    images: NDArray[np.int64]
    values: NDArray[np.float32]
    judge: str
    network: tuple[Halves, Tensor] | None = None


def judge_data(
    found: Audit, classifier: Classifier | None, opened: Opened, track: Track[Any] = silently, *, thorough: bool = False
) -> JudgeData:
    """Compute what the judges see: edges and colours, and features of a network where one is given.

    A network sees whole images, also one whose weights are published for the centre: a hem or a sleeve is at the
    border.

    Raises:
        UsageError: the network cannot be fine-tuned, or its maps take too much memory.
    """
    described = edges_and_colours(found.thumbnails.images, track)
    if classifier is None:
        return JudgeData(found.thumbnails.which, combine_features([described]), "edges and colours")
    wanted, parts, before = classifier.preprocessing, [], 0
    if wanted.fit.startswith("crop"):
        wanted = replace(wanted, fit="pad")
        classifier = replace(classifier, preprocessing=wanted)
    places = []
    for name, part in opened.source.parts.items():
        split, _ = decode_part(
            part, opened.scans.get(name), wanted.size, wanted.channels, wanted.fit, track, levels=wanted.levels
        )
        assert split.places is not None
        places.append(split.places + before)
        parts.append(split)
        before += len(part.labels)
    images = Joined(tuple(parts))
    example = example_of(classifier, images)
    # refused before anything is computed for nothing
    cut = halves(classifier.network, example) if thorough else None
    read = stages(classifier.network, example)[-DEPTH:]
    width = Features(classifier.network, read[:1])(example).shape[1]
    cells = min(CELLS, math.isqrt(WIDEST // width))
    if cells > 1 and len(read) > 1:
        read = (*read, read[0].divided(cells))
    values = extract(classifier, images, read, track=track).values
    which = np.concatenate(places)
    known = {int(number): place for place, number in enumerate(found.thumbnails.which)}
    shared = np.array([i for i, number in enumerate(which.tolist()) if number in known])
    described = described[[known[number] for number in which[shared].tolist()]]
    blocks = [described, *(values[place.name][shared] for place in read)]
    seen = JudgeData(which[shared], combine_features(blocks), f"features of {classifier.model}, edges and colours")
    if cut is None:
        return seen
    views = maps(classifier, cut.body, images, shared, track)
    return replace(seen, judge=f"{classifier.model} fine-tuned, its features, edges and colours", network=(cut, views))


def judge(
    seen: JudgeData,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    classes: int,
    seed: int = 0,
    track: Track[Any] = silently,
) -> NDArray[np.float64]:
    """Compute class probabilities of every image, N K, by judges that did not train on it; see `out_of_fold`."""
    if seen.network is None:
        return out_of_fold(seen.values, labels, groups, classes, seed)
    cut, views = seen.network
    return out_of_fold(
        seen.values,
        labels,
        groups,
        classes,
        seed,
        fine_tune_in_folds(views, cut, labels, groups, classes, seed=seed, track=track),
    )
