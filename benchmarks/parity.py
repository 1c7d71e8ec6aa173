"""How far the maps are from the predecessors' own results on the same tiny model and latents.

The results of DAAM 0.2.0, DAAM-I2I 0.2.0, rdaam 0.1.0 and OVAM 0.0.1 are those of the tests
(``tests/parity``). DAAM cuts every head's enlarged map off at zero before it averages; an
attribution holds means over the heads, so DAAM's global map is compared with the heads of our own
run, whose means are the attribution.
"""

from __future__ import annotations

import torch

from benchmarks.report import Row, judged
from diffusers_rdaam.compat.daami2i.formulas import global_map as global_self_map
from tests.parity import ovam_runs as ovam
from tests.parity.conftest import PROMPTS, STEPS, Run, Stored
from tests.parity.conftest import run as record
from tests.parity.i2i_results import recorded_halves
from tests.parity.i2i_results import results as self_results
from tests.parity.test_daam import global_map

GOAL = 1e-4


def run(*, full: bool = False) -> list[Row]:
    """One row a kind of result: the largest difference over the stored map's maximum."""
    worst: dict[str, float] = {}
    for prompt in PROMPTS:
        rdaam, daam = Stored.load(f"rdaam_{prompt}"), Stored.load(f"daam_{prompt}")
        ours = record(rdaam.facts["prompt"])
        for what, error in (_rdaam(ours, rdaam) | _daam(ours, daam)).items():
            worst[what] = max(worst.get(what, 0.0), error)
    worst = {f"{what}, {len(PROMPTS)} prompts": error for what, error in worst.items()}
    stored = Stored.load("daami2i_p0_simple")
    latents = Stored.load("init").tensors["latents"]
    maps = global_self_map(recorded_halves(stored.facts["prompt"], latents), STEPS)
    for name, ours in self_results(maps, stored).items():
        worst[f"DAAM-I2I, both halves of the batch, {name}"] = _error(ours, stored.tensors[name])
    worst |= {f"OVAM, {what}": error for what, error in _ovam().items()}
    return [
        judged(
            "parity",
            what,
            f"{error:.1e} of the map's maximum",
            f"at most {GOAL:.0e}",
            error <= GOAL,
            deterministic=True,
        )
        for what, error in worst.items()
    ]


def _ovam() -> dict[str, float]:
    found: dict[str, float] = {}
    for precision in ("fp16", "fp32"):
        attribution = ovam.pipeline(precision).attribution
        negative = ovam.without_middle(attribution.negative)
        found[f"3 texts over the unconditional rows, queries in {precision}"] = max(
            _error(
                ovam.maps(negative, ovam.text(number), precision),
                ovam.stored().tensors[f"att{number}.default"],
            )
            for number in (0, 1, 2)
        )
    found["other activations and aggregations, queries in fp32"] = max(
        _error(ovam.maps(negative, ovam.text(0), "fp32", **stages), ovam.stored().tensors[name])
        for name, stages in ovam.OTHER.items()
    )
    found["the 30 losses of 3 token optimisations"] = max(
        _error(ovam.losses(name), ovam.stored().tensors[f"opt.{name}.losses"])
        for name in ovam.OPTIMIZATIONS
    )
    return found


def _error(ours: torch.Tensor, stored: torch.Tensor) -> float:
    return float((ours - stored).abs().max() / stored.abs().max())


def _rdaam(ours: Run, stored: Stored) -> dict[str, float]:
    attribution, tensors = ours.attribution, stored.tensors
    columns = [attribution.column(index).values for index in range(len(attribution.prompt.tokens))]
    text = slice(1, 1 + sum(token.kind == "text" for token in attribution.prompt.tokens))
    boxes = {name: box for name, box in stored.facts["boxes"].items() if name != "empty"}
    pixels = torch.stack([column[::32, ::32] for column in columns], dim=-1)
    return {
        "rdaam, all columns at every 32nd pixel": _error(pixels, tensors["global_stride8"]),
        f"rdaam, {len(boxes)} boxes": max(
            _error(attribution.region(box).scores[text], tensors[f"bbox.{name}"])
            for name, box in boxes.items()
        ),
        "rdaam, maps of words (its columns)": max(
            _error(
                torch.stack([columns[k] for k in entry["columns"]]).mean(dim=0)[::4, ::4],
                tensors[f"forward.{index}.heat"],
            )
            for index, entry in stored.facts["words"].items()
        ),
    }


def _daam(ours: Run, stored: Stored) -> dict[str, float]:
    tensors, total = stored.tensors, global_map(ours.heads)
    finest = tensors["global.factors_1"]
    first = ours.attribution.grids[0]
    return {
        "DAAM, the 64x64 sites": _error(STEPS * first.maps[: len(finest)], finest),
        "DAAM, global map, from the heads of our run": _error(
            total[: len(tensors["global.default"])], tensors["global.default"]
        ),
        "DAAM, maps of words, from the heads of our run": max(
            _error(total[entry["columns"]].mean(dim=0), tensors[f"word.{index}"])
            for index, entry in stored.facts["words"].items()
        ),
        "means over these heads against the attribution": max(
            _error(grid.maps, ours.heads[grid.size].mean(dim=0) / STEPS)
            for grid in ours.attribution.grids
        ),
    }
