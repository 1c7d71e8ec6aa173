"""Stock methods of a pipeline that also record, note a prompt, or keep recording going.

Each keeps the stock signature and docstring, and is missing where the stock class has none.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def _recorded(stock_call: Any) -> Any:
    @functools.wraps(stock_call)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._rdaam_call(stock_call, args, kwargs)

    return _marked(__call__)


def _noted(encode: Any) -> Any:
    """A method that encodes the prompt; a recorded run notes which text it was given."""
    signature = inspect.signature(encode)

    @functools.wraps(encode)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self._rdaam_run is not None:
            self._rdaam_run.note_encoding(signature, self, *args, **kwargs)
        return encode(self, *args, **kwargs)

    return _marked(method)


def _switch(stock_method: Any) -> Any:
    """A method that sets processors of its own on the denoiser; recording goes on with them."""

    @functools.wraps(stock_method)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = stock_method(self, *args, **kwargs)
        self._rdaam_reinstall()
        return result

    return _marked(method)


def _marked(method: Any) -> Any:
    method._rdaam_wrapped = True
    return method


WRAPPED: dict[str, Callable[[Any], Any]] = {
    "__call__": _recorded,
    "encode_prompt": _noted,
    # Stable Diffusion's InstructPix2Pix encodes its prompt here.
    "_encode_prompt": _noted,
    "enable_attention_slicing": _switch,
    "enable_xformers_memory_efficient_attention": _switch,
    "disable_xformers_memory_efficient_attention": _switch,
    "fuse_qkv_projections": _switch,
    "unfuse_qkv_projections": _switch,
    "load_ip_adapter": _switch,
    "unload_ip_adapter": _switch,
}
