"""The writers of OVAM's experiments: VOC-sim, and the synthetic data set with its masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from diffusers_rdaam.compat.ovam.crf import densecrf
from diffusers_rdaam.compat.ovam.stable_diffusion import StableDiffusionHooker
from diffusers_rdaam.compat.ovam.utils import set_seed
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.file_names import safe_name
from diffusers_rdaam.files.pictures import write_png
from diffusers_rdaam.files.writing import replacing

PROMPT = "A photograph of a {classname}"
# What ignores the background in the synthetic data set.
IGNORE = 255
VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "tv",
    "train",
)  # fmt: skip


def write_voc_sim(
    pipe: Any,
    folder: str | Path,
    *,
    classes: Sequence[str] = VOC_CLASSES,
    n_per_classname: int = 2,
    initial_seed: int = 1996,
    num_inference_steps: int = 30,
    model_name: str = "sd-15",
    tokens: Mapping[str, Sequence[Tensor]] | None = None,
    **call: Any,
) -> list[Path]:
    """Images of "A photograph of a CLASS" and the maps of the class; returns the images' paths.

    ``sd-15_cat_SEED.png`` and ``sd-15_cat_SEED_heatmap_0.npy``, ``(2, height, width)`` of the start
    token and the word; ``…_heatmap_1.npy`` and on are those of optimised tokens.

    Args:
        pipe: a pipeline that OVAM's hooker records.
        folder: is made where it is missing; images that are there whole are not made again.
        classes, n_per_classname: as in OVAM's script.
        initial_seed: draws the seeds of all images.
        num_inference_steps: of each.
        model_name: of the files.
        tokens: by class, embeddings ``(2, width)``.
        call: further arguments of the pipeline's call.

    Raises:
        InputError: a file cannot be written.
    """
    target = _made(Path(folder))
    seeds = np.random.RandomState(initial_seed).randint(
        0, 2**32 - 1, size=n_per_classname * len(classes), dtype=np.int64
    )
    written = []
    for place, seed in enumerate(int(seed) for seed in seeds):
        name = classes[place // n_per_classname]
        stem = f"{model_name}_{safe_name(name.replace(' ', '-'))}_{seed}"
        path = target / f"{stem}.png"
        written.append(path)
        if path.exists():
            continue
        prompt = PROMPT.format(classname=name)
        with StableDiffusionHooker(pipe) as hooker, torch.no_grad():
            set_seed(seed)
            image = pipe(prompt, num_inference_steps=num_inference_steps, **call).images[0]
            daam = hooker.get_ovam_callable()
            # Start, and the last token before the end: the class's, or its last word's.
            maps = daam(daam.encode_text(prompt, remove_special_tokens=False))[0].cpu().numpy()
            _save(target / f"{stem}_heatmap_0.npy", maps[[0, -2]])
            for number, token in enumerate((tokens or {}).get(name, ()), 1):
                _save(target / f"{stem}_heatmap_{number}.npy", daam(token)[0].cpu().numpy())
        # Last: an image that is there has its maps.
        write_png(path, image)
    return written


def generate_binary_mask(
    ca: np.ndarray, image: Image.Image, category_id: int, threshold: float = 0.75
) -> tuple[np.ndarray, np.ndarray]:
    """The masks of a class with and without CRF: ``category_id`` inside, 255 elsewhere.

    OVAM multiplies by a self-attention map, which is the same number everywhere but for rounding
    noise, stretched to [0.95, 1]; it is left out here.

    Args:
        ca: maps ``(2, height, width)``; the second is the class's.
        image: whose size the masks have.
        category_id: from 1 to 254.
        threshold: of the map over its maximum.

    Raises:
        InputError: the number is out of range, or the maps are not two.
        CRFExtraError: pydensecrf is not installed.
    """
    maps = np.asarray(ca)
    if maps.ndim != 3 or len(maps) != 2 or not 1 <= category_id < IGNORE:
        raise InputError(
            f"Maps are (2, height, width) and a category is from 1 to 254; got {maps.shape} and "
            f"{category_id!r}."
        )
    found = torch.from_numpy(maps[1].astype(np.float32))
    found = found / found.max().clamp(min=1e-12)
    size = (image.height, image.width)
    enlarged = F.interpolate(found[None, None], size=size, mode="bicubic")[0, 0].clamp(0, 1)
    plain = (enlarged > threshold).numpy()
    filtered = densecrf(image.convert("RGB"), plain.astype(np.float32))
    with_crf, without = (
        np.where(mask, category_id, IGNORE).astype(np.uint8) for mask in (filtered > 0, plain)
    )
    return with_crf, without


def write_synthetic_dataset(
    pipe: Any,
    rows: Iterable[Mapping[str, Any]],
    tokens: Mapping[str, Tensor],
    folder: str | Path,
    *,
    num_inference_steps: int = 50,
    threshold: float = 0.75,
    **call: Any,
) -> list[Path]:
    """OVAM's synthetic data set: ``image``, ``heatmap``, ``masks`` and ``masks_sin_dcrf``.

    Files are named ``<category_id>_<coco_caption_id>_<seed>``. Rows whose files are there are left
    out, so that an interrupted run goes on. There is no folder ``sa``, of a map that was constant.

    Args:
        pipe: a pipeline that OVAM's hooker records.
        rows: with ``category``, ``category_id``, ``coco_caption_id``, ``seed`` and ``prompt``.
        tokens: by category, embeddings ``(2, width)``: start token and class.
        folder: is made where it is missing.
        num_inference_steps: of each image.
        threshold: as in :func:`generate_binary_mask`.
        call: further arguments of the pipeline's call.

    Returns:
        The paths of the masks with CRF, one for each row.

    Raises:
        InputError: a row lacks a field, or its category a token; or a file cannot be written.
        CRFExtraError: pydensecrf is not installed.
    """
    root = Path(folder)
    parts = ("image", "heatmap", "masks", "masks_sin_dcrf")
    images, heat_maps, with_crf, without = (_made(root / name) for name in parts)
    written = []
    for row in rows:
        category, number, caption, seed, prompt = _row(row, tokens)
        stem = safe_name(f"{number}_{caption}_{seed}")
        path = with_crf / f"{stem}.png"
        written.append(path)
        if path.exists():
            continue
        with StableDiffusionHooker(pipe) as hooker, torch.no_grad():
            set_seed(seed)
            image = pipe(prompt, num_inference_steps=num_inference_steps, **call).images[0]
            maps = hooker.get_ovam_callable()(tokens[category])[0].cpu().numpy()
        filtered, plain = generate_binary_mask(maps, image, number, threshold)
        _save(heat_maps / f"{stem}.npy", maps)
        with replacing(images / f"{stem}.jpg", "image") as file:
            image.convert("RGB").save(file, format="JPEG")
        write_png(without / f"{stem}.png", Image.fromarray(plain), "mask")
        write_png(path, Image.fromarray(filtered), "mask")
    return written


def _row(row: Mapping[str, Any], tokens: Mapping[str, Tensor]) -> tuple[str, int, str, int, str]:
    names = ("category", "category_id", "coco_caption_id", "seed", "prompt")
    try:
        category, number, caption, seed, prompt = (row[name] for name in names)
        found = (str(category), int(number), str(caption), int(seed), str(prompt).lower())
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"A row has {', '.join(names)}, numbers as numbers; got {str(dict(row))[:200]}."
        ) from error
    if found[0] not in tokens:
        raise InputError(f"There is no token for {found[0]!r}. Tokens: {', '.join(tokens)}.")
    return found


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error}.") from error
    return folder


def _save(path: Path, maps: np.ndarray) -> None:
    with replacing(path, "maps") as file:
        np.save(file, maps)
