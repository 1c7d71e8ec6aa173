"""What each page takes as given. A page that is not named takes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from small_runs import Setting


def _photo() -> dict[str, Any]:
    """A picture in the folder that the page runs in."""
    from diffusers_rdaam.demo.world import SceneObject, render

    scene = (SceneObject("red", "circle", 40.0, 45.0, 26.0, (220, 40, 40)),)
    Image.fromarray(render(scene).round().astype(np.uint8)).save("photo.png")
    return {}


def _saved() -> dict[str, Any]:
    """A saved attribution in the folder that the page runs in."""
    from diffusers_rdaam import load_demo_pipeline

    load_demo_pipeline()("a cat with blue eyes").attribution.save("cat.safetensors")
    return {}


def _annotations() -> dict[str, Any]:
    """What a person saved from the annotation page."""
    import json
    from pathlib import Path

    from diffusers_rdaam.segmentation.annotation_page import FORMAT, VERSION

    objects = [{"class": "circle", "box": [10, 10, 60, 60], "point": None}]
    written = {"format": FORMAT, "version": VERSION, "size": [128, 128], "classes": ["circle"]}
    Path("annotations.json").write_text(json.dumps({**written, "objects": objects}))
    return {}


def _kinds() -> dict[str, Any]:
    """The table that a new entry is written into."""
    from diffusers_rdaam.families.transformers import kinds

    return vars(kinds).copy()


_ASKED = Setting(("attribution",))
SETTINGS = {
    "aggregations": Setting(("attribution",), printed="formula: "),
    "backends": Setting(("pipe",), more=lambda: _public("RDAAMProcessor")),
    "batch": Setting(printed="3 1 row 2: seed is a whole number from 0 to 2**64 - 1; got -1."),
    "concepts": Setting(("pipe=flux",)),
    "editing": Setting(("pipe", "image")),
    "evaluation": Setting(printed="pointing (strict) on drawn_scenes"),
    "explanations": Setting(
        files=("saliency.png", "without.png"), printed="rank correlation with ablation: attention"
    ),
    "families": Setting(more=_kinds),
    "first_attribution": Setting(files=("cat.safetensors", "shapes.html")),
    "fitted_tokens": Setting(
        ("pipe",), files=("circle-token.safetensors", "my-circle.safetensors")
    ),
    "masks": _ASKED,
    "memory_and_speed": Setting(("pipe",)),
    "migrating_attention_map_diffusers": Setting(("pipe=stock",), files=("cat.png", "eyes.png")),
    "migrating_daam": Setting(("pipe",)),
    "migrating_daami2i": Setting(("model=stock",)),
    "migrating_diffusers_interpret": Setting(("pipe", "generator")),
    "migrating_ovam": Setting(("pipe",)),
    "negative_prompts": Setting(("pipe",), printed="triangle"),
    "notebook": Setting(more=_saved, printed="(0, 0, 32, 32) ["),
    "open_vocabulary": Setting(
        ("pipe",), files=("circle.safetensors", "circle.queries.safetensors")
    ),
    "reading": Setting(("attribution",), printed="words ranked by lift"),
    "real_images": Setting(("pipe",), more=_photo),
    "regions": Setting(("attribution", "image"), printed="of the image"),
    "saving": Setting(("attribution",), files=("cat.safetensors",)),
    "segmentation": Setting(("pipe",), more=_annotations, files=("labels.png", "mask.png")),
    "self_attention": Setting(("pipe",), files=("segments.png",)),
    "several_runs": Setting(("pipe",), printed="cat / dog"),
    "steps_and_layers": Setting(("pipe",), steps=5, files=("cat.png", "cat.gif", "steps.html")),
    "videos": Setting(more=lambda: {"box": (10, 10, 60, 60)}, files=("cat.png", "cat.gif")),
    "viewer": Setting(("attribution",), files=("cat.html", "small.html", "webp.html")),
    "words": Setting(("attribution",), files=("where.npy",)),
}


def _public(*names: str) -> dict[str, Any]:
    import diffusers_rdaam

    return {name: getattr(diffusers_rdaam, name) for name in names}
