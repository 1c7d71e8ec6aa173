"""SavedAttention: the text attention of a run, head by head and step by step, within a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from diffusers_rdaam.attribution.prompt import Prompt
from diffusers_rdaam.attribution.prompt_fields import check_prompt, read_prompt, token_fields
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.files.fields import Check, is_size, is_text
from diffusers_rdaam.files.tensor_file import (
    FileKind,
    TensorSpec,
    check_finite,
    open_tensors,
    write_tensors,
)
from diffusers_rdaam.files.writing import check_suffix

KIND = FileKind(
    "diffusers_rdaam.saved_attention",
    "1",
    "attention",
    "file of saved attention",
    "not saved attention of diffusers_rdaam.",
)
NOUN = "attention"
MAX_SIDE = 2048  # of a latent, for images of up to 16384 pixels
MAX_SITES = 4096
MAX_CELLS = 2**34  # 32 GiB
_MISFIT = "its maps do not fit its prompt"


@dataclass(frozen=True, eq=False)
class SavedAttention:
    """Probabilities of the conditional rows.

    Args:
        prompt: of the run.
        maps: by the site's name, ``(steps, images, heads, pixels, tokens)`` float16 on the CPU.
        grid: size of the denoiser's latent grid: height and width.

    Raises:
        InputError: there are no maps.
    """

    prompt: Prompt
    maps: dict[str, Tensor] = field(repr=False)
    grid: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.maps:
            raise InputError("Saved attention needs the maps of at least one site.")

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
            InputError: the file cannot be written, or a reader would refuse it.
        """
        path = Path(path)
        check_suffix(path, NOUN)
        check = Check(path, NOUN, writing=True)
        text, found = check.dumped(
            {
                "prompt": self.prompt.text,
                "tokens": token_fields(self.prompt),
                "latent_size": list(self.grid),
            }
        )
        _check_header(found, check)
        _check_maps({name: TensorSpec.of(maps) for name, maps in self.maps.items()}, found, check)
        for name, maps in self.maps.items():
            check_finite(name, maps, check)
        return write_tensors(path, self.maps, KIND.metadata(text), noun=NOUN)

    @classmethod
    def load(cls, path: str | Path) -> SavedAttention:
        """Read a file that :meth:`save` wrote.

        Raises:
            AttributionFileError: there is none, or it is not whole and valid.
        """
        path = Path(path)
        check = Check(path, KIND.noun)
        with open_tensors(path, KIND.noun) as file:
            # Those of earlier releases name no version.
            file.metadata.setdefault("version", KIND.version)
            header = KIND.header(file)
            _check_header(header, check)
            _check_maps(file.specs, header, check)
            prompt = read_prompt(header, check)
            maps = {name: file.finite(name, check) for name in file.specs}
        height, width = header["latent_size"]
        return cls(prompt, maps, (height, width))


def _check_header(header: Any, check: Check) -> None:
    check(isinstance(header, dict), "its header is not an object")
    check_prompt(header, check)
    check(is_size(header.get("latent_size"), MAX_SIDE), "its latent size is not a size")


def _check_maps(specs: Mapping[str, TensorSpec], header: Mapping[str, Any], check: Check) -> None:
    check(1 <= len(specs) <= MAX_SITES, f"it has maps of {len(specs)} sites")
    height, width = header["latent_size"]
    tokens = len(header["tokens"])
    first = next(iter(specs.values())).shape[:2]
    for name, spec in specs.items():
        check(is_text(name) and bool(name), "a site has no name")
        right = len(spec.shape) == 5 and spec.shape[:2] == first and min(spec.shape) >= 1
        right = right and spec.shape[4] == tokens and spec.shape[3] <= height * width
        at = f"those of {name[:80]} have shape {spec.shape} and type {spec.dtype}"
        wanted = f"for {tokens} tokens, a latent of {width} by {height}, float16"
        check(right and spec.dtype == "F16", f"{_MISFIT}: {at}, {wanted}")
    cells = sum(spec.cells for spec in specs.values())
    check(cells <= MAX_CELLS, f"its maps have {cells} cells, over {MAX_CELLS}")
