"""Which modules are recorded, and how large their grids are."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel, UNetMotionModel
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    SlicedAttnProcessor,
)

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.errors import ProcessorError, RecordingError
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.recording.buffers.accumulator import HeatMapAccumulator, shape_of
from diffusers_rdaam.recording.installation import install, is_stock, remember, replaced, restore

SD15 = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
CROSS3 = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
# Layouts that differ in where text attention and samplers are; all of them halve with rounding up.
LAYOUTS = {
    "three levels": CROSS3,
    "deep transformers": CROSS3 | {"transformer_layers_per_block": 2, "layers_per_block": 2},
    "layers differ": CROSS3 | {"layers_per_block": (1, 2, 1)},
    "no text at the top": {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
    "no mid block": CROSS3 | {"mid_block_type": None},
    "no text in the mid block": CROSS3 | {"mid_block_type": "UNetMidBlock2D"},
    "one level, no samplers": {
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    },
}
LATENTS = [(13, 21), (8, 12), (5, 3), (1, 9)]


def observe(unet: UNet2DConditionModel, latent: tuple[int, int]) -> dict[str, int]:
    """The sequence length that each ``attn2`` really sees."""
    lengths: dict[str, int] = {}

    def hook(name: str):
        def note(module, args, output):
            lengths[name] = args[0].shape[1]

        return note

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in unet.named_modules()
        if name.endswith("attn2")
    ]
    with torch.no_grad():
        unet(torch.randn(2, 4, *latent), 5, torch.randn(2, 6, 16))
    for handle in handles:
        handle.remove()
    return lengths


def test_names_and_levels_of_sd15():
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SD15)
    family = UNetFamily()
    sites = family.sites(unet)
    levels = {site.name: site.level for site in sites}
    block = "attentions.{}.transformer_blocks.0.attn2"
    expected = {
        f"{part}_blocks.{index}.{block.format(layer)}": level
        for part, index, level, layers in [
            *(("down", i, i, 2) for i in range(3)),
            *(("up", i, 3 - i, 3) for i in (1, 2, 3)),
        ]
        for layer in range(layers)
    } | {f"mid_block.{block.format(0)}": 3}
    assert levels == expected
    assert [site.name for site in sites] == [
        name for name, _ in unet.named_modules() if name.endswith("attn2")
    ]
    grids = {site.name: family.grid(site, (64, 64)) for site in sites}
    assert Counter(grids.values()) == {(64, 64): 5, (32, 32): 5, (16, 16): 5, (8, 8): 1}
    shape = shape_of(images=1, tokens=77, grids=grids, device="meta")
    assert HeatMapAccumulator(shape).nbytes <= 1_800_000


@pytest.mark.parametrize("latent", LATENTS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_grid_is_what_the_module_sees(make_unet, layout, latent):
    unet, family = make_unet(**LAYOUTS[layout]), UNetFamily()
    observed = observe(unet, latent)
    grids = {site.name: family.grid(site, latent) for site in family.sites(unet)}
    assert observed and {name: h * w for name, (h, w) in grids.items()} == observed


def test_height_and_width_are_not_exchanged(make_unet):
    family = UNetFamily()
    sizes = {family.grid(site, (13, 21)) for site in family.sites(make_unet(**CROSS3))}
    assert sizes == {(13, 21), (7, 11), (4, 6)}


@pytest.mark.parametrize("latent", [(12, 20), (8, 12)], ids=str)
@pytest.mark.parametrize("padding", [0, 1])
def test_samplers_that_round_down_agree_on_even_latents(make_unet, latent, padding):
    unet, family = make_unet(**CROSS3, downsample_padding=padding), UNetFamily()
    observed = observe(unet, latent)
    grids = {site.name: family.grid(site, latent) for site in family.sites(unet)}
    assert {name: h * w for name, (h, w) in grids.items()} == observed


def test_resnet_samplers(make_unet):
    unet = make_unet(
        down_block_types=("CrossAttnDownBlock2D", "ResnetDownsampleBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "ResnetUpsampleBlock2D", "CrossAttnUpBlock2D"),
    )
    family = UNetFamily()
    grids = {site.name: family.grid(site, (8, 12)) for site in family.sites(unet)}
    assert {name: h * w for name, (h, w) in grids.items()} == observe(unet, (8, 12))


def test_modules_that_are_no_text_sites(make_unet):
    simple = make_unet(
        down_block_types=("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    )
    assert any(isinstance(module, Attention) for module in simple.modules())
    assert UNetFamily().sites(simple) == ()
    motion = UNetMotionModel(
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        num_attention_heads=2,
        motion_num_attention_heads=2,
    )
    names = [name for name, _ in motion.named_modules() if name.endswith(".attn2")]
    sites = [site.name for site in UNetFamily().sites(motion)]
    assert sites == [name for name in names if "motion_modules" not in name]
    assert 0 < len(sites) < len(names)


def test_a_site_in_no_block_is_an_error(make_unet):
    unet = make_unet()
    unet.extra = torch.nn.ModuleDict({"attn2": Attention(8, 16, heads=2, dim_head=4)})
    with pytest.raises(RecordingError, match=r"^extra\.attn2 lies in no down, mid or up block"):
        UNetFamily().sites(unet)


def test_install_gives_each_text_site_a_child_and_leaves_the_rest(make_unet):
    unet = make_unet(**CROSS3)
    before = dict(unet.attn_processors)
    sites = UNetFamily().sites(unet)
    template = RDAAMProcessor(precision="fp16", backend="portable")
    assert replaced(sites) == list(sites) and all(is_stock(site) for site in sites)
    install(sites, template)
    assert replaced(sites) == []
    after = unet.attn_processors
    for name, processor in after.items():
        if name.endswith("attn2.processor"):
            assert processor is not template
            assert processor.site == name.removesuffix(".processor")
            assert (processor.options.precision, processor.options.backend) == ("fp16", "portable")
        else:
            assert processor is before[name]
    assert len({id(site.processor) for site in sites}) == len(sites)
    sites[0].module.processor = sites[1].processor
    assert replaced(sites) == [sites[0]], "a child of another site is not this one's"


def test_install_refuses_foreign_processors_and_changes_nothing(make_unet):
    class Better(AttnProcessor2_0):
        pass

    unet = make_unet()
    sites = UNetFamily().sites(unet)
    sites[-1].module.processor = Better()
    with pytest.raises(ProcessorError) as error:
        install(sites, RDAAMProcessor())
    assert str(error.value) == (
        f"1 attention modules (the first is {sites[-1].name}) have the processor Better, and it is "
        "not known with which queries and keys it attends. To record, set stock processors "
        "(AttnProcessor2_0), then pipe.set_attn_processor(RDAAMProcessor())."
    )
    assert {type(site.processor) for site in sites} == {AttnProcessor2_0, Better}


def test_install_taps_what_is_known_and_restore_gives_it_back(make_unet):
    unet = make_unet()
    sites = UNetFamily().sites(unet)
    sites[0].module.processor = sliced = SlicedAttnProcessor(1)
    sites[1].module.processor = sites[2].module.processor = AttnProcessor()
    before = remember(sites)
    install(sites, RDAAMProcessor())
    for site, (_, original, _) in zip(sites, before, strict=True):
        assert isinstance(site.processor, type(original)) and site.processor.site == site.name
        assert type(site.processor).__name__ in (type(original).__name__, "RDAAMProcessor")
    assert sites[1].processor is not sites[2].processor, "a shared one is copied"
    assert not replaced(sites)
    restore(before)
    assert [site.processor for site in sites] == [processor for _, processor, _ in before]
    assert type(sliced) is SlicedAttnProcessor and vars(sliced) == {"slice_size": 1}


def test_the_wrapper_of_compile_is_looked_through(make_unet):
    unet = make_unet()
    compiled = torch.compile(unet)
    assert UNetFamily().denoiser(SimpleNamespace(unet=compiled)) is unet
    assert UNetFamily().denoiser(SimpleNamespace(unet=unet)) is unet
