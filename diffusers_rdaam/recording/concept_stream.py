"""ConceptStream: the way of concepts through a transformer's blocks, in a stream of their own.

At each block the concepts are its text: they are normed, modulated, projected and passed through
its MLP by the block's own code and weights, and attend to themselves and to the image of the
denoiser call that is going on. The image and the prompt never see them (Helbling et al., 2025,
*ConceptAttention*).

Nothing of the transformer is changed, for another thread may run it at the same time: what is
called are twins, objects with the same weights in which a part is exchanged.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffusers_rdaam.attention.inserted_keys import InsertedKeys
from diffusers_rdaam.attention.observed_processor import ObservedProcessor, with_inserted_keys
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.transformers.concepts import ConceptRule

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class ConceptStream:
    """The concepts during one denoiser call, moved from block to block.

    Args:
        denoiser: the transformer.
        rule: how it is called with concepts.
        sites: its joint attention modules, each of a block.
        arguments: of the denoiser call, by name.
        rows: the rows of the prompt in the call.
        embedding: of all concepts, one behind the other, ``(tokens, width)``.
        text_first: whether the text comes before the image in the attention.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        rule: ConceptRule,
        sites: Iterable[Site],
        arguments: Mapping[str, Any],
        *,
        rows: slice,
        embedding: Tensor,
        text_first: bool,
    ) -> None:
        self._denoiser = denoiser
        self._rule = rule
        self._blocks = [block_name(site) for site in sites]
        self._arguments = arguments
        self._rows = rows
        self._embedding = embedding
        self._tokens = embedding.shape[0]
        self._text = slice(0, self._tokens) if text_first else slice(1, 1 + self._tokens)
        self._inputs: dict[str, dict[str, Any]] = {}
        self._states: Tensor | None = None

    def pass_block(self, site: Site, key: Tensor, value: Tensor) -> Tensor:
        """Pass the concepts through the block of a site; the blocks come in their order.

        Args:
            site: whose attention is being computed.
            key, value: the image's in that attention, ``(rows, heads, positions, dim)``.

        Returns:
            The attention output of the concepts, ``(rows, heads, tokens, dim)``.
        """
        if not self._inputs:
            self._inputs = self._inputs_of_blocks()
        name = block_name(site)
        inputs: dict[str, Any] = _moved(self._inputs[name], key.device)
        inputs = self._rule.of_block(inputs, self._tokens)
        inserted = InsertedKeys(key, value, self._text)
        block = self._denoiser.get_submodule(name)
        twin = _twin(block, attn=_attention_twin(site, inserted))
        result = type(block).forward(twin, **self._with_states(inputs))
        # The last block of Stable Diffusion 3 makes no further text.
        states = result[0] if isinstance(result, tuple) else result[:, : self._tokens]
        self._states = self._states if states is None else states
        assert inserted.attended is not None
        return inserted.attended

    def _with_states(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """A block's inputs with the concepts as the block before has left them."""
        if self._states is None:
            return inputs
        image = inputs["hidden_states"]
        states = self._states.to(image.device)
        if inputs.get("encoder_hidden_states") is not None:
            return inputs | {"encoder_hidden_states": states}
        # FLUX.2 has text and image in one tensor, behind the blocks of two streams.
        return inputs | {"hidden_states": torch.cat([states, image[:, self._tokens :]], dim=1)}

    def _inputs_of_blocks(self) -> dict[str, dict[str, Any]]:
        """What the transformer's own code gives to each block for the concepts, by its name."""
        hidden: Tensor = self._arguments["hidden_states"]
        count = len(range(*self._rows.indices(len(hidden))))
        concepts = self._embedding.to(hidden).expand(count, -1, -1)
        arguments = self._rule.arguments(self._denoiser, self._arguments, self._rows, concepts)
        inputs: dict[str, dict[str, Any]] = {}
        lists: dict[str, nn.Module] = {}
        for name in dict.fromkeys(name.partition(".")[0] for name in self._blocks):
            blocks = self._denoiser.get_submodule(name).named_children()
            lists[name] = nn.ModuleList(
                _StandIn(block, f"{name}.{index}", inputs) for index, block in blocks
            )
        twin = _twin(self._denoiser, **lists)
        type(self._denoiser).forward(twin, **arguments, return_dict=False)
        return inputs


class _StandIn(nn.Module):
    """In the place of a block: notes what it is given, and hands text and image on as they are."""

    def __init__(self, block: nn.Module, name: str, inputs: dict[str, dict[str, Any]]) -> None:
        super().__init__()
        self._signature = inspect.signature(type(block).forward)
        self._name = name
        self._inputs = inputs

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given = self._signature.bind(self, *args, **kwargs).arguments
        given.pop("self")
        self._inputs[self._name] = dict(given)
        text, image = given.get("encoder_hidden_states"), given["hidden_states"]
        return image if text is None else (text, image)


def block_name(site: Site) -> str:
    """The name of the block that a site's attention module belongs to."""
    return site.name.rpartition(".")[0]


def _attention_twin(site: Site, inserted: InsertedKeys) -> nn.Module:
    processor = site.processor
    if not isinstance(processor, ObservedProcessor):
        raise RecordingError(
            f"{site.name} has the processor {type(processor).__name__}, whose attention call is "
            "not observed, so no concepts can be sent through its block."
        )
    twin = _twin(site.module)
    twin.__dict__["_modules"].pop("processor", None)
    twin.__dict__["processor"] = with_inserted_keys(processor, inserted)
    return twin


def _twin(module: nn.Module, **parts: nn.Module) -> Any:
    """A module of the same class and weights in which some parts are others.

    Hooks, what an offload has put around ``forward``, and compiled code are the original's alone;
    the parts that have weights are the same objects, with theirs.
    """
    twin: Any = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__.pop("forward", None)
    twin.__dict__.update({name: {} for name in _HOOKS}, _compiled_call_impl=None)
    twin.__dict__["_modules"] = {**module._modules, **parts}
    return twin


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors within tuples, lists and dictionaries, on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(one, device) for one in value)
    if isinstance(value, dict):
        return {name: _moved(one, device) for name, one in value.items()}
    return value
