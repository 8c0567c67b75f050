"""How the model is executed: compiled, and in which memory format."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeAlias, final

import torch
from torch import nn

from surefast.recipe.call import declared
from surefast.train.policy import Policy

CompileMode: TypeAlias = Literal["default", "reduce-overhead", "max-autotune"]


@final
@declared()
class Compile(Policy):
    """Run the model through ``torch.compile``. The weights stay those of the original module.

    Each fit compiles anew: torch compiles otherwise what it has seen in other shapes before, so that the bits
    of a fit would depend on what was compiled earlier in the process.

    Args:
        mode: torch's compile mode. ``max-autotune`` chooses kernels by the clock, so runs may differ in bits.
        dynamic: whether shapes may change without compiling again; None lets torch decide.
    """

    kind: ClassVar[str] = "compile"

    def __init__(self, mode: CompileMode = "default", *, dynamic: bool | None = None) -> None:
        self.mode = mode
        self.dynamic = dynamic

    def forward_of(self, model: nn.Module) -> Callable[..., Any]:
        """The compiled forward of a model, as a fresh process would compile it."""
        torch.compiler.reset()
        compiled: Callable[..., Any] = torch.compile(model, mode=self.mode, dynamic=self.dynamic)
        return compiled


@final
@declared()
class ChannelsLast(Policy):
    """Keep images and convolution weights in NHWC order, which convolutions on CUDA cards prefer.

    The values of the weights stay, only their order in memory changes; a saved file does not show it. Other
    kernels run, so the bits of a training change.
    """

    kind: ClassVar[str] = "memory format"

    def __init__(self) -> None:
        self.memory_format = torch.channels_last

    def arrange(self, model: nn.Module) -> None:
        """Put the weights of a model into NHWC order, in place."""
        model.to(memory_format=self.memory_format)

    def convert(self, xb: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs with every 4-D tensor in NHWC order."""
        return tuple(
            x.contiguous(memory_format=self.memory_format)
            if isinstance(x, torch.Tensor) and x.dim() == 4
            else x
            for x in xb
        )
