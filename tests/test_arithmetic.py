"""The integers of `arithmetic` against what torch does."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hubel import arithmetic
from hubel.errors import ShapeError

sizes, kernels, strides, paddings, dilations = (st.integers(1, high) for high in (40, 9, 5, 4, 3))


@given(sizes, kernels, strides, st.integers(0, 4), dilations)
def test_out_size_of_a_convolution_is_torchs(size, kernel, stride, padding, dilation):
    conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation, device="meta")
    x = torch.empty(1, 1, size, size, device="meta")
    try:
        expected = conv(x).shape[-1]
    except RuntimeError:
        with pytest.raises(ShapeError, match=rf"{kernel}x{kernel} window.*use padding >= \d+"):
            arithmetic.out_size(size, kernel, stride, padding, dilation)
    else:
        assert arithmetic.out_size(size, kernel, stride, padding, dilation) == expected


@given(sizes, kernels, strides, st.integers(0, 4), st.booleans())
def test_out_size_of_pooling_is_torchs(size, kernel, stride, padding, ceil_mode):
    padding = min(padding, kernel // 2)
    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
    try:
        expected = pool(torch.zeros(1, 1, size, size)).shape[-1]
    except RuntimeError:
        with pytest.raises(ShapeError):
            arithmetic.out_size(size, kernel, stride, padding, ceil_mode=ceil_mode)
    else:
        assert arithmetic.out_size(size, kernel, stride, padding, ceil_mode=ceil_mode) == expected


def test_the_padding_an_error_proposes_is_enough_and_one_less_is_not():
    with pytest.raises(ShapeError, match="use padding >= 2"):
        arithmetic.out_size(3, kernel=7)
    assert arithmetic.out_size(3, kernel=7, padding=2) == 1
    with pytest.raises(ShapeError):
        arithmetic.out_size(3, kernel=7, padding=1)


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6), kernels, kernels, st.booleans())
def test_parameters_are_torchs(groups, a, b, height, width, bias):
    conv = nn.Conv2d(a * groups, b * groups, (height, width), groups=groups, bias=bias, device="meta")
    expected = sum(p.numel() for p in conv.parameters())
    assert arithmetic.conv_params(a * groups, b * groups, (height, width), groups, bias=bias) == expected
    linear = nn.Linear(a, b, bias=bias, device="meta")
    assert arithmetic.linear_params(a, b, bias=bias) == sum(p.numel() for p in linear.parameters())
