"""Small work for the cost table's tests, and systems written for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from benchmarks.sizes import Model
from benchmarks.systems.stage import Stage, Work
from benchmarks.systems.system import Answers, System, UnavailableError

# Four grids as in SD1.5, from 8x8 to 1x1, two heads.
TINY = Model(
    name="tiny",
    config={
        "sample_size": 64,
        "block_out_channels": (8, 16, 16, 16),
        "cross_attention_dim": 12,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    },
    narrow={"block_out_channels": (8, 8, 8, 8)},
    latent=(8, 8),
)
KEPT = 1000


def tiny_stage(**options: Any) -> Stage:
    """Of a model that takes milliseconds."""
    return Stage(Work(TINY, **options))


class Keeper(System):
    """Keeps a tensor of ``KEPT`` bytes a denoiser call, and a view of its input beside it."""

    title = "keeper"

    def __init__(self, **attributes: Any) -> None:
        self.grows, self.fails, self.spoils = True, False, False
        vars(self).update(attributes)
        self.held: list[Tensor] = []

    def load(self) -> None:
        """Nothing to import."""

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        """By hooks on the denoiser; what they kept is dropped after the run."""
        attention = stage.sites[0]
        handle = stage.unet.register_forward_pre_hook(self._keep)
        if self.spoils:
            original = attention.forward
            attention.forward = lambda *args, **kwargs: original(*args, **kwargs) + 1
            stage.pipe.stray = "left behind"
        try:
            yield KeeperAnswers()
        finally:
            if not self.spoils:
                handle.remove()
            self.held.clear()

    def _keep(self, module: Any, args: tuple[Any, ...]) -> None:
        if self.fails:
            raise RuntimeError("this one cannot record")
        if self.grows or not self.held:
            whole = torch.zeros(2 * KEPT, dtype=torch.uint8)
            # Half of it is seen; all of it stays alive.
            self.held.append(whole[:KEPT])


class KeeperAnswers(Answers):
    """One of its questions fails."""

    def first(self) -> object:
        return 1

    def box(self, box: Any) -> object:
        raise ZeroDivisionError("no area")


class Missing(System):
    """Cannot be imported."""

    title = "missing"

    def load(self) -> None:
        raise UnavailableError("not installed here")

    @contextmanager
    def recording(self, stage: Stage) -> Iterator[Answers]:
        raise AssertionError("It was not loaded.")
        yield
