"""rdaam's ``quantitative_analysis``: how well the words of annotated boxes score in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffusers_rdaam.compat.rdaam.maps import extract_bbox_distribution
from diffusers_rdaam.compat.rdaam.runs import ReverseDAAMBatch
from diffusers_rdaam.drawing.figure import new_figure
from diffusers_rdaam.errors import AttributionFileError, InputError, RDAAMError
from diffusers_rdaam.files.json_text import parse_json
from diffusers_rdaam.files.opening import read_text
from diffusers_rdaam.files.writing import replacing, write_text

GENERATION_SEED, GENERATION_STEPS = 42, 50
EDGES = ("x_min", "y_min", "x_max", "y_max")

_logger = logging.getLogger("diffusers_rdaam.compat.rdaam")


def calculate_bbox_score(
    token_scores: Sequence[float] | np.ndarray, decoded_tokens: Sequence[str], key_token: str
) -> float:
    """The score of the key token over the highest score of all tokens; 0 where it is not there.

    Args:
        token_scores: of the box.
        decoded_tokens: of the scores.
        key_token: is a token, whatever its case; if none is, the tokens that hold one of its words
            count, the first for each word; the highest of them is taken.
    """
    tokens = [token.strip().lower() for token in decoded_tokens]
    key = key_token.strip().lower()
    found = [place for place, token in enumerate(tokens) if token == key]
    if not found:
        for word in key.split():
            found += [place for place, token in enumerate(tokens) if word in token][:1]
    if not found:
        _logger.warning(
            "%r is not one of the tokens %s; its score is 0.", key_token, decoded_tokens
        )
        return 0.0
    scores = np.asarray(token_scores, dtype=np.float64)
    highest = float(scores.max())
    return float(scores[found].max()) / highest if highest else 0.0


def analyze_annotations(
    json_file: str | Path,
    model_id: Any,
    generation_seed: int = GENERATION_SEED,
    generation_steps: int = GENERATION_STEPS,
) -> dict[str, Any]:
    """Score each annotated box of each caption.

    Each caption is generated once, where rdaam generates it for every box. A box that cannot be
    scored is in ``"errors"`` with its reason, and the others go on.

    Args:
        json_file: ``{"annotated_images": [{"caption_id", "caption", "annotations":
            [{"bounding_box": {"x_min", "y_min", "x_max", "y_max"}, "key_token"}]}]}``. Boxes are of
            images that this model makes with this seed; elsewhere they mean nothing.
        model_id: a hub id, a folder or a loaded pipeline.
        generation_seed, generation_steps: of the images.

    Returns:
        ``all_bbox_scores`` (``(caption_id, score)``), ``caption_scores`` (means), ``overall_avg``,
        ``overall_std`` (of the population), ``total_bboxes`` and ``errors``.

    Raises:
        InputError: the file does not hold such annotations.
    """
    images = _annotated_images(Path(json_file))
    batch = ReverseDAAMBatch(model_id)
    scores: list[tuple[Any, float]] = []
    captions: dict[Any, float] = {}
    errors: list[dict[str, Any]] = []
    for image in images:
        global_map, tokens, _ = batch.generate_map(
            image["caption"], generation_seed, generation_steps
        )
        own = []
        for annotation in image["annotations"]:
            box = [int(annotation["bounding_box"][edge]) for edge in EDGES]
            try:
                found, words = extract_bbox_distribution(global_map, box, tokens)
                own.append(calculate_bbox_score(found, words, annotation["key_token"]))
            except RDAAMError as error:
                errors.append({"caption_id": image["caption_id"], "box": box, "error": str(error)})
        scores += [(image["caption_id"], score) for score in own]
        if own:
            captions[image["caption_id"]] = float(np.mean(own))
    values = [score for _, score in scores]
    return {
        "all_bbox_scores": scores,
        "caption_scores": captions,
        "overall_avg": float(np.mean(values)) if values else 0.0,
        "overall_std": float(np.std(values)) if values else 0.0,
        "total_bboxes": len(scores),
        "errors": errors,
    }


def plot_results(results: Mapping[str, Any], output_dir: str | Path = ".") -> tuple[Path, Path]:
    """Write ``quantitative_analysis_results.png`` and ``quantitative_scores.json``; their paths.

    Args:
        results: of :func:`analyze_annotations`.
        output_dir: is made where it is missing.

    Raises:
        InputError: a file cannot be written.
        PlotExtraError: matplotlib is not installed.
    """
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made: {error}.") from error
    text = {
        "caption_scores": {str(key): float(v) for key, v in results["caption_scores"].items()},
        "overall_statistics": {
            "mean": float(results["overall_avg"]),
            "std": float(results["overall_std"]),
            "total_bboxes": results["total_bboxes"],
        },
    }
    scores = folder / "quantitative_scores.json"
    write_text(scores, json.dumps(text, indent=2), "scores")
    picture = folder / "quantitative_analysis_results.png"
    with replacing(picture, "figure") as file:
        _figure(results).savefig(file, format="png", dpi=150)
    return picture, scores


def _figure(results: Mapping[str, Any]) -> Any:
    figure = new_figure(figsize=(16, 6))
    left, right = figure.subplots(1, 2)
    ids = sorted(results["caption_scores"], key=str)
    mean = results["overall_avg"]
    left.bar(range(len(ids)), [results["caption_scores"][id] for id in ids], color="skyblue")
    left.axhline(y=mean, color="r", linestyle="--", label=f"Overall Avg: {mean:.4f}")
    left.set_xlabel("Caption Index")
    left.set_ylabel("Average Score (key_token / max_score)")
    left.set_title("Word-BBox Alignment Score per Caption")
    left.legend()
    right.hist([score for _, score in results["all_bbox_scores"]], bins=30, color="green")
    right.axvline(x=mean, color="r", linestyle="--", label=f"Mean: {mean:.4f}")
    right.set_xlabel("Score (key_token / max_score)")
    right.set_ylabel("Frequency")
    right.set_title(f"Distribution of BBox Scores (n={results['total_bboxes']})")
    right.legend()
    return figure


def _annotated_images(path: Path) -> list[dict[str, Any]]:
    try:
        content = parse_json(read_text(path, "file of annotations"))
        images = content["annotated_images"]
        for image in images:
            right = isinstance(image["caption"], str) and "caption_id" in image
            for annotation in image["annotations"]:
                box = annotation["bounding_box"]
                right = right and isinstance(annotation["key_token"], str)
                right = right and all(isinstance(box[edge], (int, float)) for edge in EDGES)
            if not right:
                raise ValueError(
                    f"caption {str(image['caption'])[:80]!r} has a field of another type"
                )
    except AttributionFileError as error:
        raise InputError(str(error)) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} does not hold annotated boxes ({error!r}): "
            '{"annotated_images": [{"caption_id", "caption", "annotations": [{"bounding_box": '
            '{"x_min", "y_min", "x_max", "y_max"}, "key_token"}]}]}.'
        ) from error
    return images
