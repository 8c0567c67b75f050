"""Losses give the exact mean over their targets, cut as one likes, and refuse targets that do not fit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from surefast.errors import ArgumentError, TaskError, UnknownNameError
from surefast.task.loss import (
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    MSELossFlat,
)
from surefast.task.user_loss import UserLoss, as_loss

CLASSES = 5
WEIGHTS = [0.5, 2.0, 1.0, 0.0, 3.0]
POSITIVE = [0.5, 2.0, 1.0, 0.1, 3.0]
CLASS_LOSSES = [
    CrossEntropyLossFlat(),
    CrossEntropyLossFlat(ignore_index=2),
    CrossEntropyLossFlat(weight=WEIGHTS),
    CrossEntropyLossFlat(weight=WEIGHTS, ignore_index=-100),
    CrossEntropyLossFlat(weight=POSITIVE, ignore_index=-100, label_smoothing=0.2),
    LabelSmoothingCrossEntropy(),
    LabelSmoothingCrossEntropy(weight=POSITIVE),
    FocalLossFlat(),
    FocalLossFlat(weight=WEIGHTS, ignore_index=1, gamma=0.5),
    as_loss(nn.CrossEntropyLoss()),
    UserLoss(F.cross_entropy),
]
ELEMENT_LOSSES = [
    BCEWithLogitsLossFlat(),
    BCEWithLogitsLossFlat(pos_weight=WEIGHTS),
    MSELossFlat(),
    L1LossFlat(),
    as_loss(lambda pred, targ: ((pred - targ) ** 4).mean()),
]


def close(a, b):
    return torch.allclose(torch.as_tensor(a).double(), torch.as_tensor(b).double(), rtol=0, atol=1e-12)


def over_grains(loss, pred, targ, cuts):
    """The loss of a batch from its grains, as a step computes it."""
    total, weight = 0.0, 0.0
    for p, t in zip(pred.tensor_split(cuts), targ.tensor_split(cuts), strict=True):
        if len(p):
            total, weight = total + loss(p, t) * loss.weight(t), weight + loss.weight(t)
    return total / weight


def cuts_of(data, rows):
    return sorted(data.draw(st.lists(st.integers(1, rows), max_size=4)))


@pytest.mark.parametrize("loss", CLASS_LOSSES, ids=repr)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_class_losses_are_exact_over_grains(loss, data):
    rows = data.draw(st.integers(2, 17))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    pred = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64) * 3
    targ = torch.randint(CLASSES, (rows,), generator=generator)
    if loss.ignore_index if isinstance(loss, CrossEntropyLossFlat) else False:
        targ[torch.rand(rows, generator=generator) < 0.3] = loss.ignore_index
    loss = loss.double()
    if float(loss.weight(targ)) == 0:
        assert float(loss(pred, targ)) == 0
        return
    assert close(over_grains(loss, pred, targ, cuts_of(data, rows)), loss(pred, targ))


@pytest.mark.parametrize("loss", ELEMENT_LOSSES, ids=repr)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_element_losses_are_exact_over_grains(loss, data):
    rows = data.draw(st.integers(2, 17))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10**6)))
    pred = torch.randn(rows, CLASSES, generator=generator, dtype=torch.float64)
    targ = (torch.rand(rows, CLASSES, generator=generator) > 0.5).double()
    assert close(over_grains(loss.double(), pred, targ, cuts_of(data, rows)), loss(pred, targ))


def test_the_mean_of_means_would_not_be_exact():
    """The twin: without the weights the same comparison fails."""
    loss = CrossEntropyLossFlat(ignore_index=0)
    pred, targ = torch.eye(4).double() * 3, torch.tensor([0, 1, 2, 3])
    pred[1] = 0
    naive = (loss(pred[:2], targ[:2]) + loss(pred[2:], targ[2:])) / 2
    assert not close(naive, loss(pred, targ))
    assert close(over_grains(loss, pred, targ, [2]), loss(pred, targ))


def test_common_case_equals_torch_bit_for_bit():
    pred, targ = torch.randn(64, 10), torch.randint(10, (64,))
    assert torch.equal(CrossEntropyLossFlat()(pred, targ), F.cross_entropy(pred, targ))
    assert torch.equal(
        LabelSmoothingCrossEntropy()(pred, targ), F.cross_entropy(pred, targ, label_smoothing=0.1)
    )
    numbers = torch.randn(64, 10)
    assert torch.equal(MSELossFlat()(pred, numbers), F.mse_loss(pred, numbers))
    assert torch.equal(L1LossFlat()(pred, numbers), F.l1_loss(pred, numbers))


def test_weight_is_a_python_int_where_nothing_needs_counting():
    targ = torch.zeros(4, 7, dtype=torch.int64)
    for loss in (CrossEntropyLossFlat(), LabelSmoothingCrossEntropy(), FocalLossFlat(), MSELossFlat()):
        assert type(loss.weight(targ)) is int
        assert loss.weight(targ) == 28
    assert UserLoss(F.mse_loss).weight(targ) == 4
    assert int(CrossEntropyLossFlat(ignore_index=0).weight(targ)) == 0


@pytest.mark.parametrize(("axis", "shape", "rows"), [(1, (2, 5, 3, 4), (2, 3, 4)), (-1, (2, 3, 5), (2, 3))])
def test_pixels_and_tokens_equal_torch(axis, shape, rows):
    pred, targ = torch.randn(shape).double(), torch.randint(5, rows)
    loss = CrossEntropyLossFlat(axis=axis)
    assert close(loss(pred, targ), F.cross_entropy(pred.movedim(axis, 1), targ))
    assert loss.activation(pred).sum(axis).allclose(torch.ones(rows).double())
    assert torch.equal(loss.decodes(loss.activation(pred)), pred.argmax(axis))
    loss.check(pred, targ)


def test_weighted_and_ignored_equal_torch():
    pred, targ = torch.randn(32, CLASSES).double(), torch.randint(CLASSES, (32,))
    targ[::5] = -100
    weights = torch.tensor(POSITIVE)
    for smoothing in (0.0, 0.3):
        ours = CrossEntropyLossFlat(weight=weights, ignore_index=-100, label_smoothing=smoothing).double()
        assert close(
            ours(pred, targ), F.cross_entropy(pred, targ, weights.double(), label_smoothing=smoothing)
        )


def test_all_ignored_is_zero_with_zero_gradients():
    pred = torch.randn(3, 4, requires_grad=True)
    for loss in (CrossEntropyLossFlat(ignore_index=-100), FocalLossFlat(ignore_index=-100)):
        value = loss(pred, torch.full((3,), -100))
        value.backward()
        assert value.item() == 0
        assert torch.equal(pred.grad, torch.zeros(3, 4))


def test_nothing_is_ignored_unless_asked():
    """torch skips -100 in silence; here it must be asked for."""
    with pytest.raises(IndexError, match="-100"):
        CrossEntropyLossFlat()(torch.randn(2, 3), torch.tensor([0, -100]))


def test_small_integer_targets_work():
    pred = torch.randn(4, 3)
    for dtype in (torch.uint8, torch.int16, torch.int32, torch.bool):
        targ = torch.tensor([0, 1, 1, 0]).to(dtype)
        assert torch.equal(CrossEntropyLossFlat()(pred, targ), F.cross_entropy(pred, targ.long()))


def test_focal_follows_the_paper():
    pred, targ = torch.randn(16, 4).double(), torch.randint(4, (16,))
    p = pred.softmax(-1)[torch.arange(16), targ]
    assert close(FocalLossFlat()(pred, targ), (-((1 - p) ** 2) * p.log()).mean())
    assert close(FocalLossFlat(gamma=0.0)(pred, targ), F.cross_entropy(pred, targ))


def test_focal_has_finite_gradients_where_it_is_sure():
    pred = torch.tensor([[200.0, 0.0]], requires_grad=True)
    FocalLossFlat(gamma=0.5)(pred, torch.tensor([0])).backward()
    assert torch.isfinite(pred.grad).all()


def test_regression_never_broadcasts():
    pred, targ = torch.randn(6, 1), torch.randn(6)
    assert torch.equal(MSELossFlat()(pred, targ), F.mse_loss(pred[:, 0], targ))
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        MSELossFlat()(torch.randn(6, 2), targ)


def test_low_precision_outputs_do_not_round_the_targets():
    pred = torch.tensor([[1000.0]], dtype=torch.bfloat16)
    assert float(MSELossFlat()(pred, torch.tensor([[1001.0]]))) == 1


def test_bce_activation_decodes_and_pos_weight():
    loss = BCEWithLogitsLossFlat(thresh=0.7, pos_weight=[1.0, 4.0])
    pred, targ = torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]])
    assert torch.equal(loss.activation(pred), pred.sigmoid())
    assert loss.decodes(loss.activation(pred)).tolist() == [[False, True]]
    expected = F.binary_cross_entropy_with_logits(pred, targ.float(), pos_weight=torch.tensor([1.0, 4.0]))
    assert torch.equal(loss(pred, targ), expected)


@pytest.mark.parametrize(
    ("loss", "pred", "targ", "text"),
    [
        (CrossEntropyLossFlat(), (4, 2), torch.tensor([0, 1, 36, 2]), "2 class scores.*class 36(.|\n)*n_out"),
        (
            CrossEntropyLossFlat(),
            (4, 2),
            torch.tensor([0, -100, 1, 1]),
            r"target -100.*\n(.|\n)*ignore_index=-100",
        ),
        (CrossEntropyLossFlat(), (4, 2), torch.zeros(4), "floats(.|\n)*MSELossFlat"),
        (CrossEntropyLossFlat(), (2, 5, 3, 4), torch.zeros(2, 3, 4).long(), r"axis=-1(.|\n)*axis=1"),
        (CrossEntropyLossFlat(), (4, 3), torch.zeros(4, 3).long(), "one target(.|\n)*BCEWithLogitsLossFlat"),
        (CrossEntropyLossFlat(), (4,), torch.zeros(4).long(), r"one target(.|\n)*\(batch, classes\)"),
        (CrossEntropyLossFlat(weight=[1, 2]), (4, 3), torch.zeros(4).long(), "2 class weights.*3 scores"),
        (MSELossFlat(), (4, 2), torch.zeros(4), r"differ in shape(.|\n)*\(4, 2\)(.|\n)*n_out=1"),
        (L1LossFlat(), (3, 2), torch.zeros(2, 3), "differ in shape"),
        (BCEWithLogitsLossFlat(), (4, 1), torch.zeros(4, 3), "differ in shape(.|\n)*n_out=3"),
        (BCEWithLogitsLossFlat(), (4,), torch.tensor([0, 1, 2, 3]), "from 0 to 3(.|\n)*CrossEntropyLossFlat"),
    ],
)
def test_check_refuses_what_does_not_fit(loss, pred, targ, text):
    with pytest.raises(TaskError, match=text):
        loss.check(torch.zeros(pred), targ)


def test_check_accepts_what_fits():
    CrossEntropyLossFlat().check(torch.zeros(4, 3), torch.tensor([0, 1, 2, 2]))
    CrossEntropyLossFlat().check(torch.zeros(4, 3), torch.tensor([[0], [1], [2], [2]]))
    CrossEntropyLossFlat(ignore_index=255).check(torch.zeros(4, 3), torch.tensor([0, 255, 2, 2]))
    CrossEntropyLossFlat(ignore_index=255).check(torch.zeros(2, 3), torch.tensor([255, 255]))
    MSELossFlat().check(torch.zeros(4, 1), torch.zeros(4))
    BCEWithLogitsLossFlat().check(torch.zeros(4, 3), torch.ones(4, 3))


def test_check_refuses_two_targets():
    with pytest.raises(TaskError, match="one target, and a batch has 2"):
        MSELossFlat().check(torch.zeros(2), torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1), CrossEntropyLossFlat),
        (F.cross_entropy, CrossEntropyLossFlat),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), BCEWithLogitsLossFlat),
        (F.binary_cross_entropy_with_logits, BCEWithLogitsLossFlat),
        (nn.MSELoss(), MSELossFlat),
        (F.mse_loss, MSELossFlat),
        (nn.L1Loss(), L1LossFlat),
        (F.l1_loss, L1LossFlat),
        (nn.HuberLoss(), UserLoss),
    ],
)
def test_losses_of_torch_are_recognised(given, kind):
    loss = as_loss(given)
    assert type(loss) is kind
    pred, targ = torch.randn(8, 3), torch.randint(3, (8,))
    if kind is not CrossEntropyLossFlat:
        targ = torch.rand(8, 3)
    torch.testing.assert_close(loss(pred, targ), given(pred, targ))


def test_as_loss_keeps_a_loss_and_its_own_activation():
    loss = MSELossFlat()
    assert as_loss(loss) is loss

    class Own(nn.Module):
        def forward(self, pred, targ):
            return (pred - targ).abs().mean()

        def activation(self, pred):
            return pred * 2

    wrapped = as_loss(Own())
    assert wrapped.activation(torch.ones(1)).item() == 2
    assert wrapped.decodes(torch.ones(1)).item() == 1
    wrapped.check(torch.ones(1), torch.ones(1))


def test_parameters_of_a_users_loss_are_seen():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, pred, targ):
            return ((pred - targ) * self.scale).mean()

    assert len(list(as_loss(Own()).parameters())) == 1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (nn.MSELoss, r"is a class(.|\n)*MSELoss\(\)"),
        ("mse", "cannot be called"),
        (nn.MSELoss(reduction="none"), "reduction='none'"),
    ],
)
def test_as_loss_refuses(given, text):
    with pytest.raises(ArgumentError, match=text):
        as_loss(given)


def test_a_users_loss_must_give_one_number_and_have_a_target():
    loss = as_loss(lambda pred, targ: (pred - targ) ** 2)
    with pytest.raises(TaskError, match=r"must give one number(.|\n)*shape \(3,\)"):
        loss(torch.ones(3), torch.ones(3))
    with pytest.raises(TaskError, match="must give one number"):
        as_loss(lambda pred, targ: 1.0)(torch.ones(3), torch.ones(3))
    with pytest.raises(TaskError, match="got no target"):
        loss.weight()


@pytest.mark.parametrize(
    "make",
    [
        lambda: CrossEntropyLossFlat(label_smoothing=1.5),
        lambda: LabelSmoothingCrossEntropy(eps=-1),
        lambda: FocalLossFlat(gamma=-1),
        lambda: FocalLossFlat(weight=[1.0, -1.0]),
        lambda: CrossEntropyLossFlat(weight=torch.ones(2, 2)),
    ],
)
def test_values_that_cannot_work_are_refused(make):
    with pytest.raises(ArgumentError, match="pass"):
        make()


def test_smoothing_and_a_class_weight_of_zero_are_refused():
    with pytest.raises(ArgumentError, match=r"label_smoothing=0\.1 and a class weight of 0"):
        CrossEntropyLossFlat(weight=[0.0, 1.0], label_smoothing=0.1)


def test_unknown_argument_names_the_nearest():
    with pytest.raises(UnknownNameError, match="write 'label_smoothing'"):
        CrossEntropyLossFlat(label_smothing=0.1)


class NoReading(TorchDispatchMode):
    """Fails at whatever would make a GPU wait for a value."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert "_local_scalar_dense" not in str(func)
        assert "nll_loss2d" not in str(func)  # no deterministic kernel on CUDA
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("loss", CLASS_LOSSES[:-1], ids=repr)
def test_pixels_need_no_reading_and_no_2d_kernel(loss):
    pred, targ = torch.randn(2, 4, 4, CLASSES, requires_grad=True), torch.randint(CLASSES, (2, 4, 4))
    if getattr(loss, "axis", -1) == 1:
        pred = pred.movedim(-1, 1)
    with NoReading():
        loss.float()(pred, targ).backward()
        loss.weight(targ)


@pytest.mark.parametrize(
    "loss",
    [
        CrossEntropyLossFlat(),
        CrossEntropyLossFlat(label_smoothing=0.1),
        CrossEntropyLossFlat(weight=[0.2, 1.0, 3.0], ignore_index=0),
        CrossEntropyLossFlat(axis=1, ignore_index=2),
        LabelSmoothingCrossEntropy(0.2, weight=[0.2, 1.0, 3.0]),
        FocalLossFlat(gamma=1.5, weight=[0.2, 1.0, 3.0]),
        FocalLossFlat(ignore_index=1),
        BCEWithLogitsLossFlat(pos_weight=[0.5, 1.0, 2.0]),
        MSELossFlat(),
        L1LossFlat(),
        UserLoss(lambda pred, targ: ((pred - targ) ** 4).mean()),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_the_loss_of_each_sample_is_that_of_the_sample_alone(loss):
    """In one go for the losses of this package; several targets a sample, ignored ones included."""
    generator = torch.Generator().manual_seed(5)
    if hasattr(loss, "axis"):
        shape = (6, 3, 4) if loss.axis == 1 else (6, 4, 3)
        targ = torch.randint(0, 3, (6, 4), generator=generator)
        targ[0] = loss.ignore_index or 0  # nothing may count in a sample
    else:
        shape = (6, 3)
        targ = torch.rand(6, 3, generator=generator)
    pred = torch.randn(*shape, generator=generator)
    alone = torch.stack([loss(pred[i : i + 1], targ[i : i + 1]) for i in range(6)])
    assert loss.each(pred, targ).tolist() == pytest.approx(alone.tolist(), rel=1e-5, abs=1e-7)
