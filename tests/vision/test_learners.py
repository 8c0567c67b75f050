"""vision_learner puts data, body, head and loss together, and says in the recipe what it decided."""

import inspect
import warnings

import pytest
import torch
import torchvision.models as tv
from torch import nn

from surefast.data.block import DataBlock
from surefast.data.blocks import CategoryBlock, RegressionBlock
from surefast.data.dataloaders import DataLoaders
from surefast.data.items import get_image_files
from surefast.data.label import parent_label
from surefast.errors import ArgumentError, SurefastWarning, TaskError, UnknownNameError
from surefast.learner import Learner
from surefast.recipe.call import call_of
from surefast.task.metric import accuracy
from surefast.train.weights import save_state
from surefast.vision.augment import Normalize
from surefast.vision.blocks import ImageBlock
from surefast.vision.image import PILImageBW
from surefast.vision.learners import cnn_learner, vision_learner
from surefast.vision.loaders import ImageDataLoaders
from surefast.vision.models import create_vision_model
from surefast.vision.xresnet import xresnet18


def digits(folder, **kwargs):
    return ImageDataLoaders.from_folder(folder, valid_pct=0.25, seed=1, bs=8, num_workers=0, **kwargs)


def grey(folder, target=CategoryBlock, get_y=parent_label):
    block = DataBlock((ImageBlock(PILImageBW), target()), get_items=get_image_files, get_y=get_y)
    return block.dataloaders(folder, bs=8, num_workers=0)


def digit(path):
    return float(parent_label(path))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A file of weights of mobilenet_v3_small under torchvision's names."""
    torch.default_generator.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "mobilenet.safetensors"
    return save_state(tv.mobilenet_v3_small(weights=None), file)


def make(dls, **kwargs):
    return vision_learner(dls, tv.mobilenet_v3_small, metrics=accuracy, **kwargs)


def state_of(learn):
    return [tensor.clone() for tensor in learn.model.state_dict().values()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_it_trains_and_predicts(few_digits):
    """A network from scratch is trained on real pictures and names the class of one."""
    dls = digits(few_digits)
    learn = vision_learner(dls, xresnet18, pretrained=False, metrics=accuracy)
    before = state_of(learn)
    learn.fit(1, 1e-3)
    assert not same(before, state_of(learn))
    assert learn.predict(dls.valid_ds.items[0])[0] in dls.vocab


def test_the_same_seed_makes_the_same_model(few_digits):
    """The head is drawn from the seed, whatever stands in the global generators; another seed differs."""
    dls = digits(few_digits)
    first = state_of(vision_learner(dls, xresnet18, pretrained=False))
    torch.default_generator.manual_seed(5)
    assert same(first, state_of(vision_learner(dls, xresnet18, pretrained=False)))
    assert not same(first, state_of(vision_learner(dls, xresnet18, pretrained=False, seed=7)))


def test_making_it_leaves_the_global_generators(few_digits):
    """What the user draws next does not depend on the learner."""
    torch.default_generator.manual_seed(5)
    expected = torch.rand(3)
    torch.default_generator.manual_seed(5)
    vision_learner(digits(few_digits), xresnet18, pretrained=False)
    assert torch.equal(torch.rand(3), expected)


def test_pretrained_freezes_the_body_and_normalizes(few_digits, weights):
    """Only head and norms train at first; the caller's data stays as it was."""
    dls = digits(few_digits)
    given = dls.train.batch_tfms
    learn = make(dls, weights=weights, train_bn=False)
    assert dls.train.batch_tfms == given
    assert any(isinstance(t, Normalize) for t in learn.dls.train.batch_tfms)
    assert any(isinstance(t, Normalize) for t in learn.dls.valid.batch_tfms)
    trainable = {id(p) for p in learn.model.parameters() if p.requires_grad}
    assert trainable == {id(p) for p in learn.model[1].parameters()}
    raw, seen = dls.one_batch()[0], learn.dls.one_batch()[0]
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    torch.testing.assert_close(seen, (raw - mean) / std)


def test_from_scratch_nothing_is_frozen_or_normalized(few_digits):
    """Without pretrained weights there are no statistics to follow."""
    learn = make(digits(few_digits), pretrained=False)
    assert all(p.requires_grad for p in learn.model.parameters())
    assert not any(isinstance(t, Normalize) for t in learn.dls.train.batch_tfms)


def test_normalize_false_is_obeyed(few_digits, weights):
    """The data is the caller's own object then."""
    dls = digits(few_digits)
    assert make(dls, weights=weights, normalize=False).dls is dls


def test_a_normalize_of_the_data_is_kept_and_questioned(few_digits, weights):
    """Statistics that the weights do not expect are a warning with both; the right ones are silent."""
    odd = digits(few_digits, batch_tfms=[Normalize([0.5] * 3, [0.5] * 3)])
    with pytest.warns(SurefastWarning, match=r"mean=\(0\.5, 0\.5, 0\.5\).* expect mean=\(0\.485"):
        learn = make(odd, weights=weights)
    assert learn.dls is odd
    right = digits(few_digits, batch_tfms=[Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert make(right, weights=weights).dls is right


def test_grey_pictures_get_a_body_for_one_channel(few_digits, weights):
    """The channels come from the data; three-channel statistics are not put on one channel."""
    learn = make(grey(few_digits), weights=weights)
    assert learn.model[0][0][0][0].in_channels == 1
    values = call_of(learn).values
    assert values["n_in"].value == 1
    assert values["normalized_by"].value == "nothing"
    assert "3 channels" in values["normalized_by"].why
    learn.validate()


def test_the_recipe_says_what_was_decided(few_digits, weights):
    """Weights with their hash, statistics, groups, outputs: each with its reason."""
    learn = make(digits(few_digits), weights=weights)
    flat = learn.recipe.flat()
    assert flat["setup.n_out"].value == 3
    assert flat["setup.n_out"].origin == "inferred"
    assert flat["setup.groups"].value == 2
    assert flat["setup.weights_from"].value == str(weights)
    assert len(flat["setup.weights_sha256"].value) == 64
    assert flat["setup.normalized_by"].value == "vision_learner"
    assert flat["setup.metrics"].origin == "user"
    assert "mobilenet_v3_small" in str(flat["setup.arch"].value)


def test_the_recipe_depends_on_the_weights_and_not_on_their_place(few_digits, weights, tmp_path):
    """The same file elsewhere is the same recipe; other weights under the same name are another."""
    dls = digits(few_digits)
    file = tmp_path / "elsewhere.safetensors"
    file.write_bytes(weights.read_bytes())
    first = make(dls, weights=weights).recipe.hash
    assert make(dls, weights=file).recipe.hash == first
    save_state(tv.mobilenet_v3_small(weights=None), file)
    assert make(dls, weights=file).recipe.hash != first


def test_another_head_size_is_an_error(few_digits):
    """The task of the data decides; a different number names both."""
    with pytest.raises(TaskError, match=r"n_out=10, but the task of the data needs 3 \(category: 0, 1, 2\)"):
        make(digits(few_digits), pretrained=False, n_out=10)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(576, 10))
    with pytest.raises(TaskError, match=r"custom_head gives \(2, 10\)"):
        make(digits(few_digits), pretrained=False, custom_head=head)


def test_data_without_a_task_needs_n_out(few_digits):
    """With torch's own loaders nobody knows the number of classes."""
    data = torch.utils.data.TensorDataset(torch.rand(8, 3, 64, 64), torch.zeros(8, dtype=torch.long))
    dls = DataLoaders(torch.utils.data.DataLoader(data, 4), torch.utils.data.DataLoader(data, 4))
    with pytest.raises(TaskError, match="not known how many numbers"):
        make(dls, pretrained=False)
    learn = make(dls, pretrained=False, n_out=2, loss_func=nn.CrossEntropyLoss())
    assert learn.get_preds()[0].shape == (8, 2)
    flat = DataLoaders(
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data.tensors[1], data.tensors[1]), 4)
    )
    with pytest.raises(ArgumentError, match=r"first input of a batch is \(4,\)"):
        make(flat, pretrained=False, n_out=2)


def test_regression_has_a_range(few_digits):
    """``y_range`` bounds what a model of numbers gives."""
    dls = grey(few_digits, RegressionBlock, digit)
    learn = make(dls, pretrained=False, y_range=(0, 2.5))
    preds = learn.get_preds()[0]
    assert preds.shape[1:] in {(), (1,)}
    assert 0 < preds.min() <= preds.max() < 2.5


def test_the_arguments_reach_learner_and_head(few_digits):
    """Nothing is accepted and dropped: each argument is one of Learner's, of the model's, or its own."""
    own = {"arch", "normalize", "n_out", "dls"}
    known = (
        own
        | set(inspect.signature(Learner).parameters)
        | set(inspect.signature(create_vision_model).parameters)
    )
    assert set(inspect.signature(vision_learner).parameters) <= known
    learner_arguments = set(inspect.signature(Learner).parameters) - {"model", "self"}
    assert learner_arguments <= set(inspect.signature(vision_learner).parameters)
    groups = []
    learn = make(
        digits(few_digits), pretrained=False, lin_ftrs=[32], ps=0.2, splitter=lambda m: groups.append(m) or [
            list(m.parameters())
        ], lr=0.5, wd=0.1, moms=(0.9, 0.8, 0.9), n_in=3, init=None, cut=1,
    )  # fmt: skip
    assert (learn.lr, learn.wd, learn.moms) == (0.5, 0.1, (0.9, 0.8, 0.9))
    assert learn.model[1][4].out_features == 32
    assert groups


def test_the_older_name_is_the_same_function(few_digits):
    """cnn_learner is vision_learner, and a misspelt argument is answered."""
    assert cnn_learner is vision_learner
    with pytest.raises(UnknownNameError, match="write 'pretrained'"):
        cnn_learner(digits(few_digits), xresnet18, pretraind=False)
