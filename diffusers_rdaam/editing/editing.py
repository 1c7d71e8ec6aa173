"""Attention editing: keep the text attention of one run, and make another attend with it.

Prompt-to-Prompt (Hertz et al., 2022): where the layout of an image comes from its cross-attention,
a run with another prompt and the first run's attention keeps the layout and changes what was named
otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from diffusers_rdaam.attention.processor import DEFAULT_BUDGET
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.editing.column_matching import match_columns
from diffusers_rdaam.editing.processors import Injector, Saver, State
from diffusers_rdaam.editing.saved_attention import SavedAttention
from diffusers_rdaam.errors import InputError, RecordingError
from diffusers_rdaam.families import DenoiserCall, Family, family_of
from diffusers_rdaam.families.call_keywords import check_call_keywords
from diffusers_rdaam.recording.armed import claim
from diffusers_rdaam.recording.installation import is_stock
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.memory.shape import expected_calls
from diffusers_rdaam.shapes import Size
from diffusers_rdaam.tokens.alignment import align, tokenizer_of


def save_attention(
    pipe: Any,
    prompt: str,
    *,
    grids: Sequence[Size] | None = None,
    budget: int = DEFAULT_BUDGET,
    **call: Any,
) -> tuple[Any, SavedAttention]:
    """Generate, and keep the text attention of every step, head and site of some grids.

    The image is the one that the pipeline makes without it.

    Args:
        pipe: a pipeline of a supported class, with stock processors or those of this package.
        prompt: one text.
        grids: ``(height, width)`` of the grids to keep; the smallest ones that fit into the budget
            if not given. They say where things are; the largest cost the most.
        budget: bytes that the maps may take on the CPU.
        **call: further arguments of the pipeline's call.

    Returns:
        The pipeline's output, and the attention.

    Raises:
        InputError: a grid that the denoiser does not have, or that does not fit.
        UnsupportedPipelineError: the layout of the pipeline's calls is not known.
    """
    _check_call(pipe, prompt, call, save_attention)
    state = State()
    store: dict[str, Tensor] = {}

    def begin(first: DenoiserCall, sites: Sequence[Site], family: Family) -> set[str]:
        steps = expected_calls(pipe)
        if steps is None:
            raise RecordingError(f"{type(pipe).__name__} does not say how many steps it makes.")
        chosen = _choose(first, sites, family, steps, grids, budget)
        for site in chosen:
            pixels = math.prod(family.grid(site, first.grid))
            shape = (steps, first.images, site.heads, pixels, first.columns)
            store[site.name] = torch.zeros(shape, dtype=torch.float16, device="cpu")
        return set(store)

    with _followed(pipe, state, begin, lambda site: Saver(site.name, state, store)):
        output = pipe(prompt, **call)
    if state.grid is None:
        raise RecordingError("The run did not call the denoiser, so no attention was kept.")
    kept = {name: maps[: state.calls] for name, maps in store.items()}
    tokens = next(iter(kept.values())).shape[-1]
    saved = SavedAttention(align(tokenizer_of(pipe), prompt, tokens), kept, state.grid)
    return output, saved


def inject_attention(
    pipe: Any,
    saved: SavedAttention,
    prompt: str,
    *,
    steps: Iterable[int] | slice | None = None,
    **call: Any,
) -> Any:
    """Generate from another prompt, attending where the saved run attended.

    Words that both prompts have, and words that stand in each other's place, attend as the saved
    ones did; words that were put in attend by themselves, and every position's probabilities are
    divided by their sum again. Give the seed and the sizes of the saved run.

    Args:
        pipe: as in :func:`save_attention`.
        saved: of a run of the same model and size, with as many images.
        prompt: the other text.
        steps: which denoiser calls use the saved attention; all if not given. The early ones lay
            the image out; leaving the late ones free lets details follow the new words.
        **call: further arguments of the pipeline's call.

    Returns:
        The pipeline's output.

    Raises:
        InputError: the saved attention is of another size, number of images, or model.
    """
    _check_call(pipe, prompt, call, inject_attention)
    state = State()
    numbers = range(saved.steps)
    asked = slice(None) if steps is None else steps
    wanted = set(numbers[asked] if isinstance(asked, slice) else asked)
    if not wanted <= set(numbers):
        raise InputError(
            f"steps= holds numbers from 0 to {saved.steps - 1}, the denoiser calls that were "
            f"saved; got {sorted(wanted - set(numbers))[:5]}."
        )
    columns: dict[str, Tensor] = {}

    def begin(first: DenoiserCall, sites: Sequence[Site], family: Family) -> set[str]:
        _check_fit(saved, first, {site.name: site for site in sites}, family)
        target = align(tokenizer_of(pipe), prompt, first.columns)
        columns["all"] = match_columns(saved.prompt, target).to(first.device)
        return set(saved.maps)

    def make(site: Site) -> Injector:
        return Injector(site.name, state, saved.maps.get(site.name), wanted, columns)

    with _followed(pipe, state, begin, make):
        return pipe(prompt, **call)


def _check_call(pipe: Any, prompt: Any, call: dict[str, Any], function: Callable[..., Any]) -> None:
    if not isinstance(prompt, str):
        raise InputError(
            f"Attention is edited for one prompt at a time, given as a text; got {prompt!r}."
        )
    check_call_keywords(pipe, call, function, records=True)


def _choose(
    first: DenoiserCall,
    sites: Sequence[Site],
    family: Family,
    steps: int,
    grids: Sequence[Size] | None,
    budget: int,
) -> list[Site]:
    by_grid: dict[Size, list[Site]] = {}
    for site in sites:
        by_grid.setdefault(family.grid(site, first.grid), []).append(site)
    rows = steps * first.images * first.columns * 2
    costs = {
        grid: rows * math.prod(grid) * sum(site.heads for site in found)
        for grid, found in sorted(by_grid.items(), key=lambda item: math.prod(item[0]))
    }
    listed = ", ".join(f"{h}x{w} {megabytes(memory_cost)}" for (h, w), memory_cost in costs.items())
    if grids is None:
        chosen, spent = [], 0
        for grid, memory_cost in costs.items():
            if spent + memory_cost > budget:
                break
            chosen.append(grid)
            spent += memory_cost
    else:
        chosen = [tuple(grid) for grid in grids]  # type: ignore[misc]  # pairs
        unknown = [grid for grid in chosen if grid not in costs]
        if unknown:
            raise InputError(
                f"This run has no text attention on a grid of {unknown[0]} (height, width). Grids "
                f"and their memory: {listed}."
            )
        spent = sum(costs[grid] for grid in chosen)
    if not chosen or spent > budget:
        raise InputError(
            f"The attention of these grids takes {megabytes(spent or min(costs.values()))}, over "
            f"the budget of {megabytes(budget)}. Memory: {listed}. Choose grids=, fewer steps, or "
            "another budget=."
        )
    return [site for grid in chosen for site in by_grid[grid]]


def _check_fit(
    saved: SavedAttention, first: DenoiserCall, sites: dict[str, Site], family: Family
) -> None:
    came = (first.grid, first.images)
    if came != (saved.grid, saved.images):
        raise InputError(
            f"The saved attention is of latents {saved.grid} and {saved.images} images, "
            f"this run of {came[0]} and {came[1]}. Give the size and number of the saved run."
        )
    for name, maps in saved.maps.items():
        site = sites.get(name)
        wanted = None
        if site is not None:
            wanted = (site.heads, math.prod(family.grid(site, first.grid)))
        if wanted != tuple(maps.shape[2:4]):
            raise InputError(
                f"The saved attention of {name} has {tuple(maps.shape[2:4])} heads and positions, "
                f"this denoiser {wanted}. It is of another model."
            )


@contextmanager
def _followed(pipe: Any, state: State, begin: Any, make: Any) -> Iterator[None]:
    """Put processors of ``make`` on the text sites; they see every denoiser call in the block.

    Raises:
        AlreadyRecordingError: another run records or edits this denoiser.
        InputError: a site has a processor that is not a stock one.
    """
    undo = ExitStack()
    # Closed twice: an interrupt on the way out of ``with`` itself would leave the list unused.
    try:
        with undo:
            _follow(pipe, state, begin, make, undo)
            yield
    finally:
        undo.close()


def _follow(pipe: Any, state: State, begin: Any, make: Any, undo: ExitStack) -> None:
    """Fill the undo list, each entry before, or in one line with, the change that it undoes.

    Its entries are functions of Python and torch: an interrupt in one of ours would end it.
    """
    family = family_of(pipe)
    denoiser = family.denoiser(pipe)
    # First: a denoiser that is being edited has processors of that run.
    claim(denoiser, state, undo)
    sites = family.sites(denoiser)
    foreign = [site for site in sites if not is_stock(site)]
    if foreign:
        raise InputError(
            f"{foreign[0].name} has a {type(foreign[0].processor).__name__}; attention is edited "
            "with stock processors only. Set them with pipe.unet.set_attn_processor("
            "AttnProcessor2_0())."
        )

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = family.read_call(pipe, args, kwargs)
        if call is None or not call.images:
            state.rows = None
            return
        if state.grid is None:
            state.active = begin(call, sites, family)
        state.advance(call)

    def after(*unused: Any) -> None:
        state.rows = None

    undo.callback(denoiser.register_forward_pre_hook(before, with_kwargs=True).remove)
    undo.callback(denoiser.register_forward_hook(after, always_call=True).remove)
    if hasattr(pipe, "_rdaam_template"):
        # A pipeline of this package would say that it cannot record these processors.
        _set(pipe, "_rdaam_template", None, undo)
    for site in sites:
        undo.callback(setattr, site.module, "processor", site.processor)
        site.module.processor = make(site)


def _set(pipe: Any, name: str, value: Any, undo: ExitStack) -> None:
    """Set an attribute of a pipeline, which gets back the one it had, or none."""
    attributes = pipe.__dict__
    if name in attributes:
        undo.callback(attributes.__setitem__, name, attributes[name])
    else:
        undo.callback(attributes.pop, name, None)
    attributes[name] = value
