"""FrameMapping: which latent frame each frame of a video was decoded from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from diffusers_rdaam.errors import InputError

# Numbers of a repr.
_SHOWN = 12


@dataclass(frozen=True)
class FrameMapping:
    """Which latent frame each frame of a video was decoded from.

    A video's denoiser works on fewer frames than the video has, and attends to the text once for
    each of them: all frames of a latent frame have the same maps.

    Args:
        latent: of each frame of the video, the number of its latent frame, from 0.
        how: the rule, in words.

    Raises:
        InputError: there is no frame, or a number is negative.
    """

    latent: tuple[int, ...] = field(repr=False)
    how: str

    def __post_init__(self) -> None:
        if not self.latent or min(self.latent) < 0:
            raise InputError(
                "Every frame of a video has the number of its latent frame, from 0, and there is "
                f"at least one; got {str(self.latent)[:200]}."
            )

    @classmethod
    def each(cls, frames: int) -> FrameMapping:
        """Every frame has a latent frame of its own, as AnimateDiff's have."""
        return cls(tuple(range(frames)), "each frame of the video has a latent frame of its own")

    @classmethod
    def causal(cls, latent_frames: int, scale: int, *, together: int = 1) -> FrameMapping:
        """The first latent frame is one frame of the video, each later one ``scale`` frames.

        So decode autoencoders whose convolutions over time see earlier frames only.

        Args:
            latent_frames: number of latent frames as the denoiser attends from them.
            scale: frames of the video to a latent frame.
            together: how many of the autoencoder's latent frames are one of the denoiser's.
        """
        frames = (latent_frames * together - 1) * scale + 1
        return cls.causal_of(latent_frames, scale, frames, together=together)

    @classmethod
    def causal_of(
        cls, latent_frames: int, scale: int, frames: int, *, together: int = 1
    ) -> FrameMapping:
        """As :meth:`causal`, for a video with this number of frames; evenly if that is not one.

        Where the denoiser has several latent frames together, a pipeline may have added some
        before the first one to fill up, which are not decoded.
        """
        decoded = -(-(frames - 1) // scale) + 1
        added = latent_frames * together - decoded
        if not 0 <= added < together or (frames - 1) % scale:
            return cls.even(latent_frames, frames)
        numbers = [added, *(added + 1 + i // scale for i in range(frames - 1))]
        how = (
            f"the first latent frame is the first frame of the video, each later one {scale} frames"
        )
        if together > 1:
            how += f"; the denoiser has {together} latent frames together"
        if added:
            how += f", and the first {added} were added to fill up"
        return cls(tuple(number // together for number in numbers), how)

    @classmethod
    def even(cls, latent_frames: int, frames: int) -> FrameMapping:
        """The frames are divided evenly among the latent frames."""
        numbers = tuple(i * latent_frames // frames for i in range(frames))
        each, rest = divmod(frames, latent_frames)
        about = "" if not rest else "about "
        how = f"each latent frame is {about}{max(each, 1)} frame{'s' * (each > 1)} of the video"
        return cls(numbers, how)

    def __len__(self) -> int:
        """The number of frames of the video."""
        return len(self.latent)

    @property
    def latent_frames(self) -> int:
        """The number of latent frames that the frames are of."""
        return len(set(self.latent))

    def frames_of(self, latent: int) -> tuple[int, ...]:
        """The frames of the video that were decoded from a latent frame."""
        return tuple(frame for frame, one in enumerate(self.latent) if one == latent)

    def take(self, frames: Sequence[int]) -> FrameMapping:
        """The mapping of some of the frames."""
        return FrameMapping(tuple(self.latent[frame] for frame in frames), self.how)

    def __repr__(self) -> str:
        numbers = ", ".join(map(str, self.latent[:_SHOWN]))
        more = ", …" if len(self.latent) > _SHOWN else ""
        return (
            f"FrameMapping({len(self)} frames of {self.latent_frames} latent frames: {self.how}; "
            f"{numbers}{more})"
        )


def is_video(value: Any) -> bool:
    """Whether something is the attribution of a video, whose class is defined above its users."""
    return isinstance(getattr(value, "frame_mapping", None), FrameMapping)
