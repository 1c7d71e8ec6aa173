"""Which columns of a transformer's text each image records, and whose words they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffusers_rdaam.attention.options import Columns
from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import InputError, TextMismatchWarning
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.recording.chosen_columns import ChosenColumns
from diffusers_rdaam.tokens.encoder_columns import IS_NEGATIVE, Source
from diffusers_rdaam.tokens.prompt_of_columns import REST, prompt_columns, prompt_from
from diffusers_rdaam.tokens.sources import SOURCES

# The arguments with a text for each text encoder.
PROMPTS = ("prompt", "prompt_2", "prompt_3", "prompt_4")


def image_columns(
    pipe: Any,
    source: str | Source,
    arguments: Mapping[str, Any],
    call: DenoiserCall,
    branch: Branch,
    *,
    columns: Columns,
    attribution_prompt: Any = None,
) -> list[ChosenColumns]:
    """The columns of each image of a branch, in the order of the rows.

    Args:
        pipe: the pipeline.
        source: the rule from its prompts to columns, or its name.
        arguments: of its call, by name; texts as they were encoded.
        call: the denoiser call.
        branch: that has rows in it.
        columns: ``"prompt"`` for the prompt's own tokens, or ``"all"``.
        attribution_prompt: the text behind ``prompt_embeds``, or one for each prompt.
    """
    start, stop = call.branches[branch]
    images = stop - start
    texts = _texts(arguments, branch, attribution_prompt)
    chosen: dict[Any, ChosenColumns] = {}
    found = []
    for image in range(images):
        own = {name: _of_image(given, image, images) for name, given in texts.items()}
        length = call.length_of(start + image)
        pictures = _pictures(arguments, image, images)
        key = (tuple(own.items()), tuple(map(id, pictures or ())), length)
        if key not in chosen:
            one = {
                **arguments,
                **own,
                "input_images": pictures,
                IS_NEGATIVE: branch is Branch.UNCONDITIONAL,
            }
            chosen[key] = _chosen(pipe, source, one, length, columns=columns)
        found.append(chosen[key])
    return found


def _texts(arguments: Mapping[str, Any], branch: Branch, given: Any) -> dict[str, Any]:
    """The text, or the texts, of each prompt argument for a branch."""
    if branch is not Branch.UNCONDITIONAL:
        texts = {name: arguments.get(name) for name in PROMPTS}
        if given is not None:
            texts = {"prompt": given, **dict.fromkeys(PROMPTS[1:])}
        elif arguments.get("prompt_embeds") is not None and texts["prompt"] is None:
            texts = dict.fromkeys(PROMPTS)
        return texts
    if arguments.get("negative_prompt_embeds") is not None:
        return dict.fromkeys(PROMPTS)
    texts = {name: arguments.get(f"negative_{name}") for name in PROMPTS}
    return {**texts, "prompt": "" if texts["prompt"] is None else texts["prompt"]}


def _of_image(given: Any, image: int, images: int) -> Any:
    """The text of an image: several images of one prompt are adjacent."""
    if isinstance(given, (list, tuple)):
        return given[image * len(given) // images] if images % len(given) == 0 else None
    return given


def _pictures(arguments: Mapping[str, Any], image: int, images: int) -> Any:
    """The pictures in the prompt of an image: one list for a single prompt, else one for each."""
    given = arguments.get("input_images")
    several = isinstance(given, (list, tuple)) and isinstance(arguments.get("prompt"), list)
    return _of_image(given, image, images) if several else given


def _chosen(
    pipe: Any, source: str | Source, arguments: Mapping[str, Any], length: int, *, columns: Columns
) -> ChosenColumns:
    if arguments["prompt"] is None:
        return unknown_columns(length)
    try:
        rule = SOURCES[source] if isinstance(source, str) else source
        encoders = rule(pipe, arguments, length)
    except (InputError, KeyError) as error:
        why = f"no rule is known for {source!r}." if isinstance(error, KeyError) else error
        warn(
            f"The columns of the text embedding have no words: {why} Ask for them by number, "
            "with attribution.column(index).",
            TextMismatchWarning,
        )
        return unknown_columns(length)
    places = prompt_columns(encoders)
    if columns == "all" or not places:
        return ChosenColumns(tuple(range(length)), with_rest_token(prompt_from(encoders)))
    return ChosenColumns(places, prompt_from(encoders, columns=places))


def unknown_columns(length: int) -> ChosenColumns:
    """All columns of a text that is not known, and the rest."""
    return ChosenColumns(tuple(range(length)), with_rest_token(Prompt.without_text(length)))


def with_rest_token(prompt: Prompt) -> Prompt:
    """The prompt of all columns of a text, with a last token for everything but the text."""
    last = Token(len(prompt.tokens), REST, "rest")
    first, *others = (
        replace(text, tokens=(*text.tokens, last), further=()) for text in prompt.texts
    )
    return replace(first, further=tuple(others))
