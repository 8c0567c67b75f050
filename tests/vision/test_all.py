"""The curated list is what fastai programs need, costs little, and answers for what is not there."""

import subprocess
import sys

import pytest

import surefast.vision.all as everything
from surefast.errors import UnknownNameError

FASTAI = [
    "URLs", "untar_data", "accuracy", "get_image_files", "Normalize", "Learner", "DataBlock",
    "CategoryBlock", "Resize", "ImageBlock", "imagenet_stats", "parent_label", "vision_learner",
    "RandomSplitter", "aug_transforms", "tensor", "PILImage", "GrandparentSplitter", "Adam",
    "ImageDataLoaders", "Datasets", "DataLoaders", "Flatten", "IntToFloatTensor", "ToTensor",
    "error_rate", "ColSplitter", "ColReader", "Perplexity", "CrossEntropyLossFlat", "FuncSplitter",
    "RegexLabeller", "PILImageBW", "RandomResizedCrop", "FlipItem", "Image", "top_k_accuracy",
    "MultiCategoryBlock", "Interpretation", "IndexSplitter", "Callback",
    "LabelSmoothingCrossEntropy", "BILINEAR", "NEAREST", "create_body", "create_head", "get_files",
    "MixedPrecision", "xresnet50", "SGD", "F1ScoreMulti", "accuracy_multi", "xresnet34",
    "xresnet18", "TransformBlock", "model_meta", "LinBnDrop", "GradientClip",
    "ClassificationInterpretation", "RandomErasing", "ConvLayer", "Path", "np", "pd", "torch", "nn",
    "F", "plt", "partial", "resnet18", "resnet34", "resnet50", "cnn_learner",
]  # fmt: skip
"""The used names of fastai's tutorials that exist here, and what their programs rely on."""


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("name", FASTAI)
def test_a_name_of_fastais_tutorials_is_there(name):
    """Each is in ``__all__`` and can be had."""
    assert name in everything.__all__
    assert getattr(everything, name) is not None


def test_the_list_is_true():
    """Every listed name exists, once."""
    assert len(everything.__all__) == len(set(everything.__all__))
    assert all(hasattr(everything, name) for name in everything.__all__)


def test_a_star_import_loads_neither_pandas_nor_matplotlib():
    """The heavy libraries come when they are used, and work then."""
    code = (
        "from surefast.vision.all import *\n"
        "import sys\n"
        "heavy = 'pandas', 'matplotlib', 'timm', 'sklearn', 'torchmetrics'\n"
        "early = [m for m in heavy if m in sys.modules]\n"
        "print(early, pd.DataFrame({'a': [1]}).shape, plt.__name__)"
    )
    assert run(code) == "[] (1, 1) matplotlib.pyplot"


@pytest.mark.parametrize(
    ("name", "text"),
    [("unet_learner", "U-Net of your own"), ("TensorImage", "torch.Tensor"), ("to_fp16", "precision='fp16'"),
     ("set_seed", "seed= to the learner"), ("AvgPool", "MeanPool"),
     ("vision_lerner", "write 'vision_learner'")],
)  # fmt: skip
def test_a_name_that_is_not_there_says_what_to_write(name, text):
    """Names of fastai that do not exist here, and misspelt ones, are answered."""
    with pytest.raises(UnknownNameError, match=r"surefast\.vision\.all has no") as caught:
        exec(f"from surefast.vision.all import {name}")
    assert text in str(caught.value)


def test_what_stands_in_for_a_name_is_not_itself_there():
    """The table of other words holds no name that exists."""
    assert not set(everything._INSTEAD) & set(everything.__all__)


def test_private_names_are_plain_attribute_errors():
    """hasattr() and the import system keep working."""
    assert not hasattr(everything, "__nothing__")
    assert not hasattr(everything.pd, "__nothing__")
