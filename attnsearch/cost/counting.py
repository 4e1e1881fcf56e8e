"""One table of rules: how much work an operation of PyTorch is. `attnsearch.cost.measure` is the door to it.

The uniform rule: what writes each output element with one operation (add, multiply, compare, sigmoid, ...)
is 1 per output element; what gathers elements (sum, mean, max, a pool) is 1 per element that it reads;
copies and views are 0. A function that the literature writes as a formula counts as that formula does when
spelled out: silu x*sigmoid(x) is 2, softmax (max, subtract, exp, sum, divide) 5, batch norm in eval mode
(scale, shift) 2, a norm that takes its statistics from the map 5, and 2 more for its scale and shift.
Constants per reduction (the division in a mean) are left out. A fused multiply-add, as in addmm, is a MAC;
a bias is 1 per output element.

Operations are seen below autograd, as a `TorchDispatchMode` sees them, so that a module, a function, a method
and an operator are one thing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

Rule = Callable[[Sequence[Any], Tensor], int]  # (arguments, first output) -> number of operations


@dataclass
class Tally:
    """Running sums; `elementwise` is all work that is no multiply-add."""

    macs: int = 0
    elementwise: int = 0
    activations: int = 0
    bytes_moved: int = 0

    def add(self, other: Tally) -> None:
        self.macs += other.macs
        self.elementwise += other.elementwise
        self.activations += other.activations
        self.bytes_moved += other.bytes_moved


# ----------------------------------------------------------------------------- multiply-adds


def _convolution(args: Sequence[Any], out: Tensor) -> int:
    x, weight, transposed = args[0], args[1], args[6]
    return int((x if transposed else out).numel() * math.prod(weight.shape[1:]))


def _product(left: int) -> Rule:
    """(..., n, k) @ (..., k, m) is n k m; the left factor is argument number `left`."""
    return lambda args, out: int(out.numel() * args[left].shape[-1])


def _recurrent(args: Sequence[Any], out: Tensor) -> int:
    """OneDNN's fused layer: both products of every gate at every step, as of the input and hidden weights given."""
    return int(out.numel() // out.shape[-1] * (args[1].numel() + args[2].numel()))


def _trilinear(args: Sequence[Any], out: Tensor) -> int:
    """Of three factors with axes inserted: every combination once, as of the weight of `nn.Bilinear`."""
    views = [_expanded(factor, axes) for factor, axes in zip(args[:3], args[3:6], strict=True)]
    return math.prod(max(sizes) for sizes in zip(*views, strict=True))


def _expanded(factor: Tensor, axes: Sequence[int]) -> list[int]:
    shape = list(factor.shape)
    for axis in axes:
        shape.insert(axis, 1)
    return shape


MACS: dict[str, Rule] = {
    "mkldnn_rnn_layer": _recurrent,
    "_trilinear": _trilinear,
    "affine_grid_generator": lambda args, out: int(out.numel() * args[0].shape[-1]),
    "convolution": _convolution,
    "mm": _product(0),
    "bmm": _product(0),
    "mv": _product(0),
    "dot": lambda args, out: int(args[0].numel()),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "addmv": _product(1),
}


# ----------------------------------------------------------------------------- element-wise work


def _per_output(count: int) -> Rule:
    return lambda args, out: count * out.numel()


def _per_input(count: int) -> Rule:
    return lambda args, out: int(count * args[0].numel())


def _bias(position: int) -> Rule:
    return lambda args, out: 0 if args[position] is None else out.numel()


def _batch_norm(training: int | None) -> Rule:
    """2 per element with stored statistics, else the work of a norm; `training` is the flag's position."""

    def rule(args: Sequence[Any], out: Tensor) -> int:
        return _norm(1)(args, out) if training is not None and args[training] else 2 * out.numel()

    return rule


def _norm(weight: int) -> Rule:
    return lambda args, out: (5 if args[weight] is None else 7) * out.numel()


def _pool(dims: int) -> Rule:
    """One per element of the window; windows at the border count whole."""

    def rule(args: Sequence[Any], out: Tensor) -> int:
        kernel: list[int] = [args[1]] * dims if isinstance(args[1], int) else list(args[1])
        return int(out.numel() * math.prod(kernel * dims if len(kernel) == 1 else kernel))

    return rule


def _adaptive_pool(dims: int) -> Rule:
    """Windows floor(i n / m) to ceil((i + 1) n / m), which overlap where m does not divide n."""

    def reads(n: int, m: int) -> int:
        return sum(-(-(i + 1) * n // m) - i * n // m for i in range(m))

    def rule(args: Sequence[Any], out: Tensor) -> int:
        spatial = zip(args[0].shape[-dims:], out.shape[-dims:], strict=True)
        return math.prod(out.shape[:-dims]) * math.prod(reads(n, m) for n, m in spatial)

    return rule


def _sort(args: Sequence[Any], out: Tensor) -> int:
    length = max(args[0].shape, default=1)
    return int(args[0].numel() * max(1, math.ceil(math.log2(max(2, length)))))


def _fft(factor: float) -> Rule:
    """`factor` n log2 n over the transformed dimensions; 5 for complex, 2.5 for real, as FFTW counts."""

    def rule(args: Sequence[Any], out: Tensor) -> int:
        full = max((args[0], out), key=lambda t: t.numel())
        length = math.prod(full.shape[d] for d in args[1])
        return int(factor * full.numel() * math.log2(max(2, length)))

    return rule


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _named(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(_words(names), rule)


ELEMENTWISE: dict[str, Rule] = {
    **_named(
        _per_output(1),
        "add sub rsub mul div reciprocal neg abs sign square pow sqrt rsqrt exp exp2 expm1 log log1p "
        "log2 log10 sin cos tan atan atan2 tanh erf sigmoid relu hardtanh clamp clamp_min clamp_max "
        "threshold leaky_relu _prelu_kernel elu gelu softplus softshrink hardshrink maximum minimum "
        "fmax fmin floor ceil round trunc frac remainder fmod floor_divide eq ne lt le gt ge where "
        "masked_fill logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not "
        "isnan isinf bernoulli",
    ),
    **_named(_per_output(2), "silu glu addcmul addcdiv log_sigmoid_forward"),
    **_named(_per_output(3), "mish hardsigmoid lerp"),
    **_named(_per_output(4), "hardswish"),
    **_named(_per_output(5), "_softmax _log_softmax _safe_softmax"),
    **_named(
        _per_input(1),
        "sum mean amax amin max min argmax argmin prod cumsum cumprod any all nansum topk col2im median",
    ),
    **_named(_per_input(2), "linalg_vector_norm norm aminmax"),
    # An LSTM's cell: 2 biases and a sum for 4 gates, 3 sigmoids, 2 tanh, 3 products, 1 sum.
    **_named(_per_output(21), "mkldnn_rnn_layer"),
    **_named(_per_input(4), "var var_mean std std_mean logsumexp"),
    **_named(_sort, "sort"),
    **_named(_bias(2), "convolution"),
    **_named(_bias(0), "addmm baddbmm addmv"),
    **_named(_batch_norm(5), "native_batch_norm _native_batch_norm_legit cudnn_batch_norm"),
    **_named(_batch_norm(None), "_native_batch_norm_legit_no_training _batch_norm_no_update"),
    **_named(_norm(1), "native_group_norm"),
    **_named(_norm(2), "native_layer_norm"),
    **{f"{kind}_pool{d}d": _pool(d) for kind in ("avg", "max") for d in (1, 2, 3)},
    **{f"max_pool{d}d_with_indices": _pool(d) for d in (2, 3)},
    **{f"{kind}_pool{d}d": _adaptive_pool(d) for kind in ("_adaptive_avg", "adaptive_max") for d in (2, 3)},
    # 2 per tap of the stencil, less the first sum
    **_named(_per_output(3), "upsample_linear1d"),
    **_named(_per_output(7), "upsample_bilinear2d _upsample_bilinear2d_aa grid_sampler_2d"),
    **_named(_per_output(15), "upsample_trilinear3d grid_sampler_3d"),
    **_named(_per_output(31), "upsample_bicubic2d _upsample_bicubic2d_aa"),
    **_named(_fft(2.5), "_fft_r2c _fft_c2r"),
    **_named(_fft(5.0), "_fft_c2c"),
}

# Work without arithmetic: moved or made, not computed. Listed as uncounted; their bytes are counted.
NEGLIGIBLE = _words(
    "clone contiguous _to_copy copy cat stack repeat repeat_interleave roll flip rot90 gather scatter "
    "index index_select index_put _unsafe_index masked_select take embedding nonzero tril triu "
    "constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d "
    "_upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d im2col pixel_shuffle "
    "pixel_unshuffle channel_shuffle native_channel_shuffle unfold_copy split_with_sizes_copy fill zero "
    "ones zeros full empty_like zeros_like ones_like full_like new_ones new_zeros new_full arange "
    "linspace eye scalar_tensor rand randn randint randperm rand_like randn_like normal uniform "
    "native_dropout one_hot _local_scalar_dense diag_embed lift_fresh_copy"
)

# Neither work nor bytes: another view of what is there, or room for what comes.
_NOTHING = _words(
    "_unsafe_view _reshape_alias empty empty_strided new_empty new_empty_strided detach alias unsafe_chunk "
    "unsafe_split unsafe_split_with_sizes as_strided t transpose squeeze unsqueeze swapaxes swapdims resize set "
    "resize_as view_as_real view_as_complex requires_grad is_same_size _assert_async _assert_scalar "
    "_assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size record_stream"
)


# ----------------------------------------------------------------------------- the counter


class OperationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside it.

    `total` sums everything, `by_path` what runs while a path stands on top of `inside`; `negligible` and
    `unknown` hold calls by the operation's name.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and guarding against it would import torch._dynamo: 1.5 s

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = Tally()
        self.by_path: dict[str, Tally] = {}
        self.inside: list[str] = []
        self.negligible: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self._reference = 0  # what FlopCounterMode's formulas give
        self._paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        reference = int(formula(*args, **(kwargs or {}), out_val=out)) if formula else None
        self._reference += reference or 0
        if not self._paused and not func.is_view:
            self._count(func._schema.name, args, kwargs or {}, out, reference)
        return out

    def _count(
        self, name: str, args: Sequence[Any], kwargs: dict[str, Any], out: Any, reference: int | None
    ) -> None:
        if name.startswith("profiler::"):  # a mark in a profile
            return
        base = name.removeprefix("aten::")
        base = base.removesuffix("_") if not base.endswith("__") else base
        if base in _NOTHING:
            return
        result = out if isinstance(out, Tensor) else next(_tensors(out), None)
        if result is not None and (base in MACS or base in ELEMENTWISE):
            macs = MACS[base](args, result) if base in MACS else 0
            check_reference(name, macs, reference)
            elementwise = ELEMENTWISE[base](args, result) if base in ELEMENTWISE else 0
            if kwargs.get("alpha", 1) != 1:  # add(x, y, alpha=s) scales y first
                elementwise += result.numel()
            self.record(
                Tally(macs, elementwise, result.numel() if macs else 0, _bytes(args) + _bytes(result))
            )
        elif base in NEGLIGIBLE:
            self.negligible[name] += 1
            self.record(Tally(bytes_moved=_bytes(args) + _bytes(result)))
        else:
            self.unknown[name] += 1

    def record(self, work: Tally) -> None:
        """Add work to the total and to the block that runs."""
        self.total.add(work)
        if self.inside:
            self.by_path.setdefault(self.inside[-1], Tally()).add(work)

    def attention(self, run: Callable[[], Tensor], q: Tensor, k: Tensor, v: Tensor, masked: bool) -> Tensor:
        """Count softmax(q k^T * s + mask) v as spelled out, whichever kernel the device has for it."""
        before, self._paused = self._reference, True
        try:
            out = run()
        finally:
            self._paused = False
        scores = q.numel() // q.shape[-1] * k.shape[-2]
        macs = scores * (q.shape[-1] + v.shape[-1])
        check_reference("scaled_dot_product_attention", macs, (self._reference - before) or None)
        per_score = 7 if masked else 6  # scale, mask, softmax 5
        moved = _bytes((q, k, v, out)) + q.element_size() * scores * per_score
        self.record(Tally(macs, per_score * scores, scores + out.numel(), moved))
        return out


class AttentionFunctions(TorchFunctionMode):
    """Hands scaled dot-product attention to the counter whole, before PyTorch takes it apart."""

    def __init__(self, counter: OperationCounter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **named)
        arguments = dict(
            zip(("query", "key", "value", "attn_mask", "dropout_p", "is_causal"), args, strict=False)
        )
        arguments |= named
        masked = arguments.get("attn_mask") is not None or arguments.get("is_causal", False)
        q, k, v = (arguments[name] for name in ("query", "key", "value"))
        return self.counter.attention(lambda: func(*args, **named), q, k, v, masked)


def check_reference(name: str, macs: int, reference: int | None) -> None:
    """PyTorch's own counter is the witness of ours: it counts 2 for each multiply-add."""
    if reference is not None and reference != 2 * macs:
        raise AssertionError(
            f"{name}: counted {macs} multiply-adds, FlopCounterMode {reference} / 2; please report it"
        )


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _bytes(value: Any) -> int:
    """Bytes of the tensors among arguments; an expanded dimension (stride 0) is read once."""
    return sum(
        tensor.element_size()
        * math.prod(n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride or n == 0)
        for tensor in _tensors(value)
    )
