"""In which precision a step is computed: bf16 where the machine has instructions for it, else fp32."""

from __future__ import annotations

from ivm.errors import OptionError

__all__ = ["PRECISIONS", "flush_denormals", "uses_bf16"]

PRECISIONS = ("auto", "bf16", "fp32")
_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")


def uses_bf16(precision: str, device_type: str) -> bool:
    """Whether "auto", "bf16" or "fp32" means mixed precision on a device ("cpu", "cuda", ...).

    "auto" asks the hardware: a processor without bf16 instructions only imitates them, and a step of the
    compact model then takes ten times as long as in fp32.

    Raises:
        OptionError: another word.
    """
    if precision not in PRECISIONS:
        raise OptionError(f"precision must be auto, bf16 or fp32, but got {precision!r}")
    if precision != "auto":
        return precision == "bf16"
    import torch  # here, for configurations are read without it

    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type == "cpu":
        return any(_cpu_instructions().get(name) for name in _CPU_INSTRUCTIONS)
    return False


def flush_denormals() -> None:
    """Let this process compute with numbers below 1e-38 as with 0, from now on.

    Training comes by them (far tails of softmax and GELU, gradients of what is long certain), they change
    nothing, and a processor takes many times as long for each: `runs/bench_denormals.py` measures what they
    cost a step. Call it before torch computes anything: threads that torch has already started go on as
    before.
    """
    import torch

    torch.set_flush_denormal(True)


def _cpu_instructions() -> dict[str, object]:
    import torch

    ask = getattr(torch.cpu, "get_capabilities", None)  # torch 2.10 and later
    if ask is not None:
        return dict(ask())
    return {"avx512_bf16": torch.cpu._is_avx512_bf16_supported()}
