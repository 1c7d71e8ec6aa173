"""A part of the mutated files, with a fixed seed: each loads and answers, or is refused cleanly."""

from __future__ import annotations

from benchmarks.fuzz import REACHED, fuzz, run
from diffusers_rdaam.files import fields


def test_no_file_ends_in_another_exception():
    outcomes = fuzz(200, seed=1)
    samples = [sample for outcome in outcomes.values() for sample in outcome.samples]
    assert samples == []
    every = outcomes.values()
    assert sum(outcome.files for outcome in every) == 200
    assert all(outcome.loaded and outcome.refused for outcome in every)
    assert sum(outcome.reached for outcome in every) >= 200 * REACHED


def test_a_reader_that_checks_less_is_seen(monkeypatch):
    """The fuzzer itself: without the checks of fields it finds what they are for."""
    monkeypatch.setattr(fields.Check, "__call__", lambda *_: None)
    rows = run(files=30, seed=1)
    assert rows[0].status == "FAIL" and "Error" in rows[0].measured
