"""The one map, for tests alone, from what pages say to what runs here.

Ids of the model hub become folders with the embedded models (or a toy, where none is embedded), a
GPU the processor, half precision single, and runs a few steps. Nothing else of a page is changed,
and no block is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import toy_folders
from PIL import Image

import diffusers_rdaam

# What a hub id stands for: a folder that is made once.
MODELS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": toy_folders.embedded_stable_diffusion,
    "a hub id or folder": toy_folders.embedded_stable_diffusion,
    "black-forest-labs/FLUX.1-dev": toy_folders.embedded_flux,
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": toy_folders.toy_wan,
    "facebook/sam-vit-base": toy_folders.small_sam,
}
STEPS = 2
# What a page's code says, and what runs.
REPLACED = (
    (r"\.enable_model_cpu_offload\(\)", '.to("cpu")'),
    (r'"cuda"', '"cpu"'),
    (r"torch\.(?:bfloat16|float16)", "torch.float32"),
    (r"\bheight=1024, width=1024", "height=128, width=128"),
    (r"\b(num_inference_steps|steps)=\d+", r"\g<1>={steps}"),
    (r"\blast_steps=\d+", "last_steps=1"),
    (r"\bnum_frames=81", "num_frames=41"),
)


@dataclass(frozen=True)
class Setting:
    """What a page takes as given: names that its text speaks of, and the steps of its runs."""

    # ``pipe``, or ``model=stock`` where the page has another name for it.
    names: tuple[str, ...] = ()
    steps: int = STEPS
    # Further names, made when the page runs.
    more: Callable[[], dict[str, Any]] = field(default=dict)
    # Files that the page writes, and a text that it prints.
    files: tuple[str, ...] = ()
    printed: str = ""


def translated(code: str, folders: Callable[[str], Path], steps: int = STEPS) -> str:
    """The code of a page as it runs here."""
    for name in MODELS:
        if f'"{name}"' in code:
            code = code.replace(f'"{name}"', repr(str(folders(name))))
    for pattern, here in REPLACED:
        code = re.sub(pattern, here.format(steps=steps) if "{steps}" in here else here, code)
    return code


class Names:
    """What pages take as given, each made once and only where a page asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folders: dict[str, Path] = {}
        self._pictures: dict[str, Any] = {}

    def folder(self, name: str) -> Path:
        """The folder of a hub id."""
        if name not in self._folders:
            self._folders[name] = MODELS[name](self._folder / str(len(self._folders)))
        return self._folders[name]

    def of(self, setting: Setting) -> dict[str, Any]:
        """The names of a page, in a namespace of its own."""
        pairs = [name.partition("=") for name in setting.names]
        made = {name: getattr(self, f"_{what or name}")() for name, _, what in pairs}
        return {**made, **setting.more()}

    def _pipe(self) -> Any:
        return diffusers_rdaam.load_demo_pipeline()

    def _flux(self) -> Any:
        return diffusers_rdaam.load_demo_pipeline("flux")

    def _stock(self) -> Any:
        from diffusers import StableDiffusionPipeline

        name = "stable-diffusion-v1-5/stable-diffusion-v1-5"
        return StableDiffusionPipeline.from_pretrained(self.folder(name))

    def _attribution(self) -> Any:
        if "attribution" not in self._pictures:
            keep = ("steps", "layers", "heads", "squares", "queries")
            pipe = self._pipe()
            pipe.set_attn_processor(
                diffusers_rdaam.RDAAMProcessor(
                    keep=keep, keep_negative=True, self_attention="each", budget=2**31
                )
            )
            output = pipe("a cat with blue eyes", attribution_vocabulary=["cat"])
            self._pictures["attribution"] = output.attribution
        return self._pictures["attribution"]

    def _image(self) -> Image.Image:
        return self._attribution().image

    def _box(self) -> tuple[int, int, int, int]:
        return (9, 65, 58, 115)

    def _generator(self) -> Any:
        import torch

        return torch.Generator().manual_seed(3)


@contextmanager
def few_steps(monkeypatch: Any, steps: int = STEPS) -> Iterator[None]:
    """Runs whose steps a page does not say take these."""
    import diffusers

    from diffusers_rdaam.demo import loader

    for defaults in (loader._DEFAULTS, loader.FLUX_DEFAULTS):
        monkeypatch.setitem(defaults, "num_inference_steps", steps)
    smaller = {"num_inference_steps": steps, "strength": 1.0, "max_sequence_length": 32}
    for name in ("StableDiffusion", "StableDiffusionInpaint", "Flux", "Wan"):
        call = getattr(diffusers, f"{name}Pipeline").__call__.__wrapped__
        size = {"Wan": (48, 64), "Flux": (128, 128)}.get(name)
        sides = {} if size is None else {"height": size[0], "width": size[1]}
        _set_defaults(monkeypatch, call, {**smaller, **sides})
    yield


def _set_defaults(monkeypatch: Any, call: Any, values: dict[str, Any]) -> None:
    names = call.__code__.co_varnames[: call.__code__.co_argcount]
    behind = names[len(names) - len(call.__defaults__) :]
    pairs = zip(behind, call.__defaults__, strict=True)
    new = tuple(values.get(name, value) for name, value in pairs)
    monkeypatch.setattr(call, "__defaults__", new)
