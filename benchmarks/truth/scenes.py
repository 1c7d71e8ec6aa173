"""Generated scenes: prompts, recordings kept on disk, and which objects are really in the image."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from benchmarks.truth.models import Model
from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.demo.judge import colour_masks, find_blobs
from diffusers_rdaam.demo.world import held_out_prompts, seen_prompts

# Prompts and image seeds that nothing was chosen on; and others, that thresholds are chosen on.
TEST_PROMPTS, TEST_SEED = 17, 170_000
TUNING_PROMPTS, TUNING_SEED = 18, 180_000
BATCH = 4
Names = tuple[str, str]


@dataclass(frozen=True)
class Scene:
    """One image with its recording and what is in it.

    Args:
        prompt: what it was made from.
        names: the two objects that the prompt names, such as ``"red circle"``.
        seed: of its noise.
        attribution: its recording.
        masks: of the objects that are in the image, ``(height, width)`` booleans, by name.
        latents: of the run, the latents after each step, ``(steps, …)``.
    """

    prompt: str
    names: Names
    seed: int
    attribution: Attribution = field(repr=False)
    masks: dict[str, np.ndarray] = field(repr=False)
    latents: torch.Tensor | None = field(default=None, repr=False)

    @property
    def usable(self) -> bool:
        """Whether both objects can be told in the image, by their colours."""
        return len(self.masks) == len(self.names)


@dataclass(frozen=True)
class Setting:
    """How images are made: the card's steps and guidance, or others.

    Args:
        name: of the setting in tables.
        steps, guidance: None for the card's.
    """

    name: str
    steps: int | None = None
    guidance: float | None = None


CARD = Setting("the card's steps and guidance")
SETTINGS = (
    Setting("7 steps", steps=7),
    Setting("no guidance", guidance=1.0),
    Setting("guidance 8", guidance=8.0),
)


def prompts_of(part: str, count: int) -> list[tuple[str, Names, int]]:
    """Prompts, the names in them, and the seed of each: ``"test"`` or ``"tuning"``."""
    if part == "test":
        prompts, seed = held_out_prompts(count, TEST_PROMPTS), TEST_SEED
    else:
        prompts, seed = seen_prompts(count, TUNING_PROMPTS), TUNING_SEED
    return [(text, names, seed + place) for place, (text, names) in enumerate(prompts)]


def scenes(
    model: Model,
    wanted: Sequence[tuple[str, Names, int]],
    cache: Path,
    *,
    setting: Setting = CARD,
    pipe: Callable[[], Any] | None = None,
) -> Iterator[Scene]:
    """The scenes one by one, each from the cache where it is there, else generated into it.

    Args:
        model: that makes them.
        wanted: as :func:`prompts_of` gives them.
        cache: a folder.
        setting: how they are made.
        pipe: makes the pipeline, when the first image is missing; ``model.load`` if not given.
    """
    folder = cache / model.name / setting.name.replace(" ", "_").replace("'", "")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [entry for entry in wanted if not _files(folder, entry[2])[0].is_file()]
    if missing:
        _generate(model, (pipe or model.load)(), missing, folder, setting)
    for text, names, seed in wanted:
        recording, states = _files(folder, seed)
        attribution = Attribution.load(recording)
        latents = load_file(states)["latents"]
        yield Scene(text, names, seed, attribution, masks_of(attribution.image, names), latents)


def unstored_scenes(
    model: Model, wanted: Sequence[tuple[str, Names, int]], texts: Callable[[Names], list[str]]
) -> Iterator[Scene]:
    """The scenes with what files of recordings do not have: queries, and texts of their own.

    They are generated again, one by one, and never kept: the images are those of :func:`scenes`.

    Args:
        model: that makes them.
        wanted: as :func:`prompts_of` gives them.
        texts: of a scene's names, for the vocabulary; only models with cross-attention have one.
    """
    keep = ("layers", "queries")
    pipe = model.load(RDAAMProcessor(keep=keep, self_attention="each", budget=2**34))
    for text, names, seed in wanted:
        asked = {"attribution_vocabulary": texts(names)} if model.has_vocabulary else {}
        generator = torch.Generator().manual_seed(seed)
        attribution = pipe(text, generator=generator, **asked, **model.call()).attribution
        yield Scene(text, names, seed, attribution, masks_of(attribution.image, names))


def masks_of(image: Any, names: Names) -> dict[str, np.ndarray]:
    """The mask of each named object in the image: the largest area of its colour."""
    found = find_blobs(image)
    masks = {}
    for name in names:
        blob = next((one for one in found if one.colour == name.split()[0]), None)
        if blob is not None:
            masks[name] = blob.mask
    return masks


def object_pixels(image: Any) -> np.ndarray:
    """All pixels with one of the world's colours, whatever the prompt says."""
    return np.any(list(colour_masks(image).values()), axis=0)


def _generate(
    model: Model,
    pipe: Any,
    missing: Sequence[tuple[str, Names, int]],
    folder: Path,
    setting: Setting,
) -> None:
    call = model.call(steps=setting.steps, guidance=setting.guidance)
    for start in range(0, len(missing), BATCH):
        part = missing[start : start + BATCH]
        states: list[torch.Tensor] = []

        def keep(
            pipe: Any, step: int, time: Any, tensors: dict[str, Any], kept: list[Any] = states
        ) -> dict[str, Any]:
            kept.append(tensors["latents"].detach().clone())
            return tensors

        output = pipe(
            [text for text, _, _ in part],
            generator=[torch.Generator().manual_seed(seed) for _, _, seed in part],
            callback_on_step_end=keep,
            **for_prompts(call, len(part)),
        )
        for place, (_, _, seed) in enumerate(part):
            recording, latents = _files(folder, seed)
            save_file({"latents": torch.stack([state[place] for state in states])}, latents)
            # Last: where it is there, the scene is whole.
            output.attributions[place].save(recording)
        done = min(start + BATCH, len(missing))
        print(f"{setting.name}: {done} of {len(missing)}", file=sys.stderr, flush=True)


def for_prompts(call: dict[str, Any], count: int) -> dict[str, Any]:
    """The arguments of a call for several prompts: a negative prompt for each."""
    if "negative_prompt" not in call:
        return call
    return {**call, "negative_prompt": [call["negative_prompt"]] * count}


def _files(folder: Path, seed: int) -> tuple[Path, Path]:
    return folder / f"{seed}.safetensors", folder / f"{seed}.latents"
