"""``rdaam region`` and ``rdaam word``: questions to a saved attribution, without a model."""

from __future__ import annotations

from pathlib import Path

from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.region_words import Ranking
from diffusers_rdaam.cli.folder import write_file
from diffusers_rdaam.cli.options import (
    check_aggregation,
    check_picture_path,
    check_texts,
    check_threshold,
    parse_box,
)
from diffusers_rdaam.cli.report import Report
from diffusers_rdaam.geometry.region import Box


def ask_regions(file: Path, boxes: list[str], ranking: Ranking, report: Report) -> None:
    """Rank the words of each box, or of the whole image if no box is given."""
    checked = [parse_box(text) for text in boxes]
    attribution = Attribution.load(file)
    report_regions(attribution, checked, ranking, report)


def report_regions(
    attribution: Attribution, boxes: list[Box], ranking: Ranking, report: Report
) -> None:
    """Print and add the words of each box; of the whole image if there is none."""
    height, width = attribution.image_size
    entries = []
    # The whole image has lift 1 for every word, so there the score ranks.
    asked = [(box, ranking) for box in boxes] or [(Box(0, 0, width, height), "score")]
    for box, order in asked:
        words = attribution.region(box, ranking=order)
        report.say(f"\n{words}")
        entries.append({"box": list(box.as_tuple()), **words.to_dict()})
    report.add(prompt=attribution.prompt.text, regions=entries)


def ask_word(
    file: Path,
    word: str,
    occurrence: int | None,
    aggregation: str,
    threshold: float | None,
    out: Path | None,
    report: Report,
) -> None:
    """Report the place of a word, and draw it where a file was named."""
    check_texts([("WORD", word)])
    if threshold is not None:
        check_threshold(threshold)
    check_aggregation(aggregation)
    check_picture_path(out)
    attribution = Attribution.load(file)
    heat_map = attribution.word(word, occurrence=occurrence, aggregation=aggregation)
    if threshold is None:
        threshold = heat_map.threshold
    box = heat_map.box(threshold)
    height, width = attribution.image_size
    level = heat_map.mass((0, 0, width, height))
    inside, peak = heat_map.mass(box), heat_map.peak
    report.say(
        f"{heat_map.text!r}: box {','.join(map(str, box.as_tuple()))} at threshold {threshold:g}, "
        f"mean {heat_map.quantity} {inside:.4f} there and {level:.4f} in the image, peak {peak:.4f}"
    )
    report.add(
        word=heat_map.text,
        aggregation=aggregation,
        spans=[list(span) for span in heat_map.spans],
        **({"encoders": list(heat_map.encoders)} if heat_map.encoders else {}),
        box=list(box.as_tuple()),
        threshold=threshold,
        score_in_box=inside,
        score_in_image=level,
        peak=peak,
    )
    if out is not None:
        shown = heat_map.overlay() if heat_map.image is not None else None
        if shown is None:
            from diffusers_rdaam.drawing.overlay import colourise

            shown = colourise(heat_map.normalized)
        write_file(out, shown.save, "The heat map")
        report.say(f"heat map: {out}")
        report.add(heat_map=str(out))
