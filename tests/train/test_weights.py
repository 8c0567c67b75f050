"""Weights are read without running anything, and a file that does not fit says all of it at once."""

import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from surefast.errors import UnknownNameError, WeightsError
from surefast.train.weights import fit_state, load_state, save_state


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_was_saved_is_what_is_loaded(tmp_path):
    """Saving and loading gives back every bit of a model, whose channels-last strides do not matter."""
    model = net().to(memory_format=torch.channels_last)
    file = save_state(model, tmp_path / "deep" / "w.safetensors")
    assert same(load_state(file), model.state_dict())
    assert [p.name for p in file.parent.iterdir()] == ["w.safetensors"]


def test_saving_into_an_older_file_replaces_it(tmp_path):
    """The new weights stand in the file, not the old ones."""
    first, second = net(), net()
    save_state(first, tmp_path / "w.safetensors")
    save_state(second, tmp_path / "w.safetensors")
    assert same(load_state(tmp_path / "w.safetensors"), second.state_dict())
    assert not same(load_state(tmp_path / "w.safetensors"), first.state_dict())


def test_tied_weights_come_back_under_both_names(tmp_path):
    """A tensor under two names is written once, and a view of another tensor is written as its own."""
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"a": shared, "b": shared, "flat": shared.view(6), "row": shared[1]}
    file = save_state(state, tmp_path / "w.safetensors")
    assert same(load_state(file), state)
    assert file.stat().st_size < 4 * (6 + 6 + 3) + 500


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_are_read_whatever_the_script_put_around_them(tmp_path, wrap, zipped):
    """A .pth is found under the usual keys and prefixes, in torch's new and old file format."""
    state = net().state_dict()
    content = {"plain": state, "module.": {f"module.{name}": t for name, t in state.items()}}.get(
        wrap, {wrap: state, "epoch": 3}
    )
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert same(load_state(tmp_path / "w.pth"), state)


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code ran')",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(tmp_path, zipped):
    """Nothing in a pickle is called, and the error says what to do instead."""
    torch.save({"w": torch.zeros(2), "x": Evil()}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"would run code, which is refused") as caught:
        load_state(tmp_path / "w.pth")
    assert "torch.save(model.state_dict()" in str(caught.value)
    assert "exec" in caught.value.details["cause"]


def test_a_plain_pickle_is_refused(tmp_path):
    """Even a harmless pickle is no file of weights."""
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"w": [1.0]}))
    with pytest.raises(WeightsError, match=r"\[weights\]"):
        load_state(tmp_path / "w.pkl")


def test_a_tensor_larger_than_its_file_is_refused(tmp_path):
    """One stored number with a stride of 0 must not become terabytes."""
    torch.save({"w": torch.zeros(1).expand(2**20, 2**20)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"'w' is larger than the file that holds it"):
        load_state(tmp_path / "w.pth")


def test_a_compressed_archive_that_swells_is_refused(tmp_path):
    """A zip bomb is found in the directory of the archive, before anything is unpacked."""
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(WeightsError, match="claims to hold more bytes than it has"):
        load_state(tmp_path / "w.pth")


BAD = {
    "empty": (b"", "the file is empty"),
    "page": (b"\n<!DOCTYPE html><html>404 Not Found</html>", "it is a web page"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "text": (b"epoch,loss\n1,0.5\n", "neither safetensors nor a torch file"),
    "huge header": (b"\xff\xff\xff\xff\x00\x00\x00\x00{}", "damaged or cut short"),
    "zip start": (b"PK\x03\x04 and nothing more", "damaged or cut short"),
    "pickle start": (b"\x80\x02", "damaged or cut short"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_file_without_weights_says_what_it_is_instead(tmp_path, name):
    """Empty files, error pages, pointers and fragments are named for what they are, with the file."""
    content, text = BAD[name]
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=r"\[weights\]") as caught:
        load_state(tmp_path / "w.pth")
    assert text in str(caught.value)
    assert str(tmp_path / "w.pth") in str(caught.value)


@pytest.mark.parametrize("form", ["safetensors", "zip", "old"])
def test_a_file_that_was_cut_is_refused_at_every_place(tmp_path, form):
    """A download that broke off is an error wherever it broke off."""
    file = tmp_path / "w.bin"
    if form == "safetensors":
        save_state(net(), file)
    else:
        torch.save(net().state_dict(), file, _use_new_zipfile_serialization=form == "zip")
    whole = file.read_bytes()
    for part in (1, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:part])
        with pytest.raises(WeightsError, match=r"\[weights\]"):
            load_state(file)


def test_a_header_that_lies_about_its_offsets_is_refused(tmp_path):
    """A shape that needs more bytes than the file has is found before memory is asked for."""
    save_file({"w": torch.zeros(4)}, tmp_path / "w.safetensors")
    data = (tmp_path / "w.safetensors").read_bytes().replace(b'"shape":[4]', b'"shape":[9]')
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="damaged or cut short"):
        load_state(tmp_path / "w.safetensors")


def test_a_missing_file_names_the_nearest_one(tmp_path):
    """A misspelt file name is answered with the right one; a folder with what lies in it."""
    save_state(net(), tmp_path / "resnet18.safetensors")
    with pytest.raises(WeightsError, match=r"did you mean .*resnet18\.safetensors"):
        load_state(tmp_path / "resnet81.safetensors")
    with pytest.raises(WeightsError, match="check the path"):
        load_state(tmp_path / "nowhere" / "x")
    with pytest.raises(WeightsError, match=r"pass the file itself: resnet18\.safetensors"):
        load_state(tmp_path)


def test_a_checkpoint_without_tensors_is_refused(tmp_path):
    """A dict of numbers is no state dict, and the error lists what was in it."""
    torch.save({"epoch": 3, "loss": 0.5}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="no state dict was found") as caught:
        load_state(tmp_path / "w.pth")
    assert caught.value.details["found"] == "dict with epoch, loss"
    torch.save(torch.zeros(3), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"found: +Tensor"):
        load_state(tmp_path / "w.pth")
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="'w' is sparse"):
        load_state(tmp_path / "w.pth")


def test_a_torchscript_archive_is_refused(tmp_path):
    """A scripted model is a program, not weights."""
    code = "class M:\n  def forward(self, x):\n    return x\n"
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("w/code/__torch__.py", code)
        archive.writestr("w/constants.pkl", pickle.dumps(()))
        archive.writestr("w/data.pkl", pickle.dumps({}))
        archive.writestr("w/version", "3\n")
    with pytest.raises(WeightsError, match="would run code, which is refused"):
        load_state(tmp_path / "w.pt")


def test_weights_that_cannot_be_written_leave_the_old_file(tmp_path):
    """A file that stands where a folder should be is an error with the cause; nothing is left behind."""
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(WeightsError, match="could not be written"):
        save_state(net(), tmp_path / "taken" / "w.safetensors")
    assert (tmp_path / "taken").read_text() == "a file"


def test_weights_are_copied_into_a_module():
    """Everything that fits is copied, buffers too."""
    source, target = net(), net()
    source[1].running_mean += 3
    report = fit_state(target, source.state_dict())
    assert same(target.state_dict(), source.state_dict())
    assert report.loaded == len(source.state_dict())
    assert not report.missing


def test_everything_that_does_not_fit_is_in_one_error():
    """Missing, unexpected and misshapen names come together, with the nearest name; nothing is copied."""
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {name: tensor + 1 for name, tensor in before.items()}
    state["3.wieght"] = state.pop("3.weight")
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    with pytest.raises(WeightsError, match="1 missing, 1 unexpected, 1 of another shape") as caught:
        fit_state(model, state)
    assert caught.value.details == {
        "missing": "3.weight (nearest: 3.wieght)",
        "unexpected": "3.wieght (nearest: 3.weight)",
        "shapes": "0.weight is (4, 1, 3, 3), not (4, 3, 3, 3)",
    }
    assert same(model.state_dict(), before)


def test_a_long_list_of_names_is_cut():
    """An error about another architecture stays readable."""
    state = {f"layer{i}.weight": torch.zeros(1) for i in range(100)}
    with pytest.raises(WeightsError, match="and 92 more"):
        fit_state(net(), state)


def test_names_can_be_left_out_or_tolerated():
    """``ignore`` leaves a submodule as it is; ``strict=False`` reports instead of raising."""
    model, other = net(), net()
    own = model[3].weight.clone()
    report = fit_state(model, other.state_dict() | {"3.weight": torch.zeros(7, 7)}, ignore=["3"])
    assert report.ignored == ("3.weight", "3.bias")
    assert torch.equal(model[3].weight, own)
    report = fit_state(model, {"0.bias": torch.ones(4), "new": torch.zeros(1)}, strict=False)
    assert (report.loaded, report.unexpected) == (1, ("new",))
    assert "0.weight" in report.missing
    with pytest.raises(WeightsError, match="1 of another shape"):
        fit_state(model, {"0.bias": torch.ones(5)}, strict=False)


def test_an_unknown_argument_is_answered():
    """A misspelt argument names the right one."""
    with pytest.raises(UnknownNameError, match="write 'strict'"):
        fit_state(net(), {}, strickt=True)
