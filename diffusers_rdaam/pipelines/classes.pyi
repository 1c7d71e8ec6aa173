# Written from the table of layouts by: python -m benchmarks.write_stub
from typing import Any

import diffusers

from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin

def recording_class(stock: str) -> Any: ...

__all__ = [
    "AnimateDiffControlNetRDAAMPipeline",
    "AnimateDiffPAGRDAAMPipeline",
    "AnimateDiffRDAAMPipeline",
    "AnimateDiffSDXLRDAAMPipeline",
    "AnimateDiffSparseControlNetRDAAMPipeline",
    "AnimateDiffVideoToVideoControlNetRDAAMPipeline",
    "AnimateDiffVideoToVideoRDAAMPipeline",
    "FluxImg2ImgRDAAMPipeline",
    "FluxInpaintRDAAMPipeline",
    "FluxRDAAMPipeline",
    "KolorsImg2ImgRDAAMPipeline",
    "KolorsPAGRDAAMPipeline",
    "KolorsRDAAMPipeline",
    "LatentConsistencyModelImg2ImgRDAAMPipeline",
    "LatentConsistencyModelRDAAMPipeline",
    "PixArtAlphaRDAAMPipeline",
    "PixArtSigmaRDAAMPipeline",
    "StableDiffusion3Img2ImgRDAAMPipeline",
    "StableDiffusion3InpaintRDAAMPipeline",
    "StableDiffusion3RDAAMPipeline",
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
]

class AnimateDiffControlNetRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.AnimateDiffControlNetPipeline
): ...
class AnimateDiffPAGRDAAMPipeline(RDAAMPipelineMixin, diffusers.AnimateDiffPAGPipeline): ...
class AnimateDiffRDAAMPipeline(RDAAMPipelineMixin, diffusers.AnimateDiffPipeline): ...
class AnimateDiffSDXLRDAAMPipeline(RDAAMPipelineMixin, diffusers.AnimateDiffSDXLPipeline): ...
class AnimateDiffSparseControlNetRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.AnimateDiffSparseControlNetPipeline
): ...
class AnimateDiffVideoToVideoControlNetRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.AnimateDiffVideoToVideoControlNetPipeline
): ...
class AnimateDiffVideoToVideoRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.AnimateDiffVideoToVideoPipeline
): ...
class FluxImg2ImgRDAAMPipeline(RDAAMPipelineMixin, diffusers.FluxImg2ImgPipeline): ...
class FluxInpaintRDAAMPipeline(RDAAMPipelineMixin, diffusers.FluxInpaintPipeline): ...
class FluxRDAAMPipeline(RDAAMPipelineMixin, diffusers.FluxPipeline): ...
class KolorsImg2ImgRDAAMPipeline(RDAAMPipelineMixin, diffusers.KolorsImg2ImgPipeline): ...
class KolorsPAGRDAAMPipeline(RDAAMPipelineMixin, diffusers.KolorsPAGPipeline): ...
class KolorsRDAAMPipeline(RDAAMPipelineMixin, diffusers.KolorsPipeline): ...
class LatentConsistencyModelImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.LatentConsistencyModelImg2ImgPipeline
): ...
class LatentConsistencyModelRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.LatentConsistencyModelPipeline
): ...
class PixArtAlphaRDAAMPipeline(RDAAMPipelineMixin, diffusers.PixArtAlphaPipeline): ...
class PixArtSigmaRDAAMPipeline(RDAAMPipelineMixin, diffusers.PixArtSigmaPipeline): ...
class StableDiffusion3Img2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusion3Img2ImgPipeline
): ...
class StableDiffusion3InpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusion3InpaintPipeline
): ...
class StableDiffusion3RDAAMPipeline(RDAAMPipelineMixin, diffusers.StableDiffusion3Pipeline): ...
class StableDiffusionAdapterRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionAdapterPipeline
): ...
class StableDiffusionControlNetImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionControlNetImg2ImgPipeline
): ...
class StableDiffusionControlNetInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionControlNetInpaintPipeline
): ...
class StableDiffusionControlNetPAGInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionControlNetPAGInpaintPipeline
): ...
class StableDiffusionControlNetPAGRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionControlNetPAGPipeline
): ...
class StableDiffusionControlNetRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionControlNetPipeline
): ...
class StableDiffusionDepth2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionDepth2ImgPipeline
): ...
class StableDiffusionImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionImg2ImgPipeline
): ...
class StableDiffusionInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionInpaintPipeline
): ...
class StableDiffusionInstructPix2PixRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionInstructPix2PixPipeline
): ...
class StableDiffusionLatentUpscaleRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionLatentUpscalePipeline
): ...
class StableDiffusionPAGImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionPAGImg2ImgPipeline
): ...
class StableDiffusionPAGInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionPAGInpaintPipeline
): ...
class StableDiffusionPAGRDAAMPipeline(RDAAMPipelineMixin, diffusers.StableDiffusionPAGPipeline): ...
class StableDiffusionRDAAMPipeline(RDAAMPipelineMixin, diffusers.StableDiffusionPipeline): ...
class StableDiffusionUpscaleRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionUpscalePipeline
): ...
class StableDiffusionXLAdapterRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLAdapterPipeline
): ...
class StableDiffusionXLControlNetImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetImg2ImgPipeline
): ...
class StableDiffusionXLControlNetInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetInpaintPipeline
): ...
class StableDiffusionXLControlNetPAGImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetPAGImg2ImgPipeline
): ...
class StableDiffusionXLControlNetPAGRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetPAGPipeline
): ...
class StableDiffusionXLControlNetRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetPipeline
): ...
class StableDiffusionXLControlNetUnionImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetUnionImg2ImgPipeline
): ...
class StableDiffusionXLControlNetUnionInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetUnionInpaintPipeline
): ...
class StableDiffusionXLControlNetUnionRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLControlNetUnionPipeline
): ...
class StableDiffusionXLImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLImg2ImgPipeline
): ...
class StableDiffusionXLInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLInpaintPipeline
): ...
class StableDiffusionXLInstructPix2PixRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLInstructPix2PixPipeline
): ...
class StableDiffusionXLPAGImg2ImgRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLPAGImg2ImgPipeline
): ...
class StableDiffusionXLPAGInpaintRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLPAGInpaintPipeline
): ...
class StableDiffusionXLPAGRDAAMPipeline(
    RDAAMPipelineMixin, diffusers.StableDiffusionXLPAGPipeline
): ...
class StableDiffusionXLRDAAMPipeline(RDAAMPipelineMixin, diffusers.StableDiffusionXLPipeline): ...
