"""What torch decides by the device: a network on the meta device takes the way it would take on the CPU.

Attention has a kernel there that keeps its result and a number per query, where the meta device takes the sum apart and
keeps every weight. Where the CPU's way cannot be followed without its numbers, the reason is written down.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._C import _DisableTorchDispatch
from torch.nn.functional import multi_head_attention_forward, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
CHOICE = torch.ops.aten._fused_sdp_choice
FLASH_CHOICE = 1
ONEDNN = "an LSTM keeps a workspace whose size only oneDNN knows"
MIXED = "under autocast the CPU computes in another precision than the meta device"
UNSURE = {  # operators that keep other side results on the CPU than on the meta device
    "_embedding_bag": "an embedding bag keeps other indices on the CPU than on the meta device",
}


class OnCPU(TorchFunctionMode):
    """While active, functions of torch that choose their operators by the device choose as they do on the CPU.

    Args:
        on_unsure: called with the reason where the CPU's way cannot be followed.
    """

    def __init__(self, on_unsure: Callable[[str], None]) -> None:
        super().__init__()
        self.on_unsure = on_unsure

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        """Called by torch in place of `func`."""
        if func is scaled_dot_product_attention:
            return _attention(*args, **(kwargs or {}))
        if func is multi_head_attention_forward:  # calls the function above where this mode does not see it
            func = _multi_head_attention
        if func is torch.lstm and _is_onednns(*args):
            self.on_unsure(ONEDNN)
        return func(*args, **kwargs) if kwargs else func(*args)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(Q K') V by the operator that the CPU chooses."""
    how: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    if all(tensor is None or tensor.is_meta for tensor in (query, key, value, attn_mask)):
        with _DisableTorchDispatch():
            given = [tensor if tensor is None else _on_cpu(tensor) for tensor in (query, key, value, attn_mask)]
            choice = CHOICE(*given, dropout_p, is_causal, **how)
        if choice == FLASH_CHOICE:
            if attn_mask is not None and attn_mask.dtype is torch.bool:
                attn_mask = torch.where(attn_mask, 0.0, float("-inf")).to(query.dtype)
            return FLASH(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, **how)


_multi_head_attention = FunctionType(
    multi_head_attention_forward.__code__,
    {**multi_head_attention_forward.__globals__, scaled_dot_product_attention.__name__: _attention},
    argdefs=multi_head_attention_forward.__defaults__,
)


def _on_cpu(tensor: Tensor) -> Tensor:
    """A tensor of the CPU with the same shape that takes next to no memory."""
    if not tensor.dim() or not tensor.numel():
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    last = (tensor.shape[-1] - 1) * tensor.stride(-1) + 1
    strides = (*[0] * (tensor.dim() - 1), tensor.stride(-1))
    row = torch.empty(last, dtype=tensor.dtype).as_strided(tensor.shape, strides)
    return row.requires_grad_(tensor.requires_grad)


def _is_onednns(input: Tensor, hidden: Any, *_: Any) -> bool:
    """Whether an LSTM of the CPU would be computed by oneDNN; packed, projected and double ones are torch's own."""
    packed = isinstance(hidden, Tensor)  # what follows the input are the sizes of its batches
    if packed or hidden[0].shape[-1] != hidden[1].shape[-1]:
        return False
    return torch._C._get_mkldnn_enabled() and input.dtype in (torch.float32, torch.bfloat16)
