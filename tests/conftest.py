"""Shapes are checked at run time in tests; tiny models run on one thread, where they are fast."""

from __future__ import annotations

import gc
import itertools
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

import hypothesis
import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image

# Also where this file is imported from elsewhere, as the kernels' tests do in another process.
sys.path.insert(0, str(Path(__file__).parent))
from browser_pages import browser, pages  # noqa: F401  # fixtures

# Checks of transformers, which several folders import: they show what they compared.
pytest.register_assert_rewrite("case_checks", "dense_checks", "dense_oracle")
# Before the first import of a library that reads it.
os.environ["HF_HUB_OFFLINE"] = "1"
# Triton's kernels run as numpy, on tensors of the processor, with a GPU or without. Triton compiles
# or interprets for a whole process; tests/kernels/test_fused_on_device.py starts one of its own.
os.environ.setdefault("TRITON_INTERPRET", "1")

PACKAGE = Path(__file__).parents[1] / "diffusers_rdaam"
TINY = Path(__file__).parent / "data" / "tiny_sd"
# All that computes with tensors.
ROOMS = ("geometry", "attribution", "families", "tokens", "recording", "kernels", "attention")
# Options take what a user gives, of other types than they are stored as; the calls of an observed
# processor are compiled with it, and torch.compile cannot look through a check; the video of a heat
# map is a protocol, which the type checker cannot check of an object.
UNCHECKED = (
    "__init__", "options", "dense_crf", "observed_processor", "compiled_call", "video",
    "video_heat_map",
)  # fmt: skip


def _checked() -> list[str]:
    """Modules whose shapes are checked: those that name one, for a check takes ten microseconds.

    Types without a shape are the type checker's, which reads all of the package.

    No kernel of Triton's: the hook wraps functions, and a kernel that is wrapped has the wrapper's
    globals, without ``tl``, and cannot be compiled. Interpreted it would run all the same, so that
    only a machine with a GPU would show it.
    """
    names = []
    for path in sorted(path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.stem not in UNCHECKED and "shapes import" in source and "triton.jit" not in source:
            names.append(".".join((PACKAGE.name, *path.relative_to(PACKAGE).with_suffix("").parts)))
    return names


CHECKED = _checked()
# A machine with a GPU may not have it; the kernels' tests run there all the same.
TYPE_CHECKER = "beartype.beartype" if find_spec("beartype") is not None else None

# For the process, and nothing of the package is imported here: the process that hands the tests out
# reads this file too, and imports of the models' libraries would take it a quarter of a minute.
jaxtyping.install_import_hook(CHECKED, TYPE_CHECKER)
if TYPE_CHECKING:
    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.prompt import Prompt

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "quick", deadline=None, max_examples=30, database=None, derandomize=True
)
hypothesis.settings.load_profile("quick")


def pytest_report_header() -> list[str]:
    """What a run without the type checker does not show."""
    return [] if TYPE_CHECKER else ["shapes are not checked: beartype is not installed"]


@pytest.hookimpl(tryfirst=True)  # before slow tests are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of a test marked ``pairs`` only as many combinations are quick as hold every pair of values.

    What two settings do to each other is then tested every time, and what three do by the slow
    tests (pairwise testing: Cohen et al., The AETG system, 1997). Of one marked ``values`` those
    are quick that hold every value once (each-choice testing), where two settings hardly meet. Of
    one marked ``every(n)`` each n-th is quick: its parameters are of one kind, such as pipelines.
    """
    combinations: dict[tuple[int, str], list[pytest.Function]] = {}
    met: Counter[str] = Counter()
    for item in items:
        if isinstance(item, pytest.Function):
            if every := item.get_closest_marker("every"):
                name = item.nodeid.partition("[")[0]
                # Each test begins with another one, so that one of them takes each.
                if (met[name] + crc32(name.encode())) % every.args[0]:
                    item.add_marker(pytest.mark.slow)
                met[name] += 1
            for together, mark in ((1, "values"), (2, "pairs")):
                if item.get_closest_marker(mark):
                    name = item.nodeid.partition("[")[0]
                    combinations.setdefault((together, name), []).append(item)
    for (together, _), tests in combinations.items():
        values = [list(enumerate(test.callspec._idlist)) for test in tests]
        held = [set(itertools.combinations(of_one, together)) for of_one in values]
        left = set().union(*held)
        quick: set[int] = set()
        used: Counter[tuple[int, str]] = Counter()
        while left:
            # Among equals the one whose values were used least: those of the short lists alternate.
            best = max(
                range(len(tests)),
                key=lambda i: (len(held[i] & left), -sum(used[value] for value in values[i])),
            )
            quick.add(best)
            used.update(values[best])
            left -= held[best]
        for number, test in enumerate(tests):
            if number not in quick:
                test.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave a million objects of the libraries out of garbage collections, which take seconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def types_unchecked() -> Iterator[None]:
    """As a user runs it: a wrong type reaches the code, whose own error is then tested."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(autouse=True)
def own_attention_backend() -> Iterator[None]:
    """The attention backend of the process is each test's own.

    Diffusers' ``set_attention_backend`` sets it beside the model's, and ``reset_attention_backend``
    leaves it: the next model of the process, another test's, would be computed by it.
    """
    yield
    # No import of our own: it takes seconds, and most tests need no model.
    dispatch = sys.modules.get("diffusers.models.attention_dispatch")
    if dispatch is not None:
        name = dispatch.AttentionBackendName(dispatch.DIFFUSERS_ATTN_BACKEND)
        dispatch._AttentionBackendRegistry.set_active_backend(name)


def _toy_prompt(text: str | None, padding: int = 2) -> Prompt:
    """Two tokens for words of over 3 letters, one for every other character that is no space."""
    from diffusers_rdaam.attribution.prompt import Prompt, Token
    from diffusers_rdaam.attribution.word_spans import word_spans

    if text is None:
        return Prompt.without_text(7)
    pieces = []
    words = word_spans(text)
    for start, end in words:
        middle = start + 3 if end - start > 3 else end
        pieces += [span for span in ((start, middle), (middle, end)) if span[0] < span[1]]
    covered = {i for start, end in words for i in range(start, end)}
    pieces += [(i, i + 1) for i, c in enumerate(text) if i not in covered and not c.isspace()]
    tokens = [Token(0, "<start>", "start")]
    for start, end in sorted(pieces):
        tokens.append(Token(len(tokens), text[start:end], "text", start, end))
    tokens.append(Token(len(tokens), "<end>", "end"))
    for _ in range(padding):
        tokens.append(Token(len(tokens), "<pad>", "padding"))
    return Prompt(text, tuple(tokens))


@pytest.fixture(scope="session")
def make_prompt() -> Callable[..., Prompt]:
    """A prompt with hand-made tokens, no tokenizer."""
    return _toy_prompt


@pytest.fixture(scope="session")
def make_attribution() -> Callable[..., Attribution]:
    """Random maps that sum to 1 over the columns, on grids of an image that is not square."""
    from diffusers_rdaam.attribution.attribution import Attribution
    from diffusers_rdaam.attribution.grid import Grid

    def make(
        text: str | None = "a cat with blue eyes, on a red mat",
        *,
        size: tuple[int, int] = (64, 96),
        grids: tuple[tuple[int, int], ...] = ((8, 12), (4, 6), (2, 3), (1, 2)),
        image: bool = True,
        seed: int = 0,
    ) -> Attribution:
        prompt = _toy_prompt(text)
        generator = torch.Generator().manual_seed(seed)
        parts = []
        for i, (height, width) in enumerate(grids):
            logits = 2.0 * torch.randn(len(prompt.tokens), height, width, generator=generator)
            sites = tuple(f"site.{i}.{j}" for j in range(i + 1))
            parts.append(Grid(logits.softmax(dim=0), 50 * (i + 1), sites))
        picture = None
        if image:
            pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
            picture = Image.fromarray(pixels)
        run = {"model": "toy", "steps": 50, "guidance_scale": 7.5, "seed": None, "exact": True}
        return Attribution(prompt, tuple(parts), size, picture, run)

    return make


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tokenizer of the tiny pipeline."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(TINY / "tokenizer")


@pytest.fixture
def make_unet() -> Any:
    """A toy denoiser, with the configuration given."""
    from diffusers import UNet2DConditionModel

    def make(**config: Any) -> UNet2DConditionModel:
        torch.manual_seed(0)
        down = config.pop("down_block_types", ("CrossAttnDownBlock2D", "DownBlock2D"))
        up = config.pop("up_block_types", ("UpBlock2D", "CrossAttnUpBlock2D"))
        small: dict[str, Any] = {
            "sample_size": 16,
            "block_out_channels": (8, 16, 16, 16)[: len(down)],
            "layers_per_block": 1,
            "norm_num_groups": 4,
            "cross_attention_dim": 16,
            "attention_head_dim": 2,
        }
        unet = UNet2DConditionModel(down_block_types=down, up_block_types=up, **(small | config))
        return unet.eval()

    return make
