"""OptimizedToken: what token optimisation found, and its file, laid out as a textual inversion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diffusers_rdaam.attribution.prompt_fields import (
    MAX_TOKENS,
    check_prompt,
    read_prompt,
    token_fields,
)
from diffusers_rdaam.files.fields import (
    Check,
    is_count,
    is_list_of_texts,
    is_number,
    is_text,
    shown,
)
from diffusers_rdaam.files.tensor_file import (
    FileKind,
    TensorSpec,
    check_finite,
    open_tensors,
    write_tensors,
)
from diffusers_rdaam.files.writing import check_suffix
from diffusers_rdaam.recording.records.vocabulary import EncodedText

Space = Literal["encoded", "token"]
NOUN = "token"
KIND = FileKind(
    "diffusers_rdaam.token",
    "1",
    "optimized",
    "optimised token",
    "not an optimised token of diffusers_rdaam. pipe.load_textual_inversion(path) loads textual "
    "inversions of others.",
)
MAX_ENCODERS = 8
MAX_WIDTH = 65_536
MAX_LOSSES = 1_000_000


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
        losses: the loss of each iteration, before its step.
        best: the iteration whose embedding this is, that of the lowest loss.
    """

    space: Space = "encoded"
    vectors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    losses: tuple[float, ...] = field(default=(), repr=False)
    best: int = 0

    @property
    def loss(self) -> float:
        """The lowest loss."""
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
            InputError: the folder does not exist or may not be written, the name ends as files of
                another format do, or a reader would refuse what would be written.
        """
        path = Path(path)
        check_suffix(path, NOUN)
        check = Check(path, NOUN, writing=True)
        name = token or f"<{(self.prompt.text or 'token').replace(' ', '-')}>"
        # One encoder's are named by the token, as textual inversion has them.
        tensors = {
            name if len(self.vectors) == 1 else key: part for key, part in self.vectors.items()
        }
        header: dict[str, Any] = {
            "text": self.prompt.text,
            "tokens": token_fields(self.prompt),
            "encoders": list(self.vectors),
            "space": self.space,
            "losses": list(self.losses),
            "best": self.best,
            "token": name,
        }
        if self.space == "token":
            header["embedding"] = self.embedding.detach().float().cpu().tolist()
        text, found = check.dumped(header)
        _check_header(found, check)
        _check_vectors({key: TensorSpec.of(part) for key, part in tensors.items()}, found, check)
        for key, part in tensors.items():
            check_finite(key, part, check)
        self._check_embedding(found, check)
        return write_tensors(path, tensors, KIND.metadata(text), noun=NOUN)

    def _check_embedding(self, header: dict[str, Any], check: Check) -> None:
        """See that a reader will find this embedding in the header or make it of the vectors."""
        there = torch.no_grad()(_embedding)(header, self.vectors)
        same = there.shape == self.embedding.shape
        same = same and torch.equal(there, self.embedding.detach().to("cpu", there.dtype))
        check(same, "its embedding is not that of its vectors")

    @classmethod
    def load(cls, path: str | Path) -> OptimizedToken:
        """Read what :meth:`save` wrote.

        Raises:
            AttributionFileError: it is truncated, foreign, or not whole.
        """
        path = Path(path)
        check = Check(path, KIND.noun)
        with open_tensors(path, KIND.noun) as file:
            header = KIND.header(file)
            _check_header(header, check)
            _check_vectors(file.specs, header, check)
            prompt = read_prompt(header, check, text="text")
            vectors = {key: file.finite(name, check) for key, name in _tensor_names(header).items()}
        losses = tuple(float(loss) for loss in header["losses"])
        embedding = _embedding(header, vectors)
        return cls(prompt, embedding, header["space"], vectors, losses, header["best"])


def _tensor_names(header: dict[str, Any]) -> dict[str, str]:
    """The name of each encoder's tensor."""
    encoders = header["encoders"]
    names = [header["token"]] if len(encoders) == 1 else encoders
    return dict(zip(encoders, names, strict=True))


def _embedding(header: dict[str, Any], vectors: Mapping[str, Tensor]) -> Tensor:
    if header["space"] == "encoded":
        return torch.cat([part.detach().cpu() for part in vectors.values()], dim=-1)
    return torch.tensor(header["embedding"], dtype=torch.float32, device="cpu")


def _check_header(header: Any, check: Check) -> None:
    check(isinstance(header, dict), "its header is not an object")
    check_prompt(header, check, text="text")
    encoders, token, space = (header.get(name) for name in ("encoders", "token", "space"))
    right = is_list_of_texts(encoders) and 1 <= len(encoders) <= MAX_ENCODERS
    check(
        right and len(set(encoders)) == len(encoders),
        f"{shown(encoders)} is not a list of encoders' names",
    )
    check(is_text(token) and bool(token), f"{shown(ascii(token))} is not a token's name")
    check(space in ("encoded", "token"), f"{shown(space)!r} is not a space")
    losses, best = header.get("losses"), header.get("best")
    right = isinstance(losses, list) and 1 <= len(losses) <= MAX_LOSSES
    check(right and all(map(is_number, losses)), "its losses are not a list of finite numbers")
    check(is_count(best, len(losses) - 1), f"{shown(best)} is the number of none of its losses")
    if space == "token":
        _check_rows(header.get("embedding"), len(header["tokens"]), check)


def _check_rows(rows: Any, tokens: int, check: Check) -> None:
    right = isinstance(rows, list) and len(rows) == tokens
    right = right and all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows)
    right = right and 1 <= len(rows[0]) <= MAX_WIDTH
    # Beyond, float32 would make infinity of it.
    right = right and all(is_number(value, 3.4e38) for row in rows for value in row)
    check(right, f"its embedding has not a row of finite numbers for each of its {tokens} tokens")


def _check_vectors(specs: Mapping[str, TensorSpec], header: dict[str, Any], check: Check) -> None:
    tokens = len(header["tokens"])
    kinds = set()
    for name in _tensor_names(header).values():
        spec = specs.get(name)
        check(spec is not None, f"the tensor {shown(name)!r} is missing")
        assert spec is not None
        right = len(spec.shape) == 2 and 1 <= spec.shape[0] <= MAX_TOKENS
        right = right and 1 <= spec.shape[1] <= MAX_WIDTH
        right = right and (header["space"] == "token" or spec.shape[0] == tokens)
        at = f"{shown(name)} has shape {spec.shape} and type {spec.dtype} for {tokens} tokens"
        check(right and spec.dtype in ("F16", "BF16", "F32"), at)
        kinds.add(spec.dtype)
    check(len(kinds) == 1, "its encoders' vectors are of several types")
