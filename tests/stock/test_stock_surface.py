"""The classes themselves: whatever a stock class has, ours has, unless it is named here."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest
from alike import OWN
from diffusers import DiffusionPipeline
from toys import ALL_CASES

import diffusers_rdaam
from diffusers_rdaam.families.added_keys import ADDED_KEYS_PIPELINES as ADDED_KEYS
from diffusers_rdaam.families.transformers.pipelines import TRANSFORMER_PIPELINES as TRANSFORMERS
from diffusers_rdaam.pipelines.classes import class_name

CASES = {
    name: case
    for name, case in ALL_CASES.items()
    if f"{case.name}RDAAMPipeline" in diffusers_rdaam.__all__
}
ALL = [pytest.param(case, id=name) for name, case in CASES.items()]

# What our classes do in their own way; the signatures and the documentation stay.
OVERRIDDEN = {"__call__", "encode_prompt", "_encode_prompt", "from_pipe", "to"}
OVERRIDDEN |= {"to_json_string"}
# They set processors of their own, and recording goes on with those.
OVERRIDDEN |= {"enable_attention_slicing", "load_ip_adapter", "unload_ip_adapter"}
OVERRIDDEN |= {"fuse_qkv_projections", "unfuse_qkv_projections"}
OVERRIDDEN |= {f"{on}able_xformers_memory_efficient_attention" for on in ("en", "dis")}
# What every class has of its own.
OF_ANY_CLASS = {"__doc__", "__module__", "__dict__", "__weakref__", "__init_subclass__"}
OF_ANY_CLASS |= {"__abstractmethods__", "_abc_impl", "__subclasshook__", "__annotations__"}
# Of whatever has been pickled, and what of a pipeline is.
OF_ANY_CLASS |= {"__slotnames__", "__getstate__"}
# Of Python 3.13.
OF_ANY_CLASS |= {"__firstlineno__", "__static_attributes__", "__annotate__"}
OF_ANY_CLASS |= {"__annotations_cache__", "__annotate_func__"}


def static(cls: Any) -> dict[str, Any]:
    """Each attribute of a class as it stands in the class that defines it."""
    return {name: inspect.getattr_static(cls, name) for name in dir(cls) if hasattr(cls, name)}


def parameters(method: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in found]


def function(value: Any) -> Any:
    return getattr(value, "__func__", value)


def test_every_exported_pipeline_is_looked_at():
    exported = {name for name in diffusers_rdaam.__all__ if name.endswith("RDAAMPipeline")}
    # Those of transformers are compared with the stock class in tests/transformers.
    of_unets = exported - {
        class_name(stock) for stock in (*TRANSFORMERS, *ADDED_KEYS, "LDMTextToImagePipeline")
    }
    assert {case.ours.__name__ for case in CASES.values()} == of_unets


@pytest.mark.parametrize("case", ALL)
def test_nothing_else_is_changed_or_added(case):
    stock, ours = static(case.stock), static(case.ours)
    assert not stock.keys() - ours.keys()
    changed = {name for name in stock if ours[name] is not stock[name]}
    assert changed - OF_ANY_CLASS <= OVERRIDDEN
    added = {name for name in ours.keys() - stock.keys() if not name.startswith("_rdaam_")}
    assert added - OF_ANY_CLASS <= {*OWN, "_stock_class"}


@pytest.mark.parametrize("case", ALL)
def test_signatures_and_documentation_of_what_is_overridden(case):
    for name in sorted(name for name in OVERRIDDEN if hasattr(case.stock, name)):
        ours, stock = getattr(case.ours, name), getattr(case.stock, name)
        assert parameters(ours) == parameters(stock), name
        if name not in ("from_pipe", "to_json_string"):
            assert inspect.signature(ours) == inspect.signature(stock), name
            assert ours.__doc__ == stock.__doc__
            assert typing.get_type_hints(ours) == typing.get_type_hints(stock)
    assert case.ours.__init__.__doc__ == case.stock.__init__.__doc__


ATTRIBUTES = ("_callback_tensor_inputs", "_optional_components", "_exclude_from_cpu_offload")
ATTRIBUTES += ("model_cpu_offload_seq", "_load_connected_pipes", "_is_onnx", "config_name")
ATTRIBUTES += ("hf_device_map", "_lora_loadable_modules", "unet_name", "text_encoder_name")
ATTRIBUTES += ("_last_supported_version",)


@pytest.mark.parametrize("case", ALL)
def test_what_diffusers_reads_of_a_class(case):
    missing = object()
    for name in ATTRIBUTES:
        assert getattr(case.ours, name, missing) == getattr(case.stock, name, missing), name
    for obj in (DiffusionPipeline, case.stock, case.ours):
        keys = obj._get_signature_keys(case.ours)
        assert keys == obj._get_signature_keys(case.stock)
    assert case.ours._get_signature_keys(case.ours) == case.stock._get_signature_keys(case.stock)
    assert case.ours._get_signature_types() == case.stock._get_signature_types()


@pytest.mark.parametrize("case", ALL)
def test_our_class_is_the_stock_one_and_its_mixins(case):
    assert issubclass(case.ours, case.stock)
    below = case.ours.__mro__[case.ours.__mro__.index(case.stock) :]
    assert below == case.stock.__mro__
    for name in ("load_lora_weights", "load_textual_inversion"):
        method = getattr(case.stock, name, None)
        assert function(getattr(case.ours, name, None)) is function(method)
    for name in ("from_pretrained", "from_single_file", "download", "load_config", "from_config"):
        method = getattr(case.stock, name, None)
        assert function(getattr(case.ours, name, None)) is function(method), name
        assert method is None or getattr(case.ours, name).__self__ is case.ours
    assert case.ours.push_to_hub is case.stock.push_to_hub
    assert case.ours.__module__.startswith("diffusers_rdaam.")
    assert case.ours.__qualname__ == case.ours.__name__
