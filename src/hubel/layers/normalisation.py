"""Local response normalisation: the norm layer of 2012."""

from torch import nn


def local_response_norm(size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> nn.LocalResponseNorm:
    """`a / (k + alpha * sum of a^2 over `size` neighbouring maps) ** beta`, the paper's numbers unless given.

    Source: Krizhevsky, Sutskever & Hinton 2012, section 3.3. The paper's alpha multiplies the sum; torch's (and
    Caffe's) multiplies the mean, so that the same number means `size` times less there.
    """
    return nn.LocalResponseNorm(size, alpha * size, beta, k)
