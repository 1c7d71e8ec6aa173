"""The benchmark of gradients: every way is asked for the same regions of the same image."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import gradients
from benchmarks.embedded_model import EmbeddedModel


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each explanation that is made."""
    found: list[dict[str, Any]] = []
    explain = gradients.explain_gradient

    def seen(pipe: Any, prompt: str, **options: Any) -> Any:
        found.append(options)
        return explain(pipe, prompt, **options)

    monkeypatch.setattr(gradients, "explain_gradient", seen)
    monkeypatch.setattr(gradients, "ROUNDS", 1)
    monkeypatch.setattr(gradients, "PLACES", 2)
    monkeypatch.setattr(gradients, "PROMPTS", 1)
    call = {"num_inference_steps": 1, "guidance_scale": 4.0}
    monkeypatch.setattr(EmbeddedModel, "call", lambda self: dict(call))
    return found


@pytest.mark.slow
def test_every_way_is_asked(asked: list[dict[str, Any]]) -> None:
    rows = gradients.run()
    assert [row.what.split(": ")[-1] for row in rows[:4]] == [
        "generation alone",
        "activations computed again, one call",
        "activations computed again, a call each",
        "activations kept, one call",
    ]
    assert "activations" not in rows[0].measured
    again, each, kept = (int(row.measured.split()[-2].replace(",", "")) for row in rows[1:4])
    assert again == each and again > 0 and kept > 0
    assert rows[4].measured.startswith("median ")
    together = [one for one in asked if "regions" in one]
    apart = [one["region"] for one in asked if "region" in one and "method" not in one]
    assert all(one["regions"] == gradients.REGIONS for one in together)
    assert set(apart) == set(gradients.REGIONS)
    assert any(one.get("checkpointing") is False for one in together)
