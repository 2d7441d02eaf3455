"""Distillation: a network learns what another one thinks of every class, besides which class is right.

Source: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hubel.data import Preprocessing
from hubel.recipe import Recipe

LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, by which Pillow turns RGB into grey


class Teacher(nn.Module):
    """A trained network that sees what the student sees, prepared as it is used to, and gives logits of the student's
    classes.

    Args:
        network: the teacher's own; it is put into evaluation mode and stays there.
        own: how images are prepared for it.
        students: how the images that it is given were prepared.
        columns: for each class of the student, its place among the teacher's logits.
    """

    def __init__(self, network: nn.Module, own: Preprocessing, students: Preprocessing, columns: Sequence[int]) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.own = own
        self.students = students
        self.columns = list(columns)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Compute logits, N classes float32, of the student's input N C H W."""
        return self.network(self.prepared(x))[:, self.columns].float()

    def prepared(self, x: Tensor) -> Tensor:
        """Turn the student's input into the teacher's."""
        mean, std = (torch.tensor(of, device=x.device).view(-1, 1, 1) for of in (self.students.mean, self.students.std))
        pixels = x * std + mean
        if self.own.channels != self.students.channels:
            weights = torch.tensor(LUMINANCE, device=x.device).view(-1, 1, 1)
            pixels = pixels.expand(-1, 3, -1, -1) if self.own.channels == 3 else (pixels * weights).sum(1, keepdim=True)
        if x.shape[-1] != self.own.size:
            pixels = functional.interpolate(pixels, size=(self.own.size,) * 2, mode="bilinear", antialias=True)
        mean, std = (torch.tensor(of, device=x.device).view(-1, 1, 1) for of in (self.own.mean, self.own.std))
        return ((pixels - mean) / std).contiguous(memory_format=torch.channels_last)


def soft_loss(logits: Tensor, teachers: Tensor, temperature: float) -> Tensor:
    """Compute T^2 KL(softmax(t / T) || softmax(s / T)), the mean over the images [nats].

    T^2 keeps the size of its gradient next to that of the labels' loss  (section 2, last paragraph).

    Args:
        logits: the student's, N K.
        teachers: the teacher's, N K.
        temperature: T.
    """
    own, given = (functional.log_softmax(values / temperature, dim=1) for values in (logits, teachers))
    return temperature**2 * functional.kl_div(own, given, reduction="batchmean", log_target=True)


def blend(loss: Tensor, logits: Tensor, teacher_logits: Tensor, recipe: Recipe) -> Tensor:
    """Blend the loss by the labels with that by the teacher, as a settled recipe weighs them."""
    assert recipe.distill_weight is not None
    assert recipe.distill_temperature is not None
    soft = soft_loss(logits, teacher_logits, recipe.distill_temperature)
    return (1 - recipe.distill_weight) * loss + recipe.distill_weight * soft
