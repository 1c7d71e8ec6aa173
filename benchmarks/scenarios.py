"""What the package does to a host, one scenario for each public function that touches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionPipelineOutput

from benchmarks.toy_host import PROMPT, SIZE, STEPS, new_host, settings
from diffusers_rdaam import (
    IntermediateImages,
    LivePreview,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    explain_ablation,
    explain_gradient,
    inject_attention,
    optimize_token,
    record_attention,
    save_attention,
)
from diffusers_rdaam.attribution.attribution import Attribution

BOX = (0, 0, SIZE // 2, SIZE)
REFERENCE = torch.linspace(-1.0, 1.0, 4 * 4 * 4).reshape(1, 4, 4, 4)


class ReferenceLoop(StableDiffusionPipeline):
    """A class with a loop of its own, and a denoiser call for a reference before each of its own.

    It takes the arguments of :func:`settings`; the size is always theirs.
    """

    @torch.no_grad()
    def __call__(
        self,
        prompt: str,
        num_inference_steps: int = STEPS,
        guidance_scale: float = 5.0,
        generator: Any = None,
        **size: Any,
    ) -> Any:
        positive, negative = self.encode_prompt(prompt, "cpu", 1, True)
        text = torch.cat([negative, positive])
        latents = torch.randn(REFERENCE.shape, generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            self.unet(torch.cat([REFERENCE] * 2), t, text)
            pair = self.scheduler.scale_model_input(torch.cat([latents] * 2), t)
            one, two = self.unet(pair, t, text)[0].chunk(2)
            latents = self.scheduler.step(one + guidance_scale * (two - one), t, latents)[0]
        image = self.vae.decode(latents / self.vae.config.scaling_factor)[0]
        return StableDiffusionPipelineOutput(self.image_processor.postprocess(image), None)


@dataclass(frozen=True)
class Scenario:
    """One use of the package.

    Args:
        run: is given the host, and what ``prepare`` has made.
        host_class: of the pipeline.
        prepare: is not interrupted.
    """

    run: Callable[[Any, Any], object]
    host_class: type = StableDiffusionPipeline
    prepare: Callable[[Any], Any] | None = None

    @property
    def ours(self) -> bool:
        """Whether the host is of this package's pipeline class."""
        return self.host_class is StableDiffusionRDAAMPipeline

    def host(self) -> Any:
        """A pipeline of the class."""
        return new_host(self.host_class)

    def ready(self, pipe: Any) -> Any:
        """What the run needs beside the host."""
        return None if self.prepare is None else self.prepare(pipe)


def _plain(pipe: Any, _: Any) -> object:
    return pipe(PROMPT, **settings())


def _with_options(pipe: Any) -> None:
    pipe.set_attn_processor(
        RDAAMProcessor(
            keep=("steps", "layers", "heads", "queries"), keep_negative=True, self_attention=True
        )
    )


def _callbacks(pipe: Any, _: Any) -> object:
    images = IntermediateImages(every=1)
    preview = LivePreview(lambda attributions, step: None, every=1, images=True, then=images)
    return pipe(PROMPT, callback_on_step_end=preview, **settings())


def _recorded(pipe: Any, _: Any) -> object:
    with record_attention(pipe) as recording:
        pipe(PROMPT, **settings())
    return recording.attribution


def _recorded_rows(pipe: Any, _: Any) -> object:
    with record_attention(pipe, rows=_rows, prompt=PROMPT) as recording:
        pipe(PROMPT, **settings())
    return recording.attribution


def _rows(args: Any, kwargs: Any) -> Any:
    is_reference = torch.equal(args[0][:1], REFERENCE)
    return () if is_reference else ("unconditional", "conditional")


def _own_loop(pipe: Any, _: Any) -> object:
    text = torch.linspace(-1.0, 1.0, 2 * 77 * 32).reshape(2, 77, 32)
    latents = torch.linspace(-1.0, 1.0, 2 * 4 * 4 * 4).reshape(2, 4, 4, 4)
    rows = ("unconditional", "conditional")
    with (
        torch.no_grad(),
        record_attention(
            pipe.unet, rows=rows, prompt=PROMPT, tokenizer=pipe.tokenizer
        ) as recording,
    ):
        pipe.unet(latents, 1, text)
    return recording.attribution


def _queries(pipe: Any) -> Attribution:
    pipe.set_attn_processor(RDAAMProcessor(keep="queries"))
    return pipe(PROMPT, **settings()).attribution


def _query(pipe: Any, attribution: Any) -> object:
    pipe.query_maps(attribution, "a hat", context="a dog in a hat")
    return pipe.query(attribution, "a dog")["dog"]


def _vocabulary(pipe: Any, _: Any) -> object:
    return pipe(PROMPT, attribution_vocabulary=["a dog", "fur"], **settings())


def _gradient(pipe: Any, _: Any) -> object:
    return explain_gradient(pipe, PROMPT, regions=[BOX, (4, 4, 20, 20)], **settings())


def _integrated(pipe: Any, _: Any) -> object:
    options: dict[str, Any] = {"method": "integrated_gradients", "path_steps": 2}
    return explain_gradient(pipe, PROMPT, region=BOX, **options, **settings(num_inference_steps=1))


def _ablation(pipe: Any, _: Any) -> object:
    explain_ablation(pipe, PROMPT, words=["hat"], mode="padding", **settings())
    return explain_ablation(pipe, PROMPT, region=BOX, words=["cat"], **settings())


def _save(pipe: Any, _: Any) -> object:
    return save_attention(pipe, PROMPT, **settings())


def _saved(pipe: Any) -> Any:
    return save_attention(pipe, PROMPT, **settings())[1]


def _inject(pipe: Any, saved: Any) -> object:
    return inject_attention(pipe, saved, "a dog and a hat", steps=[0], **settings())


def _optimize(pipe: Any, attribution: Any) -> object:
    # The callback's True stops it, so both ends of the loop are seen.
    optimize_token(pipe, attribution, BOX, "cat", iterations=2, callback=lambda step: True)
    return optimize_token(pipe, attribution, BOX, "cat", space="token", iterations=2)


def _files(pipe: Any, attribution: Any) -> object:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "attribution"
        attribution.save(path)
        queries = Path(folder) / "queries"
        attribution.queries.save(queries)
        return Attribution.load(next(Path(folder).glob("attribution*")))


def _traced(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.daam import trace

    with trace(pipe) as found:
        pipe(PROMPT, **settings())
        return found.compute_global_heat_map()


def _traced_i2i(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.daami2i import trace

    with trace(pipe) as found:
        pipe(PROMPT, **settings())
        return found.compute_global_heat_map()


def _hooked(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.ovam import StableDiffusionHooker

    with StableDiffusionHooker(pipe) as hooker:
        pipe(PROMPT, **settings())
    with torch.no_grad():
        return hooker.get_ovam_callable()("a cat")


def _managed(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.rdaam import AttentionHookManager, remove_hooks

    manager = AttentionHookManager()
    handles = manager.register_hooks(pipe.unet)
    try:
        pipe(PROMPT, **settings())
    finally:
        # As a careful user would: what an interrupt took from the first try, a second one does.
        try:
            remove_hooks(handles)
        finally:
            remove_hooks(handles)
    return manager.attention_maps


def _reverse(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.rdaam import run_reverse_daam

    return run_reverse_daam(PROMPT, 1, 2, "", [0, 0, 32, 32], pipe=pipe)


def _interpreted(pipe: Any, _: Any) -> object:
    from diffusers_rdaam.compat.diffusers_interpret import StableDiffusionPipelineExplainer

    explainer = StableDiffusionPipelineExplainer(pipe, verbose=False)
    return explainer(PROMPT, explanation_2d_bounding_box=((0, 0), (16, 16)), **settings())


OURS = StableDiffusionRDAAMPipeline

SCENARIOS = {
    "plain": Scenario(_plain, OURS),
    "options": Scenario(_plain, OURS, prepare=_with_options),
    "callbacks": Scenario(_callbacks, OURS),
    "vocabulary": Scenario(_vocabulary, OURS),
    "record_attention": Scenario(_recorded),
    "own_loop": Scenario(_own_loop),
    "own_class": Scenario(_recorded, ReferenceLoop),
    "own_class_rows": Scenario(_recorded_rows, ReferenceLoop),
    "query": Scenario(_query, OURS, prepare=_queries),
    "gradient": Scenario(_gradient),
    "integrated": Scenario(_integrated),
    "ablation": Scenario(_ablation),
    "save_attention": Scenario(_save),
    "inject_attention": Scenario(_inject, prepare=_saved),
    "inject_into_ours": Scenario(_inject, OURS, prepare=_saved),
    "optimize_token": Scenario(_optimize, OURS, prepare=_queries),
    "files": Scenario(_files, OURS, prepare=_queries),
    "compat_daam": Scenario(_traced),
    "compat_daam_of_ours": Scenario(_traced, OURS),
    "compat_daami2i": Scenario(_traced_i2i),
    "compat_ovam": Scenario(_hooked),
    "compat_rdaam_hooks": Scenario(_managed),
    "compat_rdaam": Scenario(_reverse),
    "compat_diffusers_interpret": Scenario(_interpreted),
}
