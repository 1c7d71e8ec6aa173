"""The words of an embedding whose text the user gives: ``attribution_prompt=``.

The text is not believed: it is encoded again by the pipeline's own encoders, in every way that it
may have been laid out, and what agrees with the embedding is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.errors import InputError, TextMismatchWarning, UncheckedTextWarning
from diffusers_rdaam.open_vocabulary.encode_ids import (
    TOKENIZERS,
    encode_layout,
    encode_text,
    loaded_encoders,
)
from diffusers_rdaam.pipelines.text_comparison import MIN_SHARE, Comparison, ends_of
from diffusers_rdaam.recording.announce import warn
from diffusers_rdaam.tokens.alignment import tokenized_as_written
from diffusers_rdaam.tokens.chatglm import align_chatglm, is_chatglm
from diffusers_rdaam.tokens.column_layouts import (
    Layout,
    TokenizedText,
    empty_layout,
    layout_of_counts,
    layouts_of,
    layouts_of_parts,
    tokenized,
)
from diffusers_rdaam.tokens.prompt_weights import has_weights, readings

# Nothing else can agree better.
_SAME = 0.9999
# What is called "clip skip 2" elsewhere is 1 here; the embedding may be of another than the call.
_CLIP_SKIPS = (None, 1, 2)

# A text, or the parts of one that begin a window of the text encoder each.
Text = str | tuple[str, ...]
Outcome = Literal["agrees", "unchecked", "differs"]


@dataclass(frozen=True)
class Candidate:
    """One way to read a text and to lay it out.

    Args:
        prompt: its tokens as columns.
        layouts: the same for each tokenizer, by name; none where only the text can be encoded.
    """

    prompt: Prompt
    layouts: dict[str, Layout]


def prompts_for(
    pipe: Any,
    given: Any,
    embeddings: Tensor | None,
    *,
    columns: int,
    prompts: int | None = None,
    what: str = "prompt_embeds",
    clip_skip: int | None = None,
) -> list[Prompt]:
    """The prompts of an embedding whose texts the user gives, each held against the embedding.

    A text that differs gives columns without words, and a warning. One that cannot be checked is
    taken, with a warning. Of two text encoders both must have been given the same text: each half
    of the embedding is held against it, and a text of one half alone differs.

    Args:
        pipe: whose text encoders made the embedding.
        given: a text, or one per prompt, or for a prompt the list of its parts, of which each
            begins a window of the text encoder.
        embeddings: ``(prompts, columns, width)``; None if they are not at hand.
        columns: of the text in the attention.
        prompts: how many there are, where ``embeddings`` does not say.
        what: what they are called in an error.
        clip_skip: as the pipeline's argument.

    Raises:
        InputError: ``given`` is none of that, or has another number of texts.
    """
    if prompts is None:
        prompts = 1 if embeddings is None else embeddings.shape[0]
    texts = texts_of_argument(given, prompts, what)
    rows: list[Tensor | None] = [None] * prompts
    if embeddings is not None and embeddings.shape[:2] == (prompts, columns):
        rows = [row.detach().to("cpu", torch.float32) for row in embeddings]
    found: dict[tuple[Text, int], tuple[Prompt, Outcome, str]] = {}
    for index, text in enumerate(texts):
        found[text, index] = _prompt_for(pipe, text, rows[index], columns, clip_skip)
    _report(found)
    return [found[text, index][0] for index, text in enumerate(texts)]


def texts_of_argument(given: Any, prompts: int, what: str = "prompt_embeds") -> list[Text]:
    """``attribution_prompt=`` as a text, or the parts of one, for each prompt.

    Raises:
        InputError: it is something else, or has another number of texts.
    """
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not all(map(_is_text, listed)):
        raise InputError(
            "attribution_prompt= is the text that the embedding was made from, a list of one per "
            "prompt, or a list of lists of parts, of which each begins a window of the text "
            f"encoder: [['a cat', 'a hat']]; got {given!r:.100}."
        )
    texts = [text if isinstance(text, str) else tuple(text) for text in listed]
    if len(texts) != prompts:
        parts = " Parts of one prompt are a list of their own: [['…', '…']]."
        raise InputError(
            f"attribution_prompt has {len(texts)} texts for {prompts} {what}; give one for each."
            + (parts if prompts == 1 and what == "prompt_embeds" else "")
        )
    return texts


def _is_text(text: Any) -> bool:
    if isinstance(text, (list, tuple)):
        return len(text) > 0 and all(isinstance(part, str) for part in text)
    return isinstance(text, str)


def _prompt_for(
    pipe: Any, text: Text, row: Tensor | None, columns: int, clip_skip: int | None
) -> tuple[Prompt, Outcome, str]:
    """The prompt, whether it agrees with the embedding, and what is to be said of that."""
    try:
        candidates = list(_candidates(pipe, text, columns))
    except InputError as error:
        return Prompt.without_text(columns), "differs", str(error)
    if not loaded_encoders(pipe):
        why = "a text encoder of the pipeline is not loaded"
    elif row is None:
        why = "the embedding is not at hand"
    else:
        try:
            best, share = _best(pipe, candidates, row, clip_skip)
            if best is None and isinstance(text, str):
                best = _split(pipe, text, row, clip_skip)
        except Exception as error:
            # The image is there, and the text may well be right.
            why = f"the text encoder failed: {type(error).__name__}: {error}"
        else:
            if best is not None:
                return best.prompt, "agrees", ""
            return Prompt.without_text(columns), "differs", f"at best {share:.0%} of its columns do"
    return _likeliest(candidates, text).prompt, "unchecked", why


def _candidates(pipe: Any, text: Text, columns: int) -> Iterator[Candidate]:
    """What the text may mean, the likeliest first: literally, or a weighted text."""
    read = [[text]] if isinstance(text, str) else [list(text)]
    if isinstance(text, str):
        read += readings(text)
    else:
        # Each part by the same syntax; what has no weights is itself.
        by_part = [readings(part) or [[part]] for part in text]
        for index in range(max(map(len, by_part))):
            read.append([piece for part in by_part for piece in part[min(index, len(part) - 1)]])
    refused: InputError | None = None
    count = 0
    for parts in read:
        try:
            for candidate in _laid_out(pipe, parts, columns):
                count += 1
                yield candidate
        except InputError as error:
            refused = error if refused is None else refused
    if not count and refused is not None:
        raise refused


def _laid_out(pipe: Any, parts: Sequence[str], columns: int) -> Iterator[Candidate]:
    tokenizers = {name: getattr(pipe, name, None) for name in TOKENIZERS}
    known = {name: one for name, one in tokenizers.items() if one is not None}
    if not known:
        raise InputError(
            f"{type(pipe).__name__} has no tokenizer, so words cannot be found. Ask for columns by "
            "number with attribution.column(index)."
        )
    first = next(iter(known))
    if is_chatglm(known[first]):
        if len(parts) > 1:
            raise InputError("The text encoder has one window, so a text in parts does not fit it.")
        yield Candidate(align_chatglm(known[first], parts[0], columns), {})
        return
    layouts = {}
    for name, tokenizer in known.items():
        texts = [_tokenized(pipe, tokenizer, part) for part in parts]
        one = layouts_of(texts[0], columns) if len(texts) == 1 else layouts_of_parts(texts, columns)
        layouts[name] = {layout.name: layout for layout in one}
    for name, layout in layouts[first].items():
        # Fillings that one of the tokenizers does not tell from each other have one name there.
        plain = name.partition(",")[0] + ", padding"
        alike = {other: ours.get(name, ours.get(plain)) for other, ours in layouts.items()}
        found = {other: one for other, one in alike.items() if one is not None}
        if len(found) == len(known):
            yield Candidate(layout.prompt, found)


def _tokenized(pipe: Any, tokenizer: Any, text: str) -> TokenizedText:
    convert = getattr(pipe, "maybe_convert_prompt", None)
    return tokenized_as_written(
        tokenizer, text, text if convert is None else convert(text, tokenizer)
    )


def _likeliest(candidates: Sequence[Candidate], text: Text) -> Candidate:
    """Where nothing can be checked: the first weighted reading only of what is clearly weighted."""
    parts = (text,) if isinstance(text, str) else text
    literal = candidates[0].prompt.text
    if any(map(has_weights, parts)):
        return next((c for c in candidates if c.prompt.text != literal), candidates[0])
    return candidates[0]


def _best(
    pipe: Any, candidates: Sequence[Candidate], row: Tensor, clip_skip: int | None
) -> tuple[Candidate | None, float]:
    """The candidate that agrees best with the embedding, if one does; and the largest share."""
    widths = _widths(pipe, row.shape[-1])
    most, tried = 0.0, 0
    failed: list[Exception] = []
    for skip in dict.fromkeys((clip_skip, *_CLIP_SKIPS)):
        found: list[tuple[float, int]] = []
        for index, candidate in enumerate(candidates):
            try:
                encoded = _encoded(pipe, candidate, skip)
            except Exception as error:
                # A window that is too long for the encoder: this candidate is not what was encoded.
                failed.append(error)
                continue
            tried += 1
            if encoded.shape != row.shape:
                raise InputError(
                    f"it makes {tuple(encoded.shape)} of it, and the embedding is "
                    f"{tuple(row.shape)}"
                )
            compared = Comparison(encoded, _without_text(pipe, candidate, skip), row, widths)
            share = compared.share(candidate.prompt)
            texts = [t.column for t in candidate.prompt.tokens if t.kind == "text"]
            cosine = compared.cosine([*texts, *ends_of(candidate.prompt)])
            most = max(most, share)
            if share >= MIN_SHARE:
                found.append((-cosine, index))
                if cosine > _SAME:
                    break
        if found:
            return candidates[min(found)[1]], most
    if not tried:
        raise failed[0]
    return None, most


def _split(pipe: Any, text: str, row: Tensor, clip_skip: int | None) -> Candidate | None:
    """The parts that a text was divided into, where it was given as a whole.

    A window begins where the one before no longer agrees. Text encoders look back only, so that
    what a window has agrees whatever is behind it.
    """
    known = {name: getattr(pipe, name) for name in TOKENIZERS if getattr(pipe, name, None)}
    if not known or any(map(is_chatglm, known.values())):
        return None
    texts = {name: _tokenized(pipe, tokenizer, text) for name, tokenizer in known.items()}
    first = next(iter(texts.values()))
    windows, rest = divmod(row.shape[0], first.length)
    if windows < 2 or rest or len({len(one.body) for one in texts.values()}) > 1:
        return None
    counts: list[int] = []
    widths = _widths(pipe, row.shape[-1])
    for part in row.split(first.length):
        place = sum(counts)
        layouts = {
            name: layout_of_counts(replace(one, body=one.body[place:]), [first.length])
            for name, one in texts.items()
        }
        window = Candidate(next(iter(layouts.values())).prompt, layouts)
        text_columns = [t.column for t in window.prompt.tokens if t.kind == "text"]
        if text_columns:
            encoded, empty = (f(pipe, window, clip_skip) for f in (_encoded, _without_text))
            agrees = Comparison(encoded, empty, part, widths).agreeing(text_columns)
            counts.append(int(agrees.long().cumprod(0).sum()))
        else:
            counts.append(0)
    if sum(counts) < len(first.body):
        return None
    layouts = {name: layout_of_counts(one, counts) for name, one in texts.items()}
    candidate = Candidate(next(iter(layouts.values())).prompt, layouts)
    return _best(pipe, [candidate], row, clip_skip)[0]


def _encoded(pipe: Any, candidate: Candidate, clip_skip: int | None) -> Tensor:
    if candidate.layouts:
        return encode_layout(pipe, candidate.layouts, clip_skip)
    prompt = candidate.prompt
    return encode_text(pipe, prompt.text or "", len(prompt.tokens), clip_skip)


def _without_text(pipe: Any, candidate: Candidate, clip_skip: int | None) -> Tensor:
    """What the encoders make of the same windows without a text."""
    if not candidate.layouts:
        return encode_text(pipe, "", len(candidate.prompt.tokens), clip_skip)
    empty = {
        name: empty_layout(tokenized(getattr(pipe, name), ""), layout)
        for name, layout in candidate.layouts.items()
    }
    return encode_layout(pipe, empty, clip_skip)


def _widths(pipe: Any, width: int) -> list[int]:
    """The channels of each text encoder, where the embedding is all of theirs side by side."""
    sizes = [getattr(encoder.config, "hidden_size", 0) for encoder in loaded_encoders(pipe)]
    return sizes if sum(sizes) == width and all(sizes) else [width]


def _report(found: dict[tuple[Text, int], tuple[Prompt, Outcome, str]]) -> None:
    """One warning for all texts that differ, and one for all that were not checked."""
    for outcome, category in (
        ("differs", TextMismatchWarning),
        ("unchecked", UncheckedTextWarning),
    ):
        reasons = {text: why for (text, _), (_, how, why) in found.items() if how == outcome}
        if reasons:
            text, why = next(iter(reasons.items()))
            shown = repr(text if isinstance(text, str) else list(text))
            shown = shown if len(shown) <= 200 else shown[:200] + "…"
            more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
            message = _DIFFERS if outcome == "differs" else _UNCHECKED
            warn(message.format(text=shown + more, why=why.rstrip(".")), category)


_DIFFERS = (
    "attribution_prompt={text} is not the text that the embedding was made from ({why}), so its "
    "columns have no words: ask for them by number, with attribution.column(index). Give the text "
    "that was encoded; weights such as (cat:1.3) or cat++ are read, and parts that begin a window "
    "of the text encoder each are given as [['…', '…']]."
)
_UNCHECKED = (
    "attribution_prompt={text} was not compared with the embedding, because {why}. Its words are "
    "right only if the embedding was made from that text. Load the pipeline with its text "
    "encoders to have it compared."
)
