"""HiddenText: columns of the text hidden from the image's positions at a transformer's sites."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch

from diffusers_rdaam.attention.hidden_columns import HiddenColumns
from diffusers_rdaam.attention.observed_processor import ObservedProcessor
from diffusers_rdaam.attention.processor import RDAAMProcessor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.families import Branch, DenoiserCall
from diffusers_rdaam.recording.installation import Replacements, install


class HiddenText:
    """The sites of a transformer at which columns of its text can be hidden from the image.

    In the joint attention of a transformer text and image are queries and keys together. The
    columns are hidden from the image's positions only: those of the text go on seeing each other.

    Args:
        sites: at which the image attends to the text.
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self.sites = sites
        self._installed: Replacements = {}

    def install(self, undo: ExitStack) -> None:
        """Make the sites' attention calls changeable.

        Args:
            undo: gets the entries that give the sites their processors back.

        Raises:
            ProcessorError: the attention call of a processor is not known.
            InputError: its attention backend takes no mask.
        """
        others = [site for site in self.sites if not _is_observed(site)]
        install(others, RDAAMProcessor(), undo, earlier=self._installed)
        for site in self.sites:
            site.processor.check_backend()

    @contextmanager
    def hidden(self, call: DenoiserCall, columns: Sequence[int]) -> Iterator[None]:
        """Hide columns of the text embedding from the image's positions during a denoiser call.

        Args:
            call: what its arguments say; its conditional rows are concerned.
            columns: of the text embedding.
        """
        assert call.joint is not None
        start, stop = call.branches[Branch.CONDITIONAL]
        first = call.joint.queries[start]
        positions = 1
        for size in call.grid:
            positions *= size
        keys = torch.tensor(call.joint.key_columns(start, columns), device=call.device)
        queries = slice(first, first + positions)
        hidden = HiddenColumns(keys, slice(start, stop), queries, threading.get_ident())
        processors = [site.processor for site in self.sites]
        try:
            for processor in processors:
                processor.hidden = hidden
            yield
        finally:
            for processor in processors:
                processor.hidden = None


def _is_observed(site: Site) -> bool:
    """Whether the site's processor is ours already, and made for this site."""
    processor = site.processor
    return isinstance(processor, ObservedProcessor) and processor.site == site.name
