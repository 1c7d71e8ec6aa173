"""The embedded FLUX is asked for by name; without its weights the error says what to do."""

from __future__ import annotations

import pytest

from diffusers_rdaam.cli.models import Model, find_model
from diffusers_rdaam.demo import loader
from diffusers_rdaam.errors import InputError


def test_a_name_that_is_not_a_model():
    with pytest.raises(InputError, match="'fluxx' is not an embedded model"):
        loader.load_demo_pipeline("fluxx")


def test_without_weights_the_error_says_how_to_make_them(monkeypatch, tmp_path):
    monkeypatch.setattr(loader, "FLUX_WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"has not been trained yet.*demo\.train flux FOLDER"):
        loader.load_demo_pipeline("flux")


def test_the_command_knows_its_name_unless_a_folder_has_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = find_model("demo-flux")
    assert model == Model(None, embedded="flux") and model.size() == (256, 256)
    (tmp_path / "demo-flux").mkdir()
    (tmp_path / "demo-flux" / "model_index.json").write_text("{}")
    assert find_model("demo-flux") == Model("demo-flux")
