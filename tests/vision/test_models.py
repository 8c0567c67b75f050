"""A body computes what the original computes, takes its weights, and trains with deterministic operations."""

import importlib
import socket
from pathlib import Path

import pytest
import torch
import torchvision.models as tv
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from surefast.errors import ArgumentError, TaskError, WeightsError
from surefast.recipe.call import call_of
from surefast.train.weights import save_state
from surefast.vision.head import create_head
from surefast.vision.models import (
    create_body,
    create_vision_model,
    facts_of,
    model_meta,
    num_features_model,
)
from surefast.vision.pretrained import IMAGENET_STATS, from_timm
from surefast.vision.xresnet import simple_cnn, xresnet18, xresnet50

timm = importlib.import_module("timm")

LITE0 = Path(__file__).parents[3] / "shared/data/weights/tf_efficientnet_lite0.safetensors"
needs_lite0 = pytest.mark.skipif(not LITE0.is_file(), reason="the folder with real weights is not there")


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """No address resolves, and the caches of weights are empty."""

    def refuse(*_args, **_kwargs):
        raise OSError("there is no network here")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


CLASSIFIERS = {
    tv.resnet18: lambda m, f: m.fc(torch.flatten(m.avgpool(f), 1)),
    tv.densenet121: lambda m, f: m.classifier(f.mean((2, 3))),
    tv.vgg11_bn: lambda m, f: m.classifier(torch.flatten(m.avgpool(f), 1)),
    tv.alexnet: lambda m, f: m.classifier(torch.flatten(m.avgpool(f), 1)),
    tv.squeezenet1_1: lambda m, f: torch.flatten(m.classifier(f), 1),
    tv.mobilenet_v2: lambda m, f: m.classifier(f.mean((2, 3))),
    tv.mobilenet_v3_small: lambda m, f: m.classifier(torch.flatten(m.avgpool(f), 1)),
    tv.efficientnet_b0: lambda m, f: m.classifier(torch.flatten(m.avgpool(f), 1)),
    tv.convnext_tiny: lambda m, f: m.classifier(m.avgpool(f)),
    tv.regnet_y_400mf: lambda m, f: m.fc(torch.flatten(m.avgpool(f), 1)),
    tv.mnasnet0_5: lambda m, f: m.classifier(f.mean([2, 3])),
    tv.shufflenet_v2_x0_5: lambda m, f: m.fc(f.mean([2, 3])),
    tv.swin_t: lambda m, f: m.head(m.flatten(m.avgpool(f))),
}


SLOW = {tv.vgg11_bn, tv.alexnet, tv.swin_t, tv.densenet121, tv.convnext_tiny, tv.efficientnet_b0}


def name_of(arch):
    return arch if isinstance(arch, str) else arch.__name__


def marked(archs):
    """The large models are left to the slow tests."""
    return [pytest.param(a, marks=pytest.mark.slow if a in SLOW else (), id=name_of(a)) for a in archs]


@pytest.mark.parametrize("arch", marked(CLASSIFIERS))
def test_a_torchvision_body_computes_what_the_original_computes(arch, tmp_path):
    """The whole model's weights in the body: with its classifier it gives the same output."""
    torch.default_generator.manual_seed(1)
    whole = arch(weights=None).eval()
    file = save_state(whole, tmp_path / "w.safetensors")
    body = create_body(arch, weights=file).eval()
    picture = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        assert torch.equal(CLASSIFIERS[arch](whole, body(picture)), whole(picture))


@pytest.mark.parametrize(
    "name", ["resnet18", "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto"]
)
def test_a_timm_body_computes_what_the_original_computes(name, tmp_path):
    """The features are timm's, and no part is left that would never get a gradient."""
    torch.default_generator.manual_seed(1)
    whole = timm.create_model(name).eval()
    body = create_body(name, weights=save_state(whole, tmp_path / "w.safetensors")).eval()
    picture = torch.randn(1, 3, 96, 96)
    out = body(picture)
    assert torch.equal(out, whole.forward_features(picture))
    out.sum().backward()
    assert not [n for n, p in body.named_parameters() if p.grad is None]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_transformers_of_timm_get_a_head_too(name):
    """A model that pools in its own way, or puts channels last, gives logits all the same."""
    model = create_vision_model(name, 5, pretrained=False).eval()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 5)
    assert num_features_model(create_body("resnet18", pretrained=False)) == 512


@needs_lite0
def test_real_weights_are_loaded_and_accounted_for():
    """All tensors of the file but the classifier are in the body; the record names the file and its hash."""
    body = create_body("tf_efficientnet_lite0", weights=LITE0)
    facts = facts_of(body).values
    assert set(facts["weights_ignored"].value) == {"classifier.weight", "classifier.bias"}
    assert facts["weights_from"].value == str(LITE0)
    assert len(facts["weights_sha256"].value) == 64
    assert (facts["mean"].value, facts["std"].value) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert facts["num_features"].value == 1280
    whole = timm.create_model("tf_efficientnet_lite0", checkpoint_path=str(LITE0)).eval()
    picture = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(body.eval()(picture), whole.forward_features(picture))


@needs_lite0
def test_weights_of_another_model_are_refused_with_the_names():
    """ResNet's body does not take the tensors of EfficientNet, and nothing is loaded by halves."""
    with pytest.raises(WeightsError, match=r"do not fit the model .*missing"):
        create_body(tv.resnet18, weights=LITE0)


def test_torchvision_weights_bring_torchvision_statistics(tmp_path):
    """A local file for a function of torchvision is normalised as its own weights are."""
    file = tmp_path / "r.pth"
    torch.save(tv.resnet18(weights=None).state_dict(), file)
    facts = facts_of(create_vision_model(tv.resnet18, 3, weights=str(file))).values
    assert (facts["mean"].value, facts["std"].value) == IMAGENET_STATS
    assert facts["weights_ignored"].value == ("fc.weight", "fc.bias")


@pytest.mark.parametrize("arch", [tv.resnet18, "resnet18"], ids=["torchvision", "timm"])
def test_weights_without_a_network_name_the_file_to_place(arch, no_network):
    """The error has the address, the place for the file, and ``weights=``."""
    with pytest.raises(WeightsError, match="not on this machine and could not be downloaded") as caught:
        create_body(arch)
    text = str(caught.value)
    assert "https://" in text
    assert "weights=FILE" in text
    assert str(no_network / "torch" / "hub" / "checkpoints") in text


def test_a_file_placed_where_the_error_said_is_used(no_network):
    """A cache that was filled by hand works without a network, and is read without unpickling."""
    cache = no_network / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(tv.resnet18(weights=None).state_dict(), cache / "resnet18-f37072fd.pth")
    save_state(timm.create_model("resnet18"), cache / "timm--resnet18.a1_in1k.safetensors")
    assert facts_of(create_body(tv.resnet18)).values["weights_from"].value == "ResNet18_Weights.IMAGENET1K_V1"
    assert facts_of(create_body("resnet18")).values["weights_from"].value == "timm/resnet18.a1_in1k"
    by_name = create_body(tv.resnet18, weights="IMAGENET1K_V1")
    by_member = create_body(tv.resnet18, weights=tv.ResNet18_Weights.DEFAULT)
    assert torch.equal(by_name[0].weight, by_member[0].weight)


def test_weights_that_do_not_exist_are_answered():
    """A wrong name, weights of another function, a network without weights, a contradiction."""
    with pytest.raises(WeightsError, match="did you mean 'IMAGENET1K_V1'"):
        create_body(tv.resnet18, weights="IMAGENET1K_V9")
    with pytest.raises(ArgumentError, match="are not weights of resnet18"):
        create_body(tv.resnet18, weights=tv.ResNet50_Weights.DEFAULT)
    with pytest.raises(ArgumentError, match="are torchvision's, but resnet18 is not"):
        create_body("resnet18", weights=tv.ResNet18_Weights.DEFAULT)
    with pytest.raises(WeightsError, match="no known pretrained weights for xresnet18"):
        create_body(xresnet18)
    with pytest.raises(WeightsError, match="timm has no pretrained weights for 'resnet14t_nothing'"):
        from_timm("resnet14t_nothing")
    with pytest.raises(ArgumentError, match="contradict each other"):
        create_body(tv.resnet18, pretrained=False, weights="w.pth")


def test_unknown_architectures_are_answered():
    """A misspelt name, a model in place of a function, a model without a body, a function that makes none."""
    with pytest.raises(ArgumentError, match="did you mean 'resnet34'"):
        create_body("resnet_34")
    with pytest.raises(ArgumentError, match="arch is a ResNet"):
        create_body(tv.resnet18(weights=None))
    with pytest.raises(ArgumentError, match="no body to cut off"):
        create_body(tv.vit_b_16)
    with pytest.raises(ArgumentError, match="gave a int"):
        create_body(int, pretrained=False)
    with pytest.raises(ArgumentError, match="where the body of plain ends; its children are: 0, 1"):
        create_body(plain, pretrained=False)


def plain():
    """A model of the user."""
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))


def test_an_own_model_is_cut_where_the_user_says(tmp_path):
    """``cut`` is a number of children or a function, and is not ignored."""
    assert len(create_body(plain, pretrained=False, cut=1)) == 1
    assert isinstance(create_body(plain, pretrained=False, cut=lambda m: m[0]), nn.Conv2d)
    assert len(create_body(tv.resnet18, pretrained=False, cut=6)) == 6
    with pytest.raises(ArgumentError, match="the body gives"):
        create_body(plain, pretrained=False, cut=lambda _: nn.Flatten(0))
    with pytest.raises(ArgumentError, match=r"cannot be run on a picture \(3, 96, 96\)"):
        create_body(tv.resnet18, pretrained=False, cut=10)
    file = save_state(plain(), tmp_path / "w.safetensors")
    assert facts_of(create_body(plain, weights=file, cut=1)).values["num_features"].value == 4


@pytest.mark.parametrize("arch", [tv.resnet18, "tf_efficientnet_lite0"], ids=["torchvision", "timm"])
def test_other_channels_use_the_trained_filters(arch, tmp_path):
    """One channel gets the sum of the filters, two get half as much again, further ones start at zero."""
    torch.default_generator.manual_seed(3)
    whole = timm.create_model(arch) if isinstance(arch, str) else arch(weights=None)
    file = save_state(whole, tmp_path / "w.safetensors")

    def first(n_in):
        body = create_body(arch, n_in=n_in, weights=file)
        body(torch.zeros(1, n_in, 64, 64))
        return next(m for m in body.modules() if isinstance(m, nn.Conv2d)).weight

    old = first(3)
    assert torch.equal(first(1), old.sum(1, keepdim=True))
    assert torch.equal(first(2), old[:, :2] * 1.5)
    assert torch.equal(first(5)[:, :3], old)
    assert not first(5)[:, 3:].any()
    fresh = create_body(arch, n_in=4, pretrained=False)
    assert (
        next(m for m in fresh.modules() if isinstance(m, nn.Conv2d)).weight.abs().sum(dim=(0, 2, 3)).min() > 0
    )


def test_channels_that_cannot_be_adapted_are_refused():
    """A model without a fitting first convolution says so."""
    with pytest.raises(ArgumentError, match="pictures of 0 channels"):
        create_body(tv.resnet18, n_in=0, pretrained=False)
    with pytest.raises(ArgumentError, match="no convolution"):
        create_body(lambda: nn.Sequential(nn.Flatten()), n_in=1, pretrained=False, cut=1)


@pytest.mark.parametrize(
    ("arch", "groups"), [(tv.resnet18, 3), (tv.squeezenet1_1, 3), (tv.densenet121, 3), (xresnet18, 3),
                         (tv.mobilenet_v3_small, 2), ("tf_efficientnet_lite0", 2)]
)  # fmt: skip
def test_every_parameter_is_in_one_group(arch, groups):
    """The groups are fastai's in number, in order, and hold each parameter once."""
    model = create_vision_model(arch, 3, pretrained=False)
    parts = model_meta(arch).splitter(model)
    assert [id(p) for part in parts for p in part] == [id(p) for p in model.parameters()]
    assert len(parts) == groups
    assert all(parts)


def test_the_head_has_fastais_layout():
    """Concat pooling, norm, dropout, 512, ReLU, norm, dropout, the output; no biases after a norm."""
    head = create_head(8, 3)
    assert [type(m).__name__ for m in head] == [
        "ConcatPool", "Flatten", "BatchNorm1d", "Dropout", "Linear", "ReLU",
        "BatchNorm1d", "Dropout", "Linear",
    ]  # fmt: skip
    assert (head[4].in_features, head[4].out_features, head[3].p, head[7].p) == (16, 512, 0.25, 0.5)
    assert head[4].bias is None
    x = torch.randn(2, 8, 5, 7)
    assert torch.equal(head[1](head[0](x)), torch.cat([x.amax((2, 3)), x.mean((2, 3))], 1))


def test_the_heads_options_have_their_effect():
    """Every argument of the head changes what it says."""
    x = torch.randn(4, 8, 5, 5)
    head = create_head(8, 1, [16, 4], ps=[0.1, 0.2, 0.3], concat_pool=False, first_bn=False, y_range=(1, 5))
    assert [m.p for m in head if isinstance(m, nn.Dropout)] == [0.1, 0.2, 0.3]
    assert not isinstance(head[2], nn.BatchNorm1d)
    assert head[3].bias is not None
    assert 1 <= head(x).min() <= head(x).max() <= 5
    head = create_head(8, 3, [16], bn_final=True, lin_first=True)
    assert [type(m).__name__ for m in head[2:]] == [
        "Dropout", "Linear", "ReLU", "BatchNorm1d", "Dropout", "Linear", "BatchNorm1d",
    ]  # fmt: skip
    assert head(x).shape == (4, 3)
    assert create_head(8, 3, pool=False)(torch.randn(4, 8)).shape == (4, 3)
    with pytest.raises(ArgumentError, match=r"ps=\[0.1, 0.2, 0.3\] for 2 linear layers"):
        create_head(8, 3, ps=[0.1, 0.2, 0.3])


def test_a_custom_head_must_fit_body_and_task():
    """A head for another number of classes or features is found when the model is made."""
    pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    sizes = [(512, 3), (512, 4), (99, 3)]
    fitting, classes, features = (nn.Sequential(pool, nn.Linear(*size)) for size in sizes)
    model = create_vision_model(xresnet18, 3, pretrained=False, custom_head=fitting)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    with pytest.raises(TaskError, match=r"gives \(2, 4\) for 2 pictures, but the task needs \(2, 3\)"):
        create_vision_model(xresnet18, 3, pretrained=False, custom_head=classes)
    with pytest.raises(TaskError, match="custom_head cannot take the features"):
        create_vision_model(xresnet18, 3, pretrained=False, custom_head=features)


def test_the_record_of_a_model_says_what_it_is():
    """What was found out stands beside what was asked for, with its reason."""
    values = call_of(create_vision_model(xresnet18, 3, pretrained=False)).values
    assert values["n_out"].origin == "user"
    assert values["num_features"].value == 512
    assert values["num_features"].why == "seen on a test picture"


class Recorder(TorchDispatchMode):
    """Collects the names of all operations that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


NONDETERMINISTIC = (
    "adaptive_avg_pool2d", "adaptive_avg_pool2d_backward", "adaptive_max_pool2d", "avg_pool3d_backward",
    "fractional_max_pool2d", "max_unpool2d", "max_pool3d_with_indices", "upsample_bilinear2d_backward",
    "upsample_bicubic2d_backward", "upsample_linear1d_backward", "reflection_pad2d_backward",
    "replication_pad2d_backward", "nll_loss2d", "nll_loss2d_forward", "grid_sampler_2d_backward", "cumsum",
    "scatter_reduce", "put", "histc", "bincount", "kthvalue", "median", "_ctc_loss",
)  # fmt: skip
"""From the documentation of torch.use_deterministic_algorithms, as far as a network could use them."""


def operations_of(model, side=96):
    with Recorder() as seen:
        model.train()(torch.randn(2, 3, side, side, requires_grad=True)).sum().backward()
    return {name for name in seen.names if name.strip("_") in {n.strip("_") for n in NONDETERMINISTIC}}


@pytest.mark.parametrize(
    "arch",
    marked([*CLASSIFIERS, xresnet18, "tf_efficientnet_lite0", "mobilenetv3_small_050", "convnext_atto"]),
)
def test_no_operation_lacks_a_deterministic_gradient(arch):
    """Body and head run on a card in strict mode; the list is torch's own."""
    assert not operations_of(create_vision_model(arch, 3, pretrained=False))


def test_the_search_for_nondeterministic_operations_finds_them():
    """The twin of the test above: adaptive pooling to more than one place is found."""
    assert operations_of(nn.AdaptiveMaxPool2d(1)) == {"adaptive_max_pool2d"}
    assert operations_of(nn.AdaptiveAvgPool2d(2))


def test_networks_from_scratch_have_their_shapes():
    """xresnet and simple_cnn take the channels and give the numbers that were asked for."""
    assert xresnet18(n_out=4, n_in=1)(torch.zeros(2, 1, 33, 33)).shape == (2, 4)
    assert xresnet50(n_out=4)(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    assert simple_cnn((1, 8, 16, 10))(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    model = simple_cnn((3, 8, 2), kernel_szs=(5, 1), strides=(1, 1), bn=False)
    assert (model[0][0].kernel_size, model[0][0].stride, model[0][0].bias is None) == ((5, 5), (1, 1), False)
    with pytest.raises(ArgumentError, match="3 filters make 2 layers, but there are 3 kernel sizes"):
        simple_cnn((1, 8, 10), kernel_szs=(3, 3, 3))


def test_a_new_residual_block_is_the_identity():
    """The last norm of each block starts at zero, so that only the shortcut speaks."""
    block = xresnet18()[5][1].eval()
    x = torch.rand(1, 128, 4, 4)
    assert torch.equal(block(x), x)
