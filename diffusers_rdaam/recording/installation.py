"""Installation: put processors that record on sites, and take them off again."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

from diffusers.models.attention_processor import AttnProcessor2_0
from torch import nn

from diffusers_rdaam.attention.foreign import ForeignProcessor, is_supported, tap, undo_tap, untap
from diffusers_rdaam.attention.observed_processor import (
    ObservedProcessor,
    is_observable,
    observe_processor,
    undo_observation,
    unobserved,
)
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.recording_processor import RecordingProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import ProcessorError

Replacements = dict[str, tuple[Any, Any]]


def install(
    sites: Iterable[Site],
    template: RDAAMProcessor,
    undo: ExitStack | None = None,
    *,
    earlier: Replacements | None = None,
) -> None:
    """Replace every stock processor by a child of ``template``, and make known others record.

    Args:
        sites: the sites of one denoiser.
        template: the processor with the options.
        undo: gets an entry before each change. Without one, an exception or interrupt in the
            middle leaves every site as it was.
        earlier: the replacements of an earlier call by the site's name, each with the processor
            that it replaced: they are reused, so that a compiled denoiser sees the same objects.
            New replacements are added.

    Raises:
        ProcessorError: a site has a processor that cannot be recorded; nothing is changed.
    """
    sites = tuple(sites)
    foreign = [site for site in sites if not is_recordable(site)]
    if foreign:
        raise ProcessorError(foreign_text(foreign))
    with ExitStack() as stack:
        for site in sites:
            _replace(site, template, stack if undo is None else undo, earlier)
        stack.pop_all()


def _replace(
    site: Site, template: RDAAMProcessor, undo: ExitStack, earlier: Replacements | None
) -> None:
    processor = site.processor
    known = None if earlier is None else earlier.get(site.name)
    if known is not None and known[0] is processor:
        undo.callback(setattr, site.module, "processor", processor)
        site.module.processor = known[1]
        return
    if site.attention_call is not None:
        child = _observe(site, processor, undo)
    elif is_stock(site):
        child = template.bind(site.name, site.kind)
        bound = isinstance(processor, RDAAMProcessor)
        child.original = processor.original if bound else processor
        undo.callback(setattr, site.module, "processor", processor)
        site.module.processor = child
    else:
        # A processor that records already may belong to another denoiser.
        stock = untap(processor) if isinstance(processor, ForeignProcessor) else processor
        if isinstance(stock, nn.Module):
            undo_tap(stock, undo)
        else:
            undo.callback(setattr, site.module, "processor", processor)
        site.module.processor = child = tap(stock, site.name, site.kind)
    if earlier is not None and child is not processor:
        earlier[site.name] = (processor, child)


def _observe(site: Site, processor: Any, undo: ExitStack) -> Any:
    """Put a processor on the site whose attention call is observed, and return it."""
    # One that is observed already may belong to another denoiser.
    stock = unobserved(processor) if isinstance(processor, ObservedProcessor) else processor
    if isinstance(stock, nn.Module):
        undo_observation(stock, undo)
    else:
        undo.callback(setattr, site.module, "processor", processor)
    site.module.processor = child = observe_processor(stock, site)
    return child


def observed_now(site: Site, undo: ExitStack | None) -> Any:
    """The site's processor, after one that was put there meanwhile has been made to record.

    Where the other code puts an earlier processor back, that is on the site at the end.

    Args:
        site: of a transformer; other sites keep their processor.
        undo: of the run; None where nothing is to be changed.
    """
    processor = site.processor
    if site.attention_call is None or undo is None or isinstance(processor, ObservedProcessor):
        return processor
    return _observe(site, processor, undo) if is_observable(processor) else processor


def install_self_attention(
    sites: Iterable[Site],
    template: RDAAMProcessor,
    undo: ExitStack | None = None,
    *,
    earlier: Replacements | None = None,
) -> None:
    """Make the self-attention sites record if the template asks for it, where that is possible.

    Other sites stay as they are: some pipelines put their own processors on them.
    """
    if template.options.self_attention:
        chosen = [site for site in sites if is_recordable(site)]
        install(chosen, template, undo, earlier=earlier)
    else:
        release(sites)


def install_for_run(
    sites: Iterable[Site],
    self_attention_sites: Iterable[Site],
    template: RDAAMProcessor,
    undo: ExitStack,
    *,
    earlier: Replacements | None = None,
) -> None:
    """Install for the time of a run; closing ``undo`` gives every site its processor back.

    Processors that other code puts on sites during the run, such as adapters, stay there. Only if
    an interrupt stops the check for them, every site gets back the processor from before.

    Args:
        sites: the sites of text attention.
        self_attention_sites: those of self-attention.
        template, undo, earlier: see :func:`install`.

    Raises:
        ProcessorError: a site has a processor that cannot be recorded; nothing is changed.
    """
    sites, self_attention_sites = tuple(sites), tuple(self_attention_sites)
    by_force = ExitStack()
    undo.callback(by_force.close)
    undo.callback(_restore_gently, remember((*sites, *self_attention_sites)), by_force)
    install(sites, template, by_force, earlier=earlier)
    if template.options.self_attention:
        install_self_attention(self_attention_sites, template, by_force, earlier=earlier)


def _restore_gently(before: list[Before], by_force: ExitStack) -> None:
    restore(before)
    by_force.pop_all()


def release(sites: Iterable[Site]) -> None:
    """Give sites the processors back that they had before :func:`install`."""
    for site in sites:
        now = site.processor
        if isinstance(now, RDAAMProcessor):
            # The processor's own original, because an adapter may have been unloaded since.
            site.module.processor = now.original or AttnProcessor2_0()
        elif isinstance(now, ForeignProcessor):
            site.module.processor = untap(now)
        elif isinstance(now, ObservedProcessor):
            site.module.processor = unobserved(now)


def replaced(sites: Iterable[Site]) -> list[Site]:
    """The sites whose processor does not record for them any more."""
    return [
        site
        for site in sites
        if not (isinstance(site.processor, RecordingProcessor) and site.processor.site == site.name)
    ]


class Before(NamedTuple):
    """A site's processor before :func:`install`, and whether it recorded already."""

    site: Site
    processor: Any
    recorded: bool


def remember(sites: Iterable[Site]) -> list[Before]:
    """The present processors of sites, for :func:`restore`."""
    return [
        Before(site, site.processor, isinstance(site.processor, RecordingProcessor))
        for site in sites
    ]


def restore(before: Iterable[Before]) -> None:
    """Give sites the processors back that they had before :func:`install`.

    A processor that other code has put on a site since, such as an adapter, stays, and one that
    other code has removed stays removed.
    """
    for site, processor, recorded in before:
        now = site.processor
        if not recorded:
            release([site])
        elif isinstance(now, RDAAMProcessor) and isinstance(processor, RDAAMProcessor):
            site.module.processor = processor


def is_recordable(site: Site) -> bool:
    """Whether the site's processor records, or can be made to."""
    if site.attention_call is not None:
        return is_observable(site.processor)
    return (
        is_stock(site)
        or isinstance(site.processor, ForeignProcessor)
        or is_supported(site.processor)
    )


def is_stock(site: Site) -> bool:
    """Whether a child of the template may replace the site's processor."""
    # By exact class: a subclass computes something else, and the image would change.
    processor = site.processor
    return type(processor) is AttnProcessor2_0 or isinstance(processor, RDAAMProcessor)


def foreign_text(sites: list[Site]) -> str:
    """The error's text for processors that cannot be recorded."""
    names = sorted({type(site.processor).__name__ for site in sites})
    if sites[0].attention_call is not None:
        return (
            f"{len(sites)} attention modules (the first is {sites[0].name}) have the processor "
            f"{', '.join(names)}, which calls none of torch's or diffusers' attention functions "
            "in its own code, so its queries and keys cannot be seen. To record, set the "
            "denoiser's default processors again."
        )
    return (
        f"{len(sites)} attention modules (the first is {sites[0].name}) have the processor "
        f"{', '.join(names)}, and it is not known with which queries and keys it attends. To "
        "record, set stock processors (AttnProcessor2_0), then "
        "pipe.set_attn_processor(RDAAMProcessor())."
    )
