"""Everything that a program about images needs: ``from surefast.vision.all import *``.

A curated list: the names that fastai's tutorials use, as far as the thing exists here, and what such programs
expect to find beside them. pandas and matplotlib are imported when they are first used.
"""

from __future__ import annotations

import importlib
import types
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn, tensor
from torchvision.models import (
    alexnet,
    convnext_base,
    convnext_small,
    convnext_tiny,
    densenet121,
    densenet161,
    densenet169,
    densenet201,
    efficientnet_b0,
    efficientnet_b1,
    efficientnet_b2,
    efficientnet_b3,
    mobilenet_v2,
    mobilenet_v3_large,
    mobilenet_v3_small,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    squeezenet1_0,
    squeezenet1_1,
    vgg11_bn,
    vgg13_bn,
    vgg16_bn,
    vgg19_bn,
)

from surefast.callbacks.actors import EarlyStoppingCallback, ReduceLROnPlateau
from surefast.callbacks.contract import Actor, Callback, Observer
from surefast.data.block import DataBlock, Datasets
from surefast.data.blocks import CategoryBlock, MultiCategoryBlock, RegressionBlock, TransformBlock
from surefast.data.dataloaders import DataLoaders
from surefast.data.fetch import untar_data
from surefast.data.items import get_files, get_image_files
from surefast.data.label import AttrGetter, ColReader, ItemGetter, RegexLabeller, parent_label
from surefast.data.leaks import find_leaks
from surefast.data.split import (
    ColSplitter,
    EndSplitter,
    FuncSplitter,
    GrandparentSplitter,
    GroupSplitter,
    IndexSplitter,
    KFoldSplitter,
    MaskSplitter,
    RandomSplitter,
    TimeSplitter,
    TrainTestSplitter,
)
from surefast.data.transform import TrainOnly
from surefast.data.urls import URLs
from surefast.errors import SurefastError, UnknownNameError, unknown_name
from surefast.learner import Learner
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
from surefast.task.loss import (
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    FocalLossFlat,
    L1LossFlat,
    LabelSmoothingCrossEntropy,
    MSELossFlat,
)
from surefast.task.metric import (
    Metric,
    accuracy,
    accuracy_multi,
    error_rate,
    mae,
    mse,
    rmse,
    top_k_accuracy,
)
from surefast.task.score_metrics import Perplexity, R2Score, RocAuc, RocAucBinary, RocAucMulti
from surefast.train.accumulate import GradientAccumulation
from surefast.train.average import EMA
from surefast.train.clip import GradientClip
from surefast.train.compiled import ChannelsLast, Compile
from surefast.train.lr_suggest import minimum, slide, steep, valley
from surefast.train.optimizer import SGD, Adam, AdamW
from surefast.train.precision import MixedPrecision
from surefast.train.schedule import (
    SchedCos,
    SchedExp,
    SchedLin,
    SchedNo,
    SchedPoly,
    combine_scheds,
    combined_cos,
)
from surefast.vision.augment import (
    IntToFloatTensor,
    Normalize,
    RandomErasing,
    aug_transforms,
    cifar_stats,
    imagenet_stats,
    mnist_stats,
)
from surefast.vision.blocks import ImageBlock
from surefast.vision.geometry import Dihedral, Flip, RandomResizedCropGPU, Rotate, Warp, Zoom
from surefast.vision.head import ConcatPool, Flatten, LinBnDrop, MeanPool, SigmoidRange, create_head
from surefast.vision.image import PILImage, PILImageBW
from surefast.vision.interpret import ClassificationInterpretation, Interpretation
from surefast.vision.learners import cnn_learner, vision_learner
from surefast.vision.lighting import Brightness, Contrast, Hue, Saturation
from surefast.vision.loaders import ImageDataLoaders
from surefast.vision.models import create_body, create_vision_model, default_split, model_meta
from surefast.vision.transforms import (
    BICUBIC,
    BILINEAR,
    NEAREST,
    CropPad,
    FlipItem,
    PadMode,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeMethod,
    ToTensor,
)
from surefast.vision.xresnet import ConvLayer, simple_cnn, xresnet18, xresnet34, xresnet50, xresnet101


class _LazyModule(types.ModuleType):
    """A module that is imported when the first of its attributes is asked for."""

    def __getattr__(self, name: str) -> Any:
        # A module's __dir__ and the import system ask for dunders; those do not start pandas.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))


pd = _LazyModule("pandas")
plt = _LazyModule("matplotlib.pyplot")

__all__ = [
    "BICUBIC",
    "BILINEAR",
    "EMA",
    "NEAREST",
    "SGD",
    "Actor",
    "Adam",
    "AdamW",
    "AttrGetter",
    "BCEWithLogitsLossFlat",
    "Brightness",
    "Callback",
    "CategoryBlock",
    "ChannelsLast",
    "ClassificationInterpretation",
    "ColReader",
    "ColSplitter",
    "Compile",
    "ConcatPool",
    "Contrast",
    "ConvLayer",
    "CropPad",
    "CrossEntropyLossFlat",
    "DataBlock",
    "DataLoaders",
    "Datasets",
    "Dice",
    "DiceMulti",
    "Dihedral",
    "EarlyStoppingCallback",
    "EndSplitter",
    "F",
    "F1Score",
    "F1ScoreMulti",
    "FBeta",
    "Flatten",
    "Flip",
    "FlipItem",
    "FocalLossFlat",
    "FuncSplitter",
    "GradientAccumulation",
    "GradientClip",
    "GrandparentSplitter",
    "GroupSplitter",
    "Hue",
    "Image",
    "ImageBlock",
    "ImageDataLoaders",
    "IndexSplitter",
    "IntToFloatTensor",
    "Interpretation",
    "ItemGetter",
    "JaccardCoeff",
    "JaccardCoeffMulti",
    "KFoldSplitter",
    "L1LossFlat",
    "LabelSmoothingCrossEntropy",
    "Learner",
    "LinBnDrop",
    "MSELossFlat",
    "MaskSplitter",
    "MeanPool",
    "Metric",
    "MixedPrecision",
    "MultiCategoryBlock",
    "Normalize",
    "Observer",
    "PILImage",
    "PILImageBW",
    "PadMode",
    "Path",
    "Perplexity",
    "Precision",
    "PrecisionMulti",
    "R2Score",
    "RandomCrop",
    "RandomErasing",
    "RandomResizedCrop",
    "RandomResizedCropGPU",
    "RandomSplitter",
    "Recall",
    "RecallMulti",
    "ReduceLROnPlateau",
    "RegexLabeller",
    "RegressionBlock",
    "Resize",
    "ResizeMethod",
    "RocAuc",
    "RocAucBinary",
    "RocAucMulti",
    "Rotate",
    "Saturation",
    "SchedCos",
    "SchedExp",
    "SchedLin",
    "SchedNo",
    "SchedPoly",
    "SigmoidRange",
    "SurefastError",
    "TimeSplitter",
    "ToTensor",
    "TrainOnly",
    "TrainTestSplitter",
    "TransformBlock",
    "URLs",
    "UnknownNameError",
    "Warp",
    "Zoom",
    "accuracy",
    "accuracy_multi",
    "alexnet",
    "aug_transforms",
    "cifar_stats",
    "cnn_learner",
    "combine_scheds",
    "combined_cos",
    "convnext_base",
    "convnext_small",
    "convnext_tiny",
    "create_body",
    "create_head",
    "create_vision_model",
    "default_split",
    "densenet121",
    "densenet161",
    "densenet169",
    "densenet201",
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "error_rate",
    "find_leaks",
    "get_files",
    "get_image_files",
    "imagenet_stats",
    "mae",
    "minimum",
    "mnist_stats",
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "model_meta",
    "mse",
    "nn",
    "np",
    "parent_label",
    "partial",
    "pd",
    "plt",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "rmse",
    "simple_cnn",
    "slide",
    "squeezenet1_0",
    "squeezenet1_1",
    "steep",
    "tensor",
    "top_k_accuracy",
    "torch",
    "untar_data",
    "valley",
    "vgg11_bn",
    "vgg13_bn",
    "vgg16_bn",
    "vgg19_bn",
    "vision_learner",
    "xresnet18",
    "xresnet34",
    "xresnet50",
    "xresnet101",
]

_LATER: Final = "is not in this version of surefast"

_INSTEAD: Final = {
    "unet_learner": "segmentation " + _LATER + "; Learner(dls, model) trains a U-Net of your own",
    "DynamicUnet": "segmentation " + _LATER + "; Learner(dls, model) trains a U-Net of your own",
    "SegmentationDataLoaders": "segmentation " + _LATER,
    "SegmentationInterpretation": "segmentation " + _LATER,
    "MaskBlock": "segmentation " + _LATER + "; TransformBlock takes transforms of your own",
    "PILMask": "segmentation " + _LATER,
    "PointBlock": "RegressionBlock(n_out=...) for coordinates as numbers",
    "BBoxBlock": "object detection " + _LATER,
    "BBoxLblBlock": "object detection " + _LATER,
    "get_annotations": "object detection " + _LATER,
    "PILDicom": "a getter of your own that gives a uint8 tensor (C, H, W)",
    "TensorImage": "torch.Tensor: batches are plain tensors, pictures in a sample are tv_tensors.Image",
    "TensorImageBW": "torch.Tensor: batches are plain tensors",
    "TensorMask": "torch.Tensor: batches are plain tensors",
    "TensorCategory": "torch.Tensor: batches are plain tensors",
    "TensorBase": "torch.Tensor: batches are plain tensors",
    "to_fp16": "precision='fp16' to the learner, or cbs=MixedPrecision()",
    "to_fp32": "precision='fp32' to the learner, which is the default",
    "to_bf16": "precision='bf16' to the learner",
    "NonNativeMixedPrecision": "MixedPrecision()",
    "set_seed": "seed= to the learner: it decides every random draw of a run",
    "load_learner": "learn.save(...) and learn.load(...); exported bundles are not in this version",
    "save_model": "learn.save(...)",
    "load_model": "learn.load(...)",
    "get_c": "dls.c",
    "get_model": "learn.model",
    "params": "list(model.parameters())",
    "Module": "nn.Module, with super().__init__()",
    "Mish": "nn.Mish",
    "Swish": "nn.SiLU",
    "AvgPool": "MeanPool(), or nn.AvgPool2d",
    "AdaptiveAvgPool": "MeanPool()",
    "AdaptiveConcatPool2d": "ConcatPool()",
    "PoolFlatten": "nn.Sequential(MeanPool(), Flatten())",
    "ResBlock": "surefast.vision.xresnet.ResBlock(expansion, ni, nf, stride)",
    "XResNet": "surefast.vision.xresnet.XResNet(expansion, layers, n_out)",
    "num_features_model": "surefast.vision.models.num_features_model(body)",
    "apply_init": "surefast.vision.head.apply_init(module, init)",
    "OptimWrapper": "opt_func=torch.optim.X, any optimizer of torch by its class",
    "Optimizer": "opt_func=torch.optim.X, any optimizer of torch by its class",
    "RAdam": "opt_func=torch.optim.RAdam",
    "RMSProp": "opt_func=torch.optim.RMSprop",
    "Lamb": "opt_func= an optimizer class of your own",
    "Larc": "opt_func= an optimizer class of your own",
    "ranger": "opt_func=torch.optim.RAdam",
    "QHAdam": "opt_func=torch.optim.AdamW",
    "weight_decay": "wd= to the learner",
    "DataLoader": "DataBlock(...).dataloaders(...), or torch.utils.data.DataLoader in DataLoaders(...)",
    "TfmdDL": "DataBlock(...).dataloaders(...)",
    "TfmdLists": "DataBlock(...).datasets(...)",
    "Pipeline": "a list of transforms",
    "Transform": "a plain function: item_tfms and batch_tfms take any",
    "ItemTransform": "surefast.data.transform.ItemTransform",
    "RandTransform": "surefast.data.transform.ItemTransform, whose apply is given a key to draw from",
    "DisplayedTransform": "a plain function: item_tfms and batch_tfms take any",
    "Categorize": "CategoryBlock()",
    "MultiCategorize": "MultiCategoryBlock()",
    "EncodedMultiCategorize": "MultiCategoryBlock(encoded=True)",
    "L": "a list",
    "MixUp": "torchvision.transforms.v2.MixUp in a collate of your own; as a policy it " + _LATER,
    "CutMix": "torchvision.transforms.v2.CutMix in a collate of your own; as a policy it " + _LATER,
    "SaveModelCallback": "learn.save(...) after fit; checkpoints by a metric are not in this version",
    "CSVLogger": "nothing: every run writes history.csv into its folder",
    "ProgressCallback": "nothing: the progress is always shown; learn.no_bar() hides it",
    "ShowGraphCallback": "history.csv in the run folder",
    "TerminateOnNaNCallback": "nothing: NaN and Inf stop training before the optimizer's step",
    "TensorBoardCallback": "events.jsonl and history.csv in the run folder; trackers are not in this version",
    "WandbCallback": "events.jsonl and history.csv in the run folder; trackers are not in this version",
    "BnFreeze": "train_bn=False to the learner",
    "ShortEpochCallback": "run.stop(why) in an Actor",
    "CancelFitException": "run.stop(why) in an Actor",
    "CancelBatchException": "run.skip_batch(why) in an Actor",
    "CancelStepException": "run.skip_step(why) in an Actor",
    "DistributedTrainer": "training on several devices " + _LATER,
    "rank0_first": "training on several devices " + _LATER,
    "num_distrib": "training on several devices " + _LATER,
    "rank_distrib": "training on several devices " + _LATER,
    "default_device": "device='cpu' or 'cuda' to the learner",
    "show_image": "plt.imshow(image.permute(1, 2, 0))",
    "show_images": "dls.show_batch() or learn.show_results()",
    "get_grid": "plt.subplots(rows, columns)",
    "progress_bar": "rich.progress.track",
    "verify_images": "nothing: DataBlock(...).summary(source) and on_error= name files that cannot be read",
    "download_images": "a download of your own; untar_data takes archives",
    "TextDataLoaders": "text " + _LATER,
    "text_classifier_learner": "text " + _LATER,
    "language_model_learner": "text " + _LATER,
    "TabularDataLoaders": "tables are " + _LATER.removeprefix("is "),
    "tabular_learner": "tables are " + _LATER.removeprefix("is "),
    "CollabDataLoaders": "collaborative filtering " + _LATER,
    "collab_learner": "collaborative filtering " + _LATER,
}
"""Names of fastai that do not exist here: what to write, or what is missing."""


def __getattr__(name: str) -> NoReturn:
    if name.startswith("_"):
        raise AttributeError(name)
    # No AttributeError for the others: "from ... import X" would replace it by a text without a remedy.
    if name in _INSTEAD:
        raise UnknownNameError(f"surefast.vision.all has no {name!r}", do=f"instead: {_INSTEAD[name]}")
    raise unknown_name(name, __all__, of="surefast.vision.all", kind="name")
