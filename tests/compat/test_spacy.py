"""What takes a spaCy pipeline, with a real one: a parser and tagger that learn three sentences."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from diffusers_rdaam.app import events
from diffusers_rdaam.cli.daam import _tagger
from diffusers_rdaam.compat import daam
from diffusers_rdaam.compat.daam.prompt_sets import unreal_prompts
from diffusers_rdaam.errors import InputError
from diffusers_rdaam.tokens.alignment import align

spacy = pytest.importorskip("spacy", reason="spaCy, the extra nlp, is not installed")

PROMPT = "a red circle and a blue circle"
# The words' heads by number, their relations, and parts of speech.
SENTENCES: tuple[tuple[str, list[int], str, str], ...] = (
    (PROMPT, [2, 2, 2, 2, 6, 6, 2], "det amod ROOT cc det amod conj",
     "DET ADJ NOUN CCONJ DET ADJ NOUN"),
    ("a cat on a red mat", [1, 1, 1, 5, 5, 2], "det ROOT prep det amod pobj",
     "DET NOUN ADP DET ADJ NOUN"),
    ("the blue hat", [2, 2, 2], "det amod ROOT", "DET ADJ NOUN"),
)  # fmt: skip


@pytest.fixture(scope="module")
def nlp() -> Any:
    """Trained for some seconds; what it says of the prompt is checked."""
    from spacy.tokens import Doc
    from spacy.training import Example

    nlp = spacy.blank("en")
    nlp.add_pipe("morphologizer")
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    examples = []
    for text, heads, relations, kinds in SENTENCES:
        right = Doc(nlp.vocab, text.split(), heads=heads, deps=relations.split(), pos=kinds.split())
        examples.append(Example(nlp.make_doc(text), right))
    random.seed(0)
    spacy.util.fix_random_seed(0)
    nlp.initialize(lambda: examples)
    for _ in range(40):
        nlp.update(examples)
    document = nlp(PROMPT)
    assert [token.head.i for token in document] == SENTENCES[0][1]
    assert [token.pos_ for token in document] == SENTENCES[0][3].split()
    return nlp


@pytest.fixture
def installed(nlp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipeline as the package en_core_web_sm, as pip would install it."""
    package = tmp_path / "en_core_web_sm"
    package.mkdir()
    nlp.meta.update(name="core_web_sm", version="3.8.0")
    nlp.to_disk(package / "en_core_web_sm-3.8.0")
    (package / "meta.json").write_text(json.dumps(nlp.meta))
    (package / "__init__.py").write_text(
        "from spacy.util import load_model_from_init_py\n\n\n"
        "def load(**options):\n    return load_model_from_init_py(__file__, **options)\n"
    )
    facts = tmp_path / "en_core_web_sm-3.8.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    # Read when spaCy was imported.
    monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["en_core_web_sm"])


@pytest.fixture
def heat_map(demo: Any) -> daam.GlobalHeatMap:
    return _maps_of(demo, PROMPT)


def _maps_of(pipe: Any, text: str) -> daam.GlobalHeatMap:
    prompt = align(pipe.tokenizer, text, pipe.tokenizer.model_max_length)
    maps = torch.rand(len(prompt.tokens), 4, 6, generator=torch.Generator().manual_seed(0))
    return daam.GlobalHeatMap(pipe.tokenizer, text, maps)


def test_maps_of_tokens_and_of_pairs(heat_map: daam.GlobalHeatMap, nlp: Any) -> None:
    parsed = list(heat_map.parsed_heat_maps(nlp))
    assert [entry.token.text for entry in parsed] == PROMPT.split()
    for place, entry in enumerate(parsed):
        assert torch.equal(entry.word_heat_map.value, heat_map.heat_maps[place + 1])
    pairs = list(heat_map.dependency_relations(nlp))
    assert [(pair.relation, pair.dep_text, pair.head_text) for pair in pairs] == [
        ("det", "a", "circle"),
        ("amod", "red", "circle"),
        ("cc", "and", "circle"),
        ("det", "a", "circle"),
        ("amod", "blue", "circle"),
        ("conj", "circle", "circle"),
    ]
    assert torch.equal(pairs[4].head_heat_map.value, heat_map.heat_maps[7])
    with pytest.raises(InputError, match="so it has no parser"):
        list(heat_map.dependency_relations(spacy.blank("en")))


def test_tokens_that_are_not_words(demo: Any, nlp: Any) -> None:
    """spaCy has tokens of spaces and cuts words; what has no column of its own is left out."""
    found = _maps_of(demo, "a cat's hat,  red-blue\n🐱 é").parsed_heat_maps(nlp)
    texts = [entry.token.text for entry in found]
    assert texts == ["a", "cat", "'s", "hat", ",", "red", "-", "blue", "🐱", "é"]
    assert not list(_maps_of(demo, "").parsed_heat_maps(nlp))
    assert not list(_maps_of(demo, "").dependency_relations(nlp))


def test_captions_of_what_is_not_real(nlp: Any, tmp_path: Path) -> None:
    captions = [{"id": 1, "image_id": 1, "caption": PROMPT}]
    file = tmp_path / "captions_val2014.json"
    file.write_text(json.dumps({"annotations": captions}))
    ((id, text),) = unreal_prompts(tmp_path, nlp)
    words = text.split()
    assert id == "1" and [words[i] for i in (0, 3, 4)] == ["a", "and", "a"]
    assert {words[1], words[5]} <= {"red", "blue"} and {words[2], words[6]} == {"circle"}
    with pytest.raises(InputError, match="found no noun or adjective"):
        unreal_prompts(tmp_path, spacy.blank("en"))


@pytest.mark.usefixtures("installed")
def test_the_installed_model_is_the_app_s_and_the_command_s() -> None:
    assert [token.pos_ for token in _tagger()("the blue hat")] == ["DET", "ADJ", "NOUN"]
    tree = ElementTree.fromstring(events.dependency_tree("the blue <hat>"))
    words = [one.text for one in tree.iter() if one.get("class") == "displacy-word"]
    assert words[:2] == ["the", "blue"]
    assert "amod" in [one.text for one in tree.iter() if one.get("class") == "displacy-label"]


def test_a_model_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacy.util, "get_installed_models", lambda: ["de_core_news_sm"])
    with pytest.raises(InputError, match="needs an English model of spaCy"):
        events.dependency_tree("a cat")
