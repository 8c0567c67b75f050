"""The walk through every stage, and figures of samples."""

import pytest
import torch
from torchvision.transforms import v2

from surefast.data.show import show_samples
from surefast.data.split import RandomSplitter
from surefast.errors import EmptyDataError


def test_every_stage_is_shown_with_what_it_makes(digit_folder, file_block, capsys):
    """Names, shapes, ranges, times, in order."""
    block = file_block(item_tfms=v2.Resize((9, 9)), batch_tfms=lambda x: x.float() / 255)
    summary = block.summary(digit_folder)
    names = [stage.name.split(":")[0] for stage in summary.stages]
    assert names[:4] == ["items", "split and labels", "open item 0", "item transform Resize"]
    assert names[-2:] == ["collate 4 samples", "batch transform <lambda>"]
    text = capsys.readouterr().out
    assert "120 items, the first: " in text
    assert "96 for training, 24 for validation" in text
    assert "10 classes: 0, 1, 2" in text
    assert "Image uint8 (3, 16, 16), 0 to 2" in text
    assert "Tensor float32 (4, 3, 9, 9), 0 to 0.9" in text
    assert "Every stage works." in text
    assert repr(summary) == f"Summary(ok, {len(names)} stages)"


def test_the_stage_that_fails_is_the_last_with_its_file(digit_folder, file_block, capsys):
    """Nothing is raised: the report is the result."""
    summary = file_block(item_tfms=v2.Normalize([0.5], [0.5])).summary(digit_folder)
    assert summary.failed is not None
    assert summary.failed.name == "item transform Normalize"
    assert ".png" in summary.failed.error
    assert "[FAILED]" in capsys.readouterr().out
    mixed = file_block(item_tfms=v2.RandomCrop((16, 16), padding=1), splitter=RandomSplitter(0.001))
    assert (
        mixed.summary(digit_folder, show=False).failed.name
        == "split and labels: RandomSplitter(valid_pct=0.001, seed=42)"
    )
    broken = file_block(item_tfms=lambda x: 1 / 0).summary(digit_folder, show=False)
    assert "ZeroDivisionError" in broken.text
    assert capsys.readouterr().out == ""


def test_looking_at_a_block_draws_nothing(digit_folder, file_block):
    """The program's generators are where they were."""
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    file_block(item_tfms=v2.RandomCrop(12)).summary(digit_folder, show=False)
    assert torch.equal(torch.rand(1), expected)


def test_a_batch_is_shown_with_its_labels(digit_folder, file_block):
    """A figure whose titles are the labels; it says which epoch and seed it shows."""
    dls = file_block().dataloaders(digit_folder, bs=16, device="cpu")
    figure = dls.show_batch(max_n=5)
    assert figure.get_suptitle() == "epoch 0, seed 42 (the default)"
    titles = [axes.get_title() for axes in figure.axes if axes.get_images()]
    labels = [dls.vocab[i] for i in dls.one_batch()[1][:5]]
    assert titles == labels
    batch = dls.valid.batch_at(0, 0, 0)
    results = dls.show_results(batch, torch.zeros(len(batch), dtype=torch.int64), max_n=2)
    assert results.axes[0].get_title().endswith("\n0")


def test_what_is_no_picture_is_text():
    """Numbers, tuples and long texts; a dollar sign is no formula."""
    figure = show_samples([(torch.tensor([1.0, 2.0]), "costs $5"), ("x" * 200, 0.123456789)])
    texts = [axes.texts[0].get_text() for axes in figure.axes]
    assert texts[0] == "1, 2"
    assert texts[1].endswith("xxx...")
    assert [axes.get_title() for axes in figure.axes] == [r"costs \$5", "0.1235"]
    figure.canvas.draw()
    with pytest.raises(EmptyDataError, match="no samples to show"):
        show_samples([])
