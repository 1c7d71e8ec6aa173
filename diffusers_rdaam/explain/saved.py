"""SavedAttention: the text attention of a run, head by head and step by step, within a budget."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt, Token
from diffusers_rdaam.errors import AttributionFileError, InputError

_FORMAT = "diffusers_rdaam.saved_attention"
_MAX_TOKENS = 8192


@dataclass(frozen=True, eq=False)
class SavedAttention:
    """Probabilities of the conditional rows.

    Args:
        prompt: of the run.
        maps: by the site's name, ``(steps, images, heads, pixels, tokens)`` float16 on the CPU.
        latent_size: height and width of the latent.
    """

    prompt: Prompt
    maps: dict[str, Tensor] = field(repr=False)
    latent_size: tuple[int, int]

    @property
    def steps(self) -> int:
        """Denoiser calls of the run."""
        return next(iter(self.maps.values())).shape[0]

    @property
    def images(self) -> int:
        """Images of the run."""
        return next(iter(self.maps.values())).shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the maps."""
        return sum(maps.numel() * maps.element_size() for maps in self.maps.values())

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file; returns its path.

        Raises:
            InputError: the file cannot be written.
        """
        header = {
            "prompt": self.prompt.text,
            "tokens": [[t.text, t.kind, t.start, t.end] for t in self.prompt.tokens],
            "latent_size": list(self.latent_size),
        }
        try:
            save_file(self.maps, str(path), {"format": _FORMAT, "attention": json.dumps(header)})
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"The attention could not be written to {path}: {error}. Give a path in a folder "
                "that exists and may be written."
            ) from error
        return Path(path)

    @classmethod
    def load(cls, path: str | Path) -> SavedAttention:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: it is none, or is damaged.
        """
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise AttributionFileError(f"{path} holds no saved attention.")
                header = json.loads(metadata.get("attention", ""))
                maps = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # no mapping
            tokens = tuple(Token(i, *token) for i, token in enumerate(header["tokens"]))
            height, width = header["latent_size"]
            saved = cls(Prompt(header["prompt"], tokens), maps, (int(height), int(width)))
        except AttributionFileError:
            raise
        except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
            raise AttributionFileError(
                f"{path} is not a whole file of saved attention ({error}). Save it again."
            ) from error
        saved._check(path)
        return saved

    def _check(self, path: str | Path) -> None:
        shapes = {tuple(maps.shape[:2]) for maps in self.maps.values()}
        right = len(shapes) == 1 and 1 <= len(self.prompt.tokens) <= _MAX_TOKENS
        for maps in self.maps.values():
            right = right and maps.ndim == 5 and maps.dtype == torch.float16
            right = right and maps.shape[-1] == len(self.prompt.tokens)
            right = right and bool(torch.isfinite(maps).all())
        if not right:
            raise AttributionFileError(f"{path} is not valid: its maps do not fit its prompt.")
