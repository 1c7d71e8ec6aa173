"""Everything about a host that a call must leave as it found it: taken down, and compared.

What the stock call itself changes (the scheduler's timesteps, the pipeline's guidance scale) is
left out by name; everything else counts, also what nobody has thought of: every entry of every
module's dictionary is compared by identity.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.attention_processor import Attention
from torch import nn

# Of a pipeline of ours: its last run's answers, and what every run leaves to the next one.
ANSWERS = ("_rdaam_attributions", "_rdaam_why", "_rdaam_buffers", "_rdaam_runs", "_rdaam_warnings")
ANSWERS += ("_rdaam_default", "_rdaam_replacements")
# What the stock call writes into its pipeline.
OF_THE_CALL = {
    "_guidance_scale",
    "_guidance_rescale",
    "_clip_skip",
    "_cross_attention_kwargs",
    "_interrupt",
    "_num_timesteps",
    "_progress_bar_config",
}
# What any of its schedulers counts up in a run.
OF_THE_SCHEDULER = {
    "timesteps",
    "_timesteps",
    "prk_timesteps",
    "plms_timesteps",
    "num_inference_steps",
    "model_outputs",
    "ets",
    "counter",
    "cur_sample",
    "cur_model_output",
    "sample",
    "last_sample",
    "lower_order_nums",
    "this_order",
    "sigmas",
    "_step_index",
    "_begin_index",
}

State = dict[str, Any]


def state_of(pipe: Any) -> State:
    """What is there now, by name."""
    state: State = dict(_pipeline(pipe))
    for name, module in _modules(pipe):
        state |= dict(_module(name, module))
    state |= {f"global {name}": value for name, value in _globals()}
    denoiser = pipe.unet
    state["armed"] = [where for where, found in _registries() if found.get(denoiser)]
    return state


def differences(before: State, after: State) -> list[str]:
    """The names of what is there now and was not, is not there any more, or is something else."""
    found = []
    for name in before.keys() | after.keys():
        one, other = before.get(name, _MISSING), after.get(name, _MISSING)
        if not _same(one, other):
            what = "gone" if other is _MISSING else "new" if one is _MISSING else "changed"
            found.append(f"{name} ({what})")
    return sorted(found)


_MISSING = object()


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        both = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        # Random state is read as a new tensor each time.
        return both and one.dtype == torch.uint8 and torch.equal(one, other)
    plain = (bool, int, float, str, list, tuple, set, type(None))
    return isinstance(one, plain) and type(one) is type(other) and one == other


def _pipeline(pipe: Any) -> Iterator[tuple[str, Any]]:
    yield "pipe class", type(pipe)
    # An attribute with its class's default is as good as none.
    defaults = {
        name
        for cls in type(pipe).__mro__
        for name, value in vars(cls).items()
        if name.startswith("_rdaam_") and not callable(value) and not isinstance(value, property)
    }
    for name in {*vars(pipe), *defaults} - {*ANSWERS, *OF_THE_CALL}:
        yield f"pipe.{name}", getattr(pipe, name)
    scheduler = pipe.scheduler
    for name, value in vars(scheduler).items():
        if name not in OF_THE_SCHEDULER:
            yield f"scheduler.{name}", value
    for cls in {*type(pipe).__mro__, *type(scheduler).__mro__, Attention, nn.Module} - {object}:
        for name, value in vars(cls).items():
            if not name.startswith("_abc_"):
                yield f"class {cls.__name__}.{name}", value


def _modules(pipe: Any) -> Iterator[tuple[str, nn.Module]]:
    for part, module in pipe.components.items():
        if isinstance(module, nn.Module):
            for name, child in module.named_modules():
                yield f"{part}.{name}".rstrip("."), child


def _module(where: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    yield f"{where} class", type(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):
            for key, entry in value.items():
                yield f"{where}.{name}[{key}]", entry
        else:
            yield f"{where}.{name}", value
    for name, weight in module.named_parameters(recurse=False):
        yield f"{where}.{name} requires_grad", weight.requires_grad
        yield f"{where}.{name} grad", weight.grad
        yield f"{where}.{name} hooks", len(weight._backward_hooks or ())
        yield f"{where}.{name} dtype", str(weight.dtype)


def _globals() -> Iterator[tuple[str, Any]]:
    yield "grad mode", torch.is_grad_enabled()
    yield "inference mode", torch.is_inference_mode_enabled()
    yield "autocast", torch.is_autocast_enabled("cpu")
    yield "default dtype", str(torch.get_default_dtype())
    yield "default device", str(torch.get_default_device())
    yield "function modes", torch._C._len_torch_function_stack()
    yield "dispatch modes", torch._C._len_torch_dispatch_stack()
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", lambda _: None)
    yield "saved tensor hooks", top(False) is None
    yield "random state", torch.get_rng_state()
    yield "trace function", sys.gettrace() is None
    yield "threads", threading.active_count()
    yield "warning filters", list(warnings.filters)
    yield "open files", open_files()
    yield "standard error", sys.stderr


def open_files() -> int:
    """How many the process has; 0 where the system does not list them."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def _registries() -> Iterator[tuple[str, Any]]:
    """Where denoisers that are being recorded are noted."""
    for name, module in list(sys.modules.items()):
        if name.startswith("diffusers_rdaam.recording"):
            for key, value in vars(module).items():
                if "armed" in key and isinstance(value, Mapping):
                    yield f"{name}.{key}", value
