"""Every pipeline at toy size: saved as a folder, loaded as a command does, and examined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from builders_joint import CASES as JOINT
from builders_single import CASES as SINGLE
from toys import ALL_CASES, build, parts_of

from diffusers_rdaam.cli.models import find_model, load_stock_pipeline
from diffusers_rdaam.diagnosis.examination import examine

# A few of every kind are quick; the others take minutes together.
QUICK = 16
# What examine gives itself.
OF_THE_RUN = ("prompt", "num_inference_steps", "output_type", "generator")
Made = tuple[Any, Mapping[str, Any]]


def _of_unet(name: str) -> Made:
    case = ALL_CASES[name]
    return build(case.stock, parts_of(case)), {"prompt": "a red cat", **case.call}


def _of_transformer(make: Callable[[], Any]) -> Made:
    case = make()
    return case.make(), case.call


CASES: dict[str, Callable[[], Made]] = {
    **{name: lambda name=name: _of_unet(name) for name in ALL_CASES},
    **{name: lambda make=make: _of_transformer(make) for name, make in (JOINT | SINGLE).items()},
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % QUICK == 0 else pytest.mark.slow)
        for number, name in enumerate(CASES)
    ],
)
def test_a_saved_model_is_right(name: str, tmp_path: Path) -> None:
    made, call = CASES[name]()
    try:
        made.save_pretrained(tmp_path)
    except (AttributeError, FileNotFoundError) as error:
        pytest.skip(f"the toy has a part that cannot be saved, such as a tokenizer: {error}")
    pipe = load_stock_pipeline(find_model(str(tmp_path)), "cpu", None)
    pipe.set_progress_bar_config(disable=True)
    options = {key: value for key, value in call.items() if key not in OF_THE_RUN}
    steps = call.get("num_inference_steps", 2)
    found = examine(pipe, prompt=call["prompt"], steps=steps, rounds=1, **options)
    assert found.passed and found.is_identical, found
    assert found.sites and not found.unseen and found.largest_error < 1e-4
