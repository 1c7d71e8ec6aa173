"""Valid files of every format and feature, which are then mutated; and questions to what loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diffusers_rdaam import Attribution, OptimizedToken, Queries, SavedAttention
from diffusers_rdaam.attribution.grid import Grid
from diffusers_rdaam.attribution.kept_maps import KeptMaps, MapStack
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.site_queries import SiteQueries, StoredTensor
from diffusers_rdaam.compat.daam import GenerationExperiment
from diffusers_rdaam.errors import WordError
from diffusers_rdaam.files.tensor_file import write_tensors
from diffusers_rdaam.geometry.region import Mask

SIZE = (32, 48)
GRIDS = ((4, 6), (2, 3))
NAME = "generation.safetensors"


@dataclass(frozen=True)
class Seed:
    """A valid file.

    Args:
        format: its reader's name.
        path: of the file, or of the folder that is the unit.
        targets: the files in it that are mutated, relative to a folder; empty for a single file.
    """

    format: str
    path: Path
    targets: tuple[str, ...] = ()


def prompt_of(text: str = "a cat, 猫 and cat") -> Prompt:
    """A prompt with a token for each run of letters, specials and padding."""
    tokens = [Token(0, "<start>", "start")]
    start = 0
    for part in text.split(" "):
        tokens.append(Token(len(tokens), part, "text", start, start + len(part)))
        start += len(part) + 1
    for kind in ("end", "padding"):
        tokens.append(Token(len(tokens), f"<{kind}>", kind))  # type: ignore[arg-type]  # both are
    return Prompt(text, tuple(tokens))


def _maps(*shape: int) -> torch.Tensor:
    return torch.randn(shape).softmax(dim=-3)


def _plain(text: str | None = "a cat, 猫 and cat", *, image: bool = True) -> Attribution:
    prompt = Prompt.without_text(5) if text is None else prompt_of(text)
    count = len(prompt.tokens)
    grids = tuple(
        Grid(_maps(count, *size), 4, (f"up_blocks.{i}.attn2", f"down_blocks.{i}.attn2"), 1.5)
        for i, size in enumerate(GRIDS)
    )
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    run: dict[str, Any] = {"model": "toy", "steps": 4, "guidance_scale": 7.5, "seed": None}
    return Attribution(prompt, grids, SIZE, Image.fromarray(pixels) if image else None, run)


def _kept(whole: Attribution, axes: tuple[str, ...]) -> Attribution:
    steps, heads = (4 if "steps" in axes else 1), (2 if "heads" in axes else 1)
    details = []
    for grid in whole.grids:
        for sites in [(site,) for site in grid.sites] if "layers" in axes else [grid.sites]:
            additions = 4 * len(sites) // len(grid.sites)
            counts = (additions // 2, 0, additions - additions // 2, 0)
            counts = counts if steps > 1 else (additions,)
            maps = _maps(steps, heads, *grid.maps.shape).half()
            details.append(MapStack(maps, counts, sites))
    timesteps = (981.0, 741.0, 500.5, 1.0) if steps > 1 else ()
    return replace(whole, kept=KeptMaps(axes, tuple(details), timesteps))  # type: ignore[arg-type]


def _with_further(prompt: Prompt, text: str) -> Prompt:
    """The prompt with another text for the second text encoder, over as many columns."""
    tokens = prompt_of(text).tokens
    more = range(len(tokens), len(prompt.tokens))
    padding = tuple(Token(column, "<pad>", "padding") for column in more)
    return replace(prompt, further=(Prompt(text, (*tokens, *padding)),))


def _with_encoders(prompt: Prompt) -> Prompt:
    """The prompt's columns as those of two encoders, some of the embedding's, and the rest."""
    *tokens, last = prompt.tokens
    named = tuple(
        replace(token, encoder=("clip", "t5")[token.column % 2], position=token.column + 30)
        for token in tokens
    )
    rest = Token(last.column, "(rest)", "rest")
    named = (replace(named[0], kind="template"), *named[1:])
    return _with_further(replace(prompt, tokens=(*named, rest)), "a hat")


def make_seeds(folder: Path) -> list[Seed]:
    """Write the valid files; the same in every run."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        seeds = [*_attributions(folder), *_queries(folder), *_tokens(folder)]
        return [*seeds, _saved(folder), *_experiments(folder)]
    finally:
        torch.random.set_rng_state(state)


def _attributions(folder: Path) -> list[Seed]:
    plain = _plain()
    negative = _kept(_plain("blurry", image=False), ("steps",))
    own = tuple(
        SelfGrid(_maps(size[0] * size[1], 1, size[0] * size[1])[:, 0] * 4, 4, size, ("attn1",))
        for size in GRIDS
    )
    made = {
        "plain": plain,
        "no-image": _plain(image=False),
        "no-text": _plain(None),
        "steps": _kept(plain, ("steps",)),
        "layers": replace(_kept(plain, ("layers", "heads")), prompt=_with_encoders(plain.prompt)),
        "all": _kept(plain, ("steps", "layers", "heads")),
        "negative": replace(plain, negative_attribution=negative),
        "vocabulary": replace(plain, vocabulary={"a hat": _plain("a hat"), "x": _plain("dog")}),
        "self": replace(plain, self_grids=own),
        "two-texts": replace(plain, prompt=_with_further(plain.prompt, "a hat")),
        "mask": replace(plain, mask=Mask(torch.linspace(0, 1, 32 * 48).view(SIZE))),
    }
    return [
        Seed("attribution", value.save(folder / f"{name}.safetensors"))
        for name, value in made.items()
    ]


def _queries(folder: Path) -> list[Seed]:
    sites = tuple(
        SiteQueries(f"attn{i}", size, 2, 4, (0, 3), tuple(torch.randn(2, 2, size[0] * size[1], 4)))
        for i, size in enumerate(GRIDS)
    )
    parts = {f"attn0/{i}": torch.randn(2, 24, 4).half() for i in range(2)}
    path = write_tensors(folder / "run.safetensors", parts, noun="queries")
    return [
        Seed("queries", Queries(sites).save(folder / "queries.safetensors")),
        Seed("stored queries", path),
    ]


def _tokens(folder: Path) -> list[Seed]:
    prompt = prompt_of("cat")
    rows = torch.randn(len(prompt.tokens), 6)
    both = {"clip_l": rows[:, :4].contiguous(), "clip_g": rows[:, 4:].contiguous()}
    made = {
        "encoded": OptimizedToken(prompt, rows, "encoded", {"clip_l": rows}, (3.0, 2.0), 1),
        "two": OptimizedToken(prompt, rows, "encoded", both, (3.0, 2.0), 1),
        "vectors": OptimizedToken(
            prompt, rows, "token", {k: v[:1] for k, v in both.items()}, (1.0,), 0
        ),
    }
    return [
        Seed("token", value.save(folder / f"token-{name}.safetensors"))
        for name, value in made.items()
    ]


def _saved(folder: Path) -> Seed:
    prompt = prompt_of()
    maps = {f"attn{i}": _maps(2, 1, 2, 6, len(prompt.tokens)).half() for i in range(2)}
    saved = SavedAttention(prompt, maps, (4, 6))
    return Seed("saved attention", saved.save(folder / "saved.safetensors"))


def _experiments(folder: Path) -> list[Seed]:
    prompt = prompt_of()
    truth = torch.zeros(SIZE)
    truth[3:9, 4:20] = 1
    image = _plain().image
    assert image is not None
    experiment = GenerationExperiment(
        image,
        _maps(len(prompt.tokens), 4, 6),
        prompt.text or "",
        seed=3,
        id="one",
        path=folder,
        truth_masks={"cat": truth},
        annotations={"good": [1, {"a": None}]},
        tokens=prompt,
    )
    experiment.save(heat_maps=False)
    experiment.save_prediction_mask(truth, "cat", "daam")
    files = (NAME, "output.png", "seed.txt", "prompt.txt", "annotations.json", "cat.gt.png")
    unit = Seed("experiment", folder / "one", files)
    return [unit, replace(unit, targets=(NAME,))]


def ask_attribution(path: Path, scratch: Path) -> None:
    """The questions of one that loads."""
    found = Attribution.load(path)
    repr(found), found._repr_html_(), found.nbytes, found.layers, found.words
    found.region((0, 0, 1, 1)).to_dict()
    heat = found.column(-1)
    heat.mass((0, 0, 1, 1)), heat.normalized
    if found.words and found.words[0].columns:
        found.word(0).resize((7, 9))
        for name in found.prompt.encoders:
            with suppress(WordError):
                found.word(0, encoder=name).mass((0, 0, 1, 1))
    for other in (*found.vocabulary.values(), found.negative_attribution):
        if other is not None:
            repr(other), other.region((0, 0, 1, 1))
    if found.kept is not None and "steps" in found.kept.axes:
        first = next(i for i, count in enumerate(_step_counts(found.kept)) if count)
        found.steps[first], heat.over_time().mass((0, 0, 1, 1))
    if found.kept is not None and "heads" in found.kept.axes:
        found.select(heads=0)
    if found.self_grids:
        found.self_attention.pixels((0, 0)), heat.refined()
    Attribution.load(found.save(scratch / "again"))


def _step_counts(kept: KeptMaps) -> list[int]:
    return [sum(counts) for counts in zip(*(d.additions for d in kept.details), strict=True)]


def ask_queries(path: Path, scratch: Path) -> None:
    """The questions of queries that load."""
    found = Queries.load(path)
    repr(found), found.nbytes, found.calls, found.sizes, found.layers
    for site in found.sites:
        for index in range(len(site.calls)):
            site.read(index)
    found.select(steps=0)
    Queries.load(found.save(scratch / "again"))


def ask_stored(path: Path, scratch: Path) -> None:
    """The parts that a run has left in a folder."""
    for index in range(2):
        StoredTensor(path, f"attn0/{index}", (2, 24, 4), torch.float16).read()


def ask_token(path: Path, scratch: Path) -> None:
    """The questions of a token that loads."""
    found = OptimizedToken.load(path)
    found.loss, found.prompt.words, found.embedding.sum()
    OptimizedToken.load(found.save(scratch / "again"))


def ask_saved(path: Path, scratch: Path) -> None:
    """The questions of attention that loads."""
    found = SavedAttention.load(path)
    repr(found.prompt), found.steps, found.images, found.nbytes, found.prompt.words
    SavedAttention.load(found.save(scratch / "again"))


def ask_experiment(path: Path, scratch: Path) -> None:
    """The questions of an experiment that loads; nothing is written outside of its folder."""
    found = GenerationExperiment.load(path)
    for read in (GenerationExperiment.read_seed, GenerationExperiment.read_prompt):
        read(path)
    if found.tokens is not None and found.tokens.words and found.tokens.words[0].columns:
        found.heat_map().compute_word_heat_map(found.tokens.words[0].text).expand_as(found.image)
    out = scratch / "out" / "deep"
    shutil.rmtree(out.parent, ignore_errors=True)
    out.mkdir(parents=True)
    found.save(out, heat_maps=False)
    outside = [file for file in scratch.iterdir() if file.name not in ("out", "file", "again")]
    if outside or [*out.parent.iterdir()] != [out]:
        raise AssertionError(f"written outside of the folder: {outside}")


ASK: dict[str, Callable[[Path, Path], None]] = {
    "attribution": ask_attribution,
    "queries": ask_queries,
    "stored queries": ask_stored,
    "token": ask_token,
    "saved attention": ask_saved,
    "experiment": ask_experiment,
}
