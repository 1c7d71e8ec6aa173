"""UNets that attend to text and image in one softmax, under keys added for the text.

DeepFloyd IF and the decoder of UnCLIP: an attention's keys are ``[text, image]``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from diffusers.models.attention_processor import Attention
from torch import nn

from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.families.family import DenoiserCall
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.families.layouts import GUIDED_BY_ARGUMENT
from diffusers_rdaam.families.rows import RowLayout
from diffusers_rdaam.families.unet import UNetFamily, levels_of


@dataclass(frozen=True)
class AddedKeysPipeline:
    """What a pipeline class says of a UNet with added keys.

    Args:
        layout: which rows of a call belong to which branch of guidance.
        tokens: the rule for its tokens; see :data:`diffusers_rdaam.tokens.sources.SOURCES`.
        denoiser: the attribute that is the UNet.
    """

    layout: RowLayout
    tokens: str
    denoiser: str = "unet"


_IF = AddedKeysPipeline(GUIDED_BY_ARGUMENT, "deepfloyd")

# By the exact name of diffusers' class. For each the package has a class: "XPipeline" becomes
# "XRDAAMPipeline".
ADDED_KEYS_PIPELINES: dict[str, AddedKeysPipeline] = {
    "IFPipeline": _IF,
    "IFImg2ImgPipeline": _IF,
    "IFInpaintingPipeline": _IF,
    "IFSuperResolutionPipeline": _IF,
    "IFImg2ImgSuperResolutionPipeline": _IF,
    "IFInpaintingSuperResolutionPipeline": _IF,
    "UnCLIPPipeline": AddedKeysPipeline(GUIDED_BY_ARGUMENT, "unclip", "decoder"),
}


@dataclass(frozen=True)
class AddedKeysFamily(UNetFamily):
    """A UNet whose image attends to itself and to text in one softmax.

    Args:
        attribute: the pipeline's attribute that is the UNet.
        rule: for its tokens.
    """

    attribute: str = "unet"
    rule: str = ""

    @property
    def tokens(self) -> str:
        """The rule from a prompt to the columns of its text."""
        return self.rule

    @property
    def no_other_texts(self) -> str:
        """Why maps of texts other than the prompt cannot be computed."""
        return (
            "this UNet attends to text and image in one softmax, and the keys that another text "
            "would have had among the image's are not known without a run of its own"
        )

    def denoiser(self, pipe: Any) -> nn.Module:
        """The UNet whose modules are recorded."""
        return super().denoiser(getattr(pipe, self.attribute, pipe))

    def entry(self, pipe: Any) -> nn.Module:
        """The module that the pipeline calls."""
        return super().entry(getattr(pipe, self.attribute, pipe))

    def sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """Every attention with keys added for the text."""
        level = levels_of(denoiser)
        return tuple(
            Site(name, module, level(name), "joint", attention_call=0)
            for name, module in denoiser.named_modules()
            if isinstance(module, Attention) and module.added_kv_proj_dim is not None
        )

    def self_attention_sites(self, denoiser: nn.Module) -> tuple[Site, ...]:
        """The same modules, where the image is among the keys."""
        return tuple(
            site
            for site in self.sites(denoiser)
            if not getattr(site.module, "only_cross_attention", False)
        )

    def read_call(
        self, pipe: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> DenoiserCall | None:
        """As of a UNet, with the place of the text among the keys."""
        call = super().read_call(pipe, args, kwargs)
        if call is None or call.rows is None:
            return call
        rows, columns = call.rows, call.columns
        layout = JointLayout((0,) * rows, (columns,) * rows, (0,) * rows)
        return replace(call, joint=layout)

    def image_size(self, pipe: Any, grid: tuple[int, ...]) -> tuple[int, int]:
        """Height and width of the UNet's own pixels: there is no autoencoder."""
        height, width = grid
        return height, width

    def grid_of_image(self, pipe: Any, size: tuple[int, int]) -> tuple[int, ...]:
        """Height and width of the UNet's own pixels."""
        return size
