"""The reference implementations, importable beside a CPU build of torch: the one place that declares two operators.

torchvision's wheel registers its own kernels only where its CUDA build of torch loads; its Python code asks for the
two operators at import. Declaring them without kernels lets every network be built, which is all the tests need.
"""

import torch

_declared = torch.library.Library("torchvision", "FRAGMENT")
for _signature in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    try:
        _declared.define(_signature)
    except RuntimeError as error:  # a matching build of torchvision brings its own
        if "multiple" not in str(error) and "already" not in str(error):
            raise

OWN_START = ("googlenet", "inception_v3")  # these warn that their own initialisation will change; torch's serves


def build(reference: str, **options) -> torch.nn.Module:
    """The reference network of a fact such as "torchvision:resnet50" or "timm:inception_v4", random weights."""
    package, name = reference.split(":")
    if package == "torchvision":
        import torchvision

        if name in OWN_START:
            options = {"init_weights": False, **options}
        return torchvision.models.get_model(name, weights=None, **options)
    import timm

    return timm.create_model(name, pretrained=False, **options)
