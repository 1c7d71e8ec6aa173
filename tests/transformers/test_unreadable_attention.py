"""Attention of which queries and keys do not tell P: named in a warning, and the image is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    dispatch_attention_fn,
)
from torch.nn.attention.flex_attention import create_block_mask
from transformer_conditions import FAMILIES
from transformer_outcome import images, ours_of, quiet
from transformer_switches import own_backend

from diffusers_rdaam import RDAAMProcessor, record_attention
from diffusers_rdaam.attention.attention_call import AttentionCall
from diffusers_rdaam.attention.observed_processor import observe_processor
from diffusers_rdaam.attention.site import Site
from diffusers_rdaam.errors import NotRecordedWarning, RDAAMError, RecordingError

SAGE = AttentionBackendName.SAGE


@pytest.fixture(autouse=True)
def backend_of_the_process() -> Iterator[None]:
    with own_backend():
        yield


@pytest.fixture
def sage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for SageAttention, which needs a GPU: the stock attention by its name."""
    native = _AttentionBackendRegistry._backends[AttentionBackendName.NATIVE]
    monkeypatch.setitem(_AttentionBackendRegistry._backends, SAGE, native)


def told(caught: Any) -> list[str]:
    return [str(w.message) for w in caught if issubclass(w.category, NotRecordedWarning)]


def set_sage(pipe: Any) -> None:
    for module in pipe.transformer.modules():
        if hasattr(module, "processor"):
            module.processor._attention_backend = SAGE


def set_sage_for_all(pipe: Any) -> None:
    _AttentionBackendRegistry.set_active_backend(SAGE)


@pytest.mark.usefixtures("sage")
@pytest.mark.parametrize("switch_on", [set_sage, set_sage_for_all])
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_quantised_backend_is_named(switch_on: Callable[[Any], None], compiled: bool):
    case = FAMILIES["FluxPipeline"]()
    stock = quiet(case.make())
    wanted = images(case.run(stock))
    ours = ours_of(case)
    ours.set_attn_processor(RDAAMProcessor())
    switch_on(ours)
    if compiled:
        torch.compiler.reset()
        ours.transformer.compile_repeated_blocks(fullgraph=True, backend="eager")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = case.run(ours)
    assert np.array_equal(images(output), wanted)
    assert output.attributions is None and len(told(caught)) == 1
    assert "by the backend 'sage', which rounds queries and keys to 8 bits" in told(caught)[0]


class Silent:
    """A processor of another tool that calls no attention function that is known."""

    _attention_backend = None

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(
        self,
        attn: Any,
        hidden_states: Any,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        return self.inner(
            attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb
        )


def put_silent(pipe: Any) -> None:
    site = pipe.transformer.transformer_blocks[0].attn
    site.set_processor(Silent(site._default_processor_cls()))


@pytest.mark.parametrize("when", ["before", "after", "within"])
def test_a_processor_that_is_not_known(when: str):
    """The image is made with it, and a warning names it."""
    case = FAMILIES["FluxPipeline"]()
    wanted = images(case.run(quiet(case.make())))
    ours = ours_of(case)
    settings: dict[str, Any] = {}
    if when == "before":
        put_silent(ours)
    elif when == "after":
        ours.set_attn_processor(RDAAMProcessor())
        put_silent(ours)
    else:

        def put(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            put_silent(pipe)
            return tensors

        settings["callback_on_step_end"] = put
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        output = case.run(ours, **settings)
    assert np.array_equal(images(output), wanted)
    assert output.attributions is None and len(told(caught)) == 1
    assert "transformer_blocks.0.attn" in told(caught)[0] and "Silent" in told(caught)[0]
    assert isinstance(ours.transformer.transformer_blocks[0].attn.processor, Silent)
    # The cure.
    site = ours.transformer.transformer_blocks[0].attn
    site.set_processor(site._default_processor_cls())
    output = case.run(ours)
    assert np.array_equal(images(output), wanted) and len(output.attributions) == 2


def test_a_block_around_a_stock_pipeline_refuses_it_before_the_first_step():
    case = FAMILIES["FluxPipeline"]()
    pipe = quiet(case.make())
    put_silent(pipe)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with record_attention(pipe):
                case.run(pipe)
        except RDAAMError as error:
            message = str(error)
        else:
            message = told(caught)[0]
    assert "Silent, which calls none of torch's or diffusers' attention functions" in message


class Watcher:
    """An observer that keeps what it is shown."""

    failure: Exception | None = None

    def __init__(self) -> None:
        self.calls: list[AttentionCall] = []

    def see(self, call: AttentionCall) -> None:
        self.calls.append(call)


class OneCall:
    """A processor that attends once, with what it is given beside queries, keys and values."""

    def __call__(self, attn: Any, query: Any, key: Any, value: Any, **given: Any) -> Any:
        return dispatch_attention_fn(query, key, value, **given)


def attended(**given: Any) -> tuple[torch.Tensor, Watcher]:
    """The output of a call ``(2, 6, 3, 8)``, and what an observer saw."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 6, 3, 8) for _ in range(3))
    wanted = dispatch_attention_fn(query, key, value, **given)
    processor = observe_processor(OneCall(), Site("a", torch.nn.Identity(), 0, "joint", "", 0))
    watcher = Watcher()
    processor.arm(watcher, None)
    output = processor(None, query, key, value, **given)
    assert torch.equal(output, wanted)
    return output, watcher


def blocks() -> Any:
    return create_block_mask(
        lambda row, head, query, key: query >= key, 2, None, 6, 6, device="cpu", BLOCK_SIZE=128
    )


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"dropout_p": 1e-9}, "with dropout"),
        ({"is_causal": True}, "with a causal mask"),
        ({"attn_mask": blocks(), "backend": "flex"}, r"with a sparse mask \(BlockMask\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention_that_is_not_a_softmax_of_all_keys(given: dict[str, Any], named: str):
    torch.manual_seed(1)
    _, watcher = attended(**given)
    assert not watcher.calls
    with pytest.raises(RecordingError, match=f"computes its attention {named}, so that its"):
        raise watcher.failure


def test_attention_that_is_divided_among_devices(monkeypatch: pytest.MonkeyPatch):
    """A stand-in for the backend, because several devices would be needed."""
    native = _AttentionBackendRegistry._backends[AttentionBackendName.NATIVE]

    def alone(*args: Any, _parallel_config: Any = None, **kwargs: Any) -> Any:
        return native(*args, **kwargs)

    monkeypatch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName.NATIVE, alone)
    names = {"query", "key", "value", "attn_mask", "dropout_p", "is_causal", "scale"}
    monkeypatch.setitem(
        _AttentionBackendRegistry._supported_arg_names, AttentionBackendName.NATIVE, names
    )
    _, watcher = attended(parallel_config=object())
    assert not watcher.calls
    assert "divided among several devices (context parallelism)" in str(watcher.failure)


@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_a_mask_of_two_dimensions_is_read_as_the_backend_reads_it(backend: str):
    """The values attended to are those that the observed queries, keys and mask tell."""
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[0, 4:] = False
    if backend == "_native_math":
        mask = mask[:, None, None, :]
    output, watcher = attended(attn_mask=mask, backend=backend)
    (call,) = watcher.calls
    logits = call.query @ call.key.mT * call.scale
    logits = logits.masked_fill(~call.mask, -torch.inf)
    wanted = logits.softmax(dim=-1) @ call.value
    of_mask = call.mask.expand(2, 1, 6, 6).any(dim=-1).squeeze(1)
    rows = output.permute(0, 2, 1, 3)
    for row in range(2):
        torch.testing.assert_close(rows[row][:, of_mask[row]], wanted[row][:, of_mask[row]])
