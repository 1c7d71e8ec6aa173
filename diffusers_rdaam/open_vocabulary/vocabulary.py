"""The texts of ``attribution_vocabulary=``, encoded before the run as the model needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers_rdaam.open_vocabulary.attribute_text import check_other_texts
from diffusers_rdaam.open_vocabulary.concepts import encoded_concepts, has_concepts
from diffusers_rdaam.open_vocabulary.encode import encoded_vocabulary
from diffusers_rdaam.recording.records.concepts import Concept
from diffusers_rdaam.recording.records.vocabulary import EncodedText


def texts_of_vocabulary(
    pipe: Any, given: Any, arguments: Mapping[str, Any]
) -> Sequence[EncodedText] | Sequence[Concept]:
    """The texts, or for a transformer the concepts; none where none are given.

    Args:
        pipe: that is called.
        given: the value of ``attribution_vocabulary=``.
        arguments: of the call, by name.

    Raises:
        InputError: it is neither a text nor a list of texts, or a text cannot be encoded.
        UnsupportedPipelineError: the model has no maps of other texts.
    """
    if given is None:
        return ()
    if has_concepts(pipe):
        softmax = pipe._rdaam_next_template.options.concepts == "softmax"
        return encoded_concepts(pipe, given, arguments, softmax=softmax)
    check_other_texts(pipe)
    return encoded_vocabulary(pipe, given, clip_skip=arguments.get("clip_skip"))
