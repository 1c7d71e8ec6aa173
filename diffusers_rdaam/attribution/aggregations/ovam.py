"""OVAM's maps: the word alone as the text, which has its softmax for itself."""

from __future__ import annotations

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation
from diffusers_rdaam.attribution.aggregations.mean import word_mean
from diffusers_rdaam.attribution.prompt import Match
from diffusers_rdaam.attribution.record import Record
from diffusers_rdaam.errors import NoAttributionError, WordError
from diffusers_rdaam.shapes import Column, Size


def ovam(record: Record, match: Match, size: Size) -> Column:
    """The map of the word in the vocabulary's text that is the word alone.

    Raises:
        NoAttributionError: the run was not given that text.
    """
    other = record.vocabulary.get(match.text)
    if other is None:
        raise NoAttributionError(
            f"The aggregation 'ovam' needs the text {match.text!r} in the run's vocabulary, which "
            f"has {', '.join(map(repr, record.vocabulary)) or 'no texts'}. Generate with "
            f"pipe(prompt, attribution_vocabulary=[{match.text!r}]), or with "
            'RDAAMProcessor(keep="queries") ask pipe.query(attribution, text) later.'
        )
    try:
        found = other.prompt.find(match.text)
    except WordError as error:
        raise NoAttributionError(f"The vocabulary's {match.text!r}: {error}") from error
    return word_mean(other, found, size)


OVAM = Aggregation(
    name="ovam",
    formula="sum over the word's tokens of mean P', the softmax over the tokens of the word alone",
    maps=ovam,
    memory="the maps of the vocabulary's tokens, as many bytes a token as the prompt's",
    reference="Marcos-Manchón et al., Open-Vocabulary Attention Maps (2024)",
    measured=(
        "phrase / colour / shape IoU at a threshold chosen on other scenes. Embedded Stable "
        "Diffusion (20 scenes): .620 / .449 / .501, the mean .682 / .720 / .606. It harms"
    ),
    sums_to="1 over the tokens of the word's text, special tokens included",
)
