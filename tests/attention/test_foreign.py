"""Taps: foreign processors put out what they did, and what they attend to is recorded."""

from __future__ import annotations

import copy
import importlib.util
import inspect
import pickle
import warnings
from typing import Any

import pytest
import torch
from diffusers.models import attention_processor as stock
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.attention.foreign import ForeignProcessor, is_supported, tap, untap
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.families.unet import UNetFamily
from diffusers_rdaam.kernels import portable
from diffusers_rdaam.recording.installation import install, remember, replaced, restore

ROWS, HEIGHT, WIDTH, TOKENS, TEXT, HEADS, DIM = 4, 5, 7, 9, 24, 4, 8
PIXELS, INNER = HEIGHT * WIDTH, HEADS * DIM
# Whether a processor scales with attn.scale, and whether it normalizes queries and keys.
KINDS: dict[str, tuple[bool, bool]] = {
    "AttnProcessor": (True, False),
    "SlicedAttnProcessor": (True, False),
    "FusedAttnProcessor2_0": (False, True),
    "IPAdapterAttnProcessor": (True, False),
    "IPAdapterAttnProcessor2_0": (False, False),
    "XFormersAttnProcessor": (True, False),
}


def make(name: str) -> Any:
    if "XFormers" in name and importlib.util.find_spec("xformers") is None:
        pytest.skip("xformers is not installed")
    cls = getattr(stock, name)
    torch.manual_seed(3)
    if name.startswith("IPAdapter"):
        return cls(INNER, TEXT, num_tokens=(3,), scale=0.7)
    return cls(2) if name == "SlicedAttnProcessor" else cls()


def module(name: str, **options: Any) -> Attention:
    torch.manual_seed(1)
    attn = Attention(2 * INNER, TEXT, heads=HEADS, dim_head=DIM, **options).eval()
    for part, parameter in attn.named_parameters():
        if "norm" in part:
            parameter.data += 0.3 * torch.randn_like(parameter)
    # Other than what the fused attention takes by itself.
    attn.scale = 0.9 * attn.scale
    if name == "FusedAttnProcessor2_0":
        attn.fuse_projections()
    return attn


def inputs(name: str) -> tuple[torch.Tensor, Any]:
    generator = torch.Generator().manual_seed(2)
    hidden = 2 * torch.randn(ROWS, PIXELS, 2 * INNER, generator=generator)
    text = 2 * torch.randn(ROWS, TOKENS, TEXT, generator=generator)
    images = torch.randn(ROWS, 1, 3, TEXT, generator=generator)
    return hidden, (text, [images]) if name.startswith("IPAdapter") else text


def arm(processor: Any, tokens: int = TOKENS) -> BranchTarget:
    planes = torch.zeros(2, ROWS // 2, tokens, PIXELS, dtype=torch.float16)
    branch = BranchTarget(planes[0], planes[1], torch.zeros(1, dtype=torch.int32), ROWS // 2, ROWS)
    processor.target = Target("attn2", (branch,), portable.accumulate)
    return branch


def wanted(attn: Attention, name: str, hidden: Any, context: Any, mask: Any) -> torch.Tensor:
    """Float64 softmax of what the processor's source says, from weights alone."""
    text = context[0] if isinstance(context, tuple) else context
    scales_itself, normalizes = KINDS[name]
    query, key = attn.to_q(hidden), attn.to_k(text)
    query, key = (part.unflatten(-1, (HEADS, DIM)).transpose(1, 2) for part in (query, key))
    if normalizes and attn.norm_q is not None:
        query, key = attn.norm_q(query), attn.norm_k(key)
    scale = attn.scale if scales_itself else DIM**-0.5
    logits = query.double() @ key.double().mT * scale
    logits = logits if mask is None else logits + mask.double()[:, None]
    return torch.softmax(logits, -1).mean(1).mT[ROWS // 2 :]


MASKS = [None, torch.tensor([0.0, -10000.0, 1.0] * 3).expand(ROWS, 1, TOKENS).contiguous()]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("options", [{}, {"qk_norm": "layer_norm"}, {"scale_qk": False}], ids=str)
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_the_output_stays_and_the_maps_are_what_it_attends_to(name, options, masked):
    attn, (hidden, context), mask = module(name, **options), inputs(name), MASKS[masked]
    processor = make(name)
    attn.set_processor(processor)
    plain = attn(hidden, context, attention_mask=mask)
    tapped = tap(processor, "attn2")
    attn.set_processor(tapped)
    assert torch.equal(attn(hidden, context, attention_mask=mask), plain)
    branch = arm(tapped)
    assert torch.equal(attn(hidden, context, attention_mask=mask), plain)
    got = branch.high.double() + branch.low.double() / 2048
    oracle = wanted(attn, name, hidden, context, mask)
    torch.testing.assert_close(got, oracle, rtol=1e-4, atol=1e-7)
    assert branch.count.item() == 1


@pytest.mark.parametrize("name", KINDS)
def test_it_stays_the_class_that_it_was(name):
    processor = make(name)
    cls, state = type(processor), set(vars(processor))
    weights = processor.state_dict() if isinstance(processor, nn.Module) else None
    signature = inspect.signature(processor.__call__)
    tapped = tap(processor, "attn2")
    assert (
        isinstance(tapped, cls)
        and isinstance(tapped, ForeignProcessor)
        and type(tapped).__name__ == name
    )
    assert inspect.signature(tapped.__call__) == signature
    assert not is_supported(object()) and is_supported(make(name))
    if weights is not None:
        assert tapped is processor and tapped.state_dict().keys() == weights.keys()
        assert dict(tapped.named_modules()).keys() == dict(processor.named_modules()).keys()
    else:
        assert tapped is not processor and tapped.original is processor
    assert untap(tapped) is processor
    assert type(processor) is cls and set(vars(processor)) == state


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("protocol", [0, 2, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize("name", KINDS)
@torch.no_grad()
def test_copies_record_for_themselves(name, protocol, way):
    attn, (hidden, context) = module(name), inputs(name)
    tapped = tap(make(name), "attn2")
    branch = arm(tapped)
    twin = (
        copy.deepcopy(tapped)
        if way == "deepcopy"
        else pickle.loads(pickle.dumps(tapped, protocol=protocol))
    )
    assert twin.target is None and twin.site == "attn2" and type(twin) is type(tapped)
    attn.set_processor(twin)
    own = arm(twin)
    output = attn(hidden, context)
    assert own.high.any() and not branch.high.any()
    attn.set_processor(untap(twin))
    assert torch.equal(attn(hidden, context), output)
    assert type(attn.processor) is getattr(stock, name)


@pytest.mark.parametrize("name", ["AttnProcessor", "SlicedAttnProcessor", "FusedAttnProcessor2_0"])
def test_gradients_are_those_without_recording(name):
    attn, (hidden, context) = module(name), inputs(name)
    processor, grads = make(name), []
    for tapped in (processor, tap(processor, "attn2")):
        if tapped is not processor:
            arm(tapped)
        attn.set_processor(tapped)
        leaf = hidden.clone().requires_grad_()
        attn(leaf, context).square().sum().backward()
        grads.append((leaf.grad, attn.to_q.weight.grad.clone()))
        attn.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_columns_that_do_not_fit_are_named():
    attn, (hidden, context) = module("AttnProcessor"), inputs("AttnProcessor")
    tapped = tap(make("AttnProcessor"), "attn2")
    attn.set_processor(tapped)
    arm(tapped, tokens=TOKENS - 2)
    attn(hidden, context)
    assert tapped.target.misfit == (
        "attn2 attends to 9 columns, where 7 were expected of the text: something adds columns to "
        "it, or leaves some out. Switch that off to record, or generate without recording: "
        "pipe.set_attn_processor(AttnProcessor2_0())."
    )


def test_a_subclass_is_not_tapped():
    class Own(stock.AttnProcessor):
        pass

    assert not is_supported(Own()) and not is_supported(AttnProcessor2_0())


def test_a_shared_instance_is_copied_and_given_back(make_unet):
    unet = make_unet()
    shared = stock.AttnProcessor()
    unet.set_attn_processor(shared)
    sites = UNetFamily().sites(unet)
    before = remember(sites)
    keys = set(unet.state_dict())
    install(sites, RDAAMProcessor())
    first = [site.processor for site in sites]
    assert len({id(processor) for processor in first}) == len(sites) and not replaced(sites)
    install(sites, RDAAMProcessor())
    assert all(site.processor.original is shared for site in sites)
    assert set(unet.state_dict()) == keys
    restore(before)
    assert all(processor is shared for processor in unet.attn_processors.values())
    assert vars(shared) == {}


def test_taps_of_another_denoiser_are_not_shared(make_unet):
    one, other = make_unet(), make_unet()
    for unet in (one, other):
        unet.set_attn_processor(stock.SlicedAttnProcessor(1))
        install(UNetFamily().sites(unet), RDAAMProcessor())
    other.set_attn_processor(dict(one.attn_processors))
    sites = UNetFamily().sites(other)
    install(sites, RDAAMProcessor())
    assert not set(map(id, one.attn_processors.values())) & {id(site.processor) for site in sites}


@pytest.mark.parametrize("name", ["AttnProcessor2_0", "AttnProcessor", "IPAdapterAttnProcessor2_0"])
def test_what_recorded_before_a_block_records_after_it(make_unet, name):
    unet = make_unet()
    sites = UNetFamily().sites(unet)
    for site in sites:
        is_stock = name == "AttnProcessor2_0"
        site.module.set_processor(AttnProcessor2_0() if is_stock else make(name))
    install(sites, RDAAMProcessor(precision="fp16"))
    outer = [site.processor for site in sites]
    before = remember(sites)
    install(sites, RDAAMProcessor())
    restore(before)
    assert not replaced(sites)
    assert [type(site.processor) for site in sites] == [type(processor) for processor in outer]
    if name != "AttnProcessor":
        assert all(site.processor is old for site, old in zip(sites, outer, strict=True))


def test_what_diffusers_makes_anew_of_a_tapped_class_is_untapped():
    tapped = tap(stock.AttnProcessor(), "attn2")
    anew = tapped.__class__()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = untap(anew)
    assert type(plain) is stock.AttnProcessor and vars(plain) == {}
