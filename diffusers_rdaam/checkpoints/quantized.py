"""Weights that were saved quantised: which library reads them, and whether it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

# The module that reads weights of each method, and what is installed for it. Methods that are not
# here need a library that says so itself, or none.
_READERS = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "bitsandbytes_4bit": ("bitsandbytes", "bitsandbytes"),
    "bitsandbytes_8bit": ("bitsandbytes", "bitsandbytes"),
    "torchao": ("torchao", "torchao"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "gguf": ("gguf", "gguf"),
    "modelopt": ("modelopt", "nvidia-modelopt"),
    "auto-round": ("auto_round", "auto-round"),
    "nunchaku_lite": ("kernels", "kernels"),
    "sdnq": ("sdnq", "sdnq"),
    "awq": ("gptqmodel", "gptqmodel"),
    "gptq": ("gptqmodel", "gptqmodel optimum"),
    "aqlm": ("aqlm", "aqlm"),
    "hqq": ("hqq", "hqq"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
}
_CURE = "or give the model's folder that is not quantised"


def quantization_fault(shown: str, settings: Mapping[str, Any]) -> str:
    """Why quantised weights cannot be read here; empty where that is not known.

    Args:
        shown: the name of the file of settings.
        settings: of a model, its ``config.json``.
    """
    quantized = settings.get("quantization_config")
    if quantized is None:
        return ""
    if not isinstance(quantized, dict):
        return (
            f"{shown} holds a {type(quantized).__name__} as quantization_config, and an object "
            f"with a quant_method is wanted. Write the folder anew with pipe.save_pretrained, "
            f"{_CURE}"
        )
    method = quantized.get("quant_method")
    if method is None and (quantized.get("load_in_4bit") or quantized.get("load_in_8bit")):
        method = "bitsandbytes"
    if not isinstance(method, str) or method not in _READERS:
        return ""
    module, package = _READERS[method]
    if _is_installed(module):
        return ""
    return (
        f"{shown} says that its weights are quantised with {method}, and "
        f"{module} is not installed. Install it (pip install {package} accelerate), {_CURE}"
    )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        # Of a package that is missing itself, or that was only begun to be imported.
        return False
