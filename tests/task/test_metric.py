"""Metrics equal scikit-learn over uneven batches, with ties, absent classes and ignored targets."""

from __future__ import annotations

import functools
import math
import warnings

import numpy as np
import pytest
import sklearn.metrics as skm
import torch
import torch.nn.functional as F
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from surefast.errors import ArgumentError, TaskError, UnknownNameError
from surefast.task.class_metrics import (
    Dice,
    DiceMulti,
    F1Score,
    F1ScoreMulti,
    FBeta,
    JaccardCoeff,
    JaccardCoeffMulti,
    Precision,
    PrecisionMulti,
    Recall,
    RecallMulti,
)
from surefast.task.loss import BCEWithLogitsLossFlat, CrossEntropyLossFlat, MSELossFlat
from surefast.task.metric import (
    Metric,
    accuracy,
    accuracy_multi,
    as_metric,
    distinct,
    error_rate,
    mae,
    mse,
    rmse,
    top_k_accuracy,
)
from surefast.task.score_metrics import (
    AvgLoss,
    Perplexity,
    R2Score,
    RocAuc,
    RocAucBinary,
    RocAucMulti,
    roc_auc,
)


def over(metric, pred, targ, cuts=(3, 4, 20), loss=None):
    """The value of a metric over uneven batches."""
    metric = as_metric(metric, loss)
    metric.reset()
    for p, t in zip(pred.tensor_split(cuts), targ.tensor_split(cuts), strict=True):
        if len(p):
            metric.update(p, t)
    return metric.value()


def scores(rows=57, classes=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    # Rounded, so that there are ties.
    pred = (torch.randn(rows, classes, generator=generator) * 4).round() / 4
    return pred.to(dtype), torch.randint(classes, (rows,), generator=generator)


def silent(function, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


CLASS_SCORES = [
    (Precision, skm.precision_score),
    (Recall, skm.recall_score),
    (F1Score, skm.f1_score),
    (functools.partial(FBeta, 2.0), functools.partial(skm.fbeta_score, beta=2.0)),
]


@pytest.mark.parametrize(("ours", "theirs"), CLASS_SCORES)
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_class_scores_equal_scikit_learn(ours, theirs, average, data):
    classes = data.draw(st.integers(2, 6))
    pred, targ = scores(data.draw(st.integers(1, 30)), classes, data.draw(st.integers(0, 999)))
    targ = targ.clamp(max=data.draw(st.integers(0, classes - 1)))  # classes that are never true
    cuts = sorted(data.draw(st.lists(st.integers(0, len(pred)), max_size=4)))
    expected = silent(theirs, targ.numpy(), pred.argmax(-1).numpy(), average=average)
    assert over(ours(average=average), pred, targ, cuts) == pytest.approx(expected, abs=1e-12)
    labels = [0, classes - 1]
    expected = silent(theirs, targ.numpy(), pred.argmax(-1).numpy(), average=average, labels=labels)
    assert over(ours(average=average, labels=labels), pred, targ, cuts) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), CLASS_SCORES)
@pytest.mark.parametrize("pos_label", [0, 1])
def test_binary_class_scores_equal_scikit_learn(ours, theirs, pos_label):
    pred, targ = scores(classes=2)
    expected = theirs(targ.numpy(), pred.argmax(-1).numpy(), pos_label=pos_label)
    assert over(ours(pos_label=pos_label), pred, targ) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(PrecisionMulti, skm.precision_score), (RecallMulti, skm.recall_score), (F1ScoreMulti, skm.f1_score)],
)
@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_label_scores_equal_scikit_learn(ours, theirs, average):
    pred, _ = scores()
    targ = (scores(seed=1)[0] > 0.3).float()
    targ[:, 2] = 0  # a label that is never true
    said = (pred.sigmoid() > 0.6).numpy()
    for labels in (None, [1, 3]):
        expected = silent(theirs, targ.numpy(), said, average=average, labels=labels)
        got = over(ours(thresh=0.6, average=average, labels=labels), pred, targ)
        assert got == pytest.approx(expected, abs=1e-12)
        activated = over(
            ours(thresh=0.6, sigmoid=False, average=average, labels=labels), pred.sigmoid(), targ
        )
        assert activated == got


def test_mean_functions_equal_scikit_learn():
    pred, targ = scores(classes=6)
    label = pred.argmax(-1).numpy()
    assert over(accuracy, pred, targ) == skm.accuracy_score(targ, label)
    assert over(error_rate, pred, targ) == pytest.approx(skm.zero_one_loss(targ, label), abs=1e-15)
    assert accuracy(pred, targ).item() == pytest.approx(skm.accuracy_score(targ, label))
    assert error_rate(pred, targ).item() == pytest.approx(skm.zero_one_loss(targ, label))


def test_regression_equals_scikit_learn():
    pred = torch.randn(57, 1) + 1e4
    targ = pred[:, 0] + torch.randn(57)
    p, t = pred[:, 0].double().numpy(), targ.double().numpy()
    for ours, theirs in (
        (mse, skm.mean_squared_error),
        (mae, skm.mean_absolute_error),
        (rmse, skm.root_mean_squared_error),
    ):
        assert over(ours, pred, targ) == pytest.approx(theirs(t, p), rel=1e-12)
        assert ours(pred, targ).item() == pytest.approx(theirs(t, p), rel=1e-12)
    assert over(R2Score(), pred, targ) == pytest.approx(skm.r2_score(t, p), rel=1e-12)


def test_r2_does_not_cancel_and_knows_constant_targets():
    pred, targ = (
        torch.tensor([1e9 + 1, 1e9 + 2, 1e9 + 4]).double(),
        torch.tensor([1e9, 1e9 + 2, 1e9 + 3]).double(),
    )
    assert over(R2Score(), pred, targ, [1, 2]) == pytest.approx(skm.r2_score(targ, pred), rel=1e-9)
    same = torch.ones(4)
    assert over(R2Score(), same, same) == 1
    assert over(R2Score(), same + 1, same) == 0
    assert math.isnan(over(R2Score(), same[:1], same[:1]))


def test_mean_of_batch_roots_would_not_be_rmse():
    """The twin: a function that is averaged by batch gives another number."""
    pred, targ = torch.randn(57), torch.randn(57)

    def root(pred, targ):
        return rmse(pred, targ)

    assert over(root, pred, targ) != pytest.approx(over(rmse, pred, targ), rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_k_equals_scikit_learn_and_breaks_ties_as_argmax(k):
    pred, targ = torch.randn(57, 5, generator=torch.Generator().manual_seed(3)), scores(classes=5)[1]
    expected = skm.top_k_accuracy_score(targ, pred, k=k, labels=range(5))
    assert over(functools.partial(top_k_accuracy, k=k), pred, targ) == pytest.approx(expected, abs=1e-15)
    tied, targ = scores(classes=5)
    order = np.argsort(-tied.numpy(), axis=1, kind="stable")[:, :k]
    assert over(functools.partial(top_k_accuracy, k=k), tied, targ) == np.mean(
        (order == targ.numpy()[:, None]).any(1)
    )


def test_top_k_of_one_is_accuracy_and_nan_is_no_hit():
    pred, targ = scores()
    assert torch.equal(top_k_accuracy(pred, targ, k=1), accuracy(pred, targ))
    assert top_k_accuracy(torch.full((3, 4), math.nan), torch.tensor([0, 1, 2]), k=3).item() == 0


def test_accuracy_multi_equals_scikit_learn():
    pred, _ = scores()
    targ = (scores(seed=1)[0] > 0).float()
    expected = 1 - skm.hamming_loss(targ.numpy(), (pred.sigmoid() > 0.5).numpy())
    assert over(accuracy_multi, pred, targ) == pytest.approx(expected, abs=1e-15)
    low = functools.partial(accuracy_multi, thresh=-0.5, sigmoid=False)
    expected = 1 - skm.hamming_loss(targ.numpy(), (pred > -0.5).numpy())
    assert over(low, pred, targ) == pytest.approx(expected, abs=1e-15)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_roc_auc_of_ranks_equals_scikit_learn(data):
    rows = data.draw(st.integers(2, 30))
    values = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=rows, max_size=rows)), dtype=np.float64)
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
    if truth.all() or not truth.any():
        assert math.isnan(roc_auc(values, truth))
    else:
        assert roc_auc(values, truth) == pytest.approx(skm.roc_auc_score(truth, values), abs=1e-12)


def test_roc_auc_metrics_equal_scikit_learn():
    pred, targ = scores(classes=2)
    probability = pred.double().softmax(-1)[:, 1]
    expected = skm.roc_auc_score(targ, probability)
    assert over(RocAucBinary(), pred, targ) == pytest.approx(expected, abs=1e-12)
    one = pred[:, 1:] - pred[:, :1]
    assert over(RocAucBinary(), one, targ) == pytest.approx(expected, abs=1e-12)
    assert over(RocAucBinary(), one[:, 0], targ.float()) == pytest.approx(expected, abs=1e-12)
    pred, targ = scores(classes=4)
    for average in ("macro", "weighted"):
        expected = skm.roc_auc_score(targ, pred.softmax(-1), multi_class="ovr", average=average)
        assert over(RocAuc(average=average), pred, targ) == pytest.approx(expected, abs=1e-12)
        labels = (scores(seed=1)[0] > 0).float()
        expected = skm.roc_auc_score(labels, pred, average=average)
        assert over(RocAucMulti(average=average), pred, labels) == pytest.approx(expected, abs=1e-12)


def test_roc_auc_leaves_out_absent_classes():
    pred, targ = scores(classes=4)
    targ = targ.clamp(max=2)
    areas = [skm.roc_auc_score(targ == c, pred.softmax(-1)[:, c]) for c in range(3)]
    assert over(RocAuc(), pred, targ) == pytest.approx(np.mean(areas), abs=1e-12)
    assert math.isnan(over(RocAucBinary(), pred[:, :2], torch.zeros(57).long()))
    assert math.isnan(over(RocAuc(), pred * math.nan, targ))


def test_masks_equal_scikit_learn():
    pred = torch.randn(5, 2, 8, 9)
    targ = torch.randint(2, (5, 8, 9))
    said, true = pred.argmax(1).flatten().numpy(), targ.flatten().numpy()
    assert over(Dice(), pred, targ, [2]) == pytest.approx(skm.f1_score(true, said), abs=1e-12)
    assert over(JaccardCoeff(), pred, targ, [2]) == pytest.approx(skm.jaccard_score(true, said), abs=1e-12)
    pred, targ = torch.randn(5, 4, 8, 9), torch.randint(3, (5, 8, 9))
    pred[:, 3] = -9  # neither said nor true
    said, true = pred.argmax(1).flatten().numpy(), targ.flatten().numpy()
    assert over(DiceMulti(), pred, targ, [2]) == pytest.approx(skm.f1_score(true, said, average="macro"))
    expected = skm.jaccard_score(true, said, average="macro")
    assert over(JaccardCoeffMulti(), pred, targ, [2]) == pytest.approx(expected)
    hits = over(functools.partial(accuracy, axis=1), pred, targ, [2])
    assert hits == skm.accuracy_score(true, said)


def test_hand_computed_dice():
    pred = torch.tensor([[[0.0, 0, 1, 1]], [[1.0, 1, 0, 0]]]).movedim(0, 1)  # says 1, 1, 0, 0
    assert over(Dice(), pred, torch.tensor([[[1, 0, 1, 0]]]).movedim(0, 1)[0], []) == 0.5


def test_ignored_targets_are_ignored():
    pred, targ = scores()
    targ[::3] = -100
    kept = targ != -100
    loss = CrossEntropyLossFlat(ignore_index=-100)
    for metric in (
        accuracy,
        functools.partial(top_k_accuracy, k=2),
        F1Score(average="macro"),
        RocAuc(),
        Perplexity(),
        AvgLoss(),
    ):
        whole = over(metric, pred, targ, loss=loss)
        assert whole == pytest.approx(over(metric, pred[kept], targ[kept], loss=loss), rel=1e-6)


def test_loss_and_perplexity_are_exact_over_uneven_batches():
    pred, targ = scores(dtype=torch.float64)
    mean = F.cross_entropy(pred, targ).item()
    assert over(AvgLoss(), pred, targ, loss=CrossEntropyLossFlat()) == pytest.approx(mean, abs=1e-12)
    assert over(Perplexity(), pred, targ, loss=CrossEntropyLossFlat()) == pytest.approx(math.exp(mean))
    assert over(Perplexity(), pred * 1e4, targ, loss=CrossEntropyLossFlat()) == math.inf


def test_user_functions_are_weighted_by_rows():
    def share(pred, targ):
        return (pred.argmax(-1) == targ).float().mean()

    def plain(pred, targ):
        return share(pred, targ).item()

    pred, targ = scores()
    assert over(share, pred, targ) == pytest.approx(over(accuracy, pred, targ), abs=1e-7)
    assert over(plain, pred, targ) == pytest.approx(over(accuracy, pred, targ), abs=1e-7)
    assert as_metric(share).higher_is_better is None
    share.higher_is_better = True
    assert as_metric(share).higher_is_better is True


@pytest.mark.parametrize(
    ("metric", "name", "higher"),
    [
        (accuracy, "accuracy", True),
        (error_rate, "error_rate", False),
        (functools.partial(top_k_accuracy, k=2), "top_k_accuracy", True),
        (accuracy_multi, "accuracy_multi", True),
        (mse, "mse", False),
        (mae, "mae", False),
        (rmse, "rmse", False),
        (F1Score(), "f1_score", True),
        (F1ScoreMulti(), "f1_score", True),
        (FBeta(2.0), "fbeta_score", True),
        (Precision(), "precision_score", True),
        (PrecisionMulti(), "precision_score", True),
        (Recall(), "recall_score", True),
        (RecallMulti(), "recall_score", True),
        (Dice(), "dice", True),
        (DiceMulti(), "dice_multi", True),
        (JaccardCoeff(), "jaccard_coeff", True),
        (JaccardCoeffMulti(), "jaccard_coeff_multi", True),
        (RocAuc(), "roc_auc_score", True),
        (RocAucBinary(), "roc_auc_score", True),
        (RocAucMulti(), "roc_auc_score", True),
        (R2Score(), "r2_score", True),
        (Perplexity(), "perplexity", False),
        (AvgLoss(), "loss", False),
        (torchmetrics.MeanSquaredError(), "mean_squared_error", False),
    ],
)
def test_names_directions_and_no_data(metric, name, higher):
    metric = as_metric(metric)
    assert isinstance(metric, Metric)
    assert metric.name == name
    assert metric.higher_is_better is higher
    metric.reset()
    assert math.isnan(metric.value())


@pytest.mark.parametrize(
    ("theirs", "ours", "loss"),
    [
        (
            torchmetrics.classification.MulticlassAccuracy(4, average="micro"),
            accuracy,
            CrossEntropyLossFlat(),
        ),
        (
            torchmetrics.classification.MulticlassF1Score(4, average="macro"),
            F1Score(average="macro"),
            CrossEntropyLossFlat(),
        ),
        (torchmetrics.classification.MultilabelF1Score(4), F1ScoreMulti(), BCEWithLogitsLossFlat()),
        (torchmetrics.MeanSquaredError(), mse, MSELossFlat()),
    ],
)
def test_torchmetrics_objects_work_as_they_are(theirs, ours, loss):
    pred, targ = scores()
    if isinstance(loss, BCEWithLogitsLossFlat):
        targ = (scores(seed=1)[0] > 0).float()
    if isinstance(loss, MSELossFlat):
        pred, targ = pred[:, :1], targ.float()
    assert over(theirs, pred, targ, loss=loss) == pytest.approx(over(ours, pred, targ, loss=loss), abs=1e-6)
    assert over(theirs, pred[:9], targ[:9], loss=loss) == pytest.approx(
        over(ours, pred[:9], targ[:9]), abs=1e-6
    )


def test_torchmetrics_refusals():
    per_class = as_metric(torchmetrics.classification.MulticlassAccuracy(4, average="none"))
    with pytest.raises(ArgumentError, match="no loss is bound"):
        per_class.update(*scores())
    per_class.bind(CrossEntropyLossFlat())
    per_class.update(*scores())
    with pytest.raises(TaskError, match=r"must give one number(.|\n)*shape \(4,\)(.|\n)*average='macro'"):
        per_class.value()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("accuracy", "'accuracy' is no metric(.|\n)*function such as accuracy"),
        (F1Score, r"F1Score is a class(.|\n)*F1Score\(\)"),
        (3, "3 is no metric"),
    ],
)
def test_as_metric_refuses(given, text):
    with pytest.raises(ArgumentError, match=text):
        as_metric(given)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: F1Score(average=None), "average=None of F1Score(.|\n)*'macro'"),
        (lambda: F1ScoreMulti(average="binary"), "averages over labels"),
        (lambda: RocAuc(average="micro"), "average='micro' of RocAuc"),
        (lambda: RocAuc(multi_class="ovo"), "multi_class='ovo'"),
        (lambda: top_k_accuracy(*scores(), k=4), "top k=4 of 4 classes"),
        (lambda: over(Perplexity(), *scores()), "needs the loss"),
    ],
)
def test_arguments_that_cannot_work(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


@pytest.mark.parametrize(
    ("metric", "pred", "targ", "text"),
    [
        (accuracy, (4, 1), (4,), r"one number a sample(.|\n)*\(4, 1\)(.|\n)*accuracy_multi"),
        (accuracy, (4,), (4,), "one number a sample"),
        (accuracy, (2, 3, 4, 5), (2, 4, 5), "shapes differ(.|\n)*axis=1"),
        (accuracy, (4, 3), (4, 3), "shapes differ"),
        (F1Score(), (4, 3), (4,), "for two classes, and the model tells 3 apart(.|\n)*macro"),
        (Dice(), (4, 3, 2, 2), (4, 2, 2), r"for two classes(.|\n)*DiceMulti\(\)"),
        (F1ScoreMulti(), (4, 3), (4,), "shapes differ"),
        (mse, (4, 2), (4,), "shapes differ(.|\n)*one output for each target"),
        (R2Score(), (4, 2), (4,), "shapes differ"),
        (RocAucBinary(), (4, 3), (4,), r"RocAuc\(\) for several"),
        (RocAuc(), (4, 1), (4,), r"RocAucBinary\(\)"),
        (lambda pred, targ: pred, (4, 2), (4,), r"must give one number(.|\n)*\(4, 2\)"),
        (lambda pred, targ: "x", (4, 2), (4,), r"must give one number(.|\n)*str"),
    ],
)
def test_what_does_not_fit_is_refused(metric, pred, targ, text):
    with pytest.raises(TaskError, match=text):
        as_metric(metric).update(torch.zeros(pred), torch.zeros(targ, dtype=torch.int64))


def test_two_targets_are_refused():
    with pytest.raises(TaskError, match="accuracy compares with one target, and a batch has 2"):
        as_metric(accuracy).update(torch.zeros(2, 2), torch.zeros(2), torch.zeros(2))


def test_unknown_argument_names_the_nearest():
    with pytest.raises(UnknownNameError, match="write 'average'"):
        F1Score(avrage="macro")


def test_state_needs_no_gradient():
    pred, targ = scores()
    metric = as_metric(mse)
    metric.update(pred.requires_grad_()[:, 0], targ)
    assert not metric._total.requires_grad


class NoReading(TorchDispatchMode):
    """Fails at whatever would make a GPU wait: reading a value, or a shape that depends on one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        words = ("_local_scalar_dense", "nonzero", "bincount", "unique", "masked_select", "aten.index.Tensor")
        assert not any(word in str(func) for word in words), f"{func} reads back from the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "metric",
    [
        accuracy,
        error_rate,
        functools.partial(top_k_accuracy, k=2),
        F1Score(average="macro"),
        DiceMulti(axis=-1),
        RocAuc(),
        Perplexity(),
        AvgLoss(),
        lambda pred, targ: (pred.argmax(-1) == targ).float().mean(),
    ],
)
@pytest.mark.parametrize("ignore_index", [None, -100])
def test_nothing_is_read_back_before_the_value(metric, ignore_index):
    metric = as_metric(metric, CrossEntropyLossFlat(ignore_index=ignore_index))
    with NoReading():
        for _ in range(2):
            metric.update(*scores())
    assert math.isfinite(metric.value())


@pytest.mark.parametrize("metric", [accuracy_multi, F1ScoreMulti(), RocAucMulti(), mse, mae, rmse, R2Score()])
def test_nothing_of_numbers_is_read_back_before_the_value(metric):
    metric = as_metric(metric, BCEWithLogitsLossFlat())
    with NoReading():
        metric.update(scores()[0], (scores(seed=1)[0] > 0).float())
    assert math.isfinite(metric.value())


def test_reading_back_would_be_seen():
    """The twin: the watch fails where a value is read."""
    metric = as_metric(lambda pred, targ: (pred.argmax(-1) == targ).float().mean().item())
    with NoReading(), pytest.raises(AssertionError, match="reads back"):
        metric.update(*scores())


def test_partials_of_one_function_are_told_apart():
    """fastai's idiom of several thresholds: the second has its argument in its name."""
    metrics = distinct([as_metric(accuracy_multi), as_metric(functools.partial(accuracy_multi, thresh=0.3))])
    assert [metric.name for metric in metrics] == ["accuracy_multi", "accuracy_multi(thresh=0.3)"]
    with pytest.raises(ArgumentError, match="two metrics are called 'accuracy'"):
        distinct([as_metric(accuracy), as_metric(accuracy)])
