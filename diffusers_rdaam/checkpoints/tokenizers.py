"""Tokenizers that load and cannot read the prompts of their model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers_rdaam.checkpoints.folder import CURE, INDEX

# Plain words: a tokenizer that knows none of them has the vocabulary of another one.
_SAMPLE = "a red circle and a blue square"
# Of every tokenizer, so they say nothing of the one that wrote a folder.
_GENERAL = ("PreTrainedTokenizer", "TokenizersBackend", "PythonBackend", "AutoTokenizer")


def tokenizer_fault(name: str, tokenizer: Any, components: Mapping[str, Any]) -> str:
    """Why a tokenizer cannot read a prompt; empty where it can.

    Args:
        name: of the component, such as ``"tokenizer_2"``.
        tokenizer: as it was loaded.
        components: all of the pipeline, by name.
    """
    if fault := _length_fault(name, tokenizer):
        return fault
    try:
        ids = list(tokenizer(_SAMPLE).input_ids)
        fault = _class_fault(name, tokenizer, ids) or _vocabulary_fault(name, tokenizer)
    except Exception:
        # One with a call of its own, which only its pipeline knows.
        return ""
    return fault or _encoder_fault(name, ids, components)


def _length_fault(name: str, tokenizer: Any) -> str:
    longest = getattr(tokenizer, "model_max_length", None)
    if longest is None:
        return ""
    start = f"{name}/tokenizer_config.json has {longest!r:.40} as model_max_length"
    wanted = "the number of tokens that its text encoder takes is wanted, such as 77 of CLIP"
    # transformers writes 1e30, which JSON may have as a float, where it is not known.
    is_number = type(longest) in (int, float) and longest == longest // 1
    if not is_number or longest <= 0:
        return f"{start}, where {wanted}. Correct it"
    try:
        special = tokenizer.num_special_tokens_to_add()
    except Exception:
        return ""
    if longest > special:
        return ""
    return (
        f"{start}, which {special} start and end tokens fill, so that no word is read; {wanted}. "
        "Correct it"
    )


def _class_fault(name: str, tokenizer: Any, ids: list[int]) -> str:
    """Whether the folder is of another class of tokenizer, which reads words in another way."""
    import transformers

    kind, written = type(tokenizer).__name__, _written_class(tokenizer)
    other = getattr(transformers, written, None)
    if not written or other is None or written.startswith(_GENERAL) or _is_same(kind, written):
        return ""
    try:
        wanted = list(other.from_pretrained(tokenizer.name_or_path)(_SAMPLE).input_ids)
    except Exception:
        # It says nothing, then, of the one that is there.
        return ""
    if wanted == ids:
        return ""
    return (
        f"{name}/tokenizer_config.json holds the settings of {written}, and {INDEX} names {kind} "
        f"for {name}, which reads {_SAMPLE!r} as {len(ids)} tokens, others than the {len(wanted)} "
        f"of {written}. Correct the class in {INDEX}, or copy {name}/ of that class"
    )


def _written_class(tokenizer: Any) -> str:
    """The class that wrote a tokenizer's folder; empty if not known."""
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    written = get_tokenizer_config(tokenizer.name_or_path, local_files_only=True)
    found = written.get("tokenizer_class")
    return found if isinstance(found, str) else ""


def _is_same(kind: str, other: str) -> bool:
    return kind.removesuffix("Fast") == other.removesuffix("Fast")


def _vocabulary_fault(name: str, tokenizer: Any) -> str:
    unknown = tokenizer.unk_token_id
    for word in _SAMPLE.split():
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if ids and unknown not in ids:
            return ""
    return (
        f"{name}/ has no vocabulary of its {type(tokenizer).__name__}: of the words of "
        f"{_SAMPLE!r} it knows none. {CURE.rstrip('.')}"
    )


def _encoder_fault(name: str, ids: list[int], components: Mapping[str, Any]) -> str:
    """Whether tokens have numbers that the text encoder of the same number does not have."""
    encoder = components.get(name.replace("tokenizer", "text_encoder"))
    try:
        count = encoder.get_input_embeddings().num_embeddings  # type: ignore[union-attr]
    except (AttributeError, NotImplementedError):
        return ""
    if max(ids, default=0) < count:
        return ""
    return (
        f"{name}/ is of another model than {name.replace('tokenizer', 'text_encoder')}/: it reads "
        f"{_SAMPLE!r} as tokens up to number {max(ids)}, and the text encoder has {count}. "
        f"{CURE.rstrip('.')}"
    )
