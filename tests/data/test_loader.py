"""The loader: one stream whatever builds it, any start, small sets, bad files."""

import numpy as np
import pytest
import torch

from surefast.data.loader import Loader, Sources
from surefast.data.transform import ItemTransform
from surefast.errors import (
    ArgumentError,
    CollateError,
    EmptyDataError,
    FileError,
    SurefastWarning,
    TransformError,
)
from surefast.recipe.call import call_of


class Jitter(ItemTransform):
    """A built-in kind of transform: it draws from its key alone."""

    def apply(self, sample, key, *, train):
        noise = torch.Generator().manual_seed(key >> 1)
        return (torch.as_tensor(sample[0]) + torch.rand(8, 8, generator=noise), *sample[1:])


class Rude(ItemTransform):
    """Says that it may run in a thread, and draws from the generator that all threads share."""

    def apply(self, sample, key, *, train):
        return (torch.as_tensor(sample[0]) + torch.rand(8, 8), *sample[1:])


def loaders(block, items, **more):
    return block.dataloaders(items, bs=32, device="cpu", check_leaks=False, **more)


def test_threads_and_prefetch_do_not_change_the_stream(digits, memory_block, bits):
    """0, 1, 2 and 3 threads, each with another prefetch, over two epochs."""
    block = memory_block(Jitter())
    here = loaders(block, digits, num_workers=0).train
    for count in (1, 2, 3):
        there = loaders(block, digits, num_workers=count, prefetch=count).train
        assert there.sources.kind(there.dataset) == "thread"
        assert [bits(there, epoch=e) for e in (0, 1)] == [bits(here, epoch=e) for e in (0, 1)]


def test_a_stream_that_is_not_keyed_differs(digits, memory_block, bits):
    """The twin: the comparison notices a transform that draws from a shared generator."""
    rude = loaders(memory_block(Rude()), digits, num_workers=0).train
    assert bits(rude) != bits(rude)
    keyed = loaders(memory_block(Jitter()), digits, num_workers=0).train
    assert bits(keyed, seed=7) != bits(keyed, seed=8)
    assert bits(keyed, epoch=0) != bits(keyed, epoch=1)


def test_batch_size_does_not_change_a_sample(digits, memory_block):
    """The same order and the same samples, cut elsewhere."""
    block = memory_block(Jitter())
    made = [
        block.dataloaders(digits, bs=bs, device="cpu", drop_last=False, num_workers=0).train
        for bs in (16, 50)
    ]
    first, second = (torch.cat([b.x[0] for b in loader.batches(1, 0)]) for loader in made)
    assert torch.equal(first, second)


def test_starting_in_the_middle_gives_the_rest(digits, memory_block, bits):
    """Foreign transforms too; and nothing before the start is built."""
    calls = []

    def counted(x):
        calls.append(1)
        return torch.as_tensor(x) + torch.rand(8, 8)

    loader = loaders(memory_block(counted), digits, num_workers=0).train
    whole = bits(loader)
    calls.clear()
    assert bits(loader, start=5) == whole[5:]
    assert len(calls) == 32 * (len(whole) - 5)
    assert bits(loader, start=len(whole)) == []


def test_looking_changes_nothing(digits, memory_block, draw_from_all, bits):
    """Neither a batch peeked at, nor an epoch broken off, nor the generators of the program."""
    dls = loaders(memory_block(draw_from_all), digits, num_workers=0)
    whole = bits(dls.train)
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(3)
    np.random.seed(3)
    dls.one_batch()
    stream = dls.train.batches(7, 0)
    next(stream)
    stream.close()
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(2) == expected[1]).all()
    assert bits(dls.train) == whole


def test_one_batch_is_the_batch_of_that_number(digits, memory_block):
    """Any number can be asked for alone."""
    loader = loaders(memory_block(Jitter()), digits).train
    third = list(loader.batches(5, 2))[3]
    alone = loader.batch_at(5, 2, 3)
    assert torch.equal(third.x[0], alone.x[0])
    assert (third.ids == alone.ids).all()
    with pytest.raises(ArgumentError, match="there is no batch 99: an epoch has 7"):
        loader.batch_at(5, 2, 99)


def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one(digits, memory_block):
    """A training set smaller than the batch trains; validation keeps every sample."""
    block = memory_block()
    dls = block.dataloaders(digits, bs=100, device="cpu")
    assert (len(dls.train), len(dls.valid)) == (2, 1)
    assert [len(b) for b in dls.train.batches(0, 0)] == [100, 100]
    small = block.dataloaders(digits[:40], bs=64, device="cpu")
    assert [len(b) for b in small.train.batches(0, 0)] == [32]
    record = call_of(small)
    assert record is not None
    assert record.values["drop_last"].value is False
    with pytest.raises(ArgumentError, match="drop_last=True leaves no batch: there are 32 samples for bs=64"):
        block.dataloaders(digits[:40], bs=64, drop_last=True)


def test_validation_is_in_order_and_never_shuffled(digits, memory_block):
    """The positions count up."""
    dls = loaders(memory_block(), digits)
    assert np.concatenate([b.ids for b in dls.valid.batches(0, 3)]).tolist() == list(range(60))
    shuffled = np.concatenate([b.ids for b in dls.train.batches(0, 3)])
    assert sorted(shuffled.tolist()) != shuffled.tolist()


def break_file(folder, number):
    """Damage one file; gives its name."""
    victim = sorted(folder.rglob("*.png"))[number]
    victim.write_bytes(victim.read_bytes()[:20])
    return victim


@pytest.fixture
def broken(digit_folder, tmp_path):
    """A copy of the digits with two damaged files."""
    import shutil

    folder = tmp_path / "broken"
    shutil.copytree(digit_folder, folder)
    return folder, [break_file(folder, 5), break_file(folder, 50)]


def test_a_bad_file_is_named(broken, file_block):
    """By default it stops the epoch."""
    folder, victims = broken
    dls = file_block().dataloaders(folder, bs=20, device="cpu", num_workers=2)
    with pytest.raises(TransformError) as caught:
        [list(loader.plain().batches(0, 0)) for loader in dls.loaders]
    assert victims[0].name in str(caught.value)
    assert "Opener failed on" in caught.value.what


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_files_are_skipped_and_listed(broken, file_block, workers):
    """Each is named once an epoch, and the first is warned of."""
    folder, victims = broken
    dls = file_block().dataloaders(folder, bs=20, device="cpu", num_workers=workers, on_error="skip")
    with pytest.warns(SurefastWarning, match="an item was skipped"):
        counts = [sum(len(b) for b in loader.plain().batches(0, 0)) for loader in dls.loaders]
    assert sum(counts) == 118
    loader = dls.train.plain()
    with pytest.warns(SurefastWarning, match="loader.skipped"):
        list(loader.batches(0, 0))
    assert {s.index for s in loader.skipped} == {
        i for i in range(loader.n) if loader.dataset.item(i) in victims
    }
    assert all(s.replaced_by is None and "Opener failed" in s.error for s in loader.skipped)


def test_bad_files_are_replaced_by_others(broken, file_block, bits):
    """The batches keep their size, and the replacement depends on the key alone."""
    folder, _ = broken
    block = file_block()
    made = [
        block.dataloaders(folder, bs=20, device="cpu", num_workers=n, on_error="replace").train
        for n in (0, 2)
    ]
    with pytest.warns(SurefastWarning, match="an item was replaced"):
        streams = [bits(loader) for loader in made]
    assert streams[0] == streams[1]
    assert all(len(b[-2]) == 20 * 8 for b in streams[0])
    assert made[0].skipped == made[1].skipped != []
    assert all(s.replaced_by is not None for s in made[0].skipped)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_without_a_good_item_is_left_out(broken, file_block, workers):
    """The last batch of validation may hold nothing but a bad file: skipping goes on."""
    folder, _ = broken
    loader = (
        file_block()
        .dataloaders(folder, bs=1, device="cpu", num_workers=workers, on_error="skip", check_leaks=False)
        .train
    )
    with pytest.warns(SurefastWarning, match="loader.skipped"):
        numbers = [batch.number for batch in loader.batches(0, 0)]
    assert len(numbers) == len(loader) - len(loader.skipped) < len(loader)
    assert not {skipped.batch for skipped in loader.skipped} & set(numbers)


def test_an_epoch_without_a_good_item_stops(broken, file_block):
    """Skipping everything would train on nothing."""
    folder, _ = broken
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    dls = file_block().dataloaders(
        folder, bs=20, device="cpu", num_workers=0, on_error="skip", check_leaks=False
    )
    with (
        pytest.warns(SurefastWarning, match="an item was skipped"),
        pytest.raises(EmptyDataError, match="every one of them failed"),
    ):
        next(dls.train.batches(0, 0))
    with pytest.raises(EmptyDataError, match="every one of them failed"):
        dls.one_batch()


def test_file_errors_pass_as_they_are(digits, memory_block):
    """The opener's own error is not wrapped."""

    class Picky(ItemTransform):
        def apply(self, sample, key, *, train):
            raise FileError("the file is too large", do="shrink it", file="a.jpg")

    dls = loaders(memory_block(Picky()), digits, num_workers=2)
    with pytest.raises(FileError, match="too large"):
        next(dls.train.batches(0, 0))


def test_a_failing_transform_is_named_with_the_item(digits, memory_block):
    """A thread raises what the main thread would."""

    class Crash(ItemTransform):
        def apply(self, sample, key, *, train):
            raise ZeroDivisionError("by nothing")

    for count in (0, 2):
        dls = loaders(memory_block(Crash()), digits, num_workers=count)
        with pytest.raises(TransformError, match=r"Crash failed on item \d+") as caught:
            next(dls.train.batches(0, 0))
        assert caught.value.details["cause"] == "ZeroDivisionError: by nothing"
        assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_mixed_sizes_name_two_files(digit_folder, file_block, tmp_path):
    """And the remedy."""
    import shutil

    from PIL import Image

    folder = tmp_path / "mixed"
    shutil.copytree(digit_folder, folder)
    first = sorted(folder.rglob("*.png"))[0]
    Image.open(first).resize((9, 7)).save(first)
    dls = file_block().dataloaders(folder, bs=120, device="cpu", num_workers=0, drop_last=False)
    with pytest.raises(CollateError, match="pictures of different sizes") as caught:
        [list(loader.plain().batches(0, 0)) for loader in dls.loaders]
    assert first.name in str(caught.value)
    assert "Resize(224)" in caught.value.do


def test_bad_arguments_are_refused(digits, memory_block):
    """Where they are written."""
    block = memory_block(lambda x: x)
    with pytest.raises(ArgumentError, match="workers='fast' is not known"):
        block.dataloaders(digits, workers="fast")
    with pytest.raises(ArgumentError, match="draws from global generators, which threads share"):
        block.dataloaders(digits, workers="thread")
    with pytest.raises(ArgumentError, match="num_workers=-1"):
        block.dataloaders(digits, num_workers=-1)
    with pytest.raises(ArgumentError, match="on_error='ignore' is not known"):
        block.dataloaders(digits, on_error="ignore")
    with pytest.raises(ArgumentError, match="bs=0: a batch needs at least one sample"):
        block.dataloaders(digits, bs=0)
    with pytest.raises(ArgumentError, match="is a name, and nobody said how to list it"):
        block.dataloaders("some/folder")
    with pytest.raises(EmptyDataError, match="no items were found"):
        block.dataloaders([])


def test_foreign_transforms_on_a_small_set_start_no_process(digits, memory_block):
    """It would take longer than the epoch; the record says what was chosen."""
    dls = memory_block(lambda x: torch.as_tensor(x)).dataloaders(digits, device="cpu")
    assert dls.train.sources.kind(dls.train.dataset) == "here"
    record = call_of(dls)
    assert record is not None
    assert (record.values["built"].value, record.values["built"].neutral) == ("between steps", True)


def test_a_loader_works_alone(digits, memory_block):
    """``for xb, yb in loader`` is epoch 0 under the default seed."""
    data = memory_block(Jitter()).datasets(digits)
    loader = Loader(data.train, 64, shuffle=True, sources=Sources(num_workers=2), device="cpu")
    shapes = [(tuple(xb.shape), tuple(yb.shape)) for xb, yb in loader]
    assert shapes == [((64, 8, 8), (64,))] * 3


def test_every_epoch_and_every_seed_has_an_order_of_its_own(digits, memory_block):
    """Each epoch shows every sample once, in another order than the epochs and seeds beside it."""
    train = loaders(memory_block(), digits, num_workers=0, drop_last=False).train
    orders = [
        np.concatenate([batch.ids for batch in train.batches(seed, epoch)]).tolist()
        for seed, epoch in ((1, 0), (1, 1), (2, 0), (0, 1))
    ]
    assert all(sorted(order) == list(range(train.n)) for order in orders)
    assert len({tuple(order) for order in orders}) == len(orders)
    again = np.concatenate([batch.ids for batch in train.batches(1, 1)]).tolist()
    assert again == orders[1]
