"""Every pipeline class whose images are attributed, at toy size: two images and two prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from builders_joint import CASES as JOINT
from builders_single import CASES as SINGLE
from PIL import Image
from toy_models import picture
from toys import ALL_CASES, NINE, PROMPT, build, parts_of

from diffusers_rdaam.images.latent_layouts import LATENT_LAYOUTS

# What attribute_image decides, or leaves out.
_LEFT_OUT = (
    "prompt", "image", "mask_image", "height", "width", "num_inference_steps", "output_type",
    "strength", "num_images_per_prompt", "sigmas", "timesteps", "max_area", "_auto_resize",
    "true_cfg_scale", "guidance_scale", "negative_prompt", "pag_scale", "use_resolution_binning",
)  # fmt: skip
_NOISES_ITS_IMAGE = ("Img2Img", "Inpaint", "Depth2Img")


@dataclass(frozen=True)
class ImageCase:
    """A stock pipeline, and how images are attributed by it.

    Args:
        name: of the diffusers class, and what is special.
        make: builds the pipeline.
        size: height and width of the images.
        prompts: one an image.
        call: further arguments.
        pipeline_image: for the call's ``image=``, where the class reads another image.
    """

    name: str
    make: Callable[[], Any]
    size: tuple[int, int]
    prompts: tuple[str, ...]
    call: dict[str, Any]
    pipeline_image: Any = None

    @property
    def images(self) -> list[Image.Image]:
        """Images of noise, one a prompt."""
        return [picture(*self.size, seed=7 + number) for number in range(len(self.prompts))]

    @property
    def options(self) -> dict[str, Any]:
        """What attribute_image is given beside images and prompts."""
        return {"size": self.size, "pipeline_image": self.pipeline_image, **self.call}


def _reads_another(cls: str) -> bool:
    return not any(part in cls for part in _NOISES_ITS_IMAGE)


def _of_transformer(name: str, make: Callable[[], Any]) -> ImageCase:
    case = make()
    cls = case.name.split(",")[0].split()[0]
    call = {key: value for key, value in case.call.items() if key not in _LEFT_OUT}
    image = case.call.get("image")
    size = (case.call.get("height"), case.call.get("width"))
    if size[0] is None:
        size = (image.height, image.width) if isinstance(image, Image.Image) else (32, 48)
    prompt = case.call["prompt"]
    prompts: tuple[str, ...] = tuple(prompt[:2]) if isinstance(prompt, list) else (prompt, prompt)
    if cls == "QwenImageEditPlusPipeline":
        # It takes one prompt at a time.
        prompts = prompts[:1]
    other = image if _reads_another(cls) else None
    return ImageCase(name, case.make, size, prompts, call, other)


def _of_unet(name: str, case: Any) -> ImageCase:
    call = {key: value for key, value in case.call.items() if key not in _LEFT_OUT}
    other = case.call.get("image") if _reads_another(f"{case.name}Pipeline") else None
    # It wants one for each prompt.
    other = [other] * 2 if "Pix2Pix" in name else other
    make = partial(_built, case)
    return ImageCase(name, make, (64, 96), (PROMPT, "a dog"), call, other)


def _built(case: Any) -> Any:
    return build(case.stock, parts_of(case))


def _cases() -> Iterator[tuple[str, Callable[[], ImageCase]]]:
    """One case a class, and the inpainting UNets with nine channels."""
    seen: set[str] = set()
    for name, make in {**JOINT, **SINGLE}.items():
        cls = name.split(",")[0].split()[0]
        if cls in LATENT_LAYOUTS and cls not in seen:
            seen.add(cls)
            yield cls, partial(_of_transformer, cls, make)
    for cls, case in ALL_CASES.items():
        if f"{cls}Pipeline" in LATENT_LAYOUTS:
            yield f"{cls}Pipeline", partial(_of_unet, cls, case)
    for cls, case in NINE.items():
        yield f"{cls}Pipeline, nine channels", partial(_of_unet, cls, case)


CASES: dict[str, Callable[[], ImageCase]] = dict(_cases())
