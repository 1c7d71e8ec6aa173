"""What is wrong with the folder of a pipeline, from its settings and the headers of its weights.

Nothing is loaded, and neither torch nor diffusers is imported. Only the files that would be loaded
are looked at; what is not known here is left to the library that reads it.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from diffusers_rdaam.checkpoints.quantized import quantization_fault
from diffusers_rdaam.errors import InputError

INDEX = "model_index.json"
CURE = "Copy or download the folder again, or write it anew with pipe.save_pretrained."
LARGEST_INDEX = 1_000_000
# A larger file of settings is a vocabulary, which is left to its tokenizer.
_LARGEST_JSON = 8_000_000
_SHOWN = 3
_LFS = b"version https://git-lfs"
# Entries of the index that are components; others may be settings that are lists.
_COMPONENT = re.compile(
    r"(unet|vae|vqvae|transformer|text_encoder|tokenizer|scheduler|image_encoder|feature_extractor|"
    r"safety_checker|controlnet|motion_adapter)(_\d+)?"
)
_STEMS = {"diffusers": ("diffusion_pytorch_model",), "transformers": ("model", "pytorch_model")}
_WEIGHTS = (".safetensors", ".bin")
# Files of a tokenizer's folder that are not a vocabulary.
_NOT_VOCABULARY = re.compile(
    r".*config\.json|special_tokens_map\.json|added_tokens\.json|chat_template.*|.*\.(jinja|md|py)|"
    r"\..*|LICENSE.*"
)
# Tokenizers of bytes or characters, which have no vocabulary.
_WITHOUT_VOCABULARY = ("ByT5", "Canine", "Perceiver")
# Tokenizers that need merges.txt with their vocab.json; others have another file with it, or none.
_WITH_MERGES = ("CLIP", "GPT2", "Qwen2", "Roberta", "Bart", "CodeGen", "LED", "Longformer")


@dataclass(frozen=True)
class Component:
    """One entry of the index.

    Args:
        name: such as ``"unet"``.
        library, kind: where its class is from, and the class's name.
        folder: where its files are.
    """

    name: str
    library: str
    kind: str
    folder: Path

    @property
    def is_model(self) -> bool:
        """Whether it has weights of one of the two libraries."""
        others = ("Tokenizer", "Scheduler", "Processor", "Extractor", "Onnx", "Guid")
        if any(part in self.kind for part in others):
            return False
        return self.library in _STEMS or (self.folder / "config.json").is_file()

    def path(self, name: str) -> str:
        """A file of it, as an error shows it."""
        return f"{self.name}/{name}" if self.folder.name == self.name else name


def read_index(folder: Path, start: str) -> dict[str, Any]:
    """The entries of ``model_index.json``.

    Args:
        folder: of a pipeline.
        start: how an error begins.

    Raises:
        InputError: it cannot be read, or names no class.
    """
    try:
        with (folder / INDEX).open("rb") as file:
            index = json.loads(file.read(LARGEST_INDEX).decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{start}: its {INDEX} cannot be read: {error}.") from error
    kind = index.get("_class_name") if isinstance(index, dict) else None
    if isinstance(kind, list) and _is_pair(kind):
        raise InputError(f"{start}: {_own_code(folder, kind[0], kind[1])}")
    if not isinstance(kind, str) or not kind:
        raise InputError(
            f"{start}: its {INDEX} names no pipeline class as _class_name. Give the folder of a "
            "whole pipeline, as pipe.save_pretrained writes it."
        )
    assert isinstance(index, dict)
    return index


def check_folder(folder: Path, start: str) -> None:
    """Refuse a folder of which something is missing or damaged.

    Args:
        folder: of a pipeline, with its index.
        start: how an error begins, with the folder's name.

    Raises:
        InputError: as it says; it names the files.
    """
    index = read_index(folder, start)
    faults = [fault for entry in index.items() if (fault := _ill_typed(*entry))]
    variant = weights_variant(folder, index)
    parts = components(folder, index)
    for component in parts:
        faults += _component_faults(component, variant)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InputError(f"{start}: {'; '.join(faults[:_SHOWN])}{more}. {CURE}")
    for component in parts:
        # Nothing is wrong with the files, and another copy of them would not help.
        if fault := _quantization_fault(component):
            raise InputError(f"{start}: {fault}.")


def check_link(path: Path, start: str) -> None:
    """Refuse a link to a file that does not exist.

    Raises:
        InputError: as it says.
    """
    if _is_dangling(path):
        raise InputError(f"{start}: {_dangling(path.name, path)}. {CURE}")


def components(folder: Path, index: dict[str, Any]) -> list[Component]:
    """The components that the index names, without those that it leaves out with null."""
    return [
        # diffusers reads a component that has no folder from the pipeline's.
        Component(
            name, entry[0], entry[1], inside if (inside := folder / name).is_dir() else folder
        )
        for name, entry in index.items()
        if not name.startswith("_") and _is_pair(entry)
    ]


def weights_variant(folder: Path, index: dict[str, Any]) -> str | None:
    """The variant, such as ``"fp16"``, of weights that a folder has in no other form.

    Files of a variant have its name in theirs: ``model.fp16.safetensors``. None where every
    component has plain files, or where several variants could be meant.
    """
    lacking = [
        one
        for one in components(folder, index)
        if one.is_model and one.folder != folder and not _weights(one)
    ]
    named = [_variants(one) for one in lacking]
    found = set.intersection(*named) if named else set()
    return found.pop() if len(found) == 1 else None


def weight_files(component: Component, variant: str | None) -> list[Path]:
    """The files that a component's weights are read from; none where that is not known."""
    files = _weights(component) or (_weights(component, variant) if variant else [])
    if not files or not files[0].name.endswith(".index.json"):
        return files
    settings, fault = _read_settings(files[0])
    places = settings.get("weight_map") if isinstance(settings, dict) else None
    if fault or not isinstance(places, dict):
        return []
    return [component.folder / name for name in sorted({str(name) for name in places.values()})]


def header_keys(file: Path) -> list[str]:
    """The names of the tensors of a safetensors file, whose size is compared with its header's.

    Raises:
        SafetensorError: the file is cut off or damaged.
        OSError: it cannot be read.
    """
    with safe_open(file, framework="numpy") as weights:
        return list(weights.keys())


def _own_code(folder: Path, module: str, kind: str) -> str:
    text = f"its {INDEX} names {kind} of {module}.py as _class_name"
    if not (folder / f"{module}.py").is_file():
        return f"{text}, and it has no {module}.py. {CURE}"
    return (
        f"{text}, and a command runs no code of a model's folder. Read {module}.py, load it in "
        "Python with DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, "
        "trust_remote_code=True), and record it with record_attention(pipe)."
    )


def _is_pair(entry: Any) -> bool:
    is_list = isinstance(entry, list) and len(entry) == 2
    return is_list and all(isinstance(part, str) and part for part in entry)


def _ill_typed(name: str, entry: Any) -> str:
    if not _COMPONENT.fullmatch(name) or _is_pair(entry):
        return ""
    if isinstance(entry, list) and len(entry) == 2 and entry[0] is None:
        return ""
    return (
        f"its {INDEX} has {json.dumps(entry)[:80]} for {name}, where a library and a class are "
        'wanted, such as ["diffusers", "UNet2DConditionModel"]'
    )


def _component_faults(component: Component, variant: str | None) -> Iterator[str]:
    # Without a folder of its own it is looked for in the pipeline's.
    inside = component.folder / component.name
    if _is_dangling(inside):
        yield _dangling(f"{component.name}/", inside)
    elif not component.folder.joinpath(INDEX).is_file():
        yield from _file_faults(component, variant)
    elif not _is_in_root(component):
        what = "a file in place of the folder" if inside.is_file() else "no folder"
        yield (
            f"it has {what} {component.name}/, and its {INDEX} names {component.kind} of "
            f"{component.library} for it"
        )


def _is_in_root(component: Component) -> bool:
    """Whether a component without a folder may be in the pipeline's."""
    needed = {"Tokenizer": ("tokenizer.json", "vocab*", "*.model"), "Scheduler": ("scheduler_*",)}
    for part, names in needed.items():
        if part in component.kind:
            return any(any(component.folder.glob(name)) for name in names)
    names = ("config.json",) if component.is_model else ("*config.json", "*.onnx")
    return any(any(component.folder.glob(name)) for name in names)


def _file_faults(component: Component, variant: str | None) -> Iterator[str]:
    dangling = [file for file in sorted(component.folder.iterdir()) if _is_dangling(file)]
    if dangling:
        yield from (_dangling(component.path(file.name), file) for file in dangling)
        # What else is missing is missing for this reason.
        return
    if "Scheduler" in component.kind and component.library == "diffusers":
        yield from _lacking(component, "scheduler_config.json")
    for file in sorted(component.folder.iterdir()):
        if file.suffix == ".json" and not file.name.endswith(".index.json"):
            yield from _json_faults(component, file)
    if "Tokenizer" in component.kind:
        yield from _vocabulary_faults(component)
    if component.is_model:
        yield from _lacking(component, "config.json")
        yield from _weight_faults(component, variant)


def _lacking(component: Component, name: str) -> Iterator[str]:
    if not (component.folder / name).is_file():
        yield f"{component.path(name)} is missing"


def _is_dangling(path: Path) -> bool:
    return path.is_symlink() and not path.exists()


def _dangling(shown: str, link: Path) -> str:
    """What is wrong with a link to nothing: caches of models are folders of links."""
    return f"{shown} is a link to {link.readlink()}, which does not exist"


def _quantization_fault(component: Component) -> str:
    file = component.folder / "config.json"
    if not component.is_model or not file.is_file():
        return ""
    settings, fault = _read_settings(file)
    return "" if fault else quantization_fault(component.path(file.name), settings)


def _read_settings(file: Path) -> tuple[Any, str]:
    """What is in a file of settings, and what is wrong with it."""
    try:
        return json.loads(file.read_text(encoding="utf-8")), ""
    except (OSError, ValueError, RecursionError) as error:
        if file.is_file() and _is_pointer(file):
            return None, _POINTER
        return None, f"cannot be read ({error})"


def _json_faults(component: Component, file: Path) -> Iterator[str]:
    names = ("config.json", "tokenizer.json", "vocab.json", "tokens_map.json", "added_tokens.json")
    # What else is there is nobody's.
    if not file.name.endswith(names):
        return
    if file.is_file() and file.stat().st_size > _LARGEST_JSON:
        return
    settings, fault = _read_settings(file)
    if fault:
        yield f"{component.path(file.name)} {fault}"
    elif not isinstance(settings, dict):
        yield (
            f"{component.path(file.name)} holds a {type(settings).__name__}, and an object with "
            "settings by name is wanted"
        )


def _vocabulary_faults(component: Component) -> Iterator[str]:
    names = {
        file.name
        for file in component.folder.iterdir()
        if file.is_file() and not _NOT_VOCABULARY.fullmatch(file.name)
    }
    wanted = "tokenizer.json, or what stands for it, such as vocab.json with merges.txt"
    if not names and not component.kind.startswith(_WITHOUT_VOCABULARY):
        yield f"{component.name}/ has no vocabulary for its {component.kind} ({wanted})"
    elif names == {"merges.txt"}:
        yield f"{component.path('vocab.json')} is missing"
    elif names == {"vocab.json"} and component.kind.startswith(_WITH_MERGES):
        yield f"{component.path('merges.txt')} is missing"
    for name in sorted(names):
        if _is_pointer(component.folder / name) and not name.endswith(".json"):
            yield f"{component.path(name)} {_POINTER}"


def _weight_faults(component: Component, variant: str | None) -> Iterator[str]:
    files = _weights(component) or (_weights(component, variant) if variant else [])
    if not files:
        present = [file.name for file in component.folder.iterdir() if _may_be_weights(file)]
        stems = _STEMS.get(component.library, _STEMS["transformers"])
        here = f", only {', '.join(sorted(present)[:_SHOWN])}" if present else ""
        # Not of these libraries: its class may have files of its own.
        if not present or component.library in _STEMS:
            yield f"{component.name}/ has no weights ({stems[0]}.safetensors){here}"
    for file in files:
        if file.name.endswith(".index.json"):
            yield from _shard_faults(component, file)
        else:
            yield from _damage(component, file)


def _weights(component: Component, variant: str = "") -> list[Path]:
    """The file of weights that its library reads, or the index of several; none if there is none.

    A file and an index may both be there, and the libraries differ in which one they take.
    """
    tail = f".{variant}" if variant else ""
    for ending in _WEIGHTS:
        for stem in _stems(component):
            single = component.folder / f"{stem}{tail}{ending}"
            index = component.folder / f"{stem}{ending}.index{tail}.json"
            order = [index, single] if stem == "diffusion_pytorch_model" else [single, index]
            if found := [file for file in order if file.exists()]:
                return found[:1]
    return []


def _stems(component: Component) -> tuple[str, ...]:
    # A class of a pipeline's own module may be of either library.
    return _STEMS.get(component.library) or (*_STEMS["diffusers"], *_STEMS["transformers"])


def _variants(component: Component) -> set[str]:
    stems = "|".join(_stems(component))
    name = re.compile(rf"(?:{stems})\.([\w-]+?)(?:-\d{{5}}-of-\d{{5}})?\.(?:safetensors|bin)")
    found = (name.fullmatch(file.name) for file in component.folder.iterdir())
    return {match[1] for match in found if match}


def _may_be_weights(file: Path) -> bool:
    endings = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".msgpack", ".h5", ".onnx")
    unfinished = (".incomplete", ".part", ".crdownload", ".aria2")
    return file.is_file() and file.name.endswith((*endings, ".flashpack", ".npz", *unfinished))


def _shard_faults(component: Component, index: Path) -> Iterator[str]:
    shown = component.path(index.name)
    settings, fault = _read_settings(index)
    places = settings.get("weight_map") if isinstance(settings, dict) else None
    if fault or not isinstance(places, dict):
        yield f"{shown} {fault or 'has no weight_map'}"
        return
    if not places:
        yield f"{shown} has an empty weight_map, which names no file"
    elif not isinstance(settings.get("metadata"), dict):
        yield f'{shown} has no "metadata", an object that the libraries look for'
    names = sorted({str(name) for name in places.values()})
    lacking = [name for name in names if not (component.folder / name).is_file()]
    if lacking:
        more = ", …" if len(lacking) > _SHOWN else ""
        yield (
            f"{len(lacking)} of the {len(names)} files that {shown} names are missing "
            f"({', '.join(lacking[:_SHOWN])}{more})"
        )
    for name in names:
        if name not in lacking:
            yield from _damage(component, component.folder / name)


def _damage(component: Component, file: Path) -> Iterator[str]:
    """What the first and last bytes of a file of weights show."""
    shown = component.path(file.name)
    try:
        if _is_pointer(file):
            yield f"{shown} {_POINTER}"
        elif file.suffix == ".safetensors":
            header_keys(file)
        elif file.stat().st_size == 0:
            yield f"{shown} is empty"
        elif _start(file, 2) == b"PK" and not zipfile.is_zipfile(file):
            yield f"{shown} is cut off or damaged (its end is missing)"
    except SafetensorError as error:
        yield f"{shown} is cut off or damaged ({error})"
    except OSError as error:
        yield f"{shown} cannot be read ({error.strerror or error})"


_POINTER = "is a pointer of git LFS in place of the file (run git lfs pull in the folder)"


def _is_pointer(file: Path) -> bool:
    return _start(file, len(_LFS)) == _LFS


def _start(file: Path, count: int) -> bytes:
    with file.open("rb") as opened:
        return opened.read(count)
