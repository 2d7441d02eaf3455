"""The verbs that show what a network sees and has learned: their arguments, and what each calls."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from hubel.cli.arguments import Pictures, Positional, Seed
from hubel.documents import Range
from hubel.errors import UsageError
from hubel.foreign import in_markup, plain


@dataclass(frozen=True, kw_only=True)
class Explain(Pictures):
    """Show what in a picture speaks for a class: Grad-CAM, occlusion, gradients and deconvnet on one sheet."""

    run: Positional[str]
    """folder of a run, a classifier file, a weights file, or the name of a network"""
    images: Positional[tuple[str, ...]] = ()
    """picture files, or folders of them; the run's validation pictures unless given"""
    target: str | None = None
    """explain this class (also class=NAME); the likeliest of each picture unless given"""
    methods: str | None = None
    """with commas: gradcam, occlusion, integrated_gradients, smoothgrad, saliency, guided_backprop, deconvnet; all
    unless given
    """
    layer: str | None = None
    """of Grad-CAM and deconvnet; the last with a spatial map unless given"""
    output: str | None = None
    """a .png for a sheet or an .html for a page; explain.png, or explain.html in the run's folder, unless given"""
    overlays: str | None = None
    """also write every map on its picture at the picture's own size, as files into this folder"""
    count: Annotated[int, Range(1, 100_000)] = 12
    """validation pictures, where no images are given"""
    data: str | None = None
    """where the run's data lie now, if not where it has recorded"""
    faithfulness: bool = False
    """test instead whether the maps tell the truth: deletion, insertion, lost weights, a planted object"""
    top: Annotated[int, Range(1, 1_000_000)] = 3
    """how many answers to show"""
    seed: Seed = 0
    """of SmoothGrad's noise"""
    model: str | None = None
    """the network, where the file does not tell: a name of the zoo, or FILE.py:NAME"""
    json: bool = False
    """print one JSON object"""


def explain(arguments: Explain) -> int:
    """Explains, writes the sheet, prints the answers."""
    from hubel.commands.explain import explained, methods_named
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    if arguments.faithfulness:
        return _faithfulness(arguments, console)
    made = explained(
        arguments.run,
        arguments.images,
        methods=methods_named(arguments.methods),
        target=arguments.target,
        layer=arguments.layer,
        top=arguments.top,
        seed=arguments.seed,
        model=arguments.model,
        count=arguments.count,
        output=arguments.output,
        overlays=arguments.overlays,
        data=arguments.data,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(made.to_dict()))
        return 0
    for one in made.explanations:
        console.print(in_markup(one.headline()), highlight=False, soft_wrap=True)
    for name, reason in made.explanations[0].omitted.items():
        console.print(f"[yellow]note[/] without {name}: {in_markup(reason)}", highlight=False, soft_wrap=True)
    console.print(in_markup(made.output), highlight=False, soft_wrap=True)
    return 0


def _faithfulness(arguments: Explain, console: Any) -> int:
    from hubel.commands.explain import methods_named
    from hubel.commands.faithfulness import show, verdict
    from hubel.terminal import tracker

    if arguments.overlays is not None:
        raise UsageError("overlays would have no effect: faithfulness draws no maps; run explain once without it")
    made = verdict(
        arguments.run,
        arguments.images,
        methods=methods_named(arguments.methods),
        target=arguments.target,
        layer=arguments.layer,
        seed=arguments.seed,
        model=arguments.model,
        count=arguments.count,
        output=arguments.output,
        data=arguments.data,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(made.to_dict()))
    else:
        show(made, console)
    return 0


@dataclass(frozen=True, kw_only=True)
class Features(Pictures):
    """Show what the layers of a network have learned: filters, maps, the pictures that excite each channel, dreamt
    ones.
    """

    run: Positional[str]
    """folder of a run, a classifier file, a weights file, or the name of a network"""
    image: Positional[str | None] = None
    """show the feature maps of this picture"""
    data: str | None = None
    """look among these pictures for those that excite a channel; the run's validation part unless given"""
    layers: str | None = None
    """with commas, names of modules; every stage with maps unless given"""
    channels: Annotated[int, Range(1, 10_000)] = 6
    """per layer"""
    target: str | None = None
    """the class whose best picture is looked for (also class=NAME); the first few unless given"""
    steps: Annotated[int | None, Range(0, 100_000)] = None
    """of activation maximisation; 0 leaves it out, 96 unless given"""
    seed: Seed = 0
    """of activation maximisation"""
    output: str = "features.html"
    """a .html for a page or a .png for a sheet"""
    model: str | None = None
    """the network, where the file does not tell: a name of the zoo, or FILE.py:NAME"""
    device: str | None = None
    """cpu, cuda or cuda:N; a GPU where there is one unless given"""
    json: bool = False
    """print one JSON object"""


def features(arguments: Features) -> int:
    """Draws what a network has learned."""
    from hubel.commands.features import features as draw
    from hubel.terminal import console_for, tracker

    console = console_for(arguments.json)
    layers = [word.strip() for word in (arguments.layers or "").split(",") if word.strip()]
    made = draw(
        arguments.run,
        arguments.image,
        data=arguments.data,
        layers=layers,
        channels=arguments.channels,
        target=arguments.target,
        steps=arguments.steps,
        model=arguments.model,
        device=arguments.device,
        seed=arguments.seed,
        output=arguments.output,
        track=tracker(console),
    )
    if arguments.json:
        print(json.dumps(made.to_dict()))
    else:
        console.print(in_markup(made.output), highlight=False, soft_wrap=True)
    return 0


@dataclass(frozen=True, kw_only=True)
class Kernels(Pictures):
    """Draw the classic kernels (edges, blurs, sharpen, Gabor) at work on a picture, with strides, padding and sizes."""

    image: Positional[str | None] = None
    """a picture file; scikit-image's cat unless given"""
    stride: Annotated[int, Range(1, 10_000)] = 1
    """of the window [px]"""
    padding: Annotated[int | None, Range(0, 10_000)] = None
    """zeros on each side [px]; what keeps the size at stride 1 unless given"""
    output: str = "kernels.png"
    """a .png for a sheet or an .html for a page"""
    json: bool = False
    """print one JSON object"""


def kernels(arguments: Kernels) -> int:
    """Draws the gallery."""
    from hubel.commands.kernels import draw

    made = draw(arguments.image, stride=arguments.stride, padding=arguments.padding, output=arguments.output)
    if arguments.json:
        print(json.dumps({"output": str(made.output), "size": made.size, "kernels": made.kernels}))
    else:
        print(plain(made.output))
    return 0


@dataclass(frozen=True, kw_only=True)
class Map(Pictures):
    """Draw a map of the pictures by their features: near each other where the network finds them alike."""

    run: Positional[str]
    """folder of a run, a classifier file, a weights file, or the name of a network"""
    data: Positional[str | None] = None
    """labelled pictures; the run's validation part unless given, and of its own data, wherever they lie"""
    include_trained: bool = False
    """also take in pictures that the run was trained on or chosen by, which are left out of other data's figures"""
    stage: str = "penultimate"
    """whose features: a number, stem, last, penultimate, or the name of a module"""
    method: Literal["tsne", "pca"] = "tsne"
    """t-SNE keeps neighbours, PCA distances"""
    most: Annotated[int, Range(1, 10_000_000)] = 1000
    """pictures at most, drawn at random"""
    seed: Seed = 0
    """of the draw and of t-SNE"""
    output: str = "map.png"
    """a .png for a sheet or an .html for a page"""
    model: str | None = None
    """the network, where the file does not tell: a name of the zoo, or FILE.py:NAME"""
    json: bool = False
    """print one JSON object, with the place of every picture"""


def embedding_map(arguments: Map) -> int:
    """Draws the map."""
    from hubel.commands.embedding import embedding_map as draw
    from hubel.terminal import console_for, show_notes, tracker

    console = console_for(arguments.json)
    made = draw(
        arguments.run,
        arguments.data,
        stage=arguments.stage,
        method=arguments.method,
        most=arguments.most,
        seed=arguments.seed,
        model=arguments.model,
        output=arguments.output,
        include_trained=arguments.include_trained,
        track=tracker(console),
    )
    show_notes(made.notes, console)
    if arguments.json:
        print(json.dumps(made.to_dict()))
    else:
        console.print(f"{in_markup(made.sentence())}\n{in_markup(made.output)}", highlight=False, soft_wrap=True)
    return 0
