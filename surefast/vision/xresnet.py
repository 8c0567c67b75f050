"""Networks to train from scratch: xresnet and a plain stack of convolutions.

xresnet is ResNet with the changes of He et al., Bag of Tricks for Image Classification with Convolutional
Neural Networks (https://arxiv.org/abs/1812.01187): a stem of three convolutions, the stride on the 3x3
convolution, average pooling on the shortcut; the last norm of each block starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from surefast.errors import ArgumentError
from surefast.recipe.call import declared
from surefast.vision.head import Flatten, MeanPool

_STAGE_WIDTHS = (64, 128, 256, 512)


@declared()
class ConvLayer(nn.Sequential):
    """A convolution with norm and activation: (B, ``ni``, H, W) to (B, ``nf``, H / stride, W / stride).

    Args:
        ni: channels in.
        nf: channels out.
        ks: size of the kernel, px; the padding keeps the size of the picture.
        stride: px between two places of the kernel.
        norm: whether BatchNorm follows; the convolution has a bias where it does not.
        act: whether a ReLU ends it.
        zero: whether the norm starts at zero, so that a residual block starts as the identity.
    """

    def __init__(
        self,
        ni: int,
        nf: int,
        ks: int = 3,
        stride: int = 1,
        *,
        norm: bool = True,
        act: bool = True,
        zero: bool = False,
    ) -> None:
        layers: list[nn.Module] = [nn.Conv2d(ni, nf, ks, stride, ks // 2, bias=not norm)]
        if norm:
            batch_norm = nn.BatchNorm2d(nf)
            nn.init.constant_(batch_norm.weight, 0.0 if zero else 1.0)
            layers.append(batch_norm)
        if act:
            layers.append(nn.ReLU(inplace=True))
        nn.init.kaiming_normal_(layers[0].weight)  # type: ignore[arg-type]
        super().__init__(*layers)


@declared()
class ResBlock(nn.Module):
    """A residual block: (B, ``ni`` e, H, W) to (B, ``nf`` e, H / stride, W / stride) for an expansion of e.

    Args:
        expansion: 1 for two 3x3 convolutions, 4 for the bottleneck of 1x1, 3x3, 1x1.
        ni: channels in, before expansion.
        nf: channels out, before expansion.
        stride: 1, or 2 to halve the picture.
    """

    def __init__(self, expansion: int, ni: int, nf: int, stride: int = 1) -> None:
        super().__init__()
        wide_in, wide_out = ni * expansion, nf * expansion
        if expansion == 1:
            layers = [ConvLayer(wide_in, nf, 3, stride), ConvLayer(nf, wide_out, 3, act=False, zero=True)]
        else:
            layers = [
                ConvLayer(wide_in, nf, 1),
                ConvLayer(nf, nf, 3, stride),
                ConvLayer(nf, wide_out, 1, act=False, zero=True),
            ]
        self.convpath = nn.Sequential(*layers)
        shortcut: list[nn.Module] = []
        if stride != 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if wide_in != wide_out:
            shortcut.append(ConvLayer(wide_in, wide_out, 1, act=False))
        self.idpath = nn.Sequential(*shortcut)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """The picture with what the convolutions add to it."""
        result: Tensor = self.act(self.convpath(x) + self.idpath(x))
        return result


@declared()
class XResNet(nn.Sequential):
    """ResNet as in Bag of Tricks: stem, four stages, pooling, a linear layer.

    Args:
        expansion: see ``ResBlock``.
        layers: blocks in each of the four stages.
        n_out: numbers out.
        n_in: channels in.
        p: dropout before the last layer.
    """

    def __init__(
        self, expansion: int, layers: Sequence[int], n_out: int = 1000, n_in: int = 3, p: float = 0.0
    ) -> None:
        sizes = (n_in, 32, 32, 64)
        stem = [ConvLayer(sizes[i], sizes[i + 1], stride=2 if i == 0 else 1) for i in range(3)]
        widths = (64 // expansion, *_STAGE_WIDTHS)
        stages = [
            nn.Sequential(
                *(
                    ResBlock(
                        expansion, widths[i] if j == 0 else widths[i + 1], widths[i + 1],
                        stride=2 if i > 0 and j == 0 else 1,
                    )
                    for j in range(count)
                )
            )
            for i, count in enumerate(layers)
        ]  # fmt: skip
        last = nn.Linear(_STAGE_WIDTHS[-1] * expansion, n_out)
        super().__init__(
            *stem, nn.MaxPool2d(3, 2, 1), *stages, MeanPool(), Flatten(), nn.Dropout(p), last
        )  # fmt: skip


@declared()
def xresnet18(n_out: int = 1000, n_in: int = 3, p: float = 0.0) -> XResNet:
    """An XResNet of 18 layers: (B, ``n_in``, H, W) to (B, ``n_out``); ``p`` is the last dropout."""
    return XResNet(1, (2, 2, 2, 2), n_out, n_in, p)


@declared()
def xresnet34(n_out: int = 1000, n_in: int = 3, p: float = 0.0) -> XResNet:
    """An XResNet of 34 layers: (B, ``n_in``, H, W) to (B, ``n_out``); ``p`` is the last dropout."""
    return XResNet(1, (3, 4, 6, 3), n_out, n_in, p)


@declared()
def xresnet50(n_out: int = 1000, n_in: int = 3, p: float = 0.0) -> XResNet:
    """An XResNet of 50 layers: (B, ``n_in``, H, W) to (B, ``n_out``); ``p`` is the last dropout."""
    return XResNet(4, (3, 4, 6, 3), n_out, n_in, p)


@declared()
def xresnet101(n_out: int = 1000, n_in: int = 3, p: float = 0.0) -> XResNet:
    """An XResNet of 101 layers: (B, ``n_in``, H, W) to (B, ``n_out``); ``p`` is the last dropout."""
    return XResNet(4, (3, 4, 23, 3), n_out, n_in, p)


@declared()
def simple_cnn(
    filters: Sequence[int],
    kernel_szs: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
    bn: bool = True,
) -> nn.Sequential:
    """A stack of convolutions that ends in a mean over the picture.

    (B, ``filters[0]``, H, W) becomes (B, ``filters[-1]``).
    As fastai's, but the last convolution has no ReLU: logits may be negative.

    Args:
        filters: channels of the picture, of each layer, and at last how many numbers come out.
        kernel_szs: size of each kernel, px; 3 where not given.
        strides: stride of each layer, px; 2 where not given.
        bn: whether BatchNorm follows each convolution but the last.

    >>> model = simple_cnn((1, 16, 32, 10))
    """
    count = len(filters) - 1
    kernels = tuple(kernel_szs) if kernel_szs is not None else (3,) * count
    steps = tuple(strides) if strides is not None else (2,) * count
    if count < 1 or len(kernels) != count or len(steps) != count:
        raise ArgumentError(
            f"simple_cnn(): {len(filters)} filters make {max(count, 0)} layers, but there are {len(kernels)} "
            f"kernel sizes and {len(steps)} strides",
            do="give one kernel size and one stride for each layer, and at least two filters",
        )
    layers = [
        ConvLayer(
            filters[i], filters[i + 1], kernels[i], steps[i], norm=bn and i < count - 1, act=i < count - 1
        )
        for i in range(count)
    ]
    return nn.Sequential(*layers, MeanPool(), Flatten())
