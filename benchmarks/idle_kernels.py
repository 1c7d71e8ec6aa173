"""Kernels that do nothing in the place of ours: what is left is what a site costs the processor.

Within each of these blocks recording goes the whole way from the attention processor to the kernel,
on any device, and adds nothing: maps that are recorded meanwhile mean nothing.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

from diffusers_rdaam.kernels import fused, portable


class Idle:
    """Stands where a kernel stands, or a function that launches one; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __getitem__(self, grid: Any) -> Idle:
        return self

    def __call__(self, *arguments: Any, **named: Any) -> None:
        self.calls += 1


@contextmanager
def _in_place_of(*places: tuple[Any, str]) -> Iterator[Idle]:
    """Raises RuntimeError at the end where it was never called: the kernel ran then."""
    idle = Idle()
    with ExitStack() as stack:
        for owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, idle))
        yield idle
    if not idle.calls:
        names = ", ".join(name for _, name in places)
        raise RuntimeError(f"{names} was replaced by what does nothing, and was not called.")


@contextmanager
def idle_portable() -> Iterator[Idle]:
    """Without the portable kernel."""
    with _in_place_of((portable, "accumulate")) as idle:
        yield idle


@contextmanager
def idle_triton() -> Iterator[Idle]:
    """Without Triton and its kernels: its launcher's own work is not in it, ours is."""
    from diffusers_rdaam.kernels import fused_text

    kernels = ((fused_text, "attend_to_text"), (fused_text, "fold_shares"))
    with _taken_for_proved(), _in_place_of(*kernels) as idle:
        yield idle


@contextmanager
def idle_launcher() -> Iterator[Idle]:
    """Without what makes a launch's arguments of tensors either."""
    with _taken_for_proved(), _in_place_of((fused, "launch_text")) as idle:
        yield idle


@contextmanager
def _taken_for_proved() -> Iterator[None]:
    """Triton's kernels are chosen on any device; the first call of a kind is proved by assertion.

    What is proved here is forgotten at the end.
    """
    from diffusers_rdaam.kernels import fused_proof

    with (
        mock.patch.object(fused, "unavailable", lambda device: None),
        mock.patch.object(fused_proof, "_proved", set()),
        mock.patch.object(fused_proof, "_is_right", lambda call: True),
    ):
        yield


# What is left out, by the name of the backend and in words.
KINDS: dict[tuple[str, str], Callable[[], AbstractContextManager[Idle]]] = {
    ("portable", "a kernel that does nothing"): idle_portable,
    ("maps_only", "a kernel that does nothing"): idle_triton,
    ("maps_only", "a launcher that does nothing"): idle_launcher,
}


def missing(backend: str) -> str | None:
    """Why a backend's processor time cannot be measured; None where it can."""
    if backend != "portable" and importlib.util.find_spec("triton") is None:
        return "not measured: Triton is not installed"
    return None
