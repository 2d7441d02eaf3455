"""`hubel summary`, `compare` and `lint`: networks by name, file, line of layers or run, inspected."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import nn

from hubel import analysis
from hubel.classifier import Classifier
from hubel.errors import HubelError, UsageError
from hubel.model_ref import ModelRef

Shape = tuple[int, ...]


def asked_network(
    ref: ModelRef, input: str | Sequence[str] | None = None, classes: int | None = None
) -> tuple[str, nn.Module, analysis.Inputs]:
    """Does as `named_network`, of a network that may take several inputs."""
    given = [input] if isinstance(input, str) else list(input or ())
    if len(given) < 2 and not any(map(analysis.several, given)):
        name, network, shape = named_network(ref, next(iter(given), None), classes)
        return name, network, (analysis.Given(shape),)
    if ref.is_trained:
        raise UsageError(f"{ref} is a trained classifier, which takes one picture; give one input as CxHxW, or none")
    return analysis.asked(ref, given, classes)


def named_network(ref: ModelRef, input: str | None = None, classes: int | None = None) -> tuple[str, nn.Module, Shape]:
    """Returns (name, network, input C H W) of what `ref` names; networks of the zoo get no memory for their weights.

    Args:
        ref: found: a name of the zoo, FILE.py:NAME, a line of layers such as "16c3p1 r p2 gap 10" or a .toml of them,
            the folder of a run, or a file of weights.
        input: "CxHxW", or the side of a square picture; as published, or as the run was trained, unless given.
        classes: number of logits; as published unless given.

    Raises:
        UsageError: no such network, or an input that is not CxHxW.
        ShapeError: the network does not fit the input.
    """
    if ref.is_trained:
        if classes is not None:
            raise UsageError("classes would have no effect: the run has its own")
        classifier = Classifier.load(ref)
        size, channels = classifier.preprocessing.size, classifier.preprocessing.channels
        return classifier.model, classifier.network, analysis.size_of(input, channels) or (channels, size, size)
    return analysis.named(ref, input, classes)


def summarise(model: str, input: str | Sequence[str] | None = None, classes: int | None = None) -> analysis.Summary:
    """Returns one row per operator call of the network that `model` names; see `named_network`."""
    ref = ModelRef.find(model)
    name, network, shape = asked_network(ref, input, classes)
    with _failing(ref):
        found = analysis.summary(network, shape, name=name)
        return replace(found, note=" ".join(filter(None, (analysis.assumed(ref, classes), found.note))))


def sums(summary: analysis.Summary, layer: str) -> str:
    """The arithmetic of every call of a layer, or of every layer of a module, as the lectures write it.

    Raises:
        UsageError: the network has no such layer; the nearest is named.
    """
    inside = [row for row in summary.rows if row.name.startswith(f"{layer}.")]
    return "\n".join(analysis.arithmetic(row) for row in inside or summary.calls(layer))


def compared(models: Sequence[str], input: str | None = None) -> analysis.Comparison:
    """The complexity of several networks side by side, each at its published input unless one is given."""
    if len(models) < 2:
        raise UsageError("compare needs at least two networks")
    return analysis.Comparison(tuple(entry for model in models for entry in _one(model, input).entries))


def _one(model: str, input: str | None) -> analysis.Comparison:
    ref = ModelRef.find(model)
    name, network, shape = named_network(ref, input)
    with _failing(ref):
        return analysis.compare({name: network}, shape)


def linted(model: str, input: str | Sequence[str] | None = None) -> list[analysis.Finding]:
    """Where a network departs from the design guidelines."""
    ref = ModelRef.find(model)
    _, network, shape = asked_network(ref, input)
    with _failing(ref):
        return analysis.lint(network, shape)


@contextmanager
def _failing(ref: ModelRef) -> Iterator[None]:
    """Says what the code of a network of one's own does wrong, in one sentence."""
    try:
        yield
    except HubelError:
        raise
    except (Exception, SystemExit) as error:
        if not ref.is_code:
            raise
        raise UsageError(f"model {str(ref)!r}: its forward pass fails: {type(error).__name__}: {error}") from error
