"""The classes that are made from the table: as if somebody had written each of them down."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import diffusers
import pytest

import diffusers_rdaam
from diffusers_rdaam import RDAAMPipelineMixin
from diffusers_rdaam.families.layouts import LAYOUTS_WITH_CLASS
from diffusers_rdaam.families.registry import stock_class
from diffusers_rdaam.pipelines import classes


@pytest.mark.parametrize("stock", LAYOUTS_WITH_CLASS)
def test_a_class_is_as_a_class_statement_would_make_it(stock: str) -> None:
    name = stock.removesuffix("Pipeline") + "RDAAMPipeline"
    made = getattr(diffusers_rdaam, name)
    assert made is getattr(classes, name) is classes.recording_class(stock)
    assert (made.__name__, made.__qualname__, made.__module__) == (name, name, classes.__name__)
    assert made.__doc__.startswith(f":class:`diffusers.{stock}` whose outputs have")
    assert made.__mro__[1] is RDAAMPipelineMixin
    assert stock_class(made).__name__ == stock
    assert stock_class(made).__module__.startswith("diffusers.")
    assert pickle.loads(pickle.dumps(made)) is made


def test_a_class_of_another_process_is_found_by_its_name() -> None:
    saved = pickle.dumps(classes.recording_class("StableDiffusionPipeline"))
    code = f"import pickle; print(pickle.loads({saved!r}).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["StableDiffusionRDAAMPipeline"]


def test_two_threads_get_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "StableDiffusionUpscaleRDAAMPipeline"
    # The class that other tests have is put back.
    monkeypatch.setitem(vars(classes), name, getattr(classes, name))
    for _ in range(5):
        del vars(classes)[name]
        start = Barrier(4)

        def ask(_: int, start: Barrier = start) -> object:
            start.wait()
            return getattr(classes, name)

        with ThreadPoolExecutor(4) as pool:
            assert len(set(pool.map(ask, range(4)))) == 1


def test_notes_are_those_of_the_kind() -> None:
    documentation = classes.recording_class("StableDiffusionXLControlNetInpaintPipeline").__doc__
    for word in ("prompt_2", "ControlNet reads the same text", "padding_mask_crop"):
        assert word in documentation
    assert "perturbed" not in documentation


def test_other_names_are_attribute_errors() -> None:
    for name in ("CatsRDAAMPipeline", "StableDiffusionPipeline", "PIARDAAMPipeline"):
        with pytest.raises(AttributeError, match=f"has no attribute '{name}'"):
            getattr(classes, name)
    assert set(classes.STOCK_NAMES) <= set(dir(classes))
    assert hasattr(diffusers, "PIAPipeline")
