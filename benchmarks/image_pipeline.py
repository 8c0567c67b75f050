"""Images a second, from JPEG files of natural size to augmented, normalised batches of 224 x 224.

    python -m benchmarks.image_pipeline [--images FOLDER] [--count 256] [--rounds 5]

Compares, in turns so that a slow minute of the machine meets all alike:

- the bare decoding of the files by libjpeg-turbo, which nothing that opens them can beat;
- a hand-written torchvision v2 pipeline, on PIL images and on its own decoder;
- a loop by hand over the kernels that surefast uses;
- surefast's Loader, built in the calling thread (one core) and in threads.

All crop at random, resize, mirror half of the images, make floats and normalise; batches of 64. Without
``--images``, 500 x 375 pictures are cut out of the two photographs that scikit-learn ships.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from surefast.data.items import get_image_files
from surefast.vision.augment import Normalize, aug_transforms, imagenet_stats
from surefast.vision.image import decoder
from surefast.vision.loaders import ImageDataLoaders
from surefast.vision.transforms import FlipItem, RandomResizedCrop

BATCH = 64
SIZE = 224


def make_photos(folder: Path, count: int) -> None:
    """Write ``count`` JPEGs of 500 x 375 (quality 85), windows of real photographs."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    for i in range(count):
        photo = photos[i % len(photos)]
        width = int(rng.integers(440, 570))
        height = width * 3 // 4
        left, top = int(rng.integers(photo.width - width)), int(rng.integers(max(1, photo.height - height)))
        window = photo.crop((left, top, left + width, top + height)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        window.save(folder / f"{'ab'[i % 2]}_{i:04}.jpg", quality=85)


class Files(torch.utils.data.Dataset):
    """The hand-written data set: open one file, transform it."""

    def __init__(self, files: list[Path], *, pillow: bool) -> None:
        self.files = files
        self.pillow = pillow
        self.transform = v2.Compose([
            v2.RandomResizedCrop(SIZE, antialias=True),
            v2.RandomHorizontalFlip(),
            *([v2.ToImage()] if pillow else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(*imagenet_stats),
        ])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.pillow:
            return self.transform(Image.open(self.files[index]).convert("RGB"))
        data = torch.frombuffer(bytearray(self.files[index].read_bytes()), dtype=torch.uint8)
        return self.transform(decode_image(data, ImageReadMode.RGB))


def torchvision_epoch(files: list[Path], *, pillow: bool, workers: int) -> Callable[[], None]:
    """An epoch of torch's DataLoader over the hand-written data set; its processes are kept."""
    loader = torch.utils.data.DataLoader(
        Files(files, pillow=pillow),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Not a fork of a process that has threads.
        multiprocessing_context="forkserver" if workers else None,
    )
    return lambda: drain(loader)


def decode_epoch(files: list[Path], *, workers: int) -> Callable[[], None]:
    """Read and decode every file, and throw it away."""
    import simplejpeg

    def one(file: Path) -> None:
        simplejpeg.decode_jpeg(file.read_bytes())

    if not workers:
        return lambda: drain(map(one, files))
    pool = ThreadPoolExecutor(workers)
    return lambda: drain(pool.map(one, files))


def by_hand_epoch(files: list[Path]) -> Callable[[], None]:
    """The kernels that surefast uses, in a plain loop with torch's and Python's own generators."""
    import simplejpeg

    mean, std = (torch.tensor(values)[:, None, None] for values in imagenet_stats)
    box = v2.RandomResizedCrop(SIZE).make_params

    def one(file: Path) -> torch.Tensor:
        image = torch.from_numpy(simplejpeg.decode_jpeg(file.read_bytes())).permute(2, 0, 1)
        at = box([image])
        top, left = at["top"], at["left"]
        window = image[None, :, top : top + at["height"], left : left + at["width"]]
        small = F.interpolate(window, (SIZE, SIZE), mode="bilinear", antialias=True)[0]
        return small.flip(-1) if torch.rand(1) < 0.5 else small

    def epoch() -> None:
        for start in range(0, len(files), BATCH):
            batch = torch.stack([one(file) for file in files[start : start + BATCH]])
            batch.float().div_(255).sub_(mean).div_(std)

    return epoch


def first_letter(name: str) -> str:
    """The label of a file, so that there is one."""
    return name[0]


def surefast_epoch(files: list[Path], *, workers: int, augment: bool = False) -> Callable[[], None]:
    """An epoch of surefast's Loader: another one each time."""
    item = [RandomResizedCrop(SIZE)] if augment else [RandomResizedCrop(SIZE), FlipItem()]
    dls = ImageDataLoaders.from_lists(
        files[0].parent,
        files,
        [i % 2 for i in range(len(files))],
        valid_pct=1 / len(files) + 1e-6,
        item_tfms=item,
        batch_tfms=[*(aug_transforms() if augment else []), Normalize.from_stats(*imagenet_stats)],
        bs=BATCH,
        drop_last=False,
        num_workers=workers,
        device="cpu",
        check_leaks=False,
    )
    epoch = iter(range(10**6))
    return lambda: drain(dls.train.batches(seed=0, epoch=next(epoch)))


def drain(things: object) -> None:
    """Take everything."""
    for _ in things:  # type: ignore[attr-defined]
        pass


@contextlib.contextmanager
def image_folder(given: Path | None, count: int) -> Iterator[Path]:
    """The folder asked for, or a temporary one with pictures made here."""
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory() as made:
        make_photos(Path(made), count)
        yield Path(made)


def measure(
    contestants: dict[str, Callable[[], None]], rounds: int, count: int
) -> dict[str, list[tuple[float, float]]]:
    """Of each contestant in each round, in turns: images a second, and images a second of CPU time."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for run in range(rounds + 1):
        for name, epoch in contestants.items():
            start, busy = time.perf_counter(), time.process_time()
            epoch()
            wall, cpu = time.perf_counter() - start, time.process_time() - busy
            if run:  # the first round warms caches and starts processes
                rates[name].append((count / wall, count / cpu))
    return rates


def table(rates: dict[str, list[tuple[float, float]]], bases: dict[str, str]) -> str:
    """Medians with their range, and the ratio to the base of each, taken round by round."""
    lines = [
        "| | images/s | range | of bare decoding | images per CPU second | of bare decoding |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in rates.items():
        wall = [a[0] for a in values]
        ratios = [a[0] / b[0] for a, b in zip(values, rates[bases[name]], strict=True)]
        cpu = [a[1] for a in values]
        cpu_ratios = [a[1] / b[1] for a, b in zip(values, rates[bases[name]], strict=True)]
        # The CPU time of worker processes is not that of this process.
        hidden = name.startswith("torchvision") and "workers" in name
        lines.append(
            f"| {name} | {median(wall):,.0f} | {min(wall):,.0f} to {max(wall):,.0f} | {spread(ratios)} | "
            + ("- | - |" if hidden else f"{median(cpu):,.0f} | {spread(cpu_ratios)} |")
        )
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """The median and the range."""
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="a folder of JPEG files; default: made from photographs")
    parser.add_argument("--count", type=int, default=256, help="images of an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds, after one that warms up")
    parser.add_argument("--workers", type=int, default=2, help="threads or processes of the second half")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with image_folder(asked.images, asked.count) as folder:
        files = [f for f in get_image_files(folder) if f.suffix.lower() in {".jpg", ".jpeg"}][: asked.count]
        contestants, bases = {}, {}
        for workers in (0, asked.workers):
            where = f"{workers} workers" if workers else "1 thread"
            base = f"bare decoding, {where}"
            made = {
                base: decode_epoch(files, workers=workers),
                f"torchvision v2 on PIL, {where}": torchvision_epoch(files, pillow=True, workers=workers),
                f"torchvision v2, own decoder, {where}": torchvision_epoch(
                    files, pillow=False, workers=workers
                ),
                **({} if workers else {f"the same kernels by hand, {where}": by_hand_epoch(files)}),
                f"surefast, {where}": surefast_epoch(files, workers=workers),
                f"surefast with aug_transforms, {where}": surefast_epoch(
                    files, workers=workers, augment=True
                ),
            }
            contestants.update(made)
            bases.update(dict.fromkeys(made, base))
        rates = measure(contestants, asked.rounds, len(files))
    size = "x".join(map(str, Image.open(files[0]).size)) if asked.images else "500x375"
    print(
        f"{len(files)} JPEG files ({size}), {asked.rounds} rounds, {decoder()}, torch {torch.__version__}\n"
    )
    print(table(rates, bases))


if __name__ == "__main__":
    main()
