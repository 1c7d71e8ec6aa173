"""The recording pipeline classes: one for each class of diffusers in the families' table.

A class is made when it is first asked for: all of diffusers' pipelines take seconds to import. What
editors and type checkers see is ``classes.pyi``, which ``python -m benchmarks.write_stub`` writes
from the same table.
"""

from __future__ import annotations

import importlib
from typing import Any

from diffusers_rdaam.families.added_keys import ADDED_KEYS_PIPELINES
from diffusers_rdaam.families.layouts import LAYOUTS_WITH_CLASS
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin
from diffusers_rdaam.pipelines.unavailable import unavailable


def class_name(stock: str) -> str:
    """The name of the recording class for the name of a class of diffusers."""
    return f"{stock.removesuffix('Pipeline')}RDAAMPipeline"


_TABLES = (LAYOUTS_WITH_CLASS, ADDED_KEYS_PIPELINES, TRANSFORMER_PIPELINES)
STOCK_NAMES = {class_name(stock): stock for table in _TABLES for stock in table}

# diffusers' own face hides these where sentencepiece is not installed, which they do not need.
_MODULES = {
    "KolorsPipeline": "diffusers.pipelines.kolors.pipeline_kolors",
    "KolorsImg2ImgPipeline": "diffusers.pipelines.kolors.pipeline_kolors_img2img",
    "KolorsPAGPipeline": "diffusers.pipelines.pag.pipeline_pag_kolors",
}
# What the docstring says of each class in whose name a word occurs.
_NOTES = {
    "Img2Img": (
        "Its denoiser is called ``strength`` times ``num_inference_steps`` times, and the maps are "
        'means\nof that many calls; ``attribution.run["denoiser_calls"]`` is their number.'
    ),
    "Inpaint": (
        "For UNets with 4 and with 9 input channels. With ``padding_mask_crop`` the image is made\n"
        "without an attribution, and a warning says so."
    ),
    "XL": (
        "Two text encoders share one axis of columns: column ``j`` is token ``j`` of ``prompt`` in "
        "the\nfirst and of ``prompt_2`` in the second. Where ``prompt_2`` is another text, the "
        "words are those of\nboth, and ``word.encoder`` says whose a word is. The refiner has the "
        "second encoder only, which\nreads ``prompt``."
    ),
    "ControlNet": (
        "Only the UNet is recorded: a ControlNet reads the same text in cross-attention of its "
        "own, but\nit makes no pixels."
    ),
    "PAG": (
        "Under perturbed-attention guidance the denoiser sees rows of a third kind: with the text, "
        "but\nwith self-attention perturbed. They belong to neither prompt and are not recorded."
    ),
    "InstructPix2Pix": (
        "Under guidance the denoiser sees three rows an image: with the text, with the image only, "
        "and\nwith neither; the first is recorded."
    ),
    "LatentConsistency": "Guidance is embedded, so every row is conditional.",
    "Kolors": "The text encoder is ChatGLM, whose 256 columns are padded on the left.",
    "AnimateDiff": (
        "``attribution`` is that of the video, a sequence of its frames' attributions. "
        "``attributions`` has the\nframes of all videos, ``attributions[video * frames + frame]``, "
        "and ``attributions.videos`` the videos."
    ),
}


def recording_class(stock: str) -> Any:
    """The recording class for the name of a class of diffusers.

    Raises:
        AttributeError: the package has no class for it.
    """
    return _named(class_name(stock))


def _named(name: str) -> Any:
    made = globals().get(name)
    # Two threads may both make one; all get the one that was first.
    return globals().setdefault(name, _make(name)) if made is None else made


def _make(name: str) -> Any:
    if name not in STOCK_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    stock = STOCK_NAMES[name]
    try:
        parent = getattr(importlib.import_module(_MODULES.get(stock, "diffusers")), stock)
    except (ImportError, RuntimeError) as error:
        # RuntimeError is what diffusers makes of an ImportError.
        return unavailable(name, stock, __name__, error)
    body = {"__module__": __name__, "__qualname__": name, "__doc__": _docstring(stock)}
    # By the parent's metaclass, as a class statement would.
    return type(parent)(name, (RDAAMPipelineMixin, parent), body)


def _docstring(stock: str) -> str:
    notes = [
        f":class:`diffusers.{stock}` whose outputs have an ``attribution``.",
        "Everything else is the stock pipeline's: constructor, ``from_pretrained``, "
        "``from_pipe``,\n``save_pretrained`` (plain diffusers loads the folder), ``__call__``, "
        "and, bit for bit, the image.",
        *(note for word, note in _NOTES.items() if word in stock),
    ]
    return "\n\n".join(notes) + "\n"


def __getattr__(name: str) -> Any:
    return _named(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *STOCK_NAMES})
