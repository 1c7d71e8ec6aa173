"""A class whose parent the installed libraries lack: named, and an error when it is used."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from diffusers_rdaam import UnsupportedPipelineError
from diffusers_rdaam.pipelines import classes

MISSING = "cannot import name 'NewModel' from 'transformers' (/venv/transformers/__init__.py)"


class _Diffusers(SimpleNamespace):
    """As diffusers' face answers where a pipeline's own imports fail."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"Failed to import diffusers.pipelines.x (see above):\n{MISSING}")


class _NoModule(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        raise ImportError(MISSING)


@pytest.fixture(params=[_Diffusers, _NoModule])
def made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of a pipeline that cannot be imported."""
    with monkeypatch.context() as patch:
        patch.setattr(importlib, "import_module", lambda name: request.param())
        return classes._make("LTX2RDAAMPipeline")


def test_it_has_its_name(made: Any) -> None:
    assert isinstance(made, type) and made.__name__ == "LTX2RDAAMPipeline"
    assert made.__module__ == "diffusers_rdaam.pipelines.classes"
    assert not isinstance(object(), made) and not hasattr(made, "_private")
    assert "NewModel" in made.__doc__


@pytest.mark.parametrize(
    "use",
    [lambda cls: cls(), lambda cls: cls.from_pretrained("x"), lambda cls: cls.from_pipe(object())],
)
def test_its_use_says_what_is_missing(made: Any, use: Any) -> None:
    with pytest.raises(UnsupportedPipelineError) as caught:
        use(made)
    text = str(caught.value)
    assert text.startswith("LTX2RDAAMPipeline cannot be used here: diffusers ")
    assert "cannot import LTX2Pipeline with transformers " in text
    assert "(cannot import name 'NewModel' from 'transformers')" in text
    assert text.endswith("Install a newer transformers, or what the reason names.")
    assert caught.value.__cause__ is not None


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'NoRDAAMPipeline'"):
        classes._make("NoRDAAMPipeline")
