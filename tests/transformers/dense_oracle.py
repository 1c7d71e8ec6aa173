"""Float64 attention of a stock run of a transformer, from the calls of the attention kernel.

Nothing of the package is used. ``torch.nn.functional.scaled_dot_product_attention`` is where every
stock processor, and diffusers' native attention backend, ends; a hook on each attention module
says which one the kernel is called for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import torch
from einops import repeat
from torch import Tensor


@dataclass(frozen=True)
class DenoiserCall:
    """What one call of the denoiser was given."""

    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class ObservedCall:
    """One call of the attention kernel: queries and keys are ``(rows, heads, tokens, dim)``.

    Attributes:
        number: how many kernel calls this site made before in the same call of the denoiser.
        denoiser_call: the number of that call, from 0.
        scale: what the kernel was given; None stands for ``dim ** -0.5``.
        kwargs: the keyword arguments of the denoiser's call.
        value: the values, as keys.
    """

    site: str
    stream: str
    number: int
    denoiser_call: int
    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float | None
    is_gqa: bool
    kwargs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    value: Tensor = field(default_factory=lambda: torch.zeros(0), repr=False)


class Observed(list[ObservedCall]):
    """Every kernel call of the sites, in order; ``denoiser_calls`` has the denoiser's inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.denoiser_calls: list[DenoiserCall] = []

    def of(self, stream: str) -> list[ObservedCall]:
        """The kernel calls of one stream."""
        return [call for call in self if call.stream == stream]


@dataclass(frozen=True)
class Encoder:
    """A text encoder of a pipeline.

    Attributes:
        name: how the tokens of this encoder are named, ``"t5"`` for example.
        model: the pipeline's attribute with the encoder.
        tokenizer: the pipeline's attribute with the tokenizer.
        column: from the position of a token in the encoder's ids to its text column.
        before: what a template has directly in front of the prompt, where it is one token with
            the prompt's first letters.
        spans: the ids of a prompt's tokens and their characters, where the encoder is not given
            the whole prompt; else they are the tokenizer's.
    """

    name: str
    model: str
    tokenizer: str
    column: Callable[[int], int]
    before: str = ""
    spans: Callable[[Any, str], tuple[list[int], list[tuple[int, int]]]] | None = None

    def tokens(self, pipe: Any, prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids of a prompt's tokens and their characters."""
        tokenizer = getattr(pipe, self.tokenizer)
        if self.spans is not None:
            return self.spans(tokenizer, prompt)
        return token_spans(tokenizer, prompt, self.before)


@dataclass(frozen=True)
class TokenColumn:
    """A token of a prompt: its characters, its position in the encoder's ids, its column."""

    encoder: Encoder
    start: int
    end: int
    position: int
    column: int


def _no_text(call: ObservedCall, row: int) -> list[int]:
    raise NotImplementedError("a case says where its text keys are")


def _same_row(call: ObservedCall, row: int) -> int | None:
    return row if call.number == 0 and row < len(call.query) else None


def _encoder_states(kwargs: dict[str, Any], row: int, column: int) -> dict[str, Any]:
    states = kwargs["encoder_hidden_states"].clone()
    states[row, column] += torch.linspace(-3, 3, states.shape[-1]).to(states)
    return kwargs | {"encoder_hidden_states": states}


def _one_image_a_prompt(call: DenoiserCall) -> list[int]:
    return list(range(len(call.kwargs["encoder_hidden_states"])))


@dataclass(frozen=True)
class Case:
    """One real pipeline class at toy size, and where its attention has what.

    Attributes:
        name: the diffusers class, and what is special in this case.
        make: builds the pipeline, the same one each time.
        call: the keyword arguments of the pipeline's call, without a generator.
        grid: height and width of one image in image tokens.
        sites: a regular expression for each stream, matched against the whole name of a module.
        rows: the denoiser's rows of the conditional branch, in the order of the images;
            empty for a call that has none.
        image_queries: the position of the first image query in a row of a kernel call.
        text_keys: the position, among the keys, of every text column of a row.
        kernel_row: where a row of the denoiser is in a kernel call; None when it is not there.
        disturb: the denoiser's keyword arguments with one text column changed.
        denoisers: the pipeline's attributes with the denoisers.
        encoders: the text encoders whose tokens are columns.
        negative: keyword arguments with another negative prompt; None without guidance.
        perturbed: the rows of the prompt that do not count, because guidance disturbs them.
        mixers: a regular expression of the linear layers through which, before the first site,
            a text column reaches others.
    """

    name: str
    make: Callable[[], Any]
    call: Mapping[str, Any]
    grid: tuple[int, ...]
    sites: Mapping[str, str]
    rows: Callable[[DenoiserCall], list[int]] = _one_image_a_prompt
    image_queries: Callable[[ObservedCall, int], int] = lambda call, row: 0
    text_keys: Callable[[ObservedCall, int], list[int]] = _no_text
    kernel_row: Callable[[ObservedCall, int], int | None] = _same_row
    disturb: Callable[[dict[str, Any], int, int], dict[str, Any]] = _encoder_states
    denoisers: tuple[str, ...] = ("transformer",)
    encoders: tuple[Encoder, ...] = ()
    negative: Mapping[str, Any] | None = None
    perturbed: Callable[[DenoiserCall], list[int]] | None = None
    mixers: str | None = None

    @property
    def prompts(self) -> list[str]:
        """The prompts, one an image."""
        prompt = self.call["prompt"]
        images = self.call.get("num_images_per_prompt", 1)
        return [
            one for one in ([prompt] if isinstance(prompt, str) else prompt) for _ in range(images)
        ]

    def run(self, pipe: Any, **changes: Any) -> Any:
        """One call of the pipeline, with the same seed each time; lists are copied."""
        copied = {
            name: list(value) if isinstance(value, list) else value
            for name, value in {**self.call, **changes}.items()
        }
        generator = torch.Generator().manual_seed(5)
        with torch.random.fork_rng(devices=[]):
            # Some pipelines draw from the global generator where they encode a picture.
            torch.manual_seed(6)
            return pipe(**copied, generator=generator)

    def observed(self, pipe: Any, **changes: Any) -> tuple[Any, Observed]:
        """The output of one call, and the attention of its sites."""
        denoisers = [getattr(pipe, name) for name in self.denoisers]
        with observed_attention(denoisers, self.sites) as calls:
            output = self.run(pipe, **changes)
        return output, calls

    def token_columns(self, pipe: Any, prompt: str, given: EncoderIds) -> list[TokenColumn]:
        """The columns of a prompt's tokens, from what the encoders were given.

        Args:
            given: of ``observed_ids``.
        """
        found = []
        for encoder in self.encoders:
            ids, spans = encoder.tokens(pipe, prompt)
            start = find_ids(given[encoder.model], ids)[2]
            for i, (left, right) in enumerate(spans):
                if encoder.before and right <= 0:
                    # Of the template.
                    continue
                column = encoder.column(start + i)
                found.append(TokenColumn(encoder, left, right, start + i, column))
        return found

    def map_of(self, calls: Observed, image: int, *, stream: str | None = None) -> Tensor:
        """The float64 mean map of one image, ``(columns, *grid)``, of one stream or of all."""
        conditional = {one.number: self.rows(one) for one in calls.denoiser_calls}
        chosen = []
        for call in calls if stream is None else calls.of(stream):
            rows = conditional[call.denoiser_call]
            row = self.kernel_row(call, rows[image]) if rows else None
            if row is not None:
                chosen.append((call, row, rows[image]))
        return expected_maps(
            [call for call, _, _ in chosen],
            rows=[row for _, row, _ in chosen],
            image_positions=[self.image_queries(call, row) for call, _, row in chosen],
            text_keys=[self.text_keys(call, row) for call, _, row in chosen],
            grid=self.grid,
        )


# Of every encoder, by its attribute: the ids of each of its calls, (rows, length).
EncoderIds = dict[str, list[Tensor]]


@contextmanager
def observed_ids(pipe: Any, case: Case) -> Iterator[EncoderIds]:
    """Note the ids that the text encoders of a pipeline are called with."""
    given: EncoderIds = {encoder.model: [] for encoder in case.encoders}
    handles = []
    for name, calls in given.items():

        def note(module: Any, args: Any, kwargs: Any, calls: list[Tensor] = calls) -> None:
            calls.append(args[0] if args else kwargs["input_ids"])

        encoder = attrgetter(name)(pipe)
        handles.append(encoder.register_forward_pre_hook(note, with_kwargs=True))
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()


def token_spans(
    tokenizer: Any, prompt: str, before: str = ""
) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids of a prompt without special tokens, and their characters."""
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if tokenizer.is_fast:
        text = before + prompt
        coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        pieces = tokenizer.convert_ids_to_tokens(coded["input_ids"])
        spans = []
        for piece, (start, end) in zip(pieces, coded["offset_mapping"], strict=True):
            # The space before a word is of no word, whether the offsets have it or not.
            end = start if piece == "▁" else end
            start += len(text[start:end]) - len(text[start:end].lstrip())
            spans.append((max(0, start - len(before)), end - len(before)))
        return coded["input_ids"], spans
    raise NotImplementedError(f"{type(tokenizer).__name__} has no offsets")


def find_ids(calls: Sequence[Tensor], ids: Sequence[int]) -> tuple[int, int, int]:
    """The call, the row and the position at which some ids stand in a row of an encoder's ids."""
    for number, call in enumerate(calls):
        for row, of_row in enumerate(call.tolist()):
            for start in range(len(of_row) - len(ids) + 1):
                if of_row[start : start + len(ids)] == list(ids):
                    return number, row, start
    raise AssertionError(f"the encoder was not given the ids {ids}")


def _stream_of(name: str, patterns: Mapping[str, str]) -> str | None:
    for stream, pattern in patterns.items():
        if re.fullmatch(pattern, name):
            return stream
    return None


@contextmanager
def observed_attention(denoiser: Any, sites: str | Mapping[str, str]) -> Iterator[Observed]:
    """Note every kernel call within the sites of a denoiser, or of several.

    Args:
        denoiser: the module, or several that are called in turns.
        sites: a regular expression of the sites' names, or one for each stream.
    """
    patterns = {"": sites} if isinstance(sites, str) else sites
    denoisers = denoiser if isinstance(denoiser, Sequence) else [denoiser]
    observed = Observed()
    # The site that runs, and how many kernel calls each made in this call of the denoiser.
    running: list[tuple[str, str]] = []
    numbers: dict[str, int] = {}
    handles = []

    def begin(module: Any, args: Any, kwargs: Any) -> None:
        numbers.clear()
        number = len(observed.denoiser_calls)
        # Lists are copied: a denoiser may take a control network's states from its list.
        copied = {
            name: list(value) if isinstance(value, list) else value
            for name, value in kwargs.items()
        }
        observed.denoiser_calls.append(DenoiserCall(number, args, copied))

    for one in denoisers:
        handles.append(one.register_forward_pre_hook(begin, with_kwargs=True))
        for name, module in one.named_modules():
            stream = _stream_of(name, patterns)
            if stream is not None:
                handles += _site_hooks(module, (name, stream), running)
    stock = torch.nn.functional.scaled_dot_product_attention

    def noting(query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *args, **kwargs):
        if running:
            site, stream = running[-1]
            assert not kwargs.get("is_causal"), f"{site}: the softmax here is not causal"
            observed.append(
                ObservedCall(
                    site,
                    stream,
                    numbers.get(site, 0),
                    len(observed.denoiser_calls) - 1,
                    query.detach().clone(),
                    key.detach().clone(),
                    None if attn_mask is None else attn_mask.detach().clone(),
                    kwargs.get("scale"),
                    kwargs.get("enable_gqa", False),
                    observed.denoiser_calls[-1].kwargs,
                    value.detach().clone(),
                )
            )
            numbers[site] = numbers.get(site, 0) + 1
        return stock(query, key, value, attn_mask, *args, **kwargs)

    torch.nn.functional.scaled_dot_product_attention = noting
    try:
        yield observed
    finally:
        torch.nn.functional.scaled_dot_product_attention = stock
        for handle in handles:
            handle.remove()


def _site_hooks(module: Any, site: tuple[str, str], running: list[tuple[str, str]]) -> list[Any]:
    def enter(module: Any, args: Any) -> None:
        running.append(site)

    def leave(module: Any, args: Any, output: Any) -> None:
        running.pop()

    return [
        module.register_forward_pre_hook(enter),
        module.register_forward_hook(leave, always_call=True),
    ]


def probabilities(call: ObservedCall, row: int | None = None) -> Tensor:
    """Softmax in float64 over all keys of a kernel call: ``(rows, heads, queries, keys)``.

    Args:
        row: the only one to compute, if not all.
    """
    rows = slice(None) if row is None else slice(row, row + 1)
    query, key = call.query[rows].double(), call.key[rows].double()
    if query.shape[1] != key.shape[1]:
        # As the kernel repeats them: the heads of a group are neighbours.
        group = query.shape[1] // key.shape[1]
        key = repeat(key, "rows heads keys dim -> rows (heads group) keys dim", group=group)
    scale = query.shape[-1] ** -0.5 if call.scale is None else call.scale
    logits = query @ key.mT * scale
    if call.mask is not None:
        mask = call.mask if len(call.mask) == 1 else call.mask[rows]
        if mask.dtype == torch.bool:
            logits = logits.masked_fill(~mask, -torch.inf)
        else:
            logits = logits + mask.double()
    return torch.softmax(logits, dim=-1)


def expected_maps(
    calls: Sequence[ObservedCall],
    *,
    rows: Sequence[int],
    image_positions: Sequence[int],
    text_keys: Sequence[Sequence[int]],
    grid: tuple[int, ...],
) -> Tensor:
    """The mean over heads, sites and calls of one image: ``(columns, *grid)`` in float64.

    Args:
        calls: the kernel calls that count.
        rows: the image's row in each of them.
        image_positions: the first image query of that row.
        text_keys: the key of every text column of that row.
        grid: the size of the image in image tokens, ``(height, width)`` or
            ``(frames, height, width)``.
    """
    tokens = int(torch.tensor(grid).prod())
    total, count = torch.zeros(()), 0
    for call, row, start, keys in zip(calls, rows, image_positions, text_keys, strict=True):
        of_row = probabilities(call, row)[0].mean(dim=0)
        image = of_row[start : start + tokens]
        assert len(image) == tokens, f"{call.site}: {len(image)} image queries, grid {grid}"
        total, count = total + image[:, list(keys)].T, count + 1
    assert count, "no kernel call of the conditional branch was seen"
    return (total / count).reshape(-1, *grid)
