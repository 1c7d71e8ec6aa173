"""From a pipeline's prompts to the columns of its text embedding, by the name of its family."""

from __future__ import annotations

from diffusers_rdaam.tokens.encoder_columns import Source

SOURCES: dict[str, Source] = {}
