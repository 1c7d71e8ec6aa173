"""What the calls of transformers say whose arguments are their own: lists, packed videos, ids.

Each reader is of one or two models; those that many share are in :mod:`readers`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.families.transformers.kind import Arguments, Reading
from diffusers_rdaam.families.transformers.readers import (
    Grid,
    image_shapes_grid,
    latent_grid,
    position_id_grid,
    positions_of,
    reading,
    rows_of,
)

# Z-Image pads the image and the text to a multiple of this.
_Z_MULTIPLE = 32


def z_image(call: Arguments) -> Reading:
    """``[image, padding, text, padding]``, each row with the length of its own text."""
    latents, texts = call["x"], call["cap_feats"]
    if isinstance(latents[0], (list, tuple)):
        raise RecordingError(
            "The ZImageTransformer2DModel was called with several pictures a row, whose places "
            "among its positions are not known. Record without reference pictures."
        )
    patch = call.get("patch_size") or 2
    height, width = latents[0].shape[-2] // patch, latents[0].shape[-1] // patch
    padded = -(-height * width // _Z_MULTIPLE) * _Z_MULTIPLE
    return Reading(
        grid=(height, width),
        columns=tuple(len(text) for text in texts),
        joint=JointLayout.image_first(len(latents), padded),
        states=pad_sequence(list(texts), batch_first=True),
        latents=pad_sequence([one.flatten() for one in latents], batch_first=True),
        timestep=call.get("t"),
    )


def lumina2(call: Arguments) -> Reading:
    """``[text, image, padding]``, each row with its text's own length and no padding in it."""
    states, mask = call["encoder_hidden_states"], call["encoder_attention_mask"]
    lengths = tuple(int(length) for length in mask.sum(dim=1).tolist())
    layout = JointLayout(lengths, lengths, (0,) * len(lengths))
    latents: Tensor = call["hidden_states"]
    return Reading(latent_grid(call), lengths, layout, states, latents, call.get("timestep"))


def mochi(call: Arguments) -> Reading:
    """``[video, text]`` without the text's padding, and an attention call for each row."""
    states, mask = call["encoder_hidden_states"], call["encoder_attention_mask"]
    lengths = tuple(int(length) for length in mask.bool().sum(dim=1).tolist())
    grid = latent_grid(call)
    layout = JointLayout.image_first(len(lengths), positions_of(grid), row_by_row=True)
    latents: Tensor = call["hidden_states"]
    return Reading(grid, lengths, layout, states, latents, call.get("timestep"))


def hunyuan_dit(call: Arguments) -> Reading:
    """Cross-attention to BERT's columns and those of T5 behind them."""
    states, others = call["encoder_hidden_states"], call["encoder_hidden_states_t5"]
    rows, columns = states.shape[0], states.shape[1] + others.shape[1]
    return Reading(
        grid=latent_grid(call),
        columns=(columns,) * rows,
        joint=JointLayout.cross(rows),
        states=states,
        latents=call["hidden_states"],
        timestep=call.get("timestep"),
    )


def allegro(call: Arguments) -> Reading:
    """Cross-attention to a text ``(rows, 1, columns, width)``."""
    states: Tensor = call["encoder_hidden_states"]
    if states.ndim == 4:
        states = states[:, 0]
    return reading(call, latent_grid(call), JointLayout.cross(states.shape[0]), states)


def prx(call: Arguments) -> Reading:
    """Queries are the image's, keys ``[text, image]``."""
    states: Tensor = call["encoder_hidden_states"]
    rows, columns = states.shape[:2]
    layout = JointLayout((0,) * rows, (columns,) * rows, (0,) * rows)
    return reading(call, latent_grid(call), layout, states)


def ernie(call: Arguments) -> Reading:
    """``[image, text]``, each row with its text's own length."""
    states: Tensor = call["text_bth"]
    lengths = tuple(int(length) for length in call["text_lens"].tolist())
    grid = latent_grid(call)
    layout = JointLayout.image_first(states.shape[0], positions_of(grid))
    latents: Tensor = call["hidden_states"]
    return Reading(grid, lengths, layout, states, latents, call.get("timestep"))


def easyanimate(call: Arguments) -> Reading:
    """``[text, video]``.

    Raises:
        RecordingError: the call has a second text, of T5, which no pipeline of diffusers gives.
    """
    if call.get("encoder_hidden_states_t5") is not None:
        raise RecordingError(
            "The EasyAnimateTransformer3DModel was called with encoder_hidden_states_t5, whose "
            "columns come between the other text's and the video's. Record without it."
        )
    states: Tensor = call["encoder_hidden_states"]
    layout = JointLayout.text_first(rows_of(call, states), states.shape[1])
    return reading(call, latent_grid(call), layout, states)


def bria_fibo(call: Arguments) -> Reading:
    """``[text, image, references]``, the padding of the text before or behind it, and masked."""
    states: Tensor = call["encoder_hidden_states"]
    length = states.shape[1]
    mask = (call.get("joint_attention_kwargs") or {}).get("attention_mask")
    text = _columns_of(None if mask is None else mask[:, 0, 0, :length], states)
    image = (length,) * len(text)
    return _masked(call, position_id_grid(call), JointLayout(image, image, text), states)


def bria_fibo2(call: Arguments) -> Reading:
    """Cross-attention of some blocks, from ``[summary of the text, image, references]``.

    The summary is behind the others where the rows of the call have summaries of other lengths.
    """
    from diffusers.models.transformers.transformer_bria_fibo2 import compute_gist_count

    # A layer of the text encoder for each of those blocks, and one for the summary.
    states: Tensor = call["encoder_hidden_states"][:, 0]
    mask = call.get("encoder_attention_mask")
    text = _columns_of(mask, states)
    config = call.config
    counts = compute_gist_count(
        [len(row) for row in text],
        min_gist=config.min_num_gist_tokens,
        max_gist=config.max_num_gist_tokens,
        gist_step=config.gist_step,
        min_text_len=config.gist_min_text_len,
        max_text_len=config.gist_max_text_len,
    )
    start = counts[0] if len(set(counts)) == 1 else 0
    layout = JointLayout((start,) * len(text), (), text)
    return _masked(call, latent_grid(call), layout, states)


def nucleus(call: Arguments) -> Reading:
    """Queries are the image's, keys ``[image, text]``; padding is masked, before or behind it."""
    states: Tensor = call["encoder_hidden_states"]
    grid = image_shapes_grid(call)
    positions = positions_of(grid)
    columns = _columns_of(call.get("encoder_hidden_states_mask"), states)
    text = tuple(tuple(positions + column for column in row) for row in columns)
    zeros = (0,) * rows_of(call, states)
    return _masked(call, grid, JointLayout(zeros, zeros, text), states)


def ideogram4(call: Arguments) -> Reading:
    """``[padding, text, image]``, and an indicator that says which position is which."""
    from diffusers.models.transformers.transformer_ideogram4 import (
        LLM_TOKEN_INDICATOR,
        OUTPUT_IMAGE_INDICATOR,
    )

    states: Tensor = call["encoder_hidden_states"]
    roles: Tensor = call["indicator"]
    text = _columns_of(roles == LLM_TOKEN_INDICATOR, states)
    of_image = roles == OUTPUT_IMAGE_INDICATOR
    starts = tuple(int(row.nonzero()[0]) for row in of_image)
    places = call["position_ids"][0][of_image[0]][:, 1:]
    height, width = (places.amax(dim=0) - places.amin(dim=0) + 1).tolist()
    layout = JointLayout(starts, starts, text)
    return _masked(call, (int(height), int(width)), layout, states)


def _columns_of(mask: Tensor | None, states: Tensor) -> tuple[tuple[int, ...], ...]:
    """Of each row of a text embedding the columns that are not padding."""
    if mask is None:
        return (tuple(range(states.shape[1])),) * states.shape[0]
    return tuple(tuple(row.nonzero().flatten().tolist()) for row in mask.bool())


def _masked(call: Arguments, grid: Grid, layout: JointLayout, states: Tensor) -> Reading:
    """A reading in which the columns of padding are not counted."""
    lengths = tuple(len(row) for row in layout.text if isinstance(row, tuple))
    return Reading(grid, lengths, layout, states, call["hidden_states"], call.get("timestep"))


def hunyuan_video15(call: Arguments) -> Reading:
    """``[video, columns of a picture, of ByT5 and of Qwen]``, the valid ones of all first.

    The columns are numbered in the order in which the blocks are given them.
    """
    states: Tensor = call["encoder_hidden_states"]
    others = call["encoder_hidden_states_2"], call["image_embeds"]
    grid = latent_grid(call)
    layout = JointLayout.image_first(states.shape[0], positions_of(grid))
    found = reading(call, grid, layout, states)
    columns = states.shape[1] + sum(other.shape[1] for other in others)
    return replace(found, columns=(columns,) * found.rows)


def omnigen(call: Arguments) -> Reading:
    """``[text, time, image]``; the text is ids, which the model embeds itself."""
    ids: Tensor = call["input_ids"]
    rows, columns = ids.shape
    grid = latent_grid(call)
    image = (columns + 1,) * rows
    layout = JointLayout(image, image, (0,) * rows)
    return reading(call, grid, layout, ids)


def ltx(call: Arguments) -> Reading:
    """Cross-attention from a packed video, before which there may be frames of conditions.

    Its sizes are named, or seen from the place of each position in frames and pixels. A condition
    that is not at the beginning has positions of its own, all of them later than the first frame.
    """
    states: Tensor = call["encoder_hidden_states"]
    places = call.get("video_coords")
    if places is None:
        grid, start = (int(call["num_frames"]), int(call["height"]), int(call["width"])), 0
    else:
        times, tops, lefts = places[0]
        start = int((times == 0).nonzero()[0])
        height, width = len(tops.unique()), len(lefts.unique())
        grid = ((len(times) - start) // (height * width), height, width)
    rows = int(call["hidden_states"].shape[0])
    return reading(call, grid, JointLayout((start,) * rows, (), (0,) * rows), states)


def kandinsky5(call: Arguments) -> Reading:
    """Cross-attention to the text alone.

    Raises:
        RecordingError: the attention is sparse, which takes the positions block by block.
    """
    sparse = call.get("sparse_params")
    if sparse is not None and sparse["to_fractal"]:
        raise RecordingError(
            "The Kandinsky5Transformer3DModel was called with sparse attention, for which it puts "
            "the positions of the video in the order of blocks of 8 x 8, and maps would be of "
            'other places. Use a checkpoint whose attention_type is "regular".'
        )
    states: Tensor = call["encoder_hidden_states"]
    layout = JointLayout.cross(rows_of(call, states))
    return reading(call, channels_last_grid(call), layout, states)


def ltx2(call: Arguments) -> Reading | None:
    """Cross-attention from a packed video, behind which there may be frames of conditions.

    Two kinds of guidance call once more for the prompt's rows: with self-attention skipped in some
    blocks, and without attention between the video and its sound.
    """
    if call.get("spatio_temporal_guidance_blocks") or call.get("isolate_modalities"):
        return None
    states: Tensor = call["encoder_hidden_states"]
    grid = (int(call["num_frames"]), int(call["height"]), int(call["width"]))
    return reading(call, grid, JointLayout.cross(int(call["hidden_states"].shape[0])), states)


def wan_animate(call: Arguments) -> Reading:
    """Cross-attention as Wan's, with a frame of the character's picture before the video."""
    states: Tensor = call["encoder_hidden_states"]
    frames, height, width = latent_grid(call)
    rows = int(call["hidden_states"].shape[0])
    layout = JointLayout((height * width,) * rows, (), (0,) * rows)
    return reading(call, (frames - 1, height, width), layout, states)


def frames_first_grid(call: Arguments) -> Grid:
    """The latent ``(rows, frames, channels, height, width)`` in patches."""
    sizes = call["hidden_states"].shape
    patch, of_time = call.config.patch_size, call.config.patch_size_t or 1
    return -(-sizes[1] // of_time), sizes[3] // patch, sizes[4] // patch


def channels_last_grid(call: Arguments) -> Grid:
    """The latent ``(rows, frames, height, width, channels)`` in patches; of a picture no frames."""
    frames, height, width = call["hidden_states"].shape[1:4]
    of_time, high, wide = call.config.patch_size
    size = (height // high, width // wide)
    return size if frames == 1 else (-(-frames // of_time), *size)


def picture_grid(call: Arguments) -> Grid:
    """:func:`latent_grid`, without the frames of a video of one."""
    frames, *size = (1, *latent_grid(call))[-3:]
    return tuple(size) if frames == 1 else (frames, *size)


def position_axes_grid(call: Arguments) -> Grid:
    """From ``position_ids (positions, 3)`` of text and image: those of the image are behind."""
    columns = call["encoder_hidden_states"].shape[1]
    ids: Any = call["position_ids"][columns:]
    return int(ids[:, 1].max()) + 1, int(ids[:, 2].max()) + 1
