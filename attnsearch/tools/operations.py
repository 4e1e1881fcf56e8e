"""Which operations run, and what is known of them on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operations with no deterministic form on CUDA, from the docstring of torch.use_deterministic_algorithms.
RACING = frozenset(
    {
        "_adaptive_avg_pool2d_backward",
        "_adaptive_avg_pool3d_backward",
        "_ctc_loss",
        "adaptive_max_pool2d_backward",
        "avg_pool3d_backward",
        "bincount",
        "cumsum",
        "fractional_max_pool2d_backward",
        "fractional_max_pool3d_backward",
        "grid_sampler_2d_backward",
        "grid_sampler_3d_backward",
        "histc",
        "max_unpool2d",
        "max_unpool3d",
        "median",
        "nll_loss2d_forward",
        "put_",
        "reflection_pad1d_backward",
        "reflection_pad2d_backward",
        "reflection_pad3d_backward",
        "upsample_bicubic2d_backward",
        "upsample_bilinear2d_backward",
        "upsample_linear1d_backward",
        "upsample_trilinear3d_backward",
    }
)

# Operations after which the host knows a value or a size that only the GPU knew: it waits for all that runs there.
SYNCING = frozenset(
    {
        "_local_scalar_dense",  # float(t), int(t), t.item(), `if t:`
        "_unique2",
        "equal",
        "index_by_mask",  # t[mask], t[mask] = ...
        "is_nonzero",
        "masked_select",
        "nonzero",  # torch.where(mask)
        "unique_consecutive",
        "unique_dim",
    }
)


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the names of the operations that run, backward included; indexing by a mask has a name of its own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        self.names.add(name)
        if name.startswith("index") and len(args) > 1 and isinstance(args[1], Sequence):
            masks = [i for i in args[1] if isinstance(i, Tensor) and i.dtype in (torch.bool, torch.uint8)]
            self.names |= (
                {"index_by_mask"} if masks else set()
            )  # looks for the places that are not zero, out of sight
        return func(*args, **(kwargs or {}))
