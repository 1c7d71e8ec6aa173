"""What the parts of an attribution must have in common, and another image for one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from diffusers_rdaam.errors import InputError

if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.kept_maps import KeptMaps
    from diffusers_rdaam.attribution.queries import Queries


def check_attribution(attribution: Attribution) -> None:
    """Compare the sizes of maps, image, mask and negative prompt.

    Raises:
        InputError: two of them do not belong together.
    """
    if not attribution.grids:
        raise InputError("An attribution needs the maps of at least one grid.")
    image, size = attribution.image, attribution.image_size
    if image is not None and image.size[::-1] != size:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high, but "
            f"image_size (height, width) is {size}."
        )
    for name, value in attribution.run.items():
        if value is not None and not isinstance(value, (str, int, float, bool)):
            raise InputError(
                f"Facts about a run are texts and numbers; {name!r} is a {type(value).__name__}."
            )
    _check_columns([grid.maps.shape[0] for grid in attribution.grids], attribution)
    if attribution.kept is not None:
        _check_kept(attribution.kept, attribution)
    if attribution.mask is not None:
        attribution.mask.coverage(size)
    for text, other in attribution.vocabulary.items():
        if other.image_size != size:
            raise InputError(
                f"The vocabulary's {text!r} is of an image of {other.image_size} (height, width), "
                f"this attribution of {size}."
            )
    for other in attribution.switched:
        if other.image_size != size or other.switched or other.kept is None:
            raise InputError(
                "The steps with another prompt are an attribution of the same image size that "
                "kept its steps, and has no steps of further prompts."
            )
    sizes = [grid.size for grid in attribution.self_grids]
    if len(set(sizes)) != len(sizes):
        raise InputError(f"Self-attention has each grid once; got {sizes} (height, width).")
    negative = attribution.negative_attribution
    if negative is not None:
        if negative.negative_attribution is not None:
            raise InputError("A negative prompt's attribution has no negative prompt of its own.")
        if negative.image_size != size:
            raise InputError(
                f"The negative prompt's attribution is of an image of {negative.image_size} "
                f"(height, width), this one of {size}."
            )


def _check_columns(columns: list[int], attribution: Attribution) -> None:
    tokens = len(attribution.prompt.tokens)
    for count in columns:
        if count != tokens:
            raise InputError(
                f"The maps have {count} columns, the prompt {tokens} tokens; they must be the same."
            )


def _check_kept(kept: KeptMaps, attribution: Attribution) -> None:
    _check_columns([detail.maps.shape[2] for detail in kept.details], attribution)
    additions: Counter[tuple[int, int]] = Counter()
    for detail in kept.details:
        additions[detail.size] += sum(detail.additions)
    wanted = {grid.size: grid.additions for grid in attribution.grids}
    if len(wanted) != len(attribution.grids):
        raise InputError("Where maps were kept apart there is one grid of each size.")
    for size in wanted | additions:
        if wanted.get(size, 0) != additions[size]:
            raise InputError(
                "What was kept apart must be what the grids are the mean of. The grid "
                f"{size} (height, width) has {wanted.get(size, 0)} additions, what was kept apart "
                f"{additions[size]}."
            )


def with_queries(attribution: Attribution, queries: Queries) -> Attribution:
    """See :meth:`Attribution.with_queries`."""
    sizes = {site: grid.size for grid in attribution.grids for site in grid.sites}
    for site in queries.sites:
        if sizes.get(site.site) != site.size:
            there = "is none of its layers"
            if site.site in sizes:
                there = f"has a grid of {sizes[site.site]} there"
            raise InputError(
                f"These queries are not of this attribution's run: {site.site} (grid {site.size}, "
                f"height and width) {there}."
            )
    return replace(attribution, queries=queries)


def with_image(attribution: Attribution, image: Image.Image) -> Attribution:
    """See :meth:`Attribution.with_image`."""
    height, width = attribution.image_size
    if image.height * width != image.width * height:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high; the run made one of "
            f"{width} by {height}, and the ratio must be the same. Cut or scale it first."
        )
    size = (image.height, image.width)
    if attribution.mask is not None and size != attribution.image_size:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high, the mask of the run "
            f"{width} by {height}. Scale the image to the mask's size."
        )
    negative = attribution.negative_attribution
    return replace(
        attribution,
        image=image,
        image_size=size,
        negative_attribution=None if negative is None else with_image(negative, image),
        switched=tuple(with_image(other, image) for other in attribution.switched),
        vocabulary={
            text: with_image(other, image) for text, other in attribution.vocabulary.items()
        },
    )
