"""DataLoaders: what they know, new objects instead of changes, test sets, torch's own loaders."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock, RegressionBlock, TransformBlock
from surefast.data.dataloaders import DataLoaders
from surefast.data.foreign import ForeignLoader
from surefast.data.label import ColReader
from surefast.data.transform import BatchTransform
from surefast.errors import ArgumentError, EmptyDataError, UnknownNameError
from surefast.recipe.call import call_of


class Halve(BatchTransform):
    """Halves, and says how to undo it."""

    def apply(self, xs, u):
        return (xs[0] / 2, *xs[1:])

    def decode(self, xs):
        return (xs[0] * 2, *xs[1:])


@pytest.fixture
def dls(digits, memory_block):
    return memory_block().dataloaders(digits, bs=32, device="cpu")


def test_what_they_know(dls):
    """Classes, sizes, task, and the facts for the recipe."""
    assert dls.vocab == tuple("0123456789")
    assert (dls.c, dls.n_inp, dls.bs, len(dls), dls.device) == (10, 1, 32, 2, torch.device("cpu"))
    assert dls[0] is dls.train
    assert (len(dls.train_ds), len(dls.valid_ds)) == (240, 60)
    facts = dls.facts()
    assert (facts["train_items"], facts["valid_items"], facts["train_batches"]) == (240, 60, 7)
    assert sum(facts["train_per_class"].values()) == 240
    assert (facts["task"], facts["n_out"], facts["fingerprint"]) == ("category", 10, dls.fingerprint())


def test_the_fingerprint_is_of_the_data(digits, memory_block, dls):
    """Transforms and batch size do not matter; items, labels and the split do."""
    other = memory_block(batch_tfms=Halve()).dataloaders(digits, bs=16, device="cpu")
    assert other.fingerprint() == dls.fingerprint()
    assert memory_block().dataloaders(digits[:-1], device="cpu").fingerprint() != dls.fingerprint()
    changed = [*digits[:-1], (digits[-1][0], 1 - min(digits[-1][1], 1))]
    assert memory_block().dataloaders(changed, device="cpu").fingerprint() != dls.fingerprint()


def test_more_batch_transforms_make_new_loaders(dls):
    """Over the same data sets; the old ones stay as they are."""
    more = dls.with_batch_tfms([Halve()]).with_batch_tfms(Halve)
    assert more.train_ds is dls.train_ds
    assert torch.equal(more.one_batch()[0] * 4, dls.one_batch()[0])
    assert (len(dls.train.batch_tfms), len(more.valid.batch_tfms)) == (0, 2)
    assert more.task is dls.task


def test_a_batch_is_decoded_for_people(dls):
    """Transforms undone in reverse, labels by name."""
    more = dls.with_batch_tfms([Halve()])
    batch = more.valid.batch_at(0, 0, 0)
    rows = more.decode_batch(batch)
    image, label = dls.valid_ds.items[0]
    assert (rows[0][0].numpy() == image).all()
    assert rows[0][1] == str(label)
    assert dls.decode_target(torch.tensor(3)) == "3"


def test_plain_and_augmented_loaders(dls):
    """In the order of the items, nothing dropped; torch's own are put in order as well."""
    plain = dls.train.plain()
    assert [b.ids.tolist() for b in plain.batches(0, 5)][-1][-1] == 239
    assert (plain.train, dls.train.augmented().train) == (False, True)


def test_a_torch_loader_cannot_be_augmented():
    """It does not say what it does in training only."""
    train = DataLoader([(torch.ones(2), 0), (torch.ones(2), 1)], batch_size=2)
    with pytest.raises(ArgumentError, match="does not say what it does in training only"):
        DataLoaders(train).train.augmented()


def test_ready_batches_are_a_loader():
    """A list of tuples of tensors; there is nothing to transform and nothing to draw."""
    batches = [(torch.ones(3, 2), torch.zeros(3)), (torch.ones(2, 2), torch.zeros(2))]
    dls = DataLoaders(batches, batches, device="cpu")
    assert [b.ids.tolist() for b in dls.train.batches(0, 0)] == [[0, 1, 2], [3, 4]]
    assert dls.valid.plain() is dls.valid
    with pytest.raises(ArgumentError, match="ready batches are as they were made"):
        dls.train.augmented()
    with pytest.raises(ArgumentError, match="ready batches take no batch transforms"):
        dls.with_batch_tfms(Halve)
    with pytest.raises(ArgumentError, match="the first one is a int"):
        DataLoaders([1, 2])
    with pytest.raises(EmptyDataError, match="there is no batch in the list"):
        DataLoaders([])


def test_a_test_set_is_prepared_like_validation(digits, dls):
    """With or without labels, from one item or many."""
    bare = dls.test_dl([pair for pair in digits[:40]], num_workers=0)
    batches = list(bare.batches(0, 0))
    assert [len(b) for b in batches] == [32, 8]
    assert all(b.y == () for b in batches)
    labelled = next(dls.test_dl(digits[:5], with_labels=True, bs=2).batches(0, 0))
    assert labelled.y[0].tolist() == [label for _, label in digits[:2]]
    alone = next(dls.test_dl(digits[0][0]).batches(0, 0))  # what the getter would have read
    assert (alone.x[0][0].numpy() == digits[0][0]).all()


def test_a_test_table_may_be_one_without_labels():
    """The target's column is not asked for."""
    frame = pd.DataFrame({"x": np.arange(10.0), "y": np.arange(10.0)})
    block = DataBlock((TransformBlock, RegressionBlock), get_x=ColReader("x"), get_y=ColReader("y"))
    dls = block.dataloaders(frame, bs=4, device="cpu")
    assert dls.train.batch_at(0, 0, 0).y[0].dtype == torch.float32
    test = dls.test_dl(frame[["x"]])
    assert next(iter(test))[0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_two_inputs_and_two_targets():
    """n_inp says where the targets begin."""
    block = DataBlock(
        (TransformBlock, TransformBlock, CategoryBlock, RegressionBlock),
        n_inp=2,
        getters=[lambda i: i, lambda i: -i, lambda i: i % 2, lambda i: i / 2],
    )
    dls = block.dataloaders(list(range(20)), bs=4, device="cpu")
    batch = dls.train.batch_at(0, 0, 0)
    assert (len(batch.x), len(batch.y), dls.task.kind) == (2, 2, "category")
    assert torch.equal(batch.x[0], -batch.x[1])


def test_every_argument_is_recorded_with_its_origin(digits, memory_block):
    """The block hangs under the call, inferred values say why, a typo is answered."""
    dls = memory_block().dataloaders(digits, bs=32)
    record = call_of(dls)
    assert record is not None
    assert record.name == "DataBlock.dataloaders"
    origins = {name: value.origin for name, value in record.values.items()}
    assert (origins["bs"], origins["shuffle"], origins["device"]) == ("user", "default", "inferred")
    assert record.values["drop_last"].why
    assert record.values["num_workers"].neutral
    assert record.values["source"].neutral
    assert "dataset" not in call_of(dls.train).values
    block = call_of(record.values["self"].value)
    assert block is not None
    assert block.values["splitter"].origin == "inferred"
    with pytest.raises(UnknownNameError) as caught:
        memory_block().dataloaders(digits, batch_size=3)
    assert caught.value.code == "unknown-name"
    with pytest.raises(UnknownNameError) as caught:
        memory_block().dataloaders(digits, num_worker=3)
    assert caught.value.do == "write 'num_workers'"


@pytest.fixture
def foreign():
    """DataLoaders over torch's own."""
    data = TensorDataset(torch.arange(20.0)[:, None], torch.arange(20) % 2)

    def make(**more):
        return DataLoaders(
            DataLoader(data, batch_size=6, shuffle=True, **more), DataLoader(data, batch_size=8), device="cpu"
        )

    return make


def test_torch_loaders_work_and_repeat(foreign, bits):
    """Epochs differ by key, and a start in the middle gives the rest."""
    dls = foreign()
    assert isinstance(dls.train, ForeignLoader)
    whole = bits(dls.train)
    assert bits(dls.train) == whole
    assert bits(dls.train, epoch=1) != whole
    assert bits(dls.train, start=2) == whole[2:]
    assert (dls.train.n, dls.n_inp, dls.bs, len(dls.train)) == (20, 1, 6, 4)
    assert bits(foreign(generator=torch.Generator()).train) == bits(
        foreign(generator=torch.Generator()).train
    )


def test_torch_loaders_are_not_moved_by_what_training_draws(foreign):
    """A step between two batches draws from the same generators."""
    loader = foreign().train
    quiet = [b.x[0] for b in loader.batches(1, 0)]
    noisy = []
    for batch in loader.batches(1, 0):
        noisy.append(batch.x[0])
        torch.rand(len(noisy))
    assert all(torch.equal(a, b) for a, b in zip(quiet, noisy, strict=True))


def test_lost_promises_are_said(foreign, digits, memory_block):
    """In sentences, in the facts too; our own loaders lose none."""
    dls = foreign()
    assert any("Starting in the middle" in s for s in dls.promises_lost)
    assert dls.facts()["promises_lost"] == dls.promises_lost
    assert any("number of workers" in s for s in foreign(num_workers=1).promises_lost)
    assert memory_block().dataloaders(digits, device="cpu").promises_lost == ()


def test_what_torch_loaders_cannot_do_is_an_error(foreign):
    """With the way out."""
    dls = foreign()
    with pytest.raises(ArgumentError, match="know no task"):
        _ = dls.c
    with pytest.raises(ArgumentError, match="test_dl needs to know how an item is opened"):
        dls.test_dl([1])
    with pytest.raises(ArgumentError, match="DataLoaders takes loaders, and got: int"):
        DataLoaders(7)
    empty = DataLoader(TensorDataset(torch.zeros(3)), batch_size=5, drop_last=True)
    with pytest.raises(EmptyDataError, match="gives no batch: 3 samples, batch_size=5"):
        DataLoaders(empty)
    plain = dls.train.plain()
    assert [b.x[0][0].item() for b in plain.batches(0, 0)] == [0, 6, 12, 18]
    assert plain.item_name(3) == "item 3"
    with pytest.raises(ArgumentError, match="there is no batch 9: an epoch has 4"):
        plain.batch_at(0, 0, 9)
    assert len(dls.with_batch_tfms(Halve).one_batch()) == 2


def test_batches_go_where_they_are_told(dls):
    """To another device, in new loaders."""
    there = dls.to("meta")
    assert there.one_batch()[0].device.type == "meta"
    assert dls.one_batch()[0].device.type == "cpu"
