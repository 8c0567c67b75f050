"""Where known data sets lie, and what their archives must look like. Data only.

Names and addresses are fastai's. Size and MD5 of the first MiB are those that its authors published with
them; they tell a damaged download, not a forged one, which is why the whole archive's BLAKE2b is kept from
the first download on.
"""

from __future__ import annotations

from typing import Final, final

_S3: Final = "https://s3.amazonaws.com/fast-ai-"


@final
class URLs:
    """Addresses of data sets for ``untar_data``."""

    ADULT_SAMPLE: Final = f"{_S3}sample/adult_sample.tgz"
    AG_NEWS: Final = f"{_S3}nlp/ag_news_csv.tgz"
    BIWI_HEAD_POSE: Final = f"{_S3}imagelocal/biwi_head_pose.tgz"
    BIWI_SAMPLE: Final = f"{_S3}sample/biwi_sample.tgz"
    CALTECH_101: Final = f"{_S3}imageclas/caltech_101.tgz"
    CAMVID: Final = f"{_S3}imagelocal/camvid.tgz"
    CAMVID_TINY: Final = f"{_S3}sample/camvid_tiny.tgz"
    CARS: Final = f"{_S3}imageclas/stanford-cars.tgz"
    CIFAR: Final = f"{_S3}sample/cifar10.tgz"
    CIFAR_100: Final = f"{_S3}imageclas/cifar100.tgz"
    COCO_TINY: Final = f"{_S3}coco/coco_tiny.tgz"
    CUB_200_2011: Final = f"{_S3}imageclas/CUB_200_2011.tgz"
    DOGS: Final = f"{_S3}sample/dogscats.tgz"
    FLOWERS: Final = f"{_S3}imageclas/oxford-102-flowers.tgz"
    FOOD: Final = f"{_S3}imageclas/food-101.tgz"
    HUMAN_NUMBERS: Final = f"{_S3}sample/human_numbers.tgz"
    IMAGENETTE: Final = f"{_S3}imageclas/imagenette2.tgz"
    IMAGENETTE_160: Final = f"{_S3}imageclas/imagenette2-160.tgz"
    IMAGENETTE_320: Final = f"{_S3}imageclas/imagenette2-320.tgz"
    IMAGEWOOF: Final = f"{_S3}imageclas/imagewoof2.tgz"
    IMAGEWOOF_160: Final = f"{_S3}imageclas/imagewoof2-160.tgz"
    IMAGEWOOF_320: Final = f"{_S3}imageclas/imagewoof2-320.tgz"
    IMDB: Final = f"{_S3}nlp/imdb.tgz"
    IMDB_SAMPLE: Final = f"{_S3}sample/imdb_sample.tgz"
    ML_SAMPLE: Final = f"{_S3}sample/movie_lens_sample.tgz"
    ML_100k: Final = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
    MNIST: Final = f"{_S3}imageclas/mnist_png.tgz"
    MNIST_SAMPLE: Final = f"{_S3}sample/mnist_sample.tgz"
    MNIST_TINY: Final = f"{_S3}sample/mnist_tiny.tgz"
    MNIST_VAR_SIZE_TINY: Final = f"{_S3}imageclas/mnist_var_size_tiny.tgz"
    PASCAL_2007: Final = f"{_S3}imagelocal/pascal_2007.tgz"
    PETS: Final = f"{_S3}imageclas/oxford-iiit-pet.tgz"
    PLANET_SAMPLE: Final = f"{_S3}sample/planet_sample.tgz"
    PLANET_TINY: Final = f"{_S3}sample/planet_tiny.tgz"
    WIKITEXT: Final = f"{_S3}nlp/wikitext-103.tgz"
    WIKITEXT_TINY: Final = f"{_S3}nlp/wikitext-2.tgz"


PUBLISHED: Final[dict[str, tuple[int, str]]] = {
    URLs.ADULT_SAMPLE: (968212, "64eb9d7e23732de0b138f7372d15492f"),
    URLs.AG_NEWS: (11784419, "b86f328f4dbd072486591cb7a5644dcd"),
    URLs.BIWI_HEAD_POSE: (452316199, "00f4ccf66e8cba184bc292fdc08fb237"),
    URLs.BIWI_SAMPLE: (593774, "9179f4c1435f4b291f0d5b072d60c2c9"),
    URLs.CALTECH_101: (131740031, "d673425306e98ee4619fcdeef8a0e876"),
    URLs.CAMVID: (598913237, "648371e4f3a833682afb39b08a3ce2aa"),
    URLs.CAMVID_TINY: (2314212, "2cf6daf91b7a2083ecfa3e9968e9d915"),
    URLs.CARS: (1957803273, "9045d6673c9ced0889f41816f6bf2f9f"),
    URLs.CIFAR: (168168549, "a5f8c31371b63a406b23368042812d3c"),
    URLs.CIFAR_100: (169168619, "e5e65dcb54b9d3913f7b8a9ad6607e62"),
    URLs.COCO_TINY: (801038, "367467451ac4fba79a647753c2c66d3a"),
    URLs.CUB_200_2011: (1150585339, "d2acaa99439dff0483c7bbac1bfe2a92"),
    URLs.DOGS: (839285364, "3e483c8d6ef2175e9d395a6027eb92b7"),
    URLs.FLOWERS: (345236087, "5666e01c1311b4c67fcf20d2b3850a88"),
    URLs.FOOD: (5686607260, "1a540ebf1fb40b2bf3f2294234ba7907"),
    URLs.HUMAN_NUMBERS: (30252, "8a19c3bfa2bcb08cd787e741261f3ea2"),
    URLs.IMAGENETTE: (1557161267, "2c774ecb40005b35d7937d50f5d42336"),
    URLs.IMAGENETTE_160: (99003388, "c475f8f7617a200ba35b9facc48443c3"),
    URLs.IMAGENETTE_320: (341663724, "1f1f74f133caff120e575856659b87a2"),
    URLs.IMAGEWOOF: (1343715595, "2cc1c1e36e20cb6fd24ffb978edcb487"),
    URLs.IMAGEWOOF_160: (92612825, "3559b194123981a540b87132dbda412f"),
    URLs.IMAGEWOOF_320: (328387740, "7a1fd92672a559a85de76e4810a20c21"),
    URLs.IMDB: (144440600, "90f9b1c4ff43a90d67553c9240dc0249"),
    URLs.IMDB_SAMPLE: (571827, "0842e61a9867caa2e6fbdb14fa703d61"),
    URLs.ML_SAMPLE: (51790, "10961384dfe7c5181460390a460c1f77"),
    URLs.MNIST: (15683414, "03639f83c4e3d19e0a3a53a8a997c487"),
    URLs.MNIST_SAMPLE: (3214948, "2dbc7ec6f9259b583af0072c55816a88"),
    URLs.MNIST_TINY: (342207, "56143e8f24db90d925d82a5a74141875"),
    URLs.MNIST_VAR_SIZE_TINY: (565372, "b71a930f4eb744a4a143a6c7ff7ed67f"),
    URLs.PASCAL_2007: (1637796771, "433b4706eb7c42bd74e7f784e3fdf244"),
    URLs.PETS: (811706944, "e4db5c768afd933bb91f5f594d7417a4"),
    URLs.PLANET_SAMPLE: (15523994, "8bfb174b3162f07fbde09b54555bdb00"),
    URLs.PLANET_TINY: (997569, "490873c5683454d4b2611fb1f00a68a9"),
    URLs.WIKITEXT: (190200704, "2dd8cf8693b3d27e9c8f0a7df054b2c7"),
    URLs.WIKITEXT_TINY: (4070055, "2a82d47a7b85c8b6a8e068dc4c1d37e7"),
}
"""Size in bytes and MD5 of the first MiB of archives."""
