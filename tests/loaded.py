"""What `forked` copies: a process that has loaded what a training needs, its kernels compiled, and has computed
nothing yet.
"""

from hubel import compiled, process

process.tune()  # before torch is loaded, as the command line does

import matplotlib.figure  # noqa: E402, F401
import sklearn.datasets  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401

import hubel.terminal  # noqa: E402, F401

for source in compiled.TRAINING:
    compiled.library(source)
