"""A record completed after its run: with the image it is of, or with the run's queries."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from diffusers_rdaam.attribution.queries import Queries
from diffusers_rdaam.attribution.record import AnyRecord
from diffusers_rdaam.errors import InputError


def with_image(record: AnyRecord, image: Image.Image) -> AnyRecord:
    """The record that :meth:`Attribution.with_image` returns, and all records in it.

    Raises:
        InputError: the image's sides are in another ratio, or there is a mask of another size.
    """
    height, width = record.image_size
    if image.height * width != image.width * height:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high; the run made "
            f"one of {width} by {height}, and the ratio must be the same. Cut or scale it "
            "first."
        )
    size = (image.height, image.width)
    if record.mask is not None and size != record.image_size:
        raise InputError(
            f"The image is {image.width} pixels wide and {image.height} high, the mask of the "
            f"run {width} by {height}. Scale the image to the mask's size."
        )
    negative = record.negative_attribution
    return replace(
        record,
        image=image,
        image_size=size,
        negative_attribution=None if negative is None else with_image(negative, image),
        switched=tuple(with_image(other, image) for other in record.switched),
        vocabulary={text: with_image(other, image) for text, other in record.vocabulary.items()},
    )


def with_queries(record: AnyRecord, queries: Queries) -> AnyRecord:
    """The record that :meth:`Attribution.with_queries` returns.

    Raises:
        InputError: the queries are of other sites or grids, so not of this run.
    """
    sizes = {site: grid.size for grid in record.grids for site in grid.sites}
    for site in queries.sites:
        if sizes.get(site.site) != site.size:
            there = "is not one of its layers"
            if site.site in sizes:
                there = f"has a grid of {sizes[site.site]} there"
            raise InputError(
                f"These queries are not of this attribution's run: {site.site} (grid "
                f"{site.size}, height and width) {there}."
            )
    return replace(record, queries=queries)
