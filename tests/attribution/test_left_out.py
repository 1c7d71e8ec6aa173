"""Why a part is not there: what each way to lose one says, and that the first stays."""

from __future__ import annotations

import pytest

from diffusers_rdaam.attribution import left_out
from diffusers_rdaam.attribution.attribution import Attribution
from diffusers_rdaam.attribution.left_out import (
    EVERY_PART,
    MAPS,
    NOT_IN_THE_FILE,
    NOT_IN_THE_MEAN,
    NOT_KEPT,
    NOT_REFINED,
    QUERIES,
    QUERIES_OF_A_FILE,
    QUERIES_OF_A_VIDEO_FILE,
    SELF_ATTENTION,
    Absence,
    and_left_out,
)
from diffusers_rdaam.attribution.video import VideoAttribution

ABSENCES = {name: one for name, one in vars(left_out).items() if isinstance(one, Absence)}


def test_earlier_reasons_stay():
    before = {"steps": NOT_KEPT}
    after = and_left_out(before, NOT_REFINED, ("steps", "heads"))
    assert after == {"steps": NOT_KEPT, "heads": NOT_REFINED} and before == {"steps": NOT_KEPT}
    assert and_left_out(after, NOT_IN_THE_FILE, ()) == after


@pytest.mark.parametrize("name", ABSENCES)
def test_a_reason_ends_a_sentence_and_a_remedy_is_one(name):
    """``which {why}. {remedy}``, as all errors have them."""
    absence = ABSENCES[name]
    assert absence.why[0].islower() and absence.why[-1].isalpha()
    if absence.remedy is not None:
        assert absence.remedy[0].isupper() and absence.remedy.endswith(".")


def test_a_run_has_no_reasons_and_its_file_has_one_for_each_part(make_kept, tmp_path):
    attribution, _ = make_kept(("steps",))
    assert not attribution.left_out
    found = Attribution.load(attribution.save(tmp_path / "a.safetensors")).left_out
    assert set(found) == set(EVERY_PART)
    assert found[QUERIES] == QUERIES_OF_A_FILE
    assert {found[name] for name in (*MAPS, SELF_ATTENTION)} == {NOT_IN_THE_FILE}
    video = VideoAttribution.of_frames([attribution, attribution])
    loaded = VideoAttribution.load(video.save(tmp_path / "v.safetensors"))
    assert [one.left_out[QUERIES] for one in loaded] == [QUERIES_OF_A_VIDEO_FILE] * 2


def test_a_mean_names_what_some_of_its_runs_had(make_kept):
    with_steps, _ = make_kept(("steps",))
    with_heads, _ = make_kept(("heads",))
    assert Attribution.mean([with_steps, with_heads]).left_out == {
        "steps": NOT_IN_THE_MEAN,
        "heads": NOT_IN_THE_MEAN,
    }
