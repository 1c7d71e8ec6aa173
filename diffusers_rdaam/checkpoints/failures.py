"""What a library raised while it loaded or ran a model, in a line that names the cause."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from diffusers_rdaam.checkpoints.classes import library_version
from diffusers_rdaam.checkpoints.folder import CURE, INDEX, Component, components
from diffusers_rdaam.checkpoints.settings import misfits, setting_faults
from diffusers_rdaam.errors import InputError, RDAAMError

_PASSED = re.compile(
    r"Pipeline <class '[\w.]*?(\w+)'> expected \[(.*)\], but only \{?(.*?)\}? were"
)
_QUOTED = re.compile(r"'(\w+)'")
_SIZES = ("ignore_mismatched_sizes", "expected shape", "size mismatch")
_LIBRARIES = ("diffusers", "transformers")
# A text of more tokens than this is of no encoder: transformers writes 1e30 for "not known".
_LONGEST_TEXT = 10**7
_POSITIONS = "max_position_embeddings"
# Errors whose text is for people; that of others is code, and their class says what it is about.
_SAID = (OSError, ValueError, ImportError, NotImplementedError)


def loading_reason(error: Exception, name: str, index: Mapping[str, Any] | None) -> str:
    """Why a pipeline could not be loaded, in a line.

    Args:
        error: what was raised.
        name: the folder or hub id.
        index: the entries of the folder's index; None of a hub id.
    """
    line = _line(error)
    if found := _PASSED.search(line):
        return _lacking(*found.groups())
    component = _component_of(error.__traceback__)
    if index is None:
        return f"{component}/: {line}" if component else line
    parts = {one.name: one for one in components(Path(name), dict(index))}
    if component in parts:
        return _component_reason(parts[component], line)
    kinds = {one.name: kind for one in parts.values() if (kind := _class_of(one)) is not None}
    import diffusers

    pipeline = getattr(diffusers, index["_class_name"], None)
    faults = misfits(pipeline, kinds, line) if isinstance(pipeline, type) else []
    if not faults:
        return line
    return (
        f"its components are those of another model: {'; '.join(faults)}. It ended with {line}. "
        f"Correct _class_name in its {INDEX}, or give the folder of that model"
    )


@contextmanager
def explained_run(pipe: Any) -> Iterator[None]:
    """Let an exception of a library, in the run of a pipeline, say what of the model it is about.

    Raises:
        InputError: in its place.
    """
    try:
        yield
    except Exception as error:
        found = explained(pipe, error)
        if found is error:
            raise
        raise found from error


def explained(pipe: Any, error: Exception) -> Exception:
    """The error for a pipeline's run; an exception of ours, or of memory, as it is."""
    if isinstance(error, (RDAAMError, torch.OutOfMemoryError)) or not _is_of_a_library(error):
        return error
    return run_error(pipe, error)


def is_length(value: Any) -> bool:
    """Whether a tokenizer's longest text is a number that an encoder may have."""
    return isinstance(value, int) and 0 < value < _LONGEST_TEXT


def run_error(pipe: Any, error: Exception, *, where: str = "", hint: str = "") -> InputError:
    """The error for a pipeline whose run ended with an exception of a library.

    Args:
        pipe: that ran.
        error: what was raised.
        where: more about the run, after "here".
        hint: what may help as well, a sentence after a space.
    """
    from diffusers_rdaam.families.registry import stock_class

    pipeline = stock_class(type(pipe)) or type(pipe)
    parts = {name: part for name, part in pipe.components.items() if part is not None}
    said = " ".join(str(error).split())[:500].rstrip(".") or "no reason given"
    faults = misfits(pipeline, {name: type(part) for name, part in parts.items()}, said)
    for name, part in parts.items():
        faults += [f"{name}/ has {one}" for one in _faults_of(part, error)]
    faults += _long_texts(parts, said)
    cause = "Look at the folder of the model, the size and the memory."
    if faults:
        cause = f"The reason may be that {'; '.join(faults[:3])}."
    return InputError(
        f"{pipeline.__name__} makes no image of a prompt here{where}: its run ended with "
        f"{type(error).__name__}: {said}. {cause}{hint}"
    )


def _is_of_a_library(error: Exception) -> bool:
    """Whether diffusers or transformers was at work, and not this package."""
    packages = ("diffusers", "transformers", "diffusers_rdaam")
    last, traceback = "", error.__traceback__
    while traceback is not None:
        package = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        last = package if package in packages else last
        traceback = traceback.tb_next
    return last in _LIBRARIES


def _faults_of(part: Any, error: Exception) -> list[str]:
    """Settings of a loaded component that its class does not take."""
    longest = getattr(part, "model_max_length", None)
    if longest is not None:
        # Where the encoder says how long a text may be, the tokenizer need not.
        is_unlimited = isinstance(longest, int) and longest > 0
        if is_length(longest) or (is_unlimited and not isinstance(error, OverflowError)):
            return []
        return [f"{longest!r:.20} as model_max_length in its settings"]
    config: Any = getattr(part, "config", None)
    settings: Any = config.to_dict() if hasattr(config, "to_dict") else config
    return setting_faults(type(part), settings) if isinstance(settings, Mapping) else []


def _long_texts(parts: Mapping[str, Any], said: str) -> list[str]:
    """Tokenizers that read longer texts than their encoder has positions for."""
    if _POSITIONS not in said:
        return []
    faults = []
    for name, part in parts.items():
        encoder = name.replace("tokenizer", "text_encoder")
        longest: Any = getattr(part, "model_max_length", None)
        positions = getattr(getattr(parts.get(encoder), "config", None), _POSITIONS, None)
        if is_length(longest) and is_length(positions) and longest > positions:
            faults.append(
                f"{name}/ has {longest} as model_max_length in its settings, and {encoder}/ takes "
                f"{positions} tokens"
            )
    return faults


def _line(error: Exception) -> str:
    lines = (str(error).strip() or type(error).__name__).split("\n")
    # Of checks of settings the second line has the reason.
    line = " ".join(one.strip() for one in lines[: 2 if lines[0].endswith(":") else 1])
    # It goes on with arguments of from_pretrained that a command does not have.
    line = line.split(" If you want to instead")[0].replace("Cannot load  because", "its weight")
    line = line[:500].rstrip(".")
    is_said = isinstance(error, _SAID) or lines[0].endswith(":")
    return line if is_said else f"{type(error).__name__}: {line}"


def _component_reason(component: Component, line: str) -> str:
    """Why a component could not be loaded, where its class, settings or weights show it."""
    shown = f"{component.name}/"
    if unknown := _unknown_class(component):
        return f"{shown}: {unknown}"
    kind = _class_of(component)
    if kind is None:
        return f"{shown}: {line}"
    if any(part in line for part in _SIZES) and (other := _other_sizes(component, kind)):
        return f"{shown}: {other}"
    if _SIZES[0] in line:
        # The rest of it is about an argument, and about a report that nobody sees.
        line = "its weights are not of the sizes that its config.json says"
    files = ("config.json", "scheduler_config.json")
    file = next((name for name in files if (component.folder / name).is_file()), "")
    try:
        settings = json.loads((component.folder / file).read_text(encoding="utf-8")) if file else {}
    except (OSError, ValueError):
        settings = {}
    if faults := setting_faults(kind, settings):
        path = component.path(file)
        return f"{path} has {'; '.join(faults)}. It ended with {line}. {CURE.rstrip('.')}"
    made = settings.get("_class_name")
    if isinstance(made, str) and made != kind.__name__:
        return (
            f"{component.path(file)} holds the settings of {made}, and {INDEX} names "
            f"{kind.__name__} for {component.name}. It ended with {line}. {CURE.rstrip('.')}"
        )
    return f"{shown}: {line}"


def _unknown_class(component: Component) -> str:
    """Why there is no class of a component; empty where there is one, or may be."""
    library, kind = component.library, component.kind
    if _class_of(component) is not None:
        return ""
    if library in _LIBRARIES:
        return (
            f"{INDEX} names {kind} of {library} for it, which {library_version(library)} lacks. A "
            f"newer version may have it (pip install --upgrade {library})"
        )
    if (component.folder / f"{library}.py").is_file():
        return (
            f"{INDEX} names {kind} of {library}.py in this folder, and a command runs no code of a "
            "model's folder. Read it, load the pipeline in Python with trust_remote_code=True, and "
            "record it with record_attention(pipe)"
        )
    import diffusers.pipelines

    if hasattr(diffusers.pipelines, library):
        return ""
    return (
        f"{INDEX} names {kind} of {library} for it, and diffusers loads components of diffusers "
        "and transformers only. Correct the name, or load the pipeline in Python after an import "
        f"of {library}, and record it with record_attention(pipe)"
    )


def _class_of(component: Component) -> type | None:
    """The class of a component; None where the libraries do not have it."""
    import importlib

    if component.library not in _LIBRARIES:
        import diffusers.pipelines

        library = getattr(diffusers.pipelines, component.library, None)
    else:
        library = importlib.import_module(component.library)
    found = getattr(library, component.kind, None)
    return found if isinstance(found, type) else None


def _other_sizes(component: Component, kind: Any) -> str:
    """Which weights have other sizes in the files than by the settings; empty if not known."""
    try:
        with torch.device("meta"):
            if component.library == "transformers":
                model = kind(kind.config_class.from_pretrained(component.folder))
            else:
                model = kind.from_config(kind.load_config(component.folder))
        wanted = {name: tuple(one.shape) for name, one in model.state_dict().items()}
        sizes = _sizes_in_files(component.folder)
    except Exception:
        # Only another sentence of the error would come of it.
        return ""
    others = [name for name, size in wanted.items() if sizes.get(name, size) != size]
    if not others:
        return ""
    first = others[0]
    more = f", and {len(others) - 1} more" if len(others) > 1 else ""
    return (
        f"its weights are not of the size that its config.json says: {first} is "
        f"{_size(sizes[first])} in the file, and {_size(wanted[first])} by the settings{more}. "
        f"{CURE.rstrip('.')}"
    )


def _sizes_in_files(folder: Path) -> dict[str, tuple[int, ...]]:
    sizes: dict[str, tuple[int, ...]] = {}
    for file in folder.glob("*.safetensors"):
        try:
            with safe_open(file, framework="numpy") as weights:
                keys = list(weights.keys())
                sizes |= {key: tuple(weights.get_slice(key).get_shape()) for key in keys}
        except (OSError, SafetensorError):
            continue
    # Models of transformers are saved with a prefix that the class leaves out, or the reverse.
    return {key.partition(".")[2]: size for key, size in sizes.items()} | sizes


def _size(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides)) or "one number"


def _lacking(pipeline: str, expected: str, passed: str) -> str:
    """Which components an index does not name, where diffusers lists what it expects and has."""
    import diffusers

    pipeline = pipeline.replace("RDAAM", "")
    optional = getattr(getattr(diffusers, pipeline, None), "_optional_components", ())
    given = _QUOTED.findall(passed)
    lacking = [one for one in _QUOTED.findall(expected) if one not in (*given, *optional)]
    return (
        f"its {INDEX} names no {' and no '.join(lacking)}, which {pipeline} needs. "
        f"{CURE.rstrip('.')}"
    )


def _component_of(traceback: TracebackType | None) -> str:
    """The component that diffusers was loading; empty where its frames do not show it."""
    while traceback is not None:
        if traceback.tb_frame.f_code.co_name == "load_sub_model":
            return str(traceback.tb_frame.f_locals.get("name", ""))
        traceback = traceback.tb_next
    return ""
