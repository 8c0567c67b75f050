"""ImageDataLoaders: the same pictures and labels however they lie about; workers change no bit."""

import importlib
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock
from surefast.data.items import get_image_files
from surefast.data.label import ColReader, parent_label
from surefast.data.transform import TrainOnly
from surefast.errors import ArgumentError, EmptyDataError, FileError, UnknownNameError
from surefast.keys.key import DEFAULT_SEED
from surefast.learner import Learner
from surefast.recipe.call import call_of
from surefast.replay import train_recipe
from surefast.vision.augment import Normalize, aug_transforms, imagenet_stats
from surefast.vision.blocks import ImageBlock
from surefast.vision.image import PILImageBW
from surefast.vision.loaders import ImageDataLoaders, NameLabeller
from surefast.vision.transforms import RandomResizedCrop, Resize

HERE = {"bs": 4, "num_workers": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Windows of two real photographs, as train/china/china_0.jpg and so on."""
    datasets = importlib.import_module("sklearn.datasets")
    root = tmp_path_factory.mktemp("photos")
    for name in ("china", "flower"):
        pixels = datasets.load_sample_image(f"{name}.jpg")
        for i in range(12):
            file = root / ("valid" if i % 4 == 3 else "train") / name / f"{name}_{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[10 * i : 10 * i + 90, 15 * i : 15 * i + 120]).save(file)
    return root


def first_letter(name):
    return name[0]


def labels_of(dls):
    return {
        Path(dls.train.item_name(i)).name: dls.vocab[dls.train_ds[i][1]] for i in range(len(dls.train_ds))
    }


def test_from_folder_splits_by_folder(folder):
    """train and valid, labels from the folders."""
    dls = ImageDataLoaders.from_folder(folder, item_tfms=Resize(32), **HERE)
    assert dls.vocab == ("china", "flower")
    assert (len(dls.train_ds), len(dls.valid_ds)) == (18, 6)
    assert all(name.startswith(label) for name, label in labels_of(dls).items())
    x, y = dls.one_batch()
    assert x.shape == (4, 3, 32, 32)
    assert y.dtype == torch.int64


def test_from_folder_splits_at_random_where_asked(folder):
    """valid_pct takes the two folders as ordinary ones."""
    dls = ImageDataLoaders.from_folder(folder, valid_pct=0.25, item_tfms=Resize(32), **HERE)
    assert (len(dls.train_ds), len(dls.valid_ds)) == (18, 6)
    assert dls.vocab == ("china", "flower")


def test_the_vocabulary_can_be_given(folder):
    """Its order is the order of the classes."""
    dls = ImageDataLoaders.from_folder(folder, vocab=["flower", "china"], item_tfms=Resize(32), **HERE)
    assert dls.vocab == ("flower", "china")


def test_names_and_paths_and_patterns_agree(folder):
    """Five ways of saying the same give the same split and labels."""
    files, how = get_image_files(folder), {"item_tfms": Resize(32), **HERE}
    made = [
        ImageDataLoaders.from_name_func(folder, files, first_letter, **how),
        ImageDataLoaders.from_name_re(folder, files, r"^(.)[a-z]+_\d+.jpg$", **how),
        ImageDataLoaders.from_path_func(folder, files, lambda path: path.parent.name[0], **how),
        ImageDataLoaders.from_path_re(folder, files, r"/(.)[a-z]+_\d+.jpg$", **how),
        ImageDataLoaders.from_lists(folder, files, [file.name[0] for file in files], **how),
    ]
    wanted = labels_of(made[0])
    assert set(wanted.values()) == {"c", "f"}
    assert all(labels_of(dls) == wanted for dls in made)
    batches = [dls.one_batch()[0] for dls in made]
    assert all(torch.equal(batches[0], batch) for batch in batches)


def test_a_table_and_a_csv_file(folder, tmp_path):
    """File names with folder and ending put on, one label or several, a column that splits."""
    pd = importlib.import_module("pandas")
    files = [file.relative_to(folder) for file in get_image_files(folder)]
    table = pd.DataFrame({
        "name": [str(file.with_suffix("")) for file in files],
        "label": [file.parent.name for file in files],
        "tags": [f"{file.parent.name};{'even' if i % 2 else 'odd'}" for i, file in enumerate(files)],
        "is_valid": [file.parts[0] == "valid" for file in files],
    })
    how = {"suff": ".jpg", "item_tfms": Resize(32), **HERE}
    one = ImageDataLoaders.from_df(table, folder, valid_col="is_valid", **how)
    assert (one.vocab, len(one.valid_ds)) == (("china", "flower"), 6)
    several = ImageDataLoaders.from_df(
        table, folder.parent, folder=folder.name, label_col="tags", label_delim=";", **how
    )
    assert several.vocab == ("china", "even", "flower", "odd")
    assert several.one_batch()[1].shape == (4, 4)
    table.to_csv(tmp_path / "labels.csv", index=False)
    again = ImageDataLoaders.from_csv(tmp_path, folder=folder, valid_col="is_valid", **how)
    assert torch.equal(one.one_batch()[0], again.one_batch()[0])


def test_the_kind_of_label_decides_the_block(folder):
    """Floats are regressed, lists are several labels; the record says why."""
    files = get_image_files(folder)
    numbers = ImageDataLoaders.from_lists(
        folder, files, [float(i) for i in range(24)], item_tfms=Resize(32), **HERE
    )
    assert numbers.one_batch()[1].dtype == torch.float32
    block = call_of(numbers).values["y_block"]
    assert (block.origin, block.why) == ("inferred", "the first label is a float")
    lists = ImageDataLoaders.from_lists(folder, files, [["a"], ["a", "b"]] * 12, item_tfms=Resize(32), **HERE)
    assert lists.one_batch()[1].shape == (4, 2)


def test_workers_change_no_bit(folder):
    """Augmented batches are the same built here and in 1, 2 or 3 threads, whatever the prefetch."""

    def epoch(**how):
        dls = ImageDataLoaders.from_folder(
            folder,
            item_tfms=RandomResizedCrop(32),
            batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
            bs=5,
            device="cpu",
            **how,
        )
        return torch.cat([batch.x[0] for batch in dls.train.batches(seed=7, epoch=3)])

    wanted = epoch(num_workers=0)
    for how in ({"num_workers": 1}, {"num_workers": 2, "prefetch": 1}, {"num_workers": 3, "prefetch": 4}):
        assert torch.equal(epoch(**how), wanted)


def test_another_seed_or_epoch_changes_the_bits(folder):
    """The twin of the test above: it could fail."""
    dls = ImageDataLoaders.from_folder(folder, item_tfms=RandomResizedCrop(32), shuffle=False, **HERE)
    made = [next(dls.train.batches(seed, epoch)).x[0] for seed, epoch in ((0, 0), (1, 0), (0, 1), (0, 0))]
    assert torch.equal(made[0], made[3])
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_defaults_are_recorded_as_such(folder):
    """The seed of the split is shown, and what the user typed has another origin than what nobody chose."""
    record = call_of(ImageDataLoaders.from_folder(folder, valid_pct=0.5, item_tfms=Resize(32), **HERE))
    assert record.target.endswith("ImageDataLoaders.from_folder")
    assert (record.values["seed"].value, record.values["seed"].origin) == (DEFAULT_SEED, "default")
    assert record.values["valid_pct"].origin == "user"
    assert record.values["num_workers"].neutral
    assert not record.values["bs"].neutral


def test_grey_images_and_name_labeller(folder):
    """img_cls, and labels of names alone."""
    dls = ImageDataLoaders.from_folder(folder, img_cls=PILImageBW, item_tfms=Resize(32), **HERE)
    assert dls.one_batch()[0].shape == (4, 1, 32, 32)
    assert NameLabeller(first_letter)("x/y/abc.jpg") == "a"


def test_a_bad_file_is_named_or_skipped(folder, tmp_path):
    """on_error raise names it; skip leaves it out and lists it."""
    files = [*get_image_files(folder), tmp_path / "cut.jpg"]
    data = files[0].read_bytes()
    files[-1].write_bytes(data[: len(data) // 2])
    how = {
        "item_tfms": Resize(32),
        "valid_pct": 0.1,
        "shuffle": False,
        "bs": 30,
        **{k: v for k, v in HERE.items() if k != "bs"},
    }
    dls = ImageDataLoaders.from_name_func(tmp_path, files, first_letter, seed=1, **how)
    with pytest.raises(FileError) as error:
        list(dls.train.batches(0, 0))
    assert "cut short" in str(error.value) or "truncated" in str(error.value)
    assert str(files[-1]) in str(error.value)
    dls = ImageDataLoaders.from_name_func(tmp_path, files, first_letter, seed=1, on_error="skip", **how)
    with pytest.warns(UserWarning, match=r"cut\.jpg"):
        assert sum(len(batch) for batch in dls.train.batches(0, 0)) == len(dls.train_ds) - 1


def test_mistakes_have_answers(folder, tmp_path):
    """An empty folder, lists of different lengths, a missing CSV file, a typo."""
    (tmp_path / "train").mkdir()
    (tmp_path / "valid").mkdir()
    with pytest.raises(EmptyDataError, match="no image files"):
        ImageDataLoaders.from_folder(tmp_path)
    with pytest.raises(ValueError, match="2 file names and 1 labels"):
        ImageDataLoaders.from_lists(tmp_path, ["a", "b"], [1])
    with pytest.raises(EmptyDataError, match="fnames is empty"):
        ImageDataLoaders.from_lists(tmp_path, [], [])
    with pytest.raises(FileError, match="does not exist"):
        ImageDataLoaders.from_csv(tmp_path)
    (tmp_path / "labels.csv").write_text("")
    with pytest.raises(FileError, match="cannot be read"):
        ImageDataLoaders.from_csv(tmp_path)
    with pytest.raises(UnknownNameError, match="'item_tfms'"):
        ImageDataLoaders.from_folder(folder, item_tmfs=Resize(32))
    with pytest.raises(ValueError, match="cannot be called"):
        ImageDataLoaders.from_name_func(tmp_path, ["a"], "pattern")


def pairs(files):
    return [file.name[0] for file in files]


def makers(root):
    """Every way to say the same, with everything it needs below ``root``."""
    files = get_image_files(root)
    frame = pd.DataFrame({
        "name": [str(file.relative_to(root)) for file in files],
        "label": [file.name[0] for file in files],
    })
    frame.to_csv(root / "labels.csv", index=False)
    how = {"item_tfms": Resize(16), **HERE}
    block = DataBlock((ImageBlock, CategoryBlock), get_y=parent_label, item_tfms=Resize(16))
    listing = DataBlock(
        (ImageBlock, CategoryBlock), get_items=get_image_files, get_y=parent_label, item_tfms=Resize(16)
    )
    table = DataBlock(
        (ImageBlock, CategoryBlock),
        get_x=ColReader("name", pref=root),
        get_y=ColReader("label"),
        item_tfms=Resize(16),
    )
    pattern = r"^(.)[a-z]+_\d+.jpg$"
    return {
        "folder": ImageDataLoaders.from_folder(root, **how),
        "folder pct": ImageDataLoaders.from_folder(root, valid_pct=0.25, **how),
        "path_func": ImageDataLoaders.from_path_func(root, files, parent_label, **how),
        "name_re": ImageDataLoaders.from_name_re(root, files, pattern, **how),
        "name_re list": ImageDataLoaders.from_name_re(root, list(files), pattern, **how),
        "df": ImageDataLoaders.from_df(frame, root, **how),
        "csv": ImageDataLoaders.from_csv(root, **how),
        "lists": ImageDataLoaders.from_lists(root, files, pairs(files), **how),
        "block": listing.dataloaders(root, **HERE),
        "v2": listing.new([v2.Resize((16, 16)), TrainOnly(v2.ColorJitter(0.3))]).dataloaders(root, **HERE),
        "block files": block.dataloaders(files, **HERE),
        "block list": block.dataloaders(list(files), **HERE),
        "block df": table.dataloaders(frame, **HERE),
    }


def small_model():
    return nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 2))


def weights(learn):
    return [p.detach().numpy().tobytes() for p in learn.model.parameters()]


def test_a_recipe_alone_trains_again_and_does_not_know_where_the_data_is(folder, tmp_path):
    """Equal weights from the file of any maker; equal hashes from a copy of the data elsewhere."""
    here, there = tmp_path / "here", tmp_path / "deeper" / "there"
    shutil.copytree(folder, here)
    shutil.copytree(folder, there)
    moved = makers(there)
    for name, dls in makers(here).items():
        learn = Learner(dls, small_model, run_dir=tmp_path / "runs")
        other = Learner(moved[name], small_model, run_dir=tmp_path / "runs")
        assert learn.recipe.hash == other.recipe.hash, name
        learn.fit(1, 0.01)
        file = tmp_path / "again.toml"
        file.write_text(learn.recipe.to_toml())
        again = train_recipe(file, run_dir=tmp_path / "runs", trust_code=True)
        assert weights(again) == weights(learn), name
        assert again.recipe.hash == learn.recipe.hash, name


def test_another_picture_of_the_same_name_changes_the_hash(folder, tmp_path):
    """The twin: leaving the folder out of the hash does not leave the data out."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(folder, here)
    shutil.copytree(folder, there)
    files = get_image_files(there)
    files[0].write_bytes(files[0].read_bytes() + b"\0")
    first, second = makers(here), makers(there)
    for name in first:
        hashes = {Learner(made[name], small_model, run_dir=tmp_path).recipe.hash for made in (first, second)}
        assert len(hashes) == 2, name


def test_a_single_name_is_no_list_of_files(tmp_path):
    """Its letters would be taken for files."""
    with pytest.raises(ArgumentError, match="fnames is one name"):
        ImageDataLoaders.from_name_func(tmp_path, str(tmp_path), first_letter)


def test_where_normalize_is_written_does_not_matter(folder):
    """It goes last, as in fastai: augmentation is for pictures in [0, 1]."""
    normalize = Normalize.from_stats(*imagenet_stats)
    made = [
        ImageDataLoaders.from_folder(folder, item_tfms=Resize(32), batch_tfms=tfms, **HERE)
        for tfms in ([*aug_transforms(), normalize], [normalize, *aug_transforms()])
    ]
    assert torch.equal(made[0].one_batch()[0], made[1].one_batch()[0])
    pictures = made[1].decode_batch(made[1].train.batch_at(DEFAULT_SEED, 0, 0))
    assert all(row[0].min() > -0.01 and row[0].max() < 1.01 for row in pictures)
