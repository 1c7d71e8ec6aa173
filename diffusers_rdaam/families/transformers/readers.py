"""What the arguments of each transformer's call say: the adapters that several models share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch import Tensor

from diffusers_rdaam.errors import RecordingError
from diffusers_rdaam.families.joint_layout import JointLayout
from diffusers_rdaam.families.transformers.kind import Arguments, Reader, Reading

Grid = tuple[int, ...]
GridOf = Callable[[Arguments], Grid]


def latent_grid(call: Arguments) -> Grid:
    """The latent ``(rows, channels, height, width)`` in patches; of a video also its frames."""
    sizes = call["hidden_states"].shape[2:]
    patch = call.config.patch_size
    patches = (patch,) * 2 if isinstance(patch, int) else tuple(patch)[-2:]
    height, width = sizes[-2] // patches[0], sizes[-1] // patches[1]
    if len(sizes) == 2:
        return height, width
    of_time = getattr(call.config, "patch_size_t", None) or 1
    if not isinstance(patch, int) and len(tuple(patch)) == 3:
        of_time = patch[0]
    return -(-sizes[0] // of_time), height, width


def position_id_grid(call: Arguments) -> Grid:
    """From ``img_ids (positions, axes)``: references have another number in the first axis."""
    ids: Tensor = call["img_ids"]
    ids = ids[0] if ids.ndim == 3 else ids
    own = ids[ids[:, 0] == ids[0, 0]][:, 1:3]
    # LongCat-Image counts on from the text.
    height, width = (own.amax(dim=0) - own.amin(dim=0) + 1).tolist()
    return int(height), int(width)


def image_shapes_grid(call: Arguments) -> Grid:
    """From ``img_shapes``: of each row the sizes ``(1, height, width)``, the image's first."""
    first = call["img_shapes"][0]
    _, height, width = first[0] if isinstance(first, list) else first
    return int(height), int(width)


def text_first(grid: GridOf, *, skip: int = 0) -> Reader:
    """Text before image among queries and keys; what comes behind the image is a reference."""

    def read(call: Arguments) -> Reading:
        states: Tensor = call["encoder_hidden_states"]
        layout = JointLayout.text_first(rows_of(call, states), states.shape[1], skip)
        return reading(call, grid(call), layout, states)

    return read


def text_first_masked(grid: GridOf) -> Reader:
    """As ``text_first``, with a mask where prompts of a batch are of different lengths."""
    read_all = text_first(grid)

    def read(call: Arguments) -> Reading | None:
        found = read_all(call)
        mask = call.get("encoder_hidden_states_mask")
        if found is None or mask is None:
            return found
        return replace(found, columns=tuple(mask.sum(dim=1).tolist()))

    return read


def image_first(grid: GridOf) -> Reader:
    """Image before text among queries and keys."""

    def read(call: Arguments) -> Reading:
        states: Tensor = call["encoder_hidden_states"]
        size = grid(call)
        layout = JointLayout.image_first(rows_of(call, states), positions_of(size))
        return reading(call, size, layout, states)

    return read


def image_before_two_texts(call: Arguments) -> Reading:
    """HunyuanImage: image, then the columns of ByT5 and of Qwen, the valid ones of both first.

    The columns are numbered in the order in which the blocks are given them.
    """
    states: Tensor = call["encoder_hidden_states"]
    second = call.get("encoder_hidden_states_2")
    is_read = second is not None and getattr(call.denoiser, "context_embedder_2", None) is not None
    size = latent_grid(call)
    layout = JointLayout.image_first(states.shape[0], positions_of(size))
    found = reading(call, size, layout, states)
    columns = states.shape[1] + (second.shape[1] if is_read else 0)
    return replace(found, columns=(columns,) * found.rows)


def padded_image_before_three_texts(call: Arguments) -> Reading:
    """HiDream: image, padded unless it is square, then T5, Llama's last states, and a block's."""
    t5: Tensor = call["encoder_hidden_states_t5"]
    llama: Tensor = call["encoder_hidden_states_llama3"]
    if call.get("img_sizes") is not None:
        raise RecordingError(
            "The HiDreamImageTransformer2DModel was called with pictures cut in patches, whose "
            "grid is not known. Give it the latents as (rows, channels, height, width)."
        )
    size = latent_grid(call)
    positions = positions_of(size) if size[0] == size[1] else int(call.denoiser.max_seq)
    found = reading(call, size, JointLayout.image_first(t5.shape[0], positions), t5)
    columns = t5.shape[1] + 2 * llama.shape[2]
    return replace(found, columns=(columns,) * found.rows, timestep=call.get("timesteps"))


def cross(grid: GridOf) -> Reader:
    """Cross-attention to the text alone."""

    def read(call: Arguments) -> Reading:
        states: Tensor = call["encoder_hidden_states"]
        layout = JointLayout.cross(rows_of(call, states))
        return reading(call, grid(call), layout, states)

    return read


def reading(call: Arguments, grid: Grid, joint: JointLayout, states: Tensor) -> Reading:
    """A reading of a call whose rows all have the same number of text columns."""
    columns = (states.shape[1],) * rows_of(call, states)
    return Reading(grid, columns, joint, states, call["hidden_states"], call.get("timestep"))


def rows_of(call: Arguments, states: Tensor) -> int:
    """Rows of latents, each of which has a row of text, or all have the one.

    One negative prompt for several prompts is such a text: the first modulation gives it the rows.
    """
    rows = int(call["hidden_states"].shape[0])
    if states.shape[0] not in (1, rows):
        raise RecordingError(
            f"The {type(call.denoiser).__name__} was called with {rows} rows of "
            f"latents and {states.shape[0]} of text, which is not known."
        )
    return rows


def positions_of(grid: Grid) -> int:
    """Number of positions of a grid."""
    count = 1
    for size in grid:
        count *= size
    return count


def unless(argument: str, read: Reader) -> Reader:
    """``read``, but a call in which an argument is given belongs to no branch of guidance."""

    def read_others(call: Arguments) -> Reading | None:
        return None if call.get(argument) is not None else read(call)

    return read_others
