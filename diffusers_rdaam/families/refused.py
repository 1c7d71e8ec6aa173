"""Pipelines of diffusers whose denoiser reads text and is not recorded."""

from __future__ import annotations

_EDITS = (
    "each call has a part for every edit concept, and no argument says how many, so the rows of "
    "the prompt cannot be found"
)
_OWN_PROCESSORS = "it puts attention processors of its own on the modules that would be recorded"
_NO_PROMPT = "its denoiser attends to no prompt of the user's"
_TEXT_JOINS = (
    "its denoiser attends to text and image features in one softmax, or to text under added keys"
)
_SECOND_OF_TWO = "of its two pipelines the second makes the image"
_AUDIO = "it makes sound, which has no regions of pixels"
_NO_IMAGE = "it makes {}, and no image or video"
_PRIOR = "it makes an embedding, and the pipeline that makes the image of it is refused too"
_POOLED = "its denoiser is given one pooled vector of the text, which has no words"
_OF_A_GRID = (
    "it makes one or more pictures of a prompt, in one grid with those that it was given, which "
    "its transformer sees as one image"
)
_MASKED = (
    "its denoiser predicts an image's discrete tokens, and the masks of its steps have not been "
    "looked at"
)
_UNREAD = (
    "the order of text and image among its attention's keys has not been looked at, and it is "
    "never guessed"
)
_NOT_COMPARED = (
    "the order of text and image among its attention's keys is known from its source, and no run "
    "of it has been compared with dense attention yet"
)
_DUAL = "its denoiser alternates between text and image contexts in one transformer"

# By the exact name of diffusers' class.
REFUSED: dict[str, str] = {
    "StableDiffusionPanoramaPipeline": (
        "it denoises overlapping tiles in calls of several, and no argument says which tile a "
        "row is of"
    ),
    "StableDiffusionAttendAndExcitePipeline": (
        f"{_OWN_PROCESSORS}, and calls the denoiser for gradients in between"
    ),
    "StableDiffusionPix2PixZeroPipeline": (
        f"{_OWN_PROCESSORS}, and calls the denoiser for gradients and for a reference in between"
    ),
    "StableDiffusionParadigmsPipeline": (
        "a call has many timesteps at once, and no argument says which are repeated"
    ),
    "SemanticStableDiffusionPipeline": _EDITS,
    "LEditsPPPipelineStableDiffusion": _EDITS,
    "LEditsPPPipelineStableDiffusionXL": _EDITS,
    "StableDiffusionPipelineSafe": (
        "a call has a third part for the safety concept or not, and no argument says which"
    ),
    "StableDiffusionInpaintPipelineLegacy": (
        "StableDiffusionInpaintPipeline has taken its place, and is recorded"
    ),
    "TextToVideoZeroPipeline": (f"{_OWN_PROCESSORS}, and denoises the first frame separately"),
    "TextToVideoZeroSDXLPipeline": (f"{_OWN_PROCESSORS}, and denoises the first frame separately"),
    "AltDiffusionPipeline": "its text encoder's tokenizer has not been looked at",
    "AltDiffusionImg2ImgPipeline": "its text encoder's tokenizer has not been looked at",
    "UniDiffuserPipeline": "its denoiser is a transformer in which image and text attend as one",
    "VersatileDiffusionPipeline": _DUAL,
    "VersatileDiffusionTextToImagePipeline": _DUAL,
    "VersatileDiffusionDualGuidedPipeline": _DUAL,
    "VersatileDiffusionImageVariationPipeline": _NO_PROMPT,
    "StableDiffusionImageVariationPipeline": _NO_PROMPT,
    "PaintByExamplePipeline": _NO_PROMPT,
    "StableVideoDiffusionPipeline": _NO_PROMPT,
    "MarigoldDepthPipeline": _NO_PROMPT,
    "MarigoldNormalsPipeline": _NO_PROMPT,
    "MarigoldIntrinsicsPipeline": _NO_PROMPT,
    "I2VGenXLPipeline": "its denoiser appends columns of the image to those of the text",
    "BlipDiffusionPipeline": "its prompt's columns are made with those of an image among them",
    "BlipDiffusionControlNetPipeline": (
        "its prompt's columns are made with those of an image among them"
    ),
    "Kandinsky3Pipeline": "its UNet has attention modules of its own, with a mask over the text",
    "Kandinsky3Img2ImgPipeline": (
        "its UNet has attention modules of its own, with a mask over the text"
    ),
    **dict.fromkeys(
        (
            "KandinskyPipeline",
            "KandinskyImg2ImgPipeline",
            "KandinskyInpaintPipeline",
            "UnCLIPImageVariationPipeline",
        ),
        _TEXT_JOINS,
    ),
    **dict.fromkeys(
        (
            "KandinskyV22Pipeline",
            "KandinskyV22Img2ImgPipeline",
            "KandinskyV22InpaintPipeline",
            "KandinskyV22ControlnetPipeline",
            "KandinskyV22ControlnetImg2ImgPipeline",
            "KandinskyV22CombinedPipeline",
            "KandinskyV22Img2ImgCombinedPipeline",
            "KandinskyV22InpaintCombinedPipeline",
        ),
        _NO_PROMPT,
    ),
    **dict.fromkeys(
        (
            "KandinskyCombinedPipeline",
            "KandinskyImg2ImgCombinedPipeline",
            "KandinskyInpaintCombinedPipeline",
        ),
        f"{_SECOND_OF_TWO}, and {_TEXT_JOINS}",
    ),
    "QwenImageLayeredPipeline": (
        "it makes several layers of an image of one prompt, and each of them would need maps of "
        "its own"
    ),
    "EasyAnimateControlPipeline": (
        "diffusers' class fails at its first call: it gives its encode_prompt an argument, "
        "text_encoder_index, that it does not take"
    ),
    "LattePipeline": (
        "its attention to the text has a row for each frame of a video, which is read of UNets "
        "only; WanPipeline and others make videos of a text, and are recorded"
    ),
    "HunyuanImageRefinerPipeline": (
        "it works on an image that is there already; HunyuanImagePipeline, which makes it from "
        "the prompt, is recorded"
    ),
    "Flux2KleinKVPipeline": (
        "it keeps the keys of its references from the first step and attends to them in a function "
        "outside of its processors; Flux2KleinPipeline takes references too, and is recorded"
    ),
    **dict.fromkeys(("AudioLDMPipeline", "AudioLDM2Pipeline", "MusicLDMPipeline"), _AUDIO),
    **dict.fromkeys(
        (
            "AceStepPipeline",
            "LongCatAudioDiTPipeline",
            "StableAudioPipeline",
            "StableAudio3Pipeline",
            "StableAudio3AudioToAudioPipeline",
            "StableAudio3InpaintPipeline",
        ),
        _AUDIO,
    ),
    "DiffusionGemmaPipeline": _NO_IMAGE.format("text"),
    "LLaDA2Pipeline": _NO_IMAGE.format("text"),
    "RFD4ProteinaPipeline": _NO_IMAGE.format("proteins"),
    "ShapEPipeline": _NO_IMAGE.format("a body in space"),
    "ShapEImg2ImgPipeline": _NO_IMAGE.format("a body in space"),
    **dict.fromkeys(
        (
            "KandinskyPriorPipeline",
            "KandinskyV22PriorPipeline",
            "KandinskyV22PriorEmb2EmbPipeline",
            "StableCascadePriorPipeline",
            "WuerstchenPriorPipeline",
        ),
        _PRIOR,
    ),
    "FluxPriorReduxPipeline": (
        "it makes an embedding; FluxPipeline, which makes the image of it, is recorded"
    ),
    "StableCascadeDecoderPipeline": _POOLED,
    "GlmImagePipeline": (
        "its denoiser is given only what the prompt has in quotes; all other words reach the image "
        "by tokens that a language model writes before, and not by attention"
    ),
    "WuerstchenDecoderPipeline": _TEXT_JOINS,
    "StableCascadeCombinedPipeline": f"{_SECOND_OF_TWO}, and {_POOLED}",
    "WuerstchenCombinedPipeline": f"{_SECOND_OF_TWO}, and {_TEXT_JOINS}",
    "VisualClozeGenerationPipeline": _OF_A_GRID,
    "VisualClozePipeline": _OF_A_GRID,
    **dict.fromkeys(
        (
            "AmusedPipeline",
            "AmusedImg2ImgPipeline",
            "AmusedInpaintPipeline",
            "VQDiffusionPipeline",
        ),
        _MASKED,
    ),
    # Transformers of which no run has been compared with the dense attention yet.
    **dict.fromkeys(
        (
            "AnyFlowPipeline",
            "ConsisIDPipeline",
            "Cosmos2_5_TransferPipeline",
            "Cosmos3OmniPipeline",
            "Cosmos2_5_PredictBasePipeline",
            "Kandinsky6TI2VAPipeline",
            "LTX2DFRTemporalRefinePipeline",
            "LTX2DFRPipeline",
            "LTX2InContextPipeline",
            "LTX2HDRPipeline",
            "SanaWMPipeline",
            "SkyReelsV2DiffusionForcingVideoToVideoPipeline",
        ),
        _UNREAD,
    ),
    **dict.fromkeys(
        (
            "AnyFlowFARPipeline",
            "HeliosPyramidPipeline",
            "HeliosPipeline",
            "HunyuanVideoFramepackPipeline",
            "LTXI2VLongMultiPromptPipeline",
        ),
        "it makes a video in parts, each by a loop of its own, and maps of several parts would be "
        "added up",
    ),
    **dict.fromkeys(
        ("DreamLiteMobilePipeline", "DreamLitePipeline"),
        "its denoiser has the image and a picture side by side in one latent, so that the rows of "
        "the image do not follow each other in its attention",
    ),
    "QwenImage21Pipeline": (
        "it keeps the keys of its text from the first step, and what attends to them is another "
        "call of its attention's code in that step than in the later ones"
    ),
    "ZImageOmniPipeline": (
        "its text comes in pieces around the places of pictures, each padded, and no run of it has "
        "been compared with dense attention yet"
    ),
    **dict.fromkeys(
        (
            "JoyImageEditPipeline",
            "JoyImageEditPlusPipeline",
            "MotifVideoImage2VideoPipeline",
            "MotifVideoPipeline",
        ),
        _NOT_COMPARED,
    ),
}
