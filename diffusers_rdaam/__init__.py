"""Which words made this region of a generated image, and which regions this word made.

Names are loaded on first use, so that ``import diffusers_rdaam`` takes milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_UNION = "diffusers_rdaam.pipelines.controlnet_union"
_EXPORTS = {
    "AlreadyRecordingError": "diffusers_rdaam.errors",
    "AnimateDiffControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffPAGRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffSDXLRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffSparseControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffVideoToVideoControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "AnimateDiffVideoToVideoRDAAMPipeline": "diffusers_rdaam.pipelines.animatediff",
    "Attribution": "diffusers_rdaam.attribution.attribution",
    "AttributionFileError": "diffusers_rdaam.errors",
    "AutoRDAAMPipelineForImage2Image": "diffusers_rdaam.pipelines.auto",
    "AutoRDAAMPipelineForInpainting": "diffusers_rdaam.pipelines.auto",
    "AutoRDAAMPipelineForText2Image": "diffusers_rdaam.pipelines.auto",
    "BackendWarning": "diffusers_rdaam.errors",
    "Box": "diffusers_rdaam.geometry.region",
    "DenoiserReplacedWarning": "diffusers_rdaam.errors",
    "ForeignThreadWarning": "diffusers_rdaam.errors",
    "GradientError": "diffusers_rdaam.errors",
    "HeatMap": "diffusers_rdaam.attribution.heat_map",
    "ImageCountWarning": "diffusers_rdaam.errors",
    "ImageMismatchWarning": "diffusers_rdaam.errors",
    "InputError": "diffusers_rdaam.errors",
    "WordsInside": "diffusers_rdaam.attribution.region_words",
    "IntermediateImages": "diffusers_rdaam.pipelines.callbacks",
    "KolorsImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.kolors",
    "KolorsPAGRDAAMPipeline": "diffusers_rdaam.pipelines.kolors",
    "KolorsRDAAMPipeline": "diffusers_rdaam.pipelines.kolors",
    "LatentConsistencyModelImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.latent_consistency",
    "LatentConsistencyModelRDAAMPipeline": "diffusers_rdaam.pipelines.latent_consistency",
    "LayoutUnknownWarning": "diffusers_rdaam.errors",
    "LivePreview": "diffusers_rdaam.pipelines.callbacks",
    "MapRecipe": "diffusers_rdaam.open_vocabulary.recipe",
    "Mask": "diffusers_rdaam.geometry.region",
    "MaskedRowsWarning": "diffusers_rdaam.errors",
    "NoAttributionError": "diffusers_rdaam.errors",
    "NotFiniteWarning": "diffusers_rdaam.errors",
    "NotRecordedWarning": "diffusers_rdaam.errors",
    "OptimizedToken": "diffusers_rdaam.open_vocabulary.optimized_token",
    "PartialRunWarning": "diffusers_rdaam.errors",
    "PandasExtraError": "diffusers_rdaam.errors",
    "PlotExtraError": "diffusers_rdaam.errors",
    "Polygon": "diffusers_rdaam.geometry.region",
    "ProcessorError": "diffusers_rdaam.errors",
    "ProcessorWarning": "diffusers_rdaam.errors",
    "PromptSwitchedWarning": "diffusers_rdaam.errors",
    "PromptTruncatedWarning": "diffusers_rdaam.errors",
    "Queries": "diffusers_rdaam.attribution.queries",
    "QueryOptions": "diffusers_rdaam.attention.options",
    "RDAAMError": "diffusers_rdaam.errors",
    "RDAAMPipelineMixin": "diffusers_rdaam.pipelines.mixin",
    "RDAAMProcessor": "diffusers_rdaam.attention.processor",
    "RDAAMWarning": "diffusers_rdaam.errors",
    "RecordingError": "diffusers_rdaam.errors",
    "RecordingFailedWarning": "diffusers_rdaam.errors",
    "RecordingOptions": "diffusers_rdaam.attention.options",
    "RegionError": "diffusers_rdaam.errors",
    "RegionWords": "diffusers_rdaam.attribution.region_words",
    "RepeatedWordWarning": "diffusers_rdaam.errors",
    "SavedAttention": "diffusers_rdaam.editing.saved_attention",
    "SeveralRunsWarning": "diffusers_rdaam.errors",
    "SiteMisfitWarning": "diffusers_rdaam.errors",
    "StableDiffusionAdapterRDAAMPipeline": "diffusers_rdaam.pipelines.t2i_adapter",
    "StableDiffusionControlNetImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionControlNetInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionControlNetPAGInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionControlNetPAGRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionDepth2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.upscale",
    "StableDiffusionImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionInstructPix2PixRDAAMPipeline": "diffusers_rdaam.pipelines.instruct_pix2pix",
    "StableDiffusionLatentUpscaleRDAAMPipeline": "diffusers_rdaam.pipelines.upscale",
    "StableDiffusionPAGImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionPAGInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionPAGRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion",
    "StableDiffusionUpscaleRDAAMPipeline": "diffusers_rdaam.pipelines.upscale",
    "StableDiffusionXLAdapterRDAAMPipeline": "diffusers_rdaam.pipelines.t2i_adapter",
    "StableDiffusionXLControlNetImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLControlNetInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLControlNetPAGImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionXLControlNetPAGRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionXLControlNetRDAAMPipeline": "diffusers_rdaam.pipelines.controlnet",
    "StableDiffusionXLControlNetUnionImg2ImgRDAAMPipeline": _UNION,
    "StableDiffusionXLControlNetUnionInpaintRDAAMPipeline": _UNION,
    "StableDiffusionXLControlNetUnionRDAAMPipeline": _UNION,
    "StableDiffusionXLImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "StableDiffusionXLInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "StableDiffusionXLInstructPix2PixRDAAMPipeline": "diffusers_rdaam.pipelines.instruct_pix2pix",
    "StableDiffusionXLPAGImg2ImgRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionXLPAGInpaintRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionXLPAGRDAAMPipeline": "diffusers_rdaam.pipelines.pag",
    "StableDiffusionXLRDAAMPipeline": "diffusers_rdaam.pipelines.stable_diffusion_xl",
    "TextMismatchWarning": "diffusers_rdaam.errors",
    "Timeline": "diffusers_rdaam.attribution.timeline",
    "UncheckedTextWarning": "diffusers_rdaam.errors",
    "UnreadableDenoiserWarning": "diffusers_rdaam.errors",
    "UnsupportedPipelineError": "diffusers_rdaam.errors",
    "WordError": "diffusers_rdaam.errors",
    "compare_explanations": "diffusers_rdaam.explain.compare",
    "explain_ablation": "diffusers_rdaam.explain.ablations.ablation",
    "explain_gradient": "diffusers_rdaam.explain.gradients.gradient",
    "inject_attention": "diffusers_rdaam.editing.editing",
    "load_demo_pipeline": "diffusers_rdaam.demo.loader",
    "optimize_token": "diffusers_rdaam.open_vocabulary.optimize",
    "query": "diffusers_rdaam.open_vocabulary.query",
    "query_maps": "diffusers_rdaam.open_vocabulary.query",
    "record_attention": "diffusers_rdaam.pipelines.record_attention",
    "save_attention": "diffusers_rdaam.editing.editing",
}

__all__ = [
    "AlreadyRecordingError",
    "AnimateDiffControlNetRDAAMPipeline",
    "AnimateDiffPAGRDAAMPipeline",
    "AnimateDiffRDAAMPipeline",
    "AnimateDiffSDXLRDAAMPipeline",
    "AnimateDiffSparseControlNetRDAAMPipeline",
    "AnimateDiffVideoToVideoControlNetRDAAMPipeline",
    "AnimateDiffVideoToVideoRDAAMPipeline",
    "Attribution",
    "AttributionFileError",
    "AutoRDAAMPipelineForImage2Image",
    "AutoRDAAMPipelineForInpainting",
    "AutoRDAAMPipelineForText2Image",
    "BackendWarning",
    "Box",
    "DenoiserReplacedWarning",
    "ForeignThreadWarning",
    "GradientError",
    "HeatMap",
    "ImageCountWarning",
    "ImageMismatchWarning",
    "InputError",
    "IntermediateImages",
    "KolorsImg2ImgRDAAMPipeline",
    "KolorsPAGRDAAMPipeline",
    "KolorsRDAAMPipeline",
    "LatentConsistencyModelImg2ImgRDAAMPipeline",
    "LatentConsistencyModelRDAAMPipeline",
    "LayoutUnknownWarning",
    "LivePreview",
    "MapRecipe",
    "Mask",
    "MaskedRowsWarning",
    "NoAttributionError",
    "NotFiniteWarning",
    "NotRecordedWarning",
    "OptimizedToken",
    "PandasExtraError",
    "PartialRunWarning",
    "PlotExtraError",
    "Polygon",
    "ProcessorError",
    "ProcessorWarning",
    "PromptSwitchedWarning",
    "PromptTruncatedWarning",
    "Queries",
    "QueryOptions",
    "RDAAMError",
    "RDAAMPipelineMixin",
    "RDAAMProcessor",
    "RDAAMWarning",
    "RecordingError",
    "RecordingFailedWarning",
    "RecordingOptions",
    "RegionError",
    "RegionWords",
    "RepeatedWordWarning",
    "SavedAttention",
    "SeveralRunsWarning",
    "SiteMisfitWarning",
    "StableDiffusionAdapterRDAAMPipeline",
    "StableDiffusionControlNetImg2ImgRDAAMPipeline",
    "StableDiffusionControlNetInpaintRDAAMPipeline",
    "StableDiffusionControlNetPAGInpaintRDAAMPipeline",
    "StableDiffusionControlNetPAGRDAAMPipeline",
    "StableDiffusionControlNetRDAAMPipeline",
    "StableDiffusionDepth2ImgRDAAMPipeline",
    "StableDiffusionImg2ImgRDAAMPipeline",
    "StableDiffusionInpaintRDAAMPipeline",
    "StableDiffusionInstructPix2PixRDAAMPipeline",
    "StableDiffusionLatentUpscaleRDAAMPipeline",
    "StableDiffusionPAGImg2ImgRDAAMPipeline",
    "StableDiffusionPAGInpaintRDAAMPipeline",
    "StableDiffusionPAGRDAAMPipeline",
    "StableDiffusionRDAAMPipeline",
    "StableDiffusionUpscaleRDAAMPipeline",
    "StableDiffusionXLAdapterRDAAMPipeline",
    "StableDiffusionXLControlNetImg2ImgRDAAMPipeline",
    "StableDiffusionXLControlNetInpaintRDAAMPipeline",
    "StableDiffusionXLControlNetPAGImg2ImgRDAAMPipeline",
    "StableDiffusionXLControlNetPAGRDAAMPipeline",
    "StableDiffusionXLControlNetRDAAMPipeline",
    "StableDiffusionXLControlNetUnionImg2ImgRDAAMPipeline",
    "StableDiffusionXLControlNetUnionInpaintRDAAMPipeline",
    "StableDiffusionXLControlNetUnionRDAAMPipeline",
    "StableDiffusionXLImg2ImgRDAAMPipeline",
    "StableDiffusionXLInpaintRDAAMPipeline",
    "StableDiffusionXLInstructPix2PixRDAAMPipeline",
    "StableDiffusionXLPAGImg2ImgRDAAMPipeline",
    "StableDiffusionXLPAGInpaintRDAAMPipeline",
    "StableDiffusionXLPAGRDAAMPipeline",
    "StableDiffusionXLRDAAMPipeline",
    "TextMismatchWarning",
    "Timeline",
    "UncheckedTextWarning",
    "UnreadableDenoiserWarning",
    "UnsupportedPipelineError",
    "WordError",
    "WordsInside",
    "__version__",
    "compare_explanations",
    "explain_ablation",
    "explain_gradient",
    "inject_attention",
    "load_demo_pipeline",
    "optimize_token",
    "query",
    "query_maps",
    "record_attention",
    "save_attention",
]

if TYPE_CHECKING:
    from diffusers_rdaam.attention.options import QueryOptions, RecordingOptions
    from diffusers_rdaam.attention.processor import (
        RDAAMProcessor,
    )
    from diffusers_rdaam.attribution.attribution import (
        Attribution,
    )
    from diffusers_rdaam.attribution.heat_map import (
        HeatMap,
    )
    from diffusers_rdaam.attribution.queries import (
        Queries,
    )
    from diffusers_rdaam.attribution.region_words import (
        RegionWords,
    )
    from diffusers_rdaam.demo.loader import (
        load_demo_pipeline,
    )
    from diffusers_rdaam.editing.editing import inject_attention, save_attention
    from diffusers_rdaam.editing.saved_attention import SavedAttention
    from diffusers_rdaam.errors import (
        AlreadyRecordingError,
        AttributionFileError,
        BackendWarning,
        DenoiserReplacedWarning,
        ForeignThreadWarning,
        GradientError,
        ImageCountWarning,
        ImageMismatchWarning,
        InputError,
        LayoutUnknownWarning,
        MaskedRowsWarning,
        NoAttributionError,
        NotFiniteWarning,
        NotRecordedWarning,
        PandasExtraError,
        PartialRunWarning,
        PlotExtraError,
        ProcessorError,
        ProcessorWarning,
        PromptSwitchedWarning,
        PromptTruncatedWarning,
        RDAAMError,
        RDAAMWarning,
        RecordingError,
        RecordingFailedWarning,
        RegionError,
        RepeatedWordWarning,
        SeveralRunsWarning,
        SiteMisfitWarning,
        TextMismatchWarning,
        UncheckedTextWarning,
        UnreadableDenoiserWarning,
        UnsupportedPipelineError,
        WordError,
    )
    from diffusers_rdaam.explain.ablations.ablation import (
        explain_ablation,
    )
    from diffusers_rdaam.explain.compare import (
        compare_explanations,
    )
    from diffusers_rdaam.explain.gradients.gradient import (
        explain_gradient,
    )
    from diffusers_rdaam.geometry.region import (
        Box,
        Mask,
        Polygon,
    )
    from diffusers_rdaam.open_vocabulary.optimize import optimize_token
    from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken
    from diffusers_rdaam.open_vocabulary.query import query, query_maps
    from diffusers_rdaam.open_vocabulary.recipe import MapRecipe
    from diffusers_rdaam.pipelines.animatediff import (
        AnimateDiffControlNetRDAAMPipeline,
        AnimateDiffPAGRDAAMPipeline,
        AnimateDiffRDAAMPipeline,
        AnimateDiffSDXLRDAAMPipeline,
        AnimateDiffSparseControlNetRDAAMPipeline,
        AnimateDiffVideoToVideoControlNetRDAAMPipeline,
        AnimateDiffVideoToVideoRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.auto import (
        AutoRDAAMPipelineForImage2Image,
        AutoRDAAMPipelineForInpainting,
        AutoRDAAMPipelineForText2Image,
    )
    from diffusers_rdaam.pipelines.callbacks import IntermediateImages, LivePreview
    from diffusers_rdaam.pipelines.controlnet import (
        StableDiffusionControlNetImg2ImgRDAAMPipeline,
        StableDiffusionControlNetInpaintRDAAMPipeline,
        StableDiffusionControlNetRDAAMPipeline,
        StableDiffusionXLControlNetImg2ImgRDAAMPipeline,
        StableDiffusionXLControlNetInpaintRDAAMPipeline,
        StableDiffusionXLControlNetRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.controlnet_union import (
        StableDiffusionXLControlNetUnionImg2ImgRDAAMPipeline,
        StableDiffusionXLControlNetUnionInpaintRDAAMPipeline,
        StableDiffusionXLControlNetUnionRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.instruct_pix2pix import (
        StableDiffusionInstructPix2PixRDAAMPipeline,
        StableDiffusionXLInstructPix2PixRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.kolors import (
        KolorsImg2ImgRDAAMPipeline,
        KolorsPAGRDAAMPipeline,
        KolorsRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.latent_consistency import (
        LatentConsistencyModelImg2ImgRDAAMPipeline,
        LatentConsistencyModelRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.mixin import (
        RDAAMPipelineMixin,
    )
    from diffusers_rdaam.pipelines.pag import (
        StableDiffusionControlNetPAGInpaintRDAAMPipeline,
        StableDiffusionControlNetPAGRDAAMPipeline,
        StableDiffusionPAGImg2ImgRDAAMPipeline,
        StableDiffusionPAGInpaintRDAAMPipeline,
        StableDiffusionPAGRDAAMPipeline,
        StableDiffusionXLControlNetPAGImg2ImgRDAAMPipeline,
        StableDiffusionXLControlNetPAGRDAAMPipeline,
        StableDiffusionXLPAGImg2ImgRDAAMPipeline,
        StableDiffusionXLPAGInpaintRDAAMPipeline,
        StableDiffusionXLPAGRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.record_attention import (
        record_attention,
    )
    from diffusers_rdaam.pipelines.stable_diffusion import (
        StableDiffusionImg2ImgRDAAMPipeline,
        StableDiffusionInpaintRDAAMPipeline,
        StableDiffusionRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.stable_diffusion_xl import (
        StableDiffusionXLImg2ImgRDAAMPipeline,
        StableDiffusionXLInpaintRDAAMPipeline,
        StableDiffusionXLRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.t2i_adapter import (
        StableDiffusionAdapterRDAAMPipeline,
        StableDiffusionXLAdapterRDAAMPipeline,
    )
    from diffusers_rdaam.pipelines.upscale import (
        StableDiffusionDepth2ImgRDAAMPipeline,
        StableDiffusionLatentUpscaleRDAAMPipeline,
        StableDiffusionUpscaleRDAAMPipeline,
    )


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'diffusers_rdaam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_EXPORTS[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
