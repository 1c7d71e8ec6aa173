"""Tokens that were optimised for classes: made of images with masks, and kept in a folder.

OVAM's experiments fit one token to each class of VOC; a folder of such tokens is a file for each
class and ``tokens.json``, which says what they are of.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.heat_map import HeatMap
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.file_names import FileNames
from diffusers_rdaam.files.fields import is_text
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import inner_path, read_text
from diffusers_rdaam.files.writing import write_text
from diffusers_rdaam.geometry.region import RegionLike
from diffusers_rdaam.open_vocabulary.optimize import optimize_token
from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken
from diffusers_rdaam.segmentation.classes import ObjectClass

INDEX = "tokens.json"
DEMO = "demo"
DEMO_TOKENS = Path(__file__).parent / "demo_tokens"
# OVAM's schedule for its 20 classes.
ITERATIONS, LEARNING_RATE, STEP_SIZE, GAMMA = 800, 100.0, 120, 0.7
# Where a mask of a token's map, stretched to 0 to 1, begins: the best for the demo's tokens and the
# guided filter, on prompts that are not reported (python -m benchmarks tokens).
TOKEN_THRESHOLD = 0.6

# An image and the region of a class in it; of a mask with 0, 1 and 255 the 255 is not counted.
Example = tuple[Attribution, RegionLike]


def optimize_tokens(
    pipe: Any,
    examples: Mapping[str, Sequence[Example]],
    classes: Sequence[ObjectClass],
    *,
    iterations: int = ITERATIONS,
    learning_rate: float = LEARNING_RATE,
    step_size: int = STEP_SIZE,
    gamma: float = GAMMA,
    callback: Callable[[str, OptimizedToken], Any] | None = None,
    **options: Any,
) -> dict[str, OptimizedToken]:
    """A token for each class, fitted to the masks of its images.

    Args:
        pipe: the pipeline of the runs, which kept queries.
        examples: by class its images' attributions, each with the region of the class. A mask of
            0 and 255 is black and white; where it has 1 as well, 255 is left out.
        classes: of the examples; a token starts from the class's name where it is a
            word of it, and from its first word if not.
        iterations, learning_rate, step_size, gamma: OVAM's schedule unless given.
        callback: is given each class and its token.
        options: of :func:`optimize_token`.

    Raises:
        InputError: a class is unknown or has no image; as :func:`optimize_token`.
        NoAttributionError: a run did not keep its queries.
    """
    known = {one.name: one for one in classes}
    empty = [name for name in examples if name not in known or not examples[name]]
    if empty or not examples:
        raise InputError(
            f"Each class has at least one image with a mask; {empty[0] if empty else 'no class'!r} "
            f"has none, or is not one of the classes: {', '.join(known)}."
        )
    tokens = {}
    for name, pairs in examples.items():
        tokens[name] = optimize_token(
            pipe,
            [attribution for attribution, _ in pairs],
            [mask for _, mask in pairs],
            _initial(known[name]),
            iterations=iterations,
            learning_rate=learning_rate,
            step_size=step_size,
            gamma=gamma,
            **options,
        )
        if callback is not None:
            callback(name, tokens[name])
    return tokens


def _initial(one: ObjectClass) -> str:
    return one.name if one.name in one.words else one.words[0]


def save_tokens(
    tokens: Mapping[str, OptimizedToken], folder: str | Path, *, model: str | None = None
) -> Path:
    """Write a file for each class and ``tokens.json``; returns the folder.

    Args:
        tokens: by class.
        folder: is made where it is missing.
        model: that they belong to; no other reads them right.

    Raises:
        InputError: there is no token, or a file cannot be written.
    """
    folder = Path(folder)
    if not tokens:
        raise InputError("There is no token to save.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error}.") from error
    names = FileNames()
    files = {}
    for number, (name, token) in enumerate(tokens.items()):
        files[name] = names.name(name, suffix=".safetensors", number=number)
        token.save(folder / files[name], token=f"<{files[name].removesuffix('.safetensors')}>")
    index = {"model": model, "classes": files}
    write_text(folder / INDEX, json.dumps(index, indent=2, ensure_ascii=False), "list of tokens")
    return folder


def load_tokens(folder: str | Path) -> dict[str, OptimizedToken]:
    """The tokens of a folder by class; ``"demo"`` are those of the embedded Stable Diffusion.

    Raises:
        InputError: the folder has no ``tokens.json``, or it is not a list of tokens.
        AttributionFileError: one of the files is not a token.
    """
    path = DEMO_TOKENS if str(folder) == DEMO and not Path(folder).exists() else Path(folder)
    file = path / INDEX
    try:
        index = parse_json(read_text(file, "list of tokens"))
        files = index["classes"]
        if not all(is_text(name) and is_text(one) for name, one in files.items()) or not files:
            raise ValueError("its classes are not names with files")
    except AttributionFileError as error:
        raise InputError(
            f"{folder} has no optimised tokens: {error} rdaam optimize-tokens writes such a folder."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file} is not a list of tokens by class: {error}.") from error
    return {
        name: OptimizedToken.load(inner_path(path, one, "a token's file"))
        for name, one in files.items()
    }


def token_heat_maps(
    attribution: Attribution, tokens: Mapping[str, OptimizedToken], *, pipe: Any = None
) -> dict[str, HeatMap]:
    """The heat map of each class's token over an image, for ``segment(…, tokens=…)``.

    Args:
        attribution: of a run that was given the tokens as ``attribution_vocabulary=``, or that kept
            its queries.
        tokens: by class.
        pipe: of the run, to ask its queries; needed where there was no vocabulary.

    Raises:
        NoAttributionError: there is neither.
    """
    maps = {}
    for name, token in tokens.items():
        text = token.prompt.text or ""
        if text in attribution.vocabulary or pipe is None:
            found = attribution.vocabulary[text]
        else:
            found = pipe.query(attribution, token)
        # The image's self-attention is the same whatever text is asked.
        found = replace(found, image=attribution.image, self_grids=attribution.self_grids)
        maps[name] = replace(found.word(text), threshold=TOKEN_THRESHOLD)
    return maps
