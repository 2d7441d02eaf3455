"""The fused path of a training step on a CPU, behind one interface (`execution.FusedExecution`).

execution.py     forward, backward and the optimizer's step, as `training.execution.Execution` has them
fusion.py        batch norm, sum and activation as one operation, found while a network runs
convolution.py   convolutions with gradients of our own
pooling.py       max pooling in one pass
bf16_weights.py  bfloat16 copies of the weights and their gradients
kernels.py       the kernels of kernels.c for tensors
pointwise.py     the kernels of pointwise.c for tensors: 1x1 convolutions in bfloat16
"""
