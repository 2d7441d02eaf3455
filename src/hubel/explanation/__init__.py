"""Why a network decides as it does, and what its layers have learned.

private.py        a copy to experiment on; the user's network is never touched
rectifiers.py     the backward rules of guided backpropagation and the deconvolutional network
grad_cam.py       Grad-CAM, the layer found on the way
attribution.py    METHODS: what in a picture speaks for a class
overlay.py        from the network's input back to the picture at its own size
sheet.py          captioned pictures on one PNG
explain.py        pictures explained
"""

from hubel.explanation.attribution import METHODS
from hubel.explanation.explain import Explanation, explain, opened, shown
from hubel.explanation.grad_cam import grad_cam

__all__ = ["METHODS", "Explanation", "explain", "grad_cam", "opened", "shown"]
