"""Batch transforms: matrices against known numbers, one interpolation, coins that leave bits alone."""

import importlib
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision.transforms.v2.functional as v2
from torchvision import tv_tensors

from surefast.data.transform import fused
from surefast.errors import ArgumentError, UnknownNameError
from surefast.keys.key import make_key, uniform
from surefast.recipe.call import call_of
from surefast.vision.augment import (
    IntToFloatTensor,
    Normalize,
    RandomErasing,
    ResizeBatch,
    aug_transforms,
    imagenet_stats,
    rectangles,
)
from surefast.vision.geometry import (
    Dihedral,
    Flip,
    RandomResizedCropGPU,
    Rotate,
    Warp,
    Zoom,
    dihedral_matrix,
    rotate_matrix,
    sampling_grid,
    warp,
    warp_matrix,
    window_matrix,
)
from surefast.vision.lighting import (
    Brightness,
    Contrast,
    Hue,
    Saturation,
    hue_matrix,
    recolour,
    relight,
    saturation_matrix,
)

SPACE = [Flip(), Dihedral(), Rotate(30), Zoom(0.8, 1.5), Warp(0.3)]
LIGHT = [Brightness(p=0.5), Contrast(p=0.5), Saturation(p=0.5), Hue(p=0.5)]
COINS = [*SPACE, *LIGHT, RandomErasing(), RandomErasing(sl=0.1, max_count=4)]


def named(transform):
    return type(transform).__name__


@pytest.fixture(scope="module")
def photos():
    """Real photographs, float (B, 3, 48, 64)."""
    datasets = importlib.import_module("sklearn.datasets")
    images = [torch.tensor(datasets.load_sample_image(n)) for n in ("china.jpg", "flower.jpg")]
    crops = [i[r : r + 192, c : c + 256] for i in images for r in (0, 100, 200) for c in (0, 150, 300)]
    batch = torch.stack(crops).permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(batch, 4)


def draws(count, rows, seed=0, stream=0):
    keys = np.array([make_key(seed, "batch", 0, i) for i in range(rows)], np.uint64)
    return torch.from_numpy(uniform(keys, count, stream).astype(np.float32))


def run(transforms, xs, seed=0):
    for stream, transform in enumerate(fused(list(transforms))):
        xs = transform.apply(xs, draws(transform.draws, len(xs[0]), seed, stream))
    return xs


@pytest.mark.parametrize("transform", COINS, ids=named)
def test_a_coin_that_says_no_leaves_the_bits(transform, photos):
    """About half of the samples are untouched, bit for bit, and the others are not."""
    u = draws(transform.draws, len(photos))
    out = transform.apply((photos,), u)[0]
    same = torch.tensor([torch.equal(a, b) for a, b in zip(out, photos, strict=True)])
    no = u[:, 0] >= 0.5
    assert no.any()
    assert same[no].all()
    assert (~same[~no]).float().mean() > 0.5


@pytest.mark.parametrize("transform", COINS, ids=named)
def test_a_sample_does_not_depend_on_its_batch(transform, photos):
    """Cut and reordered batches give the same pictures, and the input is left as it was."""
    before, u = photos.clone(), draws(transform.draws, len(photos))
    whole = transform.apply((photos,), u)[0]
    order = torch.tensor([5, 3, 11, 0])
    assert torch.allclose(transform.apply((photos[order],), u[order])[0], whole[order], rtol=0, atol=1e-6)
    assert torch.equal(photos, before)


@pytest.mark.parametrize(
    "transform", [*SPACE, Rotate(30, pad_mode="zeros"), RandomResizedCropGPU(40, 0.3)], ids=named
)
def test_a_mask_lies_on_its_image(transform):
    """A mask made from the image before equals a mask made from the image after, but for its edges."""
    blobs = F.interpolate(
        torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(0)), (64, 64), mode="bicubic"
    )
    mask = (blobs[:, 0] > 0.5).long() * 7
    for given in (mask, tv_tensors.Mask(mask), mask.to(torch.uint8)):
        image, moved = transform.apply(
            (blobs.expand(-1, 3, -1, -1).contiguous(), given), draws(transform.draws, 6)
        )
        assert moved.dtype == given.dtype
        assert type(moved) is type(given)
        assert set(moved.flatten().tolist()) <= {0, 7}
        inside = image[:, 0] != 0
        assert (((image[:, 0] > 0.5) * 7 == moved.as_subclass(torch.Tensor)) | ~inside).float().mean() > 0.97


def test_a_label_is_left_alone(photos):
    """Vectors, class numbers and masks of another size are no pictures."""
    y, other = torch.arange(len(photos)), torch.zeros(len(photos), 9, 9, dtype=torch.long)
    out = run([Rotate(30, 1.0), Brightness(p=1.0)], (photos, y, other))
    assert out[1] is y
    assert out[2] is other


def test_rotation_agrees_with_torchvision(photos):
    """Counter-clockwise, with right angles kept on pictures that are not square."""
    degrees = torch.full((len(photos),), 25.0)
    found = warp(photos, rotate_matrix(degrees, 48, 64), (48, 64), "bilinear", "zeros", align_corners=False)
    wanted = v2.rotate(photos, 25.0, interpolation=v2.InterpolationMode.BILINEAR)
    assert (found - wanted)[:, :, 6:-6, 6:-6].abs().mean() < 2e-3


def test_zoom_agrees_with_a_crop(photos):
    """A window of half the size, enlarged."""
    half = torch.full((len(photos),), 0.5)
    at = torch.zeros_like(half)
    found = warp(
        photos, window_matrix(half, half, at, at), (48, 64), "bilinear", "border", align_corners=False
    )
    wanted = F.interpolate(photos[:, :, :24, :32], (48, 64), mode="bilinear")
    assert torch.allclose(found[:, :, :-2, :-2], wanted[:, :, :-2, :-2], atol=1e-5)


def test_warp_moves_the_corners_where_it_says():
    """The left edge grows by m, the right one shrinks by m, and lines stay straight."""
    m = torch.tensor([0.3])
    matrix = warp_matrix(m, torch.zeros(1))[0]
    for x, y in ((-1.0, 1.0), (-1.0, -1.0), (1.0, 1.0), (1.0, -1.0)):
        a, b, c = (matrix @ torch.tensor([x, y, 1.0])).tolist()
        assert (a / c, b / c) == pytest.approx((x, y * (1 - 0.3 * x)), abs=1e-6)
    exchanged = warp_matrix(torch.zeros(1), m)[0]
    a, b, c = (exchanged @ torch.tensor([1.0, -1.0, 1.0])).tolist()
    assert (a / c, b / c) == pytest.approx((1.3, -1.0), abs=1e-6)


def test_the_eight_ways_are_the_eight_ways():
    """All different, found by turning and mirroring, exact to rounding."""
    square = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    ways = warp(
        square.expand(8, -1, -1, -1),
        dihedral_matrix(torch.arange(8)),
        (6, 6),
        "bilinear",
        "reflection",
        align_corners=True,
    )
    known = [torch.rot90(base, k, (-2, -1)) for base in (square[0], square[0].flip(-1)) for k in range(4)]
    for one in known:
        assert sum(torch.allclose(one, way, atol=1e-5) for way in ways) == 1


def test_a_mirror_alone_is_exact(photos):
    """No interpolation where none is needed."""
    assert torch.equal(Flip(1.0).apply((photos,), draws(1, len(photos)))[0], photos.flip(-1))


def test_neighbours_share_one_interpolation(photos, monkeypatch):
    """Whatever the number of geometric transforms, each picture is sampled once."""
    calls = []
    plain = F.grid_sample
    monkeypatch.setattr(F, "grid_sample", lambda *a, **k: calls.append(len(a[0])) or plain(*a, **k))
    assert [type(t).__name__ for t in fused(SPACE)] == ["_JoinedSpace"]
    run([Flip(1.0), Rotate(30, 1.0), Zoom(1, 1.3, 1.0), Warp(0.3, 1.0)], (photos,))
    assert calls == [len(photos)]


def test_joined_geometry_acts_in_order(photos):
    """The joined matrix moves pictures as the two transforms do one after the other."""
    first, second = Rotate(30, 1.0), Zoom(1.2, 1.5, 1.0)
    joined = first.fuse(second)
    u = draws(joined.draws, len(photos))
    together = joined.apply((photos,), u)[0]
    apart = second.apply(first.apply((photos,), u[:, :2]), u[:, 2:])[0]
    swapped = first.apply(second.apply((photos,), u[:, 2:]), u[:, :2])[0]
    smooth = [F.avg_pool2d(x, 6) for x in (together, apart, swapped)]
    assert (smooth[0] - smooth[1]).abs().mean() < 0.02
    assert (smooth[0] - smooth[1]).abs().mean() * 2 < (smooth[0] - smooth[2]).abs().mean()


def test_joined_geometry_keeps_untouched_samples(photos):
    """A sample for which all coins say no keeps its bits in the joined transform too."""
    joined = fused([Flip(0.3), Rotate(30, 0.3), Zoom(1, 1.3, 0.3)])[0]
    u = draws(joined.draws, len(photos))
    active = joined.active(u)
    assert 0 < int(active.sum()) < len(photos)
    out = joined.apply((photos,), u)[0]
    assert torch.equal(out[~active], photos[~active])


def test_different_padding_is_not_joined():
    """Two answers to what is outside cannot be one interpolation."""
    assert Rotate(10).fuse(Zoom(pad_mode="zeros")) is None
    assert Rotate(10).fuse(Brightness()) is None
    assert len(fused([Rotate(10), Brightness(), Contrast(), Hue(), Saturation()])) == 3


def test_the_identity_grid_shows_every_pixel_itself():
    """For both conventions of corners, and a picture of one pixel."""
    picture = torch.rand(1, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    for align in (True, False):
        grid = sampling_grid(torch.eye(3)[None], (5, 7), align_corners=align)
        assert torch.allclose(F.grid_sample(picture, grid, align_corners=align), picture, atol=1e-5)
        assert sampling_grid(torch.eye(3)[None], (1, 1), align_corners=align).abs().max() == 0


def test_brightness_and_contrast_are_those_of_the_logit():
    """Middle grey moves to the drawn grey; black and white stay; contrast keeps middle grey."""
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]).view(1, 1, 1, 5)
    for u in (0.0, 0.5, 0.999):
        light = Brightness(0.4, p=1.0).apply((levels,), torch.tensor([[0.0, u]]))[0].flatten()
        assert light[2].item() == pytest.approx(0.5 + 0.4 * (u - 0.5), abs=1e-5)
        assert light[[0, 4]].tolist() == pytest.approx([0.0, 1.0], abs=1e-5)
        harder = Contrast(0.4, p=1.0).apply((levels,), torch.tensor([[0.0, u]]))[0].flatten()
        assert harder[2].item() == pytest.approx(0.5, abs=1e-5)
        factor = math.exp((2 * u - 1) * -math.log(0.6))
        assert torch.logit(harder[3]).item() == pytest.approx(factor * math.log(3), abs=1e-4)


def test_joined_light_acts_in_order(photos):
    """Brightness then contrast is not contrast then brightness."""
    one, two = Brightness(0.5, 1.0), Contrast(0.5, 1.0)
    u = draws(4, len(photos))
    together = one.fuse(two).apply((photos,), u)[0]
    apart = two.apply(one.apply((photos,), u[:, :2]), u[:, 2:])[0]
    assert torch.allclose(together, apart, atol=1e-3)
    assert not torch.allclose(together, one.apply(two.apply((photos,), u[:, 2:]), u[:, :2])[0], atol=1e-2)


def test_saturation_and_hue_keep_greys_and_ranges(photos):
    """Factor 0 is grey, 1 nothing; a whole turn of the hue is nothing, a third exchanges channels."""
    one = torch.ones(len(photos))
    grey = recolour(photos, saturation_matrix(0 * one))
    assert torch.allclose(grey[:, 0], v2.rgb_to_grayscale(photos)[:, 0], atol=2e-3)
    assert torch.allclose(recolour(photos, saturation_matrix(one)), photos, atol=1e-6)
    assert torch.allclose(recolour(photos, hue_matrix(one)), photos, atol=1e-5)
    assert torch.allclose(recolour(photos, hue_matrix(one / 3)), photos.roll(1, dims=1), atol=1e-5)
    flat = torch.full_like(photos, 0.3)
    for transform in (Hue(0.5, 1.0), Saturation(0.9, 1.0), Hue(0.5, 1.0).fuse(Saturation(0.9, 1.0))):
        u = draws(transform.draws, len(photos))
        assert torch.allclose(transform.apply((flat,), u)[0], flat, atol=1e-6)
        out = transform.apply((photos,), u)[0]
        assert 0 <= out.min() <= out.max() <= 1


def test_colours_of_grey_pictures_stay(photos):
    """One channel has no hue; brightness works."""
    grey = photos[:, :1].contiguous()
    assert Hue(0.5, 1.0).apply((grey,), draws(2, len(grey)))[0] is grey
    assert relight(grey, torch.tensor([[1.0, 0.0]]).expand(len(grey), 2)).shape == grey.shape
    assert Brightness(0.5, 1.0).apply((grey,), draws(2, len(grey)))[0].shape == grey.shape


def test_erasing_covers_the_asked_area_with_the_mean(photos):
    """Between sl and sh of the area, the picture's own mean, before and after Normalize alike."""
    erase = RandomErasing(1.0, 0.1, 0.4)
    u = draws(erase.draws, len(photos))
    out = erase.apply((photos,), u)[0]
    covered = (out == photos.mean((2, 3), keepdim=True)).all(1).float().mean((1, 2))
    assert 0.07 < covered.min() <= covered.max() < 0.43
    normalize = Normalize.from_stats(*imagenet_stats)
    after = erase.apply(normalize.apply((photos,), u), u)[0]
    assert torch.allclose(after, normalize.apply((out,), u)[0], atol=1e-5)


def test_rectangles_stay_inside():
    """Also the largest, at the very edge."""
    area = torch.tensor([[1.0, 0.5, 1e-9]])
    hidden = rectangles(area, torch.ones(1, 3), torch.full((1, 3, 2), 0.9999), 10, 20)
    assert hidden.sum((2, 3)).tolist() == [[10 * 14, 100, 0]]


def test_int_to_float_makes_images_and_masks():
    """uint8 images to [0, 1], masks to int64, the rest as it is."""
    image, mask = torch.full((2, 3, 4, 4), 255, dtype=torch.uint8), torch.ones(2, 4, 4, dtype=torch.uint8)
    labels, typed = torch.tensor([1, 2]), tv_tensors.Mask(torch.ones(2, 1, 4, 4, dtype=torch.uint8))
    out = IntToFloatTensor().apply((image, mask, labels, typed), torch.empty(2, 0))
    assert out[0].dtype == torch.float32
    assert out[0].max() == 1
    assert [x.dtype for x in out[1:]] == [torch.int64] * 3
    assert (image == 255).all()


def test_normalize_and_back(photos):
    """Zero mean where the statistics are the batch's own; decode undoes it."""
    normalize = Normalize(photos.mean((0, 2, 3)).tolist(), photos.std((0, 2, 3)).tolist())
    out = normalize.apply((photos,), torch.empty(len(photos), 0))
    assert out[0].mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(normalize.decode(out)[0], photos, atol=1e-6)


def test_size_brings_training_and_validation_to_one_size(photos):
    """Validation is resized too, without any draw; both have the asked size."""
    transforms = aug_transforms(size=(24, 30), min_scale=0.5)
    assert run(transforms, (photos,))[0].shape[-2:] == (24, 30)
    valid = [t for t in transforms if not t.train_only]
    assert [type(t) for t in valid] == [ResizeBatch]
    mask = torch.ones(len(photos), 48, 64, dtype=torch.uint8)
    image, small = run(valid, (photos, mask))
    assert image.shape[-2:] == small.shape[-2:] == (24, 30)
    assert small.dtype == torch.uint8


def test_shrinking_by_much_averages(photos):
    """Thin lines do not flicker: a pattern of single pixels becomes its mean."""
    lines = torch.zeros(1, 1, 64, 64)
    lines[..., ::2] = 1
    small = warp(lines, torch.eye(3)[None], (16, 16), "bilinear", "reflection", align_corners=False)
    assert torch.allclose(small, torch.full_like(small, 0.5))


def test_aug_transforms_are_those_of_fastai():
    """Which ones there are follows from the arguments."""

    def names(**how):
        return [type(t).__name__ for t in aug_transforms(**how)]

    usual = ["Flip", "Rotate", "Zoom", "Warp", "Brightness", "Contrast"]
    assert names() == usual
    assert names(flip_vert=True)[0] == "Dihedral"
    assert names(do_flip=False, max_rotate=0, max_zoom=1.0, max_warp=0) == ["Brightness", "Contrast"]
    assert names(max_lighting=0, xtra_tfms=[Hue()]) == [*usual[:4], "Hue"]
    assert aug_transforms(mult=2.0)[1].max_deg == 20
    record = call_of(aug_transforms(max_rotate=5.0))
    assert record.values["max_rotate"].origin == "user"
    assert record.values["max_warp"].origin == "default"


def test_augmented_photos_look_like_photos(photos):
    """Values stay in [0, 1], means move little, and two epochs differ."""
    a, b = (run(aug_transforms(), (photos,), seed=s)[0] for s in (0, 1))
    assert 0 <= a.min() <= a.max() <= 1
    assert (a.mean((1, 2, 3)) - photos.mean((1, 2, 3))).abs().max() < 0.15
    assert not torch.equal(a, b)
    assert torch.equal(a, run(aug_transforms(), (photos,), seed=0)[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Normalize([0.5], [0.5, 0.5]), "mean has 1 numbers and std 2"),
        (lambda: Normalize([0.5], [0.0]), "above 0"),
        (lambda: Rotate(p=1.5), "p is 1.5"),
        (lambda: Rotate(mode="cubic"), "mode is 'cubic'"),
        (lambda: Rotate(pad_mode="reflect"), "pad_mode is 'reflect'"),
        (lambda: Zoom(2, 1), "min_zoom is 2"),
        (lambda: Warp(1.0), "magnitude is 1.0"),
        (lambda: Brightness(1.0), "max_lighting is 1.0"),
        (lambda: Hue(-0.1), "max_hue is -0.1"),
        (lambda: RandomErasing(sl=0.5, sh=0.1), "sl is 0.5"),
        (lambda: RandomErasing(min_aspect=0), "min_aspect is 0"),
        (lambda: RandomErasing(max_count=0), "max_count is 0"),
        (lambda: RandomResizedCropGPU(8, 0), "min_scale is 0"),
        (lambda: aug_transforms(batch=True), "depend on the batch"),
        (lambda: aug_transforms(min_scale=0.5), "size is missing"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, words):
    """With what was given and what may be given."""
    with pytest.raises(ArgumentError) as error:
        make()
    assert words in str(error.value)
    assert error.value.do


def test_channels_that_do_not_fit_are_named(photos):
    """Three statistics for pictures of one channel."""
    with pytest.raises(ArgumentError, match="has 3 channels and the images have 1"):
        Normalize.from_stats(*imagenet_stats).apply((photos[:, :1],), torch.empty(len(photos), 0))
    with pytest.raises(UnknownNameError, match="'max_rotate'"):
        aug_transforms(max_rotation=3)
