"""From a pipeline's call to the columns of its text embedding, by the name of a model family.

Adding a family whose text is tokenized as another's takes one line here.
"""

from __future__ import annotations

from diffusers_rdaam.tokens.encoder_columns import Source
from diffusers_rdaam.tokens.sources import chats, plain, templates
from diffusers_rdaam.tokens.sources.columns import Reader
from diffusers_rdaam.tokens.sources.plain import (
    T5,
    preprocessed,
    prompt_cleaned,
    prx_cleaned,
    prx_pixel_cleaned,
)

SOURCES: dict[str, Source] = {
    "allegro": plain.plain(T5, clean=preprocessed),
    "auraflow": plain.plain(T5),
    "bria": plain.bria,
    "bria_fibo": plain.bria_fibo,
    "bria_fibo2": chats.bria_fibo2,
    "chroma": plain.plain(T5),
    "cogvideox": plain.plain(T5),
    "cogview3": plain.plain(T5),
    "cogview4": plain.cogview4,
    "cosmos2": plain.plain(T5),
    "deepfloyd": plain.plain(T5, clean=preprocessed),
    "easyanimate": chats.easyanimate,
    "ernie": plain.ernie,
    "flux": plain.plain(Reader("t5", "text_encoder_2", "tokenizer_2"), field="prompt_2"),
    "flux2": chats.flux2,
    "flux2_klein": chats.flux2_klein,
    "hidream": plain.hidream,
    "hunyuan_dit": plain.hunyuan_dit,
    "hunyuan_image": templates.hunyuan_image,
    "hunyuan_video": templates.hunyuan_video,
    "hunyuan_video_picture": templates.hunyuan_video_of_picture,
    "hunyuan_video15": chats.hunyuan_video15,
    "hunyuan_video15_picture": chats.hunyuan_video15_of_picture,
    "ideogram4": chats.ideogram4,
    "kandinsky5": templates.kandinsky5,
    "kandinsky5_edit": templates.kandinsky5_edit,
    "krea2": templates.krea2,
    "ldm": plain.plain(Reader("bert", "bert")),
    "longcat": chats.longcat,
    "longcat_edit": chats.longcat_edit,
    "ltx": plain.plain(T5),
    "ltx2": plain.ltx2,
    "lumina": plain.lumina,
    "lumina2": templates.lumina2,
    "mochi": plain.mochi,
    "nucleus": chats.nucleus,
    "omnigen": chats.omnigen,
    "ovis": chats.ovis,
    "pixart": plain.plain(T5, clean=preprocessed),
    "prx": plain.plain(Reader("gemma"), clean=prx_cleaned),
    "prx_pixel": plain.plain(Reader("qwen"), clean=prx_pixel_cleaned),
    "qwen_image": templates.qwen_image,
    "qwen_image_edit": templates.qwen_image_edit,
    "qwen_image_edit_plus": templates.qwen_image_edit_plus,
    "sana": templates.sana,
    "sd3": plain.sd3,
    "unclip": plain.unclip,
    "wan": plain.plain(Reader("umt5"), clean=prompt_cleaned),
    "z_image": chats.z_image,
}
