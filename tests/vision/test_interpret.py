"""What a model gets wrong is counted exactly, named, and drawn; predictions are made once."""

import importlib

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from surefast.errors import ArgumentError, DataError, TaskError
from surefast.task.metric import accuracy
from surefast.vision.interpret import ClassificationInterpretation, Interpretation
from surefast.vision.learners import vision_learner
from surefast.vision.loaders import ImageDataLoaders
from surefast.vision.xresnet import xresnet18

metrics = importlib.import_module("sklearn.metrics")


@pytest.fixture(scope="module")
def learn(few_digits):
    dls = ImageDataLoaders.from_folder(few_digits, valid_pct=0.5, seed=3, bs=6, num_workers=0)
    return vision_learner(dls, xresnet18, pretrained=False, metrics=accuracy)


@pytest.fixture(scope="module")
def interp(learn):
    return ClassificationInterpretation.from_learner(learn)


def made(targets, decoded, classes):
    """An interpretation of given decisions, without a model."""
    preds = torch.eye(classes)[torch.tensor(decoded)]
    losses = torch.ones(len(targets))
    vocab = [f"class {i}" for i in range(classes)]
    return ClassificationInterpretation(
        preds, torch.tensor(targets), losses, torch.tensor(decoded), vocab=vocab, dl=None
    )


def test_it_agrees_with_the_learner(learn, interp):
    """Accuracy and mean loss are those of validate()."""
    row = learn.validate()
    matrix = interp.confusion_matrix()
    assert np.trace(matrix) / matrix.sum() == pytest.approx(row["accuracy"])
    assert interp.losses.mean().item() == pytest.approx(row["valid_loss"], rel=1e-5)
    assert interp.report().accuracy == pytest.approx(row["accuracy"])


def test_inference_runs_once(learn, interp, monkeypatch):
    """All figures and lists come from the predictions that are kept."""
    monkeypatch.setattr(type(learn.model), "forward", None)
    interp.confusion_matrix()
    interp.top_losses(3)
    interp.report()


@pytest.mark.parametrize("seed", range(4))
def test_the_numbers_are_those_of_scikit_learn(seed):
    """Confusion matrix and report are checked on random decisions, with classes that never occur."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 4, 50).tolist()
    decoded = generator.integers(0, 5, 50).tolist()
    ours = made(targets, decoded, 6)
    theirs = metrics.classification_report(targets, decoded, output_dict=True, zero_division=0)
    assert (ours.confusion_matrix() == metrics.confusion_matrix(targets, decoded, labels=range(6))).all()
    report = ours.report()
    for line in report.classes:
        row = theirs[line.name.removeprefix("class ")]
        assert line[1:] == pytest.approx((row["precision"], row["recall"], row["f1-score"], row["support"]))
    assert len(report.classes) == 5
    for line, name in ((report.macro, "macro avg"), (report.weighted, "weighted avg")):
        row = theirs[name]
        assert line[1:] == pytest.approx((row["precision"], row["recall"], row["f1-score"], row["support"]))
    assert report.accuracy == pytest.approx(theirs["accuracy"])


def test_the_report_is_a_table(capsys):
    """Each class has a line with its numbers."""
    made([0, 0, 1, 1], [0, 1, 1, 1], 2).print_classification_report()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["precision", "recall", "f1", "support"]
    assert lines[1].split() == ["class", "0", "1.000", "0.500", "0.667", "2"]
    assert lines[-1].split() == ["accuracy", "0.750"]


def test_confused_classes_are_listed_by_count():
    """The pair that was confused most often comes first; the diagonal is not listed."""
    interp = made([0, 0, 0, 1, 2, 2], [1, 1, 0, 1, 0, 1], 3)
    assert interp.most_confused() == [
        ("class 0", "class 1", 2), ("class 2", "class 0", 1), ("class 2", "class 1", 1),
    ]  # fmt: skip
    assert interp.most_confused(min_val=2) == [("class 0", "class 1", 2)]


def test_top_losses_are_the_items_they_name(learn, interp, few_digits):
    """Losses fall, positions and files belong together, and a loss can be computed again from its item."""
    top = interp.top_losses(5)
    assert top.losses.tolist() == sorted(interp.losses.tolist(), reverse=True)[:5]
    for loss, name in zip(top.losses, top.items, strict=True):
        preds, _, _ = learn.get_preds(dl=learn.dls.test_dl([name]), with_decoded=True)
        label = learn.dls.vocab.index(name.split("/")[-2])
        assert -preds[0, label].log().item() == pytest.approx(loss.item(), rel=1e-3, abs=1e-4)
    assert interp.top_losses(largest=False).losses.tolist() == sorted(interp.losses.tolist())
    assert len(interp.top_losses(10_000).idxs) == len(interp.losses)


def test_figures_show_what_the_lists_say(interp):
    """Figures come back as objects, with a title for each picture and a number in each cell."""
    figure = interp.plot_top_losses(4)
    assert isinstance(figure, Figure)
    first = interp.top_losses(1)
    title = figure.axes[0].get_title()
    assert title.endswith(first.items[0].split("/")[-1])
    assert f"/ {first.losses[0]:.2f} / " in title
    assert len(figure.axes) == 4
    assert all(axes.images for axes in figure.axes)
    matrix = interp.plot_confusion_matrix(normalize=True)
    assert len(matrix.axes[0].texts) == 9
    with pytest.raises(ArgumentError, match="nothing to show"):
        interp.plot_top_losses(0)


def test_training_data_is_interpreted_in_the_order_of_its_files(learn):
    """The names fit the predictions also where the loader would shuffle."""
    interp = Interpretation.from_learner(learn, ds_idx=0)
    labels = [
        learn.dls.vocab.index(learn.dls.train.item_name(i).split("/")[-2]) for i in range(learn.dls.train.n)
    ]
    assert interp.targets.tolist() == labels


def test_a_loader_without_targets_is_refused(learn):
    """There is nothing to compare with; the error says how to make the loader."""
    items = learn.dls.valid_ds.items[:2]
    with pytest.raises((TaskError, ArgumentError), match="targets"):
        Interpretation.from_learner(learn, dl=learn.dls.test_dl(items))
    with pytest.raises(ArgumentError, match="no validation data"):
        Interpretation.from_learner(learn, ds_idx=2)


def test_items_that_were_left_out_are_noticed(learn):
    """Predictions without names are refused, not shifted."""
    from surefast.data.loader import Loader

    short = Loader(learn.dls.valid_ds, bs=6, drop_last=True, batch_tfms=learn.dls.valid.batch_tfms)
    assert short.n % 6
    with pytest.raises(DataError, match="items were predicted"):
        Interpretation.from_learner(learn, dl=short)


def test_other_tasks_have_no_confusion_matrix():
    """Numbers as targets are no classes."""
    numbers = torch.rand(4)
    with pytest.raises(TaskError, match="are no classes"):
        ClassificationInterpretation(torch.rand(4, 1), numbers, numbers, torch.rand(4, 1), vocab=(), dl=None)
    assert Interpretation(torch.rand(4, 1), numbers, numbers, torch.rand(4, 1), vocab=(), dl=None).vocab == ()
