"""Item transforms: where boxes lie, one draw for image and mask, keys alone decide, one exact resize."""

import importlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import tv_tensors

from surefast.errors import ArgumentError, UnknownNameError
from surefast.keys.key import Draws, make_key, uniform
from surefast.vision.transforms import (
    Box,
    CropPad,
    FlipItem,
    PadMode,
    RandomCrop,
    RandomResizedCrop,
    Resize,
    ResizeMethod,
    ToTensor,
    as_size,
    cut,
    fit_box,
    fit_inside,
    place_box,
    random_area_box,
    resize_exact,
    resize_fast,
    resize_nearest,
)


@pytest.fixture(scope="module")
def photo():
    datasets = importlib.import_module("sklearn.datasets")
    pixels = torch.tensor(datasets.load_sample_image("flower.jpg")).permute(2, 0, 1)
    return tv_tensors.Image(pixels[:, ::2, ::2])  # 214 x 320


@pytest.fixture
def coordinates():
    """A picture whose first two channels say where each pixel was, and the same as a mask."""
    rows, columns = torch.meshgrid(torch.arange(60), torch.arange(80), indexing="ij")
    image = torch.stack([rows, columns, torch.zeros_like(rows)]).to(torch.uint8)
    return tv_tensors.Image(image), tv_tensors.Mask(rows * 1000 + columns)


RANDOM = [
    Resize(32),
    Resize((24, 40), method=ResizeMethod.Pad),
    RandomResizedCrop(32),
    RandomCrop(32),
    RandomCrop(100, pad_mode=PadMode.Reflection),
    FlipItem(),
]
ALL = [*RANDOM, Resize(32, "squish"), CropPad(32), CropPad((100, 20), "border"), ToTensor()]


def named(transform):
    return repr(type(transform).__name__)


def keys(count):
    return [make_key(7, "item", 0, i) for i in range(count)]


@pytest.mark.parametrize("transform", ALL, ids=named)
@pytest.mark.parametrize("train", [True, False])
def test_a_key_decides_everything(transform, train, photo):
    """The same key gives the same bits, whatever was drawn in between."""
    first = transform.apply((photo,), 5, train=train)[0]
    torch.rand(3), np.random.rand(3)
    transform.apply((photo,), 6, train=train)
    again = transform.apply((photo,), 5, train=train)[0]
    assert type(first) is tv_tensors.Image
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)


def test_draws_are_those_of_uniform():
    """One by one or all at once, for any key and stream."""
    for key in (0, 1, 2**64 - 1, *keys(5)):
        for stream in (0, 3):
            one = [Draws(key, stream)[j] for j in range(6)]
            assert one == uniform(np.array([key], np.uint64), 6, stream)[0].tolist()


@pytest.mark.parametrize("transform", RANDOM, ids=named)
def test_another_key_gives_another_picture(transform, photo):
    """The twin of the test above: it could fail."""
    seen = {transform.apply((photo,), key, train=True)[0].numpy().tobytes() for key in keys(12)}
    assert len(seen) > 1


@pytest.mark.parametrize("transform", RANDOM, ids=named)
def test_validation_draws_nothing(transform, photo):
    """Every key gives the same picture."""
    a, b = (transform.apply((photo,), key, train=False)[0] for key in (1, 2))
    assert torch.equal(a, b)


@pytest.mark.parametrize("transform", ALL, ids=named)
def test_the_global_generators_are_not_touched(transform, photo):
    """Neither torch's nor numpy's."""
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes()
    transform.apply((photo,), 5, train=True)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tobytes()


@pytest.mark.parametrize("transform", ALL, ids=named)
def test_the_input_is_left_as_it_was(transform, photo):
    """A transform is a function: what it is given may be used again."""
    before = photo.clone()
    transform.apply((photo, 3), 5, train=True)
    assert torch.equal(before, photo)


@pytest.mark.parametrize(
    "transform", [t for t in ALL if not isinstance(t, (Resize, RandomResizedCrop))], ids=named
)
def test_image_and_mask_get_the_same_cut(transform, coordinates):
    """Where nothing is resized, each pixel of the mask is the one of the image."""
    for key in keys(6):
        image, mask, label = transform.apply((*coordinates, 3), key, train=True)
        assert type(mask) is tv_tensors.Mask
        rows, columns = image.as_subclass(torch.Tensor).long()[:2]
        assert torch.equal(rows * 1000 + columns, mask.as_subclass(torch.Tensor))
        assert label == 3


@pytest.mark.parametrize(
    "transform", [Resize(30), Resize((30, 60), "pad"), Resize(30, "squish"), RandomResizedCrop(30)]
)
def test_a_resized_mask_lies_on_its_image(transform, coordinates):
    """Positions agree to a pixel or two, and every value of the mask was in it before."""
    known = set(coordinates[1].flatten().tolist())
    for key in keys(6):
        image, mask = (
            x.as_subclass(torch.Tensor).long() for x in transform.apply(coordinates, key, train=True)
        )
        assert mask.shape == image.shape[1:]
        assert set(mask.flatten().tolist()) <= known
        inner = (slice(4, -4), slice(4, -4))
        assert ((mask // 1000 - image[0]).abs()[inner] <= 3).float().mean() > 0.95
        assert ((mask % 1000 - image[1]).abs()[inner] <= 3).float().mean() > 0.95


def test_the_sizes_are_as_asked(photo):
    """One number is a square, two are height and width."""
    for transform, size in (
        (Resize((24, 40)), (24, 40)),
        (Resize(40, "pad"), (40, 40)),
        (Resize((24, 40), ResizeMethod.Squish), (24, 40)),
        (RandomResizedCrop((24, 40)), (24, 40)),
        (RandomCrop((24, 40)), (24, 40)),
        (CropPad((500, 40)), (500, 40)),
    ):
        for train in (True, False):
            assert transform.apply((photo,), 1, train=train)[0].shape[-2:] == size


def test_crop_takes_the_largest_box_at_a_random_place():
    """In validation it is the middle; in training every place is as likely."""
    assert fit_box(100, 300, (50, 50), (0.5, 0.5)) == Box(0, 100, 100, 100)
    assert fit_box(100, 300, (50, 100), (0.0, 0.0)) == Box(0, 0, 100, 200)
    assert place_box(4, 4, (2, 2), (0.999, 0.0)) == Box(2, 0, 2, 2)
    tops = [place_box(4, 4, (2, 2), (u, 0.5)).top for u in np.linspace(0, 0.9999, 300)]
    assert [tops.count(k) for k in range(3)] == [100, 100, 100]


def test_pad_shows_the_whole_picture(coordinates):
    """Shrunk until it fits, in the middle in validation, the rest black where asked."""
    assert fit_inside(100, 300, (50, 50)) == (17, 50)
    image = Resize(40, "pad", "zeros").apply(coordinates[:1], 0, train=False)[0]
    assert (image[:, :5] == 0).all()
    assert (image[:, 35:] == 0).all()
    assert (image[1, 5:35, 1:].float().mean(0).diff() > 1).all()


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("zeros", "constant"), ("border", "edge"), ("reflection", "reflect")]
)
def test_padding_is_that_of_numpy(mode, numpy_mode):
    """Also further than the picture is wide, where torch's own refuses."""
    picture = torch.arange(12, dtype=torch.uint8).view(1, 3, 4)
    for before, after in ((1, 2), (7, 9)):
        box = Box(-before, -after, 3 + before + after, 4 + before + after)
        wanted = np.pad(picture.numpy(), ((0, 0), (before, after), (after, before)), mode=numpy_mode)
        assert torch.equal(cut(picture, box, mode), torch.tensor(wanted))
    line = torch.arange(5, dtype=torch.uint8).view(1, 1, 5)
    assert cut(line, Box(-3, 0, 7, 5), mode).shape == (1, 7, 5)


def test_random_boxes_keep_their_promises():
    """Area and aspect ratio lie in the asked ranges, and no box leaves the picture."""
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(400):
        box = random_area_box(300, 400, rng.random(22), scale=(0.1, 0.5), ratio=(0.5, 2.0))
        assert 0 <= box.top <= 300 - box.height
        assert 0 <= box.left <= 400 - box.width
        assert 0.48 < box.width / box.height < 2.05
        areas.append(box.height * box.width / (300 * 400))
    assert 0.098 < min(areas) < 0.12
    assert 0.45 < max(areas) < 0.505


def test_a_picture_too_narrow_for_any_box_gives_its_middle():
    """As fastai and torchvision do after ten attempts."""
    box = random_area_box(10, 1000, np.full(22, 0.9), scale=(0.5, 1.0), ratio=(0.75, 1.33))
    assert box == Box(0, (1000 - 13) // 2, 10, 13) or box.width == 13


def test_exact_resize_is_antialiased_interpolation_rounded_to_even(photo):
    """The definition that an exported graph has to repeat, in double precision."""
    plain = photo.as_subclass(torch.Tensor)
    wanted = F.interpolate(plain[None].double(), (64, 64), mode="bilinear", antialias=True)[0]
    found = resize_exact(plain, (64, 64))
    assert (found - wanted).abs().max() <= 0.5 + 1e-3
    assert resize_exact(plain, (64, 64), "bicubic").dtype == torch.uint8


def test_the_fast_resize_is_one_level_off_at_most(photo):
    """Which is why it is for training alone, and an argument that the recipe shows."""
    plain = photo.as_subclass(torch.Tensor)
    difference = (resize_fast(plain, (64, 96)).int() - resize_exact(plain, (64, 96)).int()).abs()
    assert 0 < difference.max() <= 1
    train, valid = (Resize(64, "squish").apply((photo,), 0, train=t)[0] for t in (True, False))
    assert not torch.equal(train, valid)
    exact = Resize(64, "squish", fast=False).apply((photo,), 0, train=True)[0]
    assert torch.equal(exact, valid)


def test_the_number_of_threads_changes_no_bits(photo):
    """Neither kernel sums in an order that depends on it."""
    plain = photo.as_subclass(torch.Tensor)
    before = torch.get_num_threads()
    try:
        made = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            made.append((resize_exact(plain, (97, 55)), resize_fast(plain, (97, 55))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for one in made[1:] for a, b in zip(made[0], one, strict=True))


def test_nearest_takes_the_pixel_at_the_centre():
    """As torch's nearest-exact, for any type of integer."""
    mask = torch.randint(0, 100, (1, 37, 23), generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(mask[None].float(), (16, 50), mode="nearest-exact")[0].long()
    assert torch.equal(resize_nearest(mask, (16, 50)), wanted)


def test_validation_of_random_resized_crop_keeps_the_aspect(coordinates):
    """The middle, without distortion: a square of the picture stays a square."""
    image = RandomResizedCrop(32, val_xtra=0.25).apply(coordinates[:1], 0, train=False)[0].int()
    down, across = image[0, 31, 16] - image[0, 0, 16], image[1, 16, 31] - image[1, 16, 0]
    assert abs(int(down) - int(across)) <= 1
    assert abs(int(image[0, 16, 16]) - 30) <= 1
    assert abs(int(image[1, 16, 16]) - 40) <= 1


def test_flip_mirrors_in_training_only(photo):
    """Half of the samples by default, all with p=1, none in validation."""
    mirrored = FlipItem(1.0).apply((photo,), 0, train=True)[0]
    assert torch.equal(mirrored, photo.flip(-1))
    assert torch.equal(FlipItem(1.0).apply((photo,), 0, train=False)[0], photo)
    count = sum(not torch.equal(FlipItem().apply((photo,), key, train=True)[0], photo) for key in keys(200))
    assert 70 < count < 130


def test_to_tensor_makes_pictures_and_leaves_the_rest():
    """PIL images and 8-bit arrays become tensors; labels, vectors and tensors stay."""
    grey, colour = Image.new("L", (4, 3)), np.zeros((3, 4, 3), np.uint8)
    vector, tensor = np.zeros(5), torch.zeros(3, 3)
    out = ToTensor().apply((grey, colour, vector, tensor, 7), 0, train=True)
    assert [tuple(x.shape) for x in out[:2]] == [(1, 3, 4), (3, 3, 4)]
    assert all(type(x) is tv_tensors.Image for x in out[:2])
    assert out[2] is vector
    assert out[3] is tensor
    assert out[4] == 7


def test_a_pil_image_is_resized_too():
    """What an opener of the user's own gives."""
    out = Resize(8).apply((Image.new("RGB", (20, 30), (1, 2, 3)),), 0, train=False)[0]
    assert out[:, 0, 0].tolist() == [1, 2, 3]
    assert out.shape == (3, 8, 8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 100_000), (3000, 1)])
def test_extreme_shapes_are_resized(shape):
    """One pixel, and lines."""
    image = tv_tensors.Image(torch.full((3, *shape), 9, dtype=torch.uint8))
    for transform in (
        Resize(16),
        Resize(16, "pad"),
        Resize(16, "squish"),
        RandomResizedCrop(16),
        CropPad(16, "reflection"),
    ):
        for train in (True, False):
            out = transform.apply((image,), 3, train=train)[0]
            assert out.shape == (3, 16, 16)
            assert (out == 9).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Resize(0), "size is 0"),
        (lambda: Resize((1, 2, 3)), "expected pixels"),
        (lambda: Resize(2.5), "size is 2.5"),
        (lambda: Resize(8, "stretch"), "'stretch'"),
        (lambda: Resize(8, pad_mode="reflect"), "'reflect'"),
        (lambda: Resize(8, resamples="bilinear"), "expected two"),
        (lambda: Resize(8, resamples=("lanczos", "nearest")), "'lanczos'"),
        (lambda: Resize(8, resamples=("bilinear", "bilinear")), "nearest"),
        (lambda: RandomResizedCrop(8, min_scale=0), "min_scale is 0"),
        (lambda: RandomResizedCrop(8, ratio=(2, 1)), "ratio is (2, 1)"),
        (lambda: RandomResizedCrop(8, val_xtra=-1), "val_xtra is -1"),
        (lambda: RandomCrop(8, pad_mode="x"), "'x'"),
        (lambda: FlipItem(2), "p is 2"),
    ],
)
def test_arguments_that_cannot_work_are_refused(make, words):
    """With what was given and what may be given."""
    with pytest.raises(ArgumentError) as error:
        make()
    assert words in str(error.value)
    assert error.value.do


def test_a_typo_names_the_nearest_argument():
    """fastai would swallow it."""
    with pytest.raises(UnknownNameError, match="'method'"):
        Resize(8, methd="pad")
    assert as_size((3, 4)) == (3, 4)


def test_a_sample_without_a_picture_is_told():
    """It would go through unchanged otherwise; floats too, which would be rounded away."""
    plain = torch.zeros(3, 8, 8)
    with pytest.raises(
        ArgumentError, match=r"Resize finds no picture among Tensor of torch.float32 \(3, 8, 8\), int"
    ):
        Resize(4).apply((plain, 1), 0, train=True)
    with pytest.raises(ArgumentError, match="takes uint8 pictures"):
        Resize(4).apply((tv_tensors.Image(plain), 1), 0, train=True)


def test_sizes_may_be_integers_of_numpy():
    """Not floats, nor nothing."""
    assert Resize(np.int64(24)).size == (24, 24)
    for size in (22.5, 0, (1, 2, 3), "224"):
        with pytest.raises(ArgumentError, match="expected pixels"):
            Resize(size)
