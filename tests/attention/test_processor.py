"""Armed and unbound, the processor's output is the stock class's, bit for bit."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import nn
from torch.overrides import TorchFunctionMode

from diffusers_rdaam import QueryOptions, RDAAMProcessor, RecordingOptions
from diffusers_rdaam.attention.map_target import BranchTarget, Target
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.kernels import portable
from diffusers_rdaam.kernels.reference import head_mean_probabilities

ROWS, HEIGHT, WIDTH, TOKENS = 4, 5, 7, 9
QUERY_DIM, TEXT_DIM, HEADS, DIM = 32, 24, 4, 8

MODULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True, "out_bias": False},
    "unscaled": {"scale_qk": False},
    "upcast": {"upcast_attention": True, "upcast_softmax": True},
    "group_norm": {"norm_num_groups": 8},
    "norm_cross_layer": {"cross_attention_norm": "layer_norm"},
    "norm_cross_group": {
        "cross_attention_norm": "group_norm",
        "cross_attention_norm_num_groups": 6,
    },
    "spatial_norm": {"spatial_norm_dim": 3},
    "qk_layer_norm": {"qk_norm": "layer_norm"},
    "qk_rms_norm": {"qk_norm": "rms_norm"},
    "residual": {"residual_connection": True},
    "rescale": {"rescale_output_factor": 1.7},
    "all": {
        "bias": True,
        "norm_num_groups": 8,
        "cross_attention_norm": "layer_norm",
        "qk_norm": "layer_norm",
        "residual_connection": True,
        "rescale_output_factor": 0.3,
    },
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


class Watch(TorchFunctionMode):
    """Queries, keys and masks of every attention that is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.calls.append((args[0], args[1], kwargs.get("attn_mask")))
        return function(*args, **kwargs)


def attention(options: dict[str, Any], dtype: torch.dtype = torch.float32) -> Attention:
    torch.manual_seed(1)
    module = Attention(QUERY_DIM, TEXT_DIM, heads=HEADS, dim_head=DIM, **options).to(dtype).eval()
    # Norms are identities when they are new.
    for name, parameter in module.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return module


def inputs(dtype: torch.dtype, *, image: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shape = (ROWS, QUERY_DIM, HEIGHT, WIDTH) if image else (ROWS, HEIGHT * WIDTH, QUERY_DIM)
    hidden = 2 * torch.randn(shape, generator=generator)
    text = 2 * torch.randn(ROWS, TOKENS, TEXT_DIM, generator=generator)
    return hidden.to(dtype), text.to(dtype)


def arm(processor: RDAAMProcessor, start: int = ROWS // 2, pixels: int = HEIGHT * WIDTH) -> Target:
    planes = torch.zeros(2, ROWS - start, TOKENS, pixels, dtype=torch.float16)
    count = torch.zeros(1, dtype=torch.int32)
    branch = BranchTarget(planes[0], planes[1], count, start, ROWS)
    target = Target(processor.site or "attn2", (branch,), portable.accumulate)
    processor.target = target
    return target


def recorded(target: Target) -> torch.Tensor:
    (branch,) = target.branches
    return branch.high.double() + branch.low.double() / 2048


@torch.no_grad()
def both(
    module: Attention, hidden: torch.Tensor, text: torch.Tensor, **kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor, Target, Watch]:
    module.set_processor(AttnProcessor2_0())
    stock = module(hidden, text, **kwargs)
    processor = RDAAMProcessor().bind("attn2")
    module.set_processor(processor)
    target = arm(processor)
    with Watch() as watch:
        ours = module(hidden, text, **kwargs)
    return stock, ours, target, watch


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "image"),
    # Spatial norm takes images only.
    [
        (name, image)
        for name in MODULES
        for image in (False, True)
        if image or "spatial" not in name
    ],
)
def test_armed_is_stock_bit_for_bit_and_records_what_was_attended(name, image, dtype):
    hidden, text = inputs(dtype, image=image)
    kwargs = {}
    if name == "spatial_norm":
        kwargs["temb"] = torch.randn(ROWS, 3, 2, 3, generator=torch.Generator().manual_seed(3))
        kwargs["temb"] = kwargs["temb"].to(dtype)
    stock, ours, target, watch = both(attention(MODULES[name], dtype), hidden, text, **kwargs)
    assert torch.isfinite(stock).all() and stock.std() > 0.01
    assert ours.dtype == stock.dtype and torch.equal(ours, stock)
    [(query, key, mask)] = watch.calls
    assert mask is None
    half = slice(ROWS // 2, ROWS)
    expected = head_mean_probabilities(query[half].double(), key[half].double(), scale=DIM**-0.5)
    torch.testing.assert_close(recorded(target), expected, rtol=1e-4, atol=1e-7)
    assert target.branches[0].count.item() == 1


def masks() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    keep = torch.rand(ROWS, HEIGHT * WIDTH, TOKENS, generator=generator) > 0.4
    keep[..., 0] = True
    return {
        "tokens": torch.where(keep[:, :1], 0.0, -10000.0),
        "bias": torch.randn(ROWS, 1, TOKENS, generator=generator),
        "pixels": torch.where(keep, 0.0, -torch.inf),
        "bool": keep[:, :1],
        "bool pixels": keep,
    }


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", masks())
def test_masks(name, dtype):
    hidden, text = inputs(dtype, image=False)
    mask = masks()[name]
    mask = mask if mask.dtype == torch.bool else mask.to(dtype)
    stock, ours, target, watch = both(attention({}, dtype), hidden, text, attention_mask=mask)
    assert torch.equal(ours, stock)
    [(query, key, seen)] = watch.calls
    assert seen is not None
    if seen.dtype == torch.bool:
        seen = torch.where(seen, 0.0, -torch.inf)
    half = slice(ROWS // 2, ROWS)
    expected = head_mean_probabilities(
        query[half].double(), key[half].double(), mask=seen[half].double(), scale=DIM**-0.5
    )
    torch.testing.assert_close(recorded(target), expected, rtol=1e-4, atol=1e-7)
    hidden_tokens = masks()[name][half].expand(-1, HEIGHT * WIDTH, -1).transpose(-1, -2)
    if name != "bias":
        gone = ~hidden_tokens if hidden_tokens.dtype == torch.bool else hidden_tokens < -1
        assert recorded(target)[gone].abs().max() == 0.0


def test_sum_grows_by_one_a_call_and_only_for_the_recorded_rows():
    module, (hidden, text) = attention({}), inputs(torch.float32, image=False)
    processor = RDAAMProcessor().bind("attn2")
    module.set_processor(processor)
    target = arm(processor, start=3)
    with torch.no_grad():
        for _ in range(3):
            module(hidden, text)
    assert recorded(target).shape == (1, TOKENS, HEIGHT * WIDTH)
    torch.testing.assert_close(
        recorded(target).sum(dim=1), torch.full((1, HEIGHT * WIDTH), 3.0, dtype=torch.float64)
    )
    assert target.branches[0].count.item() == 3


@pytest.mark.parametrize("options", [{}, MODULES["all"]], ids=["plain", "all"])
@pytest.mark.parametrize("text_given", [True, False], ids=["cross", "self"])
def test_unbound_is_stock(options, text_given):
    torch.manual_seed(1)
    dim = TEXT_DIM if text_given else None
    module = Attention(QUERY_DIM, dim, heads=HEADS, dim_head=DIM, **options).eval()
    hidden, text = inputs(torch.float32, image=True)
    given = (hidden, text) if text_given else (hidden,)
    with torch.no_grad():
        module.set_processor(AttnProcessor2_0())
        stock = module(*given)
        module.set_processor(RDAAMProcessor())
        assert torch.equal(module(*given), stock)
        # Without a text there is nothing to record, even where somebody armed it.
        if not text_given:
            target = arm(module.processor)
            assert torch.equal(module(*given), stock)
            assert target.branches[0].count.item() == 0


def test_unbound_hands_on_what_the_stock_class_takes():
    module, (hidden, text) = attention({}), inputs(torch.float32, image=False)
    with pytest.warns(FutureWarning, match="`scale` argument is deprecated"):
        RDAAMProcessor()(module, hidden, text, scale=0.5)


def test_gradients_reach_the_image_path_and_not_the_maps():
    module, (hidden, text) = attention({}), inputs(torch.float32, image=False)
    processor = RDAAMProcessor().bind("attn2")
    module.set_processor(processor)
    target = arm(processor)
    text.requires_grad_()
    module(hidden, text).square().sum().backward()
    assert text.grad is not None and text.grad.abs().sum() > 0
    assert not target.branches[0].high.requires_grad


def test_diffusers_sees_the_stock_arguments():
    # diffusers reads the signature and drops the arguments that it does not name.
    stock = inspect.signature(AttnProcessor2_0.__call__).parameters
    ours = inspect.signature(RDAAMProcessor.__call__).parameters
    assert list(ours) == list(stock)
    assert [p.kind for p in ours.values()] == [p.kind for p in stock.values()]
    assert [p.default for p in ours.values()] == [p.default for p in stock.values()]


def test_no_arguments_are_needed_because_diffusers_gives_none():
    again = RDAAMProcessor(precision="fp16", backend="reference").__class__()
    assert again.options == RecordingOptions(precision="fp16-pair", backend="auto")
    assert (again.site, again.target) == (None, None)


def test_it_is_no_module_and_leaves_no_trace_in_checkpoints(make_unet):
    unet = make_unet()
    before = list(unet.state_dict())
    processor = RDAAMProcessor()
    assert not isinstance(processor, nn.Module)
    unet.set_attn_processor(processor)
    arm(processor)
    assert list(unet.state_dict()) == before
    assert {name.rpartition(".")[2] for name in unet.attn_processors} == {"processor"}


def test_names_that_diffusers_searches_for_are_avoided():
    assert "Added" not in RDAAMProcessor.__name__
    assert "XFormers" not in str(RDAAMProcessor)


@pytest.mark.usefixtures("types_unchecked")
def test_unknown_options():
    with pytest.raises(InputError) as error:
        RDAAMProcessor(precision="fp8")
    assert str(error.value) == "'fp8' is not a precision. Precisions: 'fp16-pair', 'fp16'."
    with pytest.raises(InputError) as error:
        RDAAMProcessor(backend="cuda")
    assert str(error.value).startswith("'cuda' is not a backend. Backends: 'auto', 'portable', ")
    with pytest.raises(TypeError):
        RDAAMProcessor("fp16")
    with pytest.raises(TypeError) as error:
        RDAAMProcessor(presicion="fp16")
    assert str(error.value) == (
        "presicion= is not an option of RDAAMProcessor. Options: keep, keep_negative, "
        "self_attention, queries, precision, budget, backend, columns, concepts. Did you mean "
        "precision=?"
    )


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("storage", "precision="),
        ("query_grids", "queries=QueryOptions(grids=…)"),
        ("query_steps", "queries=QueryOptions(steps=…)"),
        ("queries_on", "queries=QueryOptions(location=…)"),
        ("query_precision", "queries=QueryOptions(precision=…)"),
    ],
)
def test_an_earlier_name_of_an_option_says_what_to_write(name, instead):
    with pytest.raises(InputError) as error:
        RDAAMProcessor(**{name: "fp16"})
    assert str(error.value) == f"{name}= is not an option any more: write {instead}."


@pytest.mark.usefixtures("types_unchecked")
def test_the_earlier_name_of_a_backend_says_what_to_write():
    with pytest.raises(InputError, match="It is called 'maps_only' now"):
        RDAAMProcessor(backend="beside")


def test_options_are_frozen_and_belong_to_one_template():
    template, other = RDAAMProcessor(keep="steps"), RDAAMProcessor(keep="steps")
    assert template.options == other.options and template.options is not other.options
    with pytest.raises(FrozenInstanceError):
        template.options.keep_negative = True
    with pytest.raises(FrozenInstanceError):
        QueryOptions().precision = "fp32"
    more = replace(template.options, budget=1)
    assert (more.keep, more.budget) == (("steps",), 1)
    assert RDAAMProcessor.with_options(more).bind("mid_block").options is more


def test_options_are_stored_in_one_form():
    options = RDAAMProcessor(
        keep=["queries", "heads", "steps", "heads"],
        self_attention=[8, (4, 6), (8, 8)],
        queries=QueryOptions(grids=[16, (8, 12), 16], steps=iter([3, 1])),
    ).options
    assert options.keep == ("steps", "heads", "queries") and options.axes == ("steps", "heads")
    assert options.self_attention == options.self_attention_sizes == ((8, 8), (4, 6))
    assert options.queries.sizes == ((16, 16), (8, 12)) and options.queries.steps == (3, 1)
    assert RDAAMProcessor(keep="queries").options.queries == QueryOptions()
    assert RDAAMProcessor().options.queries is None
    assert RDAAMProcessor(self_attention=True).options.self_attention_sizes == ()


@pytest.mark.usefixtures("types_unchecked")
def test_queries_take_their_own_options():
    with pytest.raises(InputError, match=r"^queries= takes QueryOptions\(.*got 'cpu'\.$"):
        RDAAMProcessor(keep="queries", queries="cpu")


def test_a_child_has_the_options_of_its_template():
    class Special(RDAAMProcessor):
        pass

    child = Special(precision="fp16", backend="reference").bind("down_blocks.0.attn2")
    assert type(child) is Special
    assert (child.options.precision, child.options.backend) == ("fp16", "reference")
    assert repr(child) == (
        "RDAAMProcessor(down_blocks.0.attn2, precision='fp16', backend='reference')"
    )
    assert repr(RDAAMProcessor()).startswith("RDAAMProcessor(unbound, ")


@pytest.mark.parametrize(
    ("kind", "with_text", "without"),
    [("cross", True, False), ("self", False, True), ("joint", True, True)],
)
def test_the_kind_of_a_site_decides_which_calls_are_recorded(kind, with_text, without):
    processor = RDAAMProcessor().bind("attn2", kind)
    target = arm(processor)
    assert (processor.observer(torch.zeros(1)) is target) == with_text
    assert (processor.observer(None) is target) == without


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))]
)
def test_a_copy_is_not_in_the_middle_of_the_originals_run(again):
    processor = RDAAMProcessor(precision="fp16").bind("mid_block.attn2")
    target = arm(processor)
    twin = again(processor)
    assert twin.target is None and processor.target is target
    assert (twin.options.precision, twin.site) == ("fp16", "mid_block.attn2")


def test_an_unexpected_sequence_length_is_named():
    module, (hidden, text) = attention({}), inputs(torch.float32, image=False)
    processor = RDAAMProcessor().bind("down_blocks.0.attentions.0.attn2")
    module.set_processor(processor)
    arm(processor, pixels=36)
    with torch.no_grad():
        module(hidden, text)
    assert processor.target.misfit == (
        "down_blocks.0.attentions.0.attn2 attends from 35 image positions, where 36 were expected "
        "of its level and the latent's size: this denoiser's samplers are not known, or something "
        "cuts its input into tiles. Switch that off to record, or generate without recording: "
        "pipe.set_attn_processor(AttnProcessor2_0())."
    ), "the image goes on"
