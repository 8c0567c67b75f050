"""The environment is in the recipe: versions, threads, flags; and it costs nothing to speak of."""

import sys
import time

import torch

from surefast.keys.settings import Settings, applied, read_variables
from surefast.recipe.environment import DECIDING_VARIABLES, environment
from surefast.recipe.lines import line_of


def test_what_is_in_it():
    """Versions and flags count for the hash; the name of the processor is for people."""
    found = environment()
    assert (
        found["torch"].value == torch.__version__.partition("+")[0]
        or found["torch"].value == torch.__version__
    )
    assert found["device"].value == "cpu"
    assert {name for name, value in found.items() if value.neutral} == {"cpu"}
    assert {value.origin for value in found.values()} == {"inferred"}


def test_flags_are_those_in_force():
    """Threads and determinism are read from the process."""
    with applied(Settings(determinism="warn", threads=1)):
        found = environment()
    assert (found["determinism"].value, found["threads"].value) == ("warn", 1)


def test_variables(monkeypatch):
    """Environment variables that choose kernels are in it when they are set."""
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("UNRELATED", "x")
    assert read_variables(DECIDING_VARIABLES)["MKL_CBWR"] == "COMPATIBLE"
    found = environment(variables=read_variables(DECIDING_VARIABLES))
    assert found["MKL_CBWR"].value == "COMPATIBLE"
    assert "UNRELATED" not in found


def test_it_is_cheap_and_imports_nothing():
    """It takes a few milliseconds and loads no library it names."""
    environment()
    before = set(sys.modules)
    start = time.process_time()
    environment()
    assert time.process_time() - start < 0.03
    assert not {"timm", "simplejpeg"} & (set(sys.modules) - before)


def test_line_of():
    """Keys are found in tables, arrays of tables, inline tables and arrays over several lines."""
    text = 'a = 1\n[s]\n"x.y" = 2\nb = [\n  { c = 1 },\n  { d = 2 },\n]\n'
    text += "[[fit]]\nn = 1\n[[fit]]\nn = 2\n[fit.t]\nz = 1\n"
    wanted = {
        ("a",): 1,
        ("s", "x.y"): 3,
        ("s", "b", 1, "d"): 6,
        ("fit", 1, "n"): 11,
        ("fit", 1, "t", "z"): 13,
        ("fit", 1, "gone"): 10,
        ("nowhere",): 1,
    }
    assert {path: line_of(text, path) for path in wanted} == wanted
