"""torch.compile of transformers: as many graphs as stock, the stock image, the eager maps."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from dense_checks import parts_of
from dense_oracle import Case
from torch._dynamo.testing import CompileCounterWithBackend
from transformer_conditions import FAMILIES
from transformer_outcome import images, quiet, same_maps

from diffusers_rdaam import RDAAMProcessor
from diffusers_rdaam.pipelines.classes import recording_class

DEPTHS = ("num_layers", "num_single_layers", "n_layers")
# torch.compile meets what torch and diffusers deprecate.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def no_graphs() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def whole(denoiser: Any, **options: Any) -> None:
    denoiser.compile(fullgraph=True, **options)


def repeated_blocks(denoiser: Any, **options: Any) -> None:
    denoiser.compile_repeated_blocks(fullgraph=True, **options)


def each_block(denoiser: Any, **options: Any) -> None:
    """What ``compile_repeated_blocks`` does, where diffusers does not say which blocks they are."""
    for name, module in denoiser.named_modules():
        if re.fullmatch(r"(single_)?transformer_blocks\.\d+", name):
            module.compile(fullgraph=True, **options)


def deepened(pipe: Any, blocks: int) -> Any:
    """The pipeline with a transformer of so many blocks of each kind, random ones."""
    config = {
        name: value for name, value in pipe.transformer.config.items() if not name.startswith("_")
    }
    config |= {name: blocks for name in DEPTHS if name in config}
    torch.manual_seed(0)
    denoiser = type(pipe.transformer)(**config).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.1)
    pipe.register_modules(transformer=denoiser)
    return pipe


@dataclass(frozen=True)
class Compiled:
    """What some runs of a compiled pipeline made.

    Attributes:
        graphs: compiled so far, after each run.
    """

    images: list[np.ndarray]
    graphs: list[int]
    attributions: list[Any]


def runs(case: Case) -> list[dict[str, Any]]:
    """The arguments that change from run to run: prompts in another order, and another length."""
    return [{}, {"prompt": case.prompts[::-1], "num_inference_steps": 3}]


def compiled_runs(
    case: Case, pipe: Any, compile_denoiser: Callable[..., None], backend: str
) -> Compiled:
    torch.compiler.reset()
    counter = CompileCounterWithBackend(backend)
    compile_denoiser(pipe.transformer, backend=counter)
    found = Compiled([], [], [])
    for settings in runs(case):
        found.images.append(images(case.run(pipe, **settings)))
        found.graphs.append(counter.frame_count)
        found.attributions.append(getattr(pipe, "attributions", None))
    return found


def check(
    family: str, compile_denoiser: Callable[..., None], blocks: int, backend: str
) -> tuple[list[int], list[Any], list[Any]]:
    """Compare with stock; the graphs, the attributions, and those of an uncompiled pipeline."""
    case = FAMILIES[family]()
    stock = deepened(quiet(case.make()), blocks)
    wanted = compiled_runs(case, stock, compile_denoiser, backend)
    ours = _ours(deepened(quiet(case.make()), blocks))
    found = compiled_runs(case, ours, compile_denoiser, backend)
    assert found.graphs == wanted.graphs and found.graphs[0] >= 1
    for one, other in zip(found.images, wanted.images, strict=True):
        assert np.array_equal(one, other)
    assert all(found.attributions)
    torch.compiler.reset()
    eager = _ours(deepened(quiet(case.make()), blocks))
    of_eager = []
    for settings in runs(case):
        case.run(eager, **settings)
        of_eager.append(eager.attributions)
    return found.graphs, found.attributions, of_eager


def _ours(pipe: Any) -> Any:
    ours = quiet(recording_class(type(pipe).__name__)(**parts_of(pipe)))
    ours.set_attn_processor(RDAAMProcessor())
    return ours


# Seen with stock and with ours, after the first run and after the second.
TABLE = [
    ("FluxPipeline", repeated_blocks, 12, 3),
    ("QwenImagePipeline", repeated_blocks, 12, 3),
    ("ZImagePipeline", repeated_blocks, 12, 3),
    ("StableDiffusion3Pipeline", each_block, 12, 2),
    ("PixArtSigmaPipeline", each_block, 12, 2),
    ("FluxPipeline", whole, 12, 1),
    ("StableDiffusion3Pipeline", whole, 12, 1),
    ("QwenImagePipeline", whole, 12, 2),
    ("PixArtSigmaPipeline", whole, 12, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "compile_denoiser", "blocks", "graphs"), TABLE)
def test_as_many_graphs_as_stock(
    family: str, compile_denoiser: Callable[..., None], blocks: int, graphs: int
):
    """The image is that of the compiled stock pipeline in every bit, and so are the eager maps."""
    found, attributions, of_eager = check(family, compile_denoiser, blocks, "aot_eager")
    assert found == [graphs, graphs]
    for one, other in zip(attributions, of_eager, strict=True):
        assert same_maps(one, other)


@pytest.mark.parametrize("family", ["FluxPipeline"])
def test_repeated_blocks_of_a_deep_transformer(family: str):
    """As above with the backend that compiles nothing: graphs are counted all the same."""
    found, attributions, of_eager = check(family, repeated_blocks, 12, "eager")
    assert found == [3, 3]
    for one, other in zip(attributions, of_eager, strict=True):
        assert same_maps(one, other)


@pytest.mark.slow
def test_repeated_blocks_with_the_default_compiler():
    """Queries and keys of fused operations differ from eager ones by rounding, and so do maps."""
    found, attributions, of_eager = check("FluxPipeline", repeated_blocks, 12, "inductor")
    assert found == [3, 3]
    for run, eager in zip(attributions, of_eager, strict=True):
        for one, other in zip(run, eager, strict=True):
            for a, b in zip(one.grids, other.grids, strict=True):
                assert a.additions == b.additions
                torch.testing.assert_close(a.maps, b.maps, rtol=0, atol=1e-4)


def test_diffusers_does_not_say_which_blocks_are_repeated():
    """Where this fails, ``compile_repeated_blocks`` has become possible: try it in the table."""
    for family in ("StableDiffusion3Pipeline", "PixArtSigmaPipeline"):
        pipe = FAMILIES[family]().make()
        with pytest.raises(ValueError, match="`_repeated_blocks` attribute is empty"):
            pipe.transformer.compile_repeated_blocks()
