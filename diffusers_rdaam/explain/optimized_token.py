"""OptimizedToken: what token optimisation found, and its file, laid out as a textual inversion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import AttributionFileError, InputError
from diffusers_rdaam.recording.vocabulary import EncodedText

Space = Literal["encoded", "token"]
FORMAT = "diffusers_rdaam.token"
VERSION = 1
MAX_HEADER = 16_000_000


@dataclass(frozen=True, eq=False)
class OptimizedToken(EncodedText):
    """An embedding that was fitted to regions of images, for other images.

    It is a text to ``pipe.query`` and to ``attribution_vocabulary=``; its words are those that the
    optimisation started from.

    Args:
        prompt, embedding: as of every encoded text: start, then the tokens of the words (and with
            ``space="token"`` the end).
        space: ``"encoded"``: the embedding itself was fitted, behind the text encoder; or
            ``"token"``: the encoders' input vectors were, as in textual inversion.
        vectors: of the token by text encoder (``clip_l``, ``clip_g``), ``(vectors, width)``; with
            ``"encoded"`` the rows of the embedding, start included, divided among the encoders.
        losses: of each iteration, before its step.
        best: the iteration whose embedding this is, that of the lowest loss.
    """

    space: Space = "encoded"
    vectors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    losses: tuple[float, ...] = field(default=(), repr=False)
    best: int = 0

    @property
    def loss(self) -> float:
        """The lowest."""
        return self.losses[self.best]

    def save(self, path: str | Path, *, token: str | None = None) -> Path:
        """Write safetensors in the layout of textual inversion; returns the path.

        One text encoder: a tensor ``(vectors, width)`` named by the token, for
        ``pipe.load_textual_inversion(path)``. Two: ``clip_l`` and ``clip_g``, each given to
        ``load_textual_inversion`` with its encoder and tokenizer. With ``space="token"`` prompts
        may then have the token; with ``"encoded"`` diffusers loads the file too, but puts the
        vectors before the encoder, where they do not belong: use :meth:`load` and ``pipe.query``.

        Args:
            path: of the file.
            token: its name; ``<cat>`` for the word cat if not given.

        Raises:
            InputError: the folder does not exist or may not be written.
        """
        path = Path(path)
        name = token or f"<{(self.prompt.text or 'token').replace(' ', '-')}>"
        tensors = {
            name if len(self.vectors) == 1 else key: part.detach().cpu().contiguous()
            for key, part in self.vectors.items()
        }
        header = {
            "text": self.prompt.text,
            "tokens": [[t.text, t.kind, t.start, t.end] for t in self.prompt.tokens],
            "encoders": list(self.vectors),
            "space": self.space,
            "losses": self.losses,
            "best": self.best,
            "token": name,
        }
        if self.space == "token":
            header["embedding"] = self.embedding.detach().float().cpu().tolist()
        metadata = {"format": FORMAT, "version": str(VERSION), "optimized": json.dumps(header)}
        try:
            save_file(tensors, path, metadata)
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"The token could not be written to {path}: {error}. Give a path in a folder that "
                "exists and may be written."
            ) from error
        return path

    @classmethod
    def load(cls, path: str | Path) -> OptimizedToken:
        """Read what :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, foreign, or not whole.
        """
        path = Path(path)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
        except (SafetensorError, OSError) as error:
            raise AttributionFileError(
                f"{path} is not a whole safetensors file ({error})."
            ) from error
        if metadata.get("format") != FORMAT or metadata.get("version") != str(VERSION):
            raise AttributionFileError(
                f"{path} is a safetensors file, but no optimised token that this release reads. "
                "Load textual inversions of others with pipe.load_textual_inversion(path)."
            )
        try:
            return _read(json.loads(metadata["optimized"][:MAX_HEADER]), tensors)
        # Whatever a stranger has put there.
        except (ValueError, TypeError, KeyError, IndexError, RuntimeError, RecursionError) as error:
            raise AttributionFileError(
                f"{path} is not a valid optimised token: {type(error).__name__} {error}."
            ) from error


def _read(header: dict[str, Any], tensors: dict[str, Tensor]) -> OptimizedToken:
    encoders = header["encoders"]
    names = [header["token"]] if len(encoders) == 1 else encoders
    vectors = {key: tensors[name] for key, name in zip(encoders, names, strict=True)}
    if header["space"] not in ("encoded", "token"):
        raise ValueError(f"{header['space']!r} is no space")
    if header["space"] == "encoded":
        embedding = torch.cat(list(vectors.values()), dim=-1)
    else:
        embedding = torch.tensor(header["embedding"], dtype=torch.float32)
    prompt = Prompt(header["text"], tuple(Token(i, *t) for i, t in enumerate(header["tokens"])))
    if embedding.ndim != 2 or len(prompt.tokens) != embedding.shape[0]:
        raise ValueError(f"{len(prompt.tokens)} tokens and an embedding {tuple(embedding.shape)}")
    if not bool(torch.isfinite(embedding).all()):
        raise ValueError("its embedding is not finite")
    losses = tuple(float(loss) for loss in header["losses"])
    return OptimizedToken(
        prompt, embedding, header["space"], vectors, losses, range(len(losses))[header["best"]]
    )
