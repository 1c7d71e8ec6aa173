"""Tables of docs/evaluation_measured.md: kinds of maps down, protocols across, on drawn scenes.

``python -m benchmarks.evaluation_table --model flux --scenes 20
--page docs/evaluation_measured.md``. Every scene is attributed once, with its own prompt and the
default noise levels, and scored by all protocols: those that ask another prompt are asked with this
one (ConceptAttention without its background words). With ``--world generated`` the model makes the
images and the maps are of that run; images that lack an object have no truth, and are left out.
Deletion, which asks the model about edited images, is not in the tables.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from diffusers_rdaam import RDAAMWarning, load_demo_pipeline
from diffusers_rdaam.demo.loader import FLUX_DEFAULTS
from diffusers_rdaam.demo.world import IMAGE_SIZE
from diffusers_rdaam.errors import DataSetError
from diffusers_rdaam.evaluation.evaluation import Evaluation
from diffusers_rdaam.evaluation.maps import RecordedAnswers, maps_of
from diffusers_rdaam.evaluation.protocols.protocol import Protocol
from diffusers_rdaam.evaluation.protocols.table import protocol_of
from diffusers_rdaam.evaluation.run import Recorded, Run, RunSettings
from diffusers_rdaam.evaluation.worlds import drawn_scenes, generated_scenes

MAPS = {
    "stable-diffusion": (
        *("mean", "rms", "late_half", "daam", "mean, refine=product", "mean, sharpen=true"),
    ),
    "flux": ("mean", "rms", "mean, refine=product", "mean, sharpen=true"),
}
# Protocol, options, measure, title.
STRICT = (
    ("daam", {}, "miou_per_image", "daam"),
    ("ovam", {}, "miou", "ovam"),
    ("conceptattention", {"concepts": ()}, "miou", "conceptattention"),
    ("seg4diff", {}, "miou", "seg4diff"),
    ("goca", {}, "miou", "goca"),
    ("rdaam", {}, "hit_at_1", "rdaam, first word"),
    ("pointing", {}, "pointing", "pointing"),
    ("pointing", {}, "ap", "AP"),
)
PUBLISHED = (
    ("daam", {}, "miou_per_image", "daam, .4"),
    ("ovam", {}, "miou", "ovam, .4 of the maximum"),
    ("conceptattention", {"concepts": ()}, "acc", "conceptattention, Acc"),
    ("conceptattention", {"concepts": ()}, "acc_over_2_minus_acc", "its Acc/(2 - Acc)"),
    ("goca", {}, "best_on_test", "goca, best on test"),
    ("rdaam", {}, "box_score", "rdaam, raw score"),
    ("pointing", {}, "pointing_all_classes", "pointing, 15 px"),
)


def main(arguments: list[str]) -> int:
    """Measure, print, and put the tables on the page where one is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=tuple(MAPS), default="stable-diffusion")
    parser.add_argument("--world", choices=("drawn", "generated"), default="drawn")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", RDAAMWarning)
    place = given.model if given.world == "drawn" else f"{given.model}, generated"
    text = ""
    for text in tables(given.model, given.scenes, generated=given.world == "generated"):
        # After each scene: a run that is ended leaves what it has.
        if given.page is not None:
            marks = [f"<!-- {place}: {word} -->" for word in ("begin", "end")]
            before, rest = given.page.read_text().split(marks[0])
            after = rest.split(marks[1])[1]
            given.page.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")
    print(text)
    return 0


def tables(model: str, scenes: int, *, generated: bool = False) -> Iterator[str]:
    """A table of the honest forms and one of the published ones, after each scene."""
    size = IMAGE_SIZE if model == "stable-diffusion" else int(FLUX_DEFAULTS["height"])
    data = generated_scenes(scenes) if generated else drawn_scenes(scenes, size=size)
    kinds = maps_of(MAPS[model])
    pipe = load_demo_pipeline(model)  # type: ignore[call-overload]  # one of two names
    columns = {
        strict: [
            (protocol_of(name, strict=strict, **options), measure, title)
            for name, options, measure, title in chosen
        ]
        for strict, chosen in ((True, STRICT), (False, PUBLISHED))
    }
    settings = RunSettings(noise=(0.26, 0.37, 0.46), draws=2)
    run = Run(pipe, data, columns[True][0][0], kinds, settings)
    scores: dict[tuple[bool, int], list[dict]] = {}
    names, used = tuple(one.name for one in kinds), 0
    for number, name in enumerate(data.ids, start=1):
        print(f"{model}: {number} of {scenes}", file=sys.stderr, flush=True)
        try:
            found = run.recorded(name)
        except DataSetError:
            # The model did not make what the prompt says.
            continue
        assert isinstance(found, Recorded)
        answers = {one.name: RecordedAnswers(found.attribution, one) for one in kinds}
        for strict, listed in columns.items():
            for place, (protocol, _, _) in enumerate(listed):
                question = protocol.question(found.sample, data)
                row = {
                    kind: protocol.score(question, one, found.sample, data)
                    for kind, one in answers.items()
                }
                entry = {"id": name, "cluster": name, "status": "ok", "scores": row}
                scores.setdefault((strict, place), []).append(entry)
        used += 1
        parts = [_table(listed, scores, names, strict) for strict, listed in columns.items()]
        of = f"{used} of {number} images" if generated else f"{number} scenes"
        yield "\n\n".join([f"{of}.", *parts])


def _table(
    columns: list[tuple[Protocol, str, str]],
    scores: dict[tuple[bool, int], list[dict]],
    names: tuple[str, ...],
    strict: bool,
) -> str:
    lines = [["maps", *(title for _, _, title in columns)]]
    lines.append(["---"] * len(lines[0]))
    lines += [[f"`{name}`"] for name in names]
    for place, (protocol, measure, _) in enumerate(columns):
        rows = tuple(scores[strict, place])
        found = Evaluation(protocol.label, strict, False, (measure,), names, rows)
        for line, name in zip(lines[2:], names, strict=True):
            one = found.number(measure, name)
            line.append(f"{one.value:.3f}±{(one.high - one.low) / 2:.3f}")
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
