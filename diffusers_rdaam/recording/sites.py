"""Site: an attention module that is recorded; putting processors on sites and checking them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from diffusers_rdaam.errors import ProcessorError
from diffusers_rdaam.recording.processor import RDAAMProcessor
from diffusers_rdaam.recording.tap import Tap, can_tap, tap, untap
from diffusers_rdaam.recording.target import Bound


@dataclass(frozen=True)
class Site:
    """One text cross-attention module of a denoiser.

    Args:
        name: its path in the denoiser, as diffusers spells it, e.g. ``mid_block…attn2``.
        module: the attention module.
        level: how often the latent's height and width are halved (rounded up) where it works.
    """

    name: str
    module: nn.Module = field(repr=False)
    level: int

    @property
    def heads(self) -> int:
        """Its number of heads."""
        return int(self.module.heads)  # type: ignore[arg-type]  # a module's attribute

    @property
    def processor(self) -> Any:
        """The processor that is installed."""
        return self.module.processor


def install(sites: Iterable[Site], template: RDAAMProcessor) -> None:
    """Put a child of ``template`` in the place of every stock processor, and tap the known others.

    Raises:
        ProcessorError: a site has a processor that cannot be recorded; nothing is changed.
    """
    sites = tuple(sites)
    foreign = [site for site in sites if not is_recordable(site)]
    if foreign:
        raise ProcessorError(foreign_text(foreign))
    for site in sites:
        processor = site.processor
        if is_stock(site):
            child = template.bind(site.name)
            bound = isinstance(processor, RDAAMProcessor)
            child.original = processor.original if bound else processor
            site.module.processor = child
        else:
            # One that is tapped already may be another denoiser's.
            stock = untap(processor) if isinstance(processor, Tap) else processor
            site.module.processor = tap(stock, site.name)


def install_own(sites: Iterable[Site], template: RDAAMProcessor) -> None:
    """Make those of the self-attention sites record that can, if the template asks for it.

    The others stay as they are: pipelines put processors of their own on some of them.
    """
    if template.self_attention:
        install([site for site in sites if is_recordable(site)], template)
    else:
        release(sites)


def release(sites: Iterable[Site]) -> None:
    """Give sites back what stood on them before :func:`install`."""
    for site in sites:
        now = site.processor
        if isinstance(now, RDAAMProcessor):
            # Not simply the one from before: an adapter may have been unloaded since.
            site.module.processor = now.original or AttnProcessor2_0()
        elif isinstance(now, Tap):
            site.module.processor = untap(now)


def replaced(sites: Iterable[Site]) -> list[Site]:
    """The sites whose processor does not record for them any more."""
    return [
        site
        for site in sites
        if not (isinstance(site.processor, Bound) and site.processor.site == site.name)
    ]


class Before(NamedTuple):
    """A site's processor before :func:`install`, and whether it recorded already."""

    site: Site
    processor: Any
    recorded: bool


def remember(sites: Iterable[Site]) -> list[Before]:
    """What :func:`restore` needs to know."""
    return [Before(site, site.processor, isinstance(site.processor, Bound)) for site in sites]


def restore(before: Iterable[Before]) -> None:
    """Give sites back the processors that they had before :func:`install`.

    What somebody else has put on a site since, such as an adapter, is kept, and what was taken
    away stays away.
    """
    for site, processor, recorded in before:
        now = site.processor
        if not recorded:
            release([site])
        elif isinstance(now, RDAAMProcessor) and isinstance(processor, RDAAMProcessor):
            site.module.processor = processor


def is_recordable(site: Site) -> bool:
    """Whether the site's processor is one that records, or can be made to."""
    return is_stock(site) or isinstance(site.processor, Tap) or can_tap(site.processor)


def is_stock(site: Site) -> bool:
    """Whether the site's processor is one that a child can stand in for."""
    # Exact class: a subclass computes something else, and its image would change.
    processor = site.processor
    return type(processor) is AttnProcessor2_0 or isinstance(processor, RDAAMProcessor)


def foreign_text(sites: list[Site]) -> str:
    """What is wrong with processors that cannot be recorded, and what to do."""
    names = sorted({type(site.processor).__name__ for site in sites})
    return (
        f"{len(sites)} attention modules (the first is {sites[0].name}) have the processor "
        f"{', '.join(names)}, and it is not known with which queries and keys it attends. To "
        "record, set stock processors (AttnProcessor2_0), then "
        "pipe.set_attn_processor(RDAAMProcessor())."
    )
