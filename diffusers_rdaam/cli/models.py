"""The model of a command: its place, its facts before it is loaded, and its loading."""

from __future__ import annotations

import json
import logging
import re
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diffusers_rdaam.checkpoints.folder import INDEX, check_folder, check_link
from diffusers_rdaam.errors import InputError

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "float16", "bfloat16")
# A hub that does not answer within these seconds is not reached: a download would take longer.
_PATIENCE = 3.0
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_LARGEST_CONFIG = 1_000_000
# The name of the embedded FLUX; the embedded Stable Diffusion is what runs without a name.
EMBEDDED_FLUX = "demo-flux"


@dataclass(frozen=True)
class Model:
    """A model that can be loaded.

    Args:
        name: a folder or hub id; None is an embedded model.
        local: True to leave the hub out.
        embedded: which of the embedded models, where it is one.
    """

    name: str | None
    local: bool = True
    embedded: Literal["stable-diffusion", "flux"] = "stable-diffusion"

    def size(self) -> tuple[int, int] | None:
        """Height and width of its images by default, from its settings; None if not known here."""
        if self.name is None and self.embedded == "flux":
            from diffusers_rdaam.demo.loader import FLUX_DEFAULTS

            return FLUX_DEFAULTS["height"], FLUX_DEFAULTS["width"]
        vae = self._settings("vae/config.json")
        unet = self._settings("unet/config.json") or self._settings("transformer/config.json")
        sample, blocks = unet.get("sample_size"), vae.get("block_out_channels")
        scale = 2 ** (len(blocks) - 1) if isinstance(blocks, list) and 0 < len(blocks) < 12 else 8
        given = sample if isinstance(sample, list) else [sample, sample]
        sides = [side for side in given if isinstance(side, int) and side > 0]
        return (sides[0] * scale, sides[1] * scale) if len(sides) == len(given) == 2 else None

    def most_steps(self) -> int | None:
        """The number of steps that the scheduler was trained with; None if not known here."""
        steps = self._settings("scheduler/scheduler_config.json").get("num_train_timesteps")
        return steps if type(steps) is int and steps > 0 else None

    def pipeline_class(self) -> str:
        """The name of its class of diffusers; empty if not known here."""
        name = self._settings(INDEX).get("_class_name")
        return name if isinstance(name, str) else ""

    def _settings(self, name: str) -> dict[str, Any]:
        path = self._file(name)
        try:
            if path is None or path.stat().st_size > _LARGEST_CONFIG:
                return {}
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return settings if isinstance(settings, dict) else {}

    def _file(self, name: str) -> Path | None:
        if self.name is None:
            from diffusers_rdaam.demo.loader import FLUX_WEIGHTS, WEIGHTS

            return (FLUX_WEIGHTS if self.embedded == "flux" else WEIGHTS) / name
        folder = Path(self.name)
        return folder / name if folder.is_dir() else _cached(self.name, name)


def find_model(name: str | None) -> Model:
    """The model of ``--model``, after a look at what there is; nothing is loaded.

    Raises:
        InputError: there is no such folder, and the hub cannot be reached or the text is not a hub
            id.
    """
    if name is None:
        return Model(None)
    # A folder of that name wins over the name.
    if name == EMBEDDED_FLUX and not Path(name).exists():
        return Model(None, embedded="flux")
    start = f"No pipeline could be loaded from --model {name}"
    path = Path(name)
    try:
        is_folder, is_file = path.is_dir() and bool(name), path.exists() and bool(name)
        is_whole = (path / INDEX).is_file()
    except (OSError, ValueError) as error:
        raise InputError(f"{start}: {error}.") from error
    if is_folder and is_whole:
        check_folder(path, start)
        return Model(name)
    if is_folder:
        check_link(path / INDEX, start)
        raise InputError(
            f"{start}: the folder has no {INDEX}. Give the folder of a whole pipeline, as "
            "pipe.save_pretrained writes it."
        )
    if is_file:
        raise InputError(
            f"{start}: it is a file. Give the folder of a pipeline, with its {INDEX}; diffusers "
            "makes one of a single file by from_single_file and save_pretrained."
        )
    if not _HUB_ID.fullmatch(name):
        raise InputError(
            f"{start}: there is no such folder, and it is not a hub id such as owner/name. Give a "
            f"folder that holds {INDEX}."
        )
    reason = _why_unreachable()
    if reason is None:
        return Model(name, local=False)
    if _cached(name, INDEX) is not None:
        return Model(name, local=True)
    raise InputError(
        f"{start}: there is no such folder, and as a hub id it cannot be fetched: {reason}. Give a "
        f"folder that holds {INDEX}, such as --model ./{name.rpartition('/')[2]}, or try again "
        "with a network."
    )


def _cached(name: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, file)
    except ValueError:
        return None
    return Path(found) if isinstance(found, str) else None


def _why_unreachable() -> str | None:
    """Why the hub does not answer; None where it does. It takes seconds at most."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    failures = [f"{constants.ENDPOINT} does not answer within {_PATIENCE:g} seconds"]

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            pass
        except (OSError, ValueError) as error:
            failures[0] = f"{constants.ENDPOINT} cannot be reached ({error})"
            return
        failures.clear()

    # Looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE + 1.0)
    return failures[0] if failures else None


def check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        InputError: as it says.
    """
    import torch

    try:
        if not device:
            raise ValueError("it is empty.")
        found = torch.device(device)
        if found.type == "meta":
            raise RuntimeError("it holds no numbers.")
        torch.zeros((), device=found, dtype=torch.float32)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise InputError(
            f"--device {device!r} cannot be used here: {reason}. Leave --device out for the best "
            "there is."
        ) from error


def best_device() -> str:
    """The accelerator where there is one."""
    # It takes seconds to import, and a wrong path or name is reported before.
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def check_dtype(dtype: str | None) -> None:
    """Refuse a number type that models are not loaded in.

    Raises:
        InputError: as it says.
    """
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"--dtype {dtype!r} is not known. Types: {', '.join(DTYPES)}.")


def load_pipeline(model: Model, device: str, dtype: str | None) -> Any:
    """The embedded pipeline, or one from a folder or the hub.

    Raises:
        InputError: the model cannot be loaded.
        UnsupportedPipelineError: the model cannot be recorded.
    """
    import torch

    quiet_libraries()
    half = model.name is not None and device.startswith("cuda")
    torch_dtype = getattr(torch, dtype or ("float16" if half else "float32"))
    if model.name is None:
        from diffusers_rdaam.demo.loader import load_demo_pipeline

        # So small a model is slower on several threads, by far where others use the cores too.
        torch.set_num_threads(1)
        pipe: Any = load_demo_pipeline(model.embedded, dtype=torch_dtype)
    else:
        pipe = _load(model.name, torch_dtype, local=model.local)
    return on_device(pipe, device)


def load_stock_pipeline(model: Model, device: str, dtype: str | None) -> Any:
    """A pipeline of diffusers' own class, of any task, on the CPU.

    Raises:
        InputError: the model cannot be loaded.
    """
    import torch
    from diffusers import DiffusionPipeline

    assert model.name is not None
    quiet_libraries()
    torch_dtype = getattr(torch, dtype or ("float16" if device.startswith("cuda") else "float32"))
    return _load(model.name, torch_dtype, local=model.local, loader=DiffusionPipeline)


def on_device(pipe: Any, device: str) -> Any:
    """The pipeline on a device.

    Raises:
        InputError: the device does not take it.
    """
    try:
        return pipe.to(device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device!r} cannot be used here: {error}") from error


def _load(name: str, torch_dtype: torch.dtype, *, local: bool, loader: Any = None) -> Any:
    from diffusers_rdaam.checkpoints.loading import load_checkpoint
    from diffusers_rdaam.pipelines.auto import AutoRDAAMPipelineForText2Image

    start = f"No pipeline could be loaded from --model {name}"
    return load_checkpoint(
        loader or AutoRDAAMPipelineForText2Image, name, start=start, dtype=torch_dtype, local=local
    )


def quiet_libraries() -> None:
    """Silence the libraries' bars and notes about loading; this process is ours alone."""
    for library in ("transformers", "diffusers", "huggingface_hub"):
        logging.getLogger(library).setLevel(logging.ERROR)
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
