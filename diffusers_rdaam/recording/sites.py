"""Site: an attention module that is recorded; putting processors on sites and checking them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from diffusers_rdaam.errors import ProcessorError
from diffusers_rdaam.recording.processor import RDAAMProcessor


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
    def processor(self) -> Any:
        """The processor that is installed."""
        return self.module.processor


def install(sites: Iterable[Site], template: RDAAMProcessor) -> None:
    """Put a child of ``template`` on every site.

    Raises:
        ProcessorError: a site has a processor that is neither stock nor ours; nothing is changed.
    """
    sites = tuple(sites)
    foreign = [site for site in sites if not _is_replaceable(site.processor)]
    if foreign:
        raise ProcessorError(foreign_text(foreign))
    for site in sites:
        site.module.processor = template.bind(site.name)


def replaced(sites: Iterable[Site]) -> list[Site]:
    """The sites that do not carry a child of ours any more."""
    return [
        site
        for site in sites
        if not (isinstance(site.processor, RDAAMProcessor) and site.processor.site == site.name)
    ]


def is_stock(site: Site) -> bool:
    """Whether the site's processor is one that a child can stand in for."""
    return _is_replaceable(site.processor)


def _is_replaceable(processor: Any) -> bool:
    # Exact class: a subclass computes something else, and its image would change.
    return type(processor) is AttnProcessor2_0 or isinstance(processor, RDAAMProcessor)


def foreign_text(sites: list[Site]) -> str:
    """What is wrong with processors that cannot be recorded, and what to do."""
    names = sorted({type(site.processor).__name__ for site in sites})
    cures = {
        "SlicedAttnProcessor": "call pipe.disable_attention_slicing()",
        "XFormersAttnProcessor": "call pipe.disable_xformers_memory_efficient_attention()",
        "FusedAttnProcessor2_0": "call pipe.unfuse_qkv_projections()",
        "IPAdapterAttnProcessor2_0": "call pipe.unload_ip_adapter()",
        "IPAdapterAttnProcessor": "call pipe.unload_ip_adapter()",
    }
    known = [cures[name] for name in names if name in cures]
    cure = " and ".join(dict.fromkeys(known)) or "set stock processors (AttnProcessor2_0)"
    return (
        f"{len(sites)} attention modules (the first is {sites[0].name}) have the processor "
        f"{', '.join(names)}, which cannot be recorded. To record, {cure}, then "
        "pipe.set_attn_processor(RDAAMProcessor())."
    )
