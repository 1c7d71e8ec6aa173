"""What the embedded models' maps, boxes and words are worth against what is in their images.

Fresh scenes over pairs of objects that training never showed together; thresholds are chosen on
other scenes, intervals are by resampling scenes. Recordings are kept in a folder, so that a run
that was ended goes on where it was. ``python -m benchmarks truth --model flux`` measures the
embedded FLUX.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.header import header
from benchmarks.report import Result, Row, summary
from benchmarks.truth.evidence import Evidence, as_json, as_markdown, from_json
from benchmarks.truth.measure import PARTS, Measurement
from benchmarks.truth.models import NAMES, Model, model_of
from benchmarks.truth.scenes import TEST_PROMPTS, TEST_SEED, TUNING_PROMPTS, TUNING_SEED
from benchmarks.truth.scores import RESAMPLES
from diffusers_rdaam.errors import InputError

COUNT, TUNING, KEPT = 160, 24, 80
CACHE = Path("out/truth/recordings")


def main(arguments: Sequence[str]) -> int:
    """The command; exit status 1 where a bar is missed, 2 where a model is not there."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks truth", description=__doc__)
    parser.add_argument("--model", choices=NAMES, default=NAMES[0], help=f"default: {NAMES[0]}")
    parser.add_argument(
        "--folder", type=Path, help="a FLUX pipeline in place of the embedded one's weights"
    )
    parser.add_argument("--scenes", type=int, default=COUNT, metavar="N", help=f"default: {COUNT}")
    parser.add_argument(
        "--tuning", type=int, default=TUNING, metavar="N", help=f"for thresholds: {TUNING}"
    )
    parser.add_argument(
        "--kept",
        type=int,
        default=KEPT,
        metavar="N",
        help=f"of which single steps, layers and heads are kept, for aggregations: {KEPT}",
    )
    parser.add_argument(
        "--parts", default=",".join(PARTS), metavar="A,B", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"recordings: {CACHE}")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write FILE.json and FILE.md after each part; sections of earlier runs stay",
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="put the tables between the page's two marks"
    )
    given = parser.parse_args(arguments)
    names = given.parts.split(",")
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"{unknown[0]!r} is not a part. Parts: {', '.join(PARTS)}.")
    if min(given.scenes, given.tuning) < 1:
        parser.error("--scenes and --tuning are at least 1.")
    torch.set_num_threads(1)
    model = model_of(given.model, given.folder)
    of = Measurement(model, given.cache, given.scenes, given.tuning, given.kept)
    try:
        found = measure(of, names, given.out)
    except InputError as error:
        print(f"truth: {error}", file=sys.stderr)
        return 2
    rows = [one.row(of.model.name) for one in found]
    text = as_markdown(header(), settings_of(of), whole(of, given.out, found))
    print(text)
    if given.page is not None:
        given.page.write_text(between_marks(given.page.read_text(), of.model.name, text))
    print("\n" + summary([Result("truth", tuple(rows))]))
    return 1 if any(row.status == "FAIL" for row in rows) else 0


def run(*, full: bool = False) -> list[Row]:
    """The embedded Stable Diffusion, and FLUX where its weights ship; a few scenes if not full."""
    rows: list[Row] = []
    counts = (COUNT, TUNING, KEPT) if full else (COUNT // 4, TUNING // 2, KEPT // 4)
    for name in NAMES:
        try:
            found = measure(Measurement(model_of(name), CACHE, *counts), list(PARTS), None)
        except InputError as error:
            rows.append(Row("truth", f"{name}: all parts", f"not measured: {error}", status="SKIP"))
            continue
        rows += [one.row(name) for one in found]
    return rows


def measure(of: Measurement, parts: Sequence[str], out: Path | None) -> list[Evidence]:
    """The numbers of some parts; written after each of them.

    Raises:
        InputError: the weights are not there.
    """
    found: list[Evidence] = []
    for part in parts:
        start = time.perf_counter()
        found += [of.with_bar(one) for one in PARTS[part](of)]
        seconds = time.perf_counter() - start
        print(f"{of.model.name}, {part}: {seconds:.0f} s", file=sys.stderr, flush=True)
        if out is not None:
            _write(out, of, found)
    return found


def between_marks(page: str, name: str, text: str) -> str:
    """The page with a text between its two marks for a model.

    Raises:
        ValueError: the page does not have them.
    """
    begin, end = (f"<!-- truth {name}: {word} -->" for word in ("begin", "end"))
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"The page needs the marks {begin!r} and {end!r}, each once.")
    before, rest = page.split(begin)
    return f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"


def settings_of(of: Measurement) -> dict[str, Any]:
    """What it takes to make the same numbers again; each number says how many scenes it is of."""
    model: Model = of.model
    return {
        "model": model.name,
        **({} if model.folder is None else {"weights": model.folder.name}),
        "tuning scenes": of.tuning,
        "with steps, layers and heads": of.kept,
        "prompt seeds": f"{TEST_PROMPTS} and {TUNING_PROMPTS}",
        "first image seeds": f"{TEST_SEED} and {TUNING_SEED}",
        "resamples": RESAMPLES,
        **{name: value for name, value in model.settings.items() if value != ""},
    }


def with_earlier(out: Path | None, found: Sequence[Evidence]) -> list[Evidence]:
    """The numbers, and those of other sections that a file has from an earlier run of the command.

    So parts can be measured one after another, and with other numbers of scenes.
    """
    if out is None or not out.with_suffix(".json").is_file():
        return list(found)
    sections = {one.section for one in found}
    earlier = from_json(json.loads(out.with_suffix(".json").read_text()))
    return [*(one for one in earlier if one.section not in sections), *found]


def whole(of: Measurement, out: Path | None, found: Sequence[Evidence]) -> list[Evidence]:
    """:func:`with_earlier`, all of it held to the bars as they are now."""
    return [of.with_bar(one) for one in with_earlier(out, found)]


def _write(out: Path, of: Measurement, found: Sequence[Evidence]) -> None:
    facts, settings, found = header(), settings_of(of), whole(of, out, found)
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_json(facts, settings, found), indent=1)
    out.with_suffix(".json").write_text(text + "\n")
    out.with_suffix(".md").write_text(as_markdown(facts, settings, found) + "\n")
