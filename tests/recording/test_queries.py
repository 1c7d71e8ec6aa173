"""What of a run's queries is kept, where, and at what price."""

from __future__ import annotations

import copy
import dataclasses
import errno
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusers_rdaam import (
    Queries,
    QueryOptions,
    RDAAMProcessor,
    StableDiffusionRDAAMPipeline,
    record_attention,
)
from diffusers_rdaam.attribution.site_queries import StoredTensor
from diffusers_rdaam.errors import AttributionFileError, InputError, NotRecordedWarning
from diffusers_rdaam.families import Branch
from diffusers_rdaam.recording.memory.budget import megabytes
from diffusers_rdaam.recording.records.queries import QueriesRecord

TINY = Path(__file__).parents[1] / "data" / "tiny_sd"
SIZE = {"height": 64, "width": 96}


def run(pipe: Any, steps: int = 3, **kwargs: Any) -> Any:
    generator = torch.Generator().manual_seed(7)
    return pipe("a red cat", num_inference_steps=steps, generator=generator, **SIZE, **kwargs)


def keeping(pipe: Any, **options: Any) -> Any:
    pipe.set_attn_processor(RDAAMProcessor(keep="queries", **options))
    return pipe


def parts(queries: Queries) -> list[torch.Tensor]:
    return [site.read(i) for site in queries.sites for i in range(len(site.parts))]


def same(ours: Queries, theirs: Queries) -> bool:
    return ours.layers == theirs.layers and all(
        torch.equal(a, b) for a, b in zip(parts(ours), parts(theirs), strict=True)
    )


@cache
def loaded() -> StableDiffusionRDAAMPipeline:
    return StableDiffusionRDAAMPipeline.from_pretrained(TINY, safety_checker=None)


@pytest.fixture
def pipe() -> Any:
    parts = {name: copy.deepcopy(part) for name, part in loaded().components.items()}
    pipe = StableDiffusionRDAAMPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_queries_are_those_of_the_conditional_rows(pipe):
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in pipe.unet.named_modules():
        if name.endswith("attn2"):
            module.to_q.register_forward_hook(
                lambda m, i, o, name=name: seen.setdefault(name, []).append(o[2:].detach())
            )
    output = run(keeping(pipe), num_images_per_prompt=2)
    for image, attribution in enumerate(output.attributions):
        queries = attribution.queries
        assert set(queries.layers) == set(seen) and queries.calls == (0, 1, 2)
        for site in queries.sites:
            for call in site.calls:
                states = seen[site.site][call][image].unflatten(-1, (site.heads, -1))
                wanted = states.transpose(0, 1).half()
                part = site.read(call)
                assert torch.equal(part, wanted) and part.is_contiguous()
                # Its own memory: no view of the batch.
                assert part.untyped_storage().nbytes() == part.nbytes


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("place", ["cpu", "device"])
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_reported_bytes_are_measured_bytes(pipe, negative, place, precision, monkeypatch):
    reported: list[str] = []
    held: list[int] = []
    monkeypatch.setattr(
        "diffusers_rdaam.pipelines.mixin.print_line", lambda text, pipe: reported.append(text)
    )
    store = QueriesRecord.after_call
    monkeypatch.setattr(
        QueriesRecord, "after_call", lambda self: (store(self), held.append(self.nbytes))[0]
    )
    pipe.set_attn_processor(RDAAMProcessor(keep_negative=negative))
    maps = pipe.recording_bytes(**SIZE, steps=3)
    keeping(pipe, keep_negative=negative, queries=QueryOptions(location=place, precision=precision))
    attribution = run(pipe).attribution
    step = held[1] - held[0]
    assert [size - held[0] for size in held] == [0, step, 2 * step] and held[0] == 2 * step
    where = {"cpu": "in memory", "device": "on the denoiser's device"}[place]
    assert reported[-1] == (
        f"Keeping {megabytes(3 * step)} of queries {where} (3 steps of {megabytes(step)}), and a "
        f"buffer of {megabytes(step)} while it runs."
    )
    branches = [attribution.queries, *([attribution.negative.queries] if negative else [])]
    assert sum(queries.nbytes for queries in branches) == 3 * step
    on_device = 4 if place == "device" else 1
    assert pipe.recording_bytes(**SIZE, steps=3) - maps == on_device * step


def test_a_choice_of_grids_and_steps(pipe):
    whole = run(keeping(pipe), steps=5).attribution.queries
    sizes = whole.sizes
    some = QueryOptions(grids=[sizes[1]], steps=slice(None, None, 2))
    chosen = run(keeping(pipe, queries=some), steps=5)
    queries = chosen.attribution.queries
    assert queries.sizes == (sizes[1],) and queries.calls == (0, 2, 4)
    assert same(queries, whole.select(resolutions=[sizes[1]], steps=[0, 2, 4]))
    assert run(
        keeping(pipe, queries=QueryOptions(steps=-1)), steps=5
    ).attribution.queries.calls == (4,)
    assert run(
        keeping(pipe, queries=QueryOptions(steps=[3, 1])), steps=5
    ).attribution.queries.calls == (1, 3)
    coarse = run(keeping(pipe)).attribution.select(resolutions=[sizes[2]]).queries
    assert coarse is not None and coarse.sizes == (sizes[2],)


def test_on_disk(pipe, tmp_path):
    memory = run(keeping(pipe, keep_negative=True), num_images_per_prompt=2).attributions
    keeping(pipe, keep_negative=True, queries=QueryOptions(location=tmp_path / "queries"))
    first = run(pipe, num_images_per_prompt=2).attributions
    second = run(pipe, steps=1).attribution
    assert sorted(path.name for path in (tmp_path / "queries").iterdir()) == [
        "run-0001",
        "run-0002",
    ]
    assert len(list((tmp_path / "queries" / "run-0001").iterdir())) == 6
    for ours, theirs in zip(first, memory, strict=True):
        assert isinstance(ours.queries.sites[0].parts[0], StoredTensor)
        assert same(ours.queries, theirs.queries)
        assert same(ours.negative.queries, theirs.negative.queries)
        assert ours.queries.nbytes == theirs.queries.nbytes
    assert second.queries.calls == (0,)
    for path in (tmp_path / "queries" / "run-0001").iterdir():
        path.unlink()
    with pytest.raises(AttributionFileError, match="Put the file back"):
        first[0].queries.sites[0].read(0)


def test_a_folder_that_is_none(pipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        run(keeping(pipe, queries=QueryOptions(location=tmp_path / "file")))
    assert str(error.value).startswith(
        f"No queries can be written to location={str(tmp_path / 'file')!r}: "
    )


def test_over_the_budget(pipe):
    whole = run(keeping(pipe), steps=3).attribution
    step = whole.queries.nbytes // 3
    budget = whole.nbytes + 4 * step
    run(keeping(pipe, budget=budget))
    with pytest.raises(InputError) as error:
        run(keeping(pipe, budget=budget - 1))
    sites = whole.queries.sites
    costs = ", ".join(
        f"{h}x{w} {megabytes(sum(s.nbytes for s in sites if s.size == (h, w)) // 3)}"
        for h, w in whole.queries.sizes
    )
    assert str(error.value) == (
        f"The queries of 3 steps and the buffer of one take {megabytes(4 * step)} (and "
        f"{megabytes(whole.nbytes)} of other maps), over the budget of {megabytes(budget - 1)}; "
        f"2 steps would fit. A step's, by grid of height x width: {costs}. Choose with "
        "queries=QueryOptions(grids=…, steps=…), or allow it with "
        f"RDAAMProcessor(budget={budget}, …)."
    )


def test_an_own_loop_that_goes_over_the_budget_keeps_its_image(pipe):
    one = run(keeping(pipe), steps=1).attribution
    template = RDAAMProcessor(keep="queries", budget=one.nbytes + 4 * one.queries.nbytes)
    sample, text = torch.randn(1, 4, 8, 12), torch.randn(1, 77, 32)
    with torch.no_grad(), record_attention(pipe.unet, template, rows="conditional") as recording:
        for _ in range(3):
            pipe.unet(sample, 1, text)
        assert recording.attribution.queries.calls == (0, 1, 2)
        pipe.unet(sample, 1, text)
        with pytest.raises(Exception, match="3 steps would fit"):
            _ = recording.attribution


def test_a_run_that_is_longer_than_it_told(pipe, monkeypatch):
    recorder = "diffusers_rdaam.recording.recorder"
    monkeypatch.setattr(f"{recorder}.expected_calls", lambda pipe: 2)
    assert run(keeping(pipe)).attribution.queries.calls == (0, 1, 2)
    steps = slice(None, None, 2)
    assert run(keeping(pipe, queries=QueryOptions(steps=steps))).attribution.queries.calls == (0, 2)
    assert run(keeping(pipe, queries=QueryOptions(steps=-1))).attribution.queries.calls == (1,)


def test_numbers_from_an_end_that_is_not_known(pipe):
    template = RDAAMProcessor(keep="queries", queries=QueryOptions(steps=[0, -1]))
    with (
        pytest.raises(InputError) as error,
        record_attention(pipe.unet, template, rows="conditional"),
        torch.no_grad(),
    ):
        pipe.unet(torch.randn(1, 4, 8, 12), 1, torch.randn(1, 5, 32))
    assert str(error.value) == (
        "QueryOptions(steps=(0, -1)) counts from the last denoiser call, and how many there will "
        "be is not known here. Give numbers from the first."
    )


def test_a_grid_that_there_is_not(pipe):
    with pytest.raises(InputError) as error:
        run(keeping(pipe, queries=QueryOptions(grids=7)))
    assert str(error.value) == (
        "This denoiser has no attention to the text on a grid of 7x7 (height x width) at this "
        "image size. Grids for QueryOptions(grids=…): 8x12, 4x6, 2x3, 1x2."
    )
    with pytest.raises(InputError, match="There are 3 steps, numbered from 0; there is no 5"):
        run(keeping(pipe, queries=QueryOptions(steps=5)))


@pytest.mark.usefixtures("types_unchecked")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"grids": True}, "grids= of QueryOptions are the grids to store"),
        ({"grids": "8x8"}, "'8x8' is not a grid for grids= of QueryOptions."),
        ({"steps": "all"}, "'all' is not the number of one of the steps."),
        ({"location": 3}, "location= of QueryOptions is 'cpu', 'device' or a folder; got 3."),
        ({"precision": "bf16"}, "precision= of QueryOptions is 'fp16' or 'fp32'; got 'bf16'."),
    ],
)
def test_options_that_are_none(options, text):
    with pytest.raises(InputError) as error:
        QueryOptions(**options)
    assert text in str(error.value)


def test_options_of_queries_that_are_not_kept():
    with pytest.raises(InputError, match="options of keep='queries', which was not given"):
        RDAAMProcessor(keep="steps", queries=QueryOptions(steps=3))


def test_options_of_a_template_are_those_of_its_children():
    template = RDAAMProcessor(
        keep=["queries", "steps"],
        queries=QueryOptions(grids=8, steps=iter([1, 2]), location="x"),
    )
    child = template.bind("mid_block")
    assert child.options == template.options and child.options.queries is not None
    assert template.options.axes == ("steps",) and template.options.queries.steps == (1, 2)
    assert "keep=('steps', 'queries')" in repr(template)


def test_a_site_that_is_skipped_has_fewer_calls(pipe):
    name = "mid_block.attentions.0.transformer_blocks.0.attn2"
    block = pipe.unet.mid_block
    forward, calls = block.forward, []

    def skipping(hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(None)
        return hidden_states if len(calls) == 2 else forward(hidden_states, *args, **kwargs)

    block.forward = skipping
    queries = run(keeping(pipe)).attribution.queries
    found = {site.site: site.calls for site in queries.sites}
    assert found.pop(name) == (0, 2) and set(found.values()) == {(0, 1, 2)}


def test_another_scale_is_in_the_queries(pipe):
    pipe.enable_attention_slicing()
    for module in pipe.unet.modules():
        if hasattr(module, "to_q"):
            module.scale *= 2
    attribution = run(keeping(pipe, queries=QueryOptions(precision="fp32"))).attribution
    again = pipe.query(attribution, "a red cat", padding=True)
    for ours, theirs in zip(again.grids, attribution.grids, strict=True):
        assert float((ours.maps - theirs.maps).abs().max()) < 1e-6


def test_files(pipe, tmp_path):
    attribution = run(keeping(pipe)).attribution
    queries = attribution.queries
    path = queries.save(tmp_path / "cat.queries.safetensors")
    again = Queries.load(path)
    assert same(again, queries) and again.calls == queries.calls and again.sizes == queries.sizes
    bare = dataclasses.replace(attribution, queries=None)
    with_them = bare.with_queries(again)
    assert with_them.queries is again
    for ours, theirs in zip(
        pipe.query(with_them, "a hat").grids, pipe.query(attribution, "a hat").grids, strict=True
    ):
        assert torch.equal(ours.maps, theirs.maps)
    coarse = attribution.select(resolutions=[attribution.grids[0].size])
    with pytest.raises(InputError, match="These queries are not of this attribution's run"):
        coarse.with_queries(again)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AttributionFileError, match="is not a whole safetensors file"):
        Queries.load(path)
    with pytest.raises(AttributionFileError, match="but not queries of diffusers_rdaam"):
        Queries.load(attribution.save(tmp_path / "cat.safetensors"))
    with pytest.raises(InputError, match="The queries could not be written to"):
        queries.save(tmp_path / "missing" / "cat.safetensors")


def test_files_of_strangers(pipe, tmp_path):
    from safetensors.torch import save_file

    site = '["a", [2, 2], 1, 4, [0], "F16"]'
    good = {"format": "diffusers_rdaam.queries", "version": "1", "sites": f"[{site}]"}
    tensors = {"0.0": torch.zeros(1, 4, 4, dtype=torch.float16)}
    path = tmp_path / "q.safetensors"

    def load(header: dict[str, str], held: dict[str, torch.Tensor]) -> Queries:
        save_file(held, path, good | header)
        return Queries.load(path)

    assert load({}, tensors).layers == ("a",)
    for header, held, text in [
        ({"version": "9"}, tensors, "has format version '9'"),
        ({"sites": "[["}, tensors, "its header is not JSON"),
        ({"sites": "[]"}, tensors, "has no valid list of the sites"),
        ({"sites": site}, tensors, "has no valid list of the sites"),
        ({"sites": '[["a", [2, 99999], 1, 4, [0], "F16"]]'}, tensors, "has no valid list"),
        ({"sites": '[["a", [2, 2], 1, 4, [-1], "F16"]]'}, tensors, "has no valid list"),
        ({}, {"1.0": tensors["0.0"]}, "the tensor '0.0' is missing"),
        ({}, {"0.0": torch.zeros(1, 4, 5, dtype=torch.float16)}, "not of shape (1, 4, 4)"),
        ({}, {"0.0": torch.zeros(1, 4, 4)}, "type F16"),
    ]:
        with pytest.raises(AttributionFileError) as error:
            load(header, held)
        assert text in str(error.value)


def test_a_full_disk_loses_the_attribution_not_the_image(pipe, tmp_path, monkeypatch):
    def full(path: Path) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("diffusers_rdaam.files.writing.check_target", full)
    with pytest.warns(NotRecordedWarning, match="No space left on device"):
        output = run(keeping(pipe, queries=QueryOptions(location=tmp_path)))
    assert len(output.images) == 1


def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch):
    record = QueriesRecord.__new__(QueriesRecord)
    buffers = {"site": torch.zeros(1, 2, 3, 4)}
    record._folder = tmp_path / "gone"
    with pytest.raises(InputError, match=r"could not be written to .*\. Give a path in a") as one:
        record._put(Branch.CONDITIONAL, 0, buffers)
    assert "Make room" not in str(one.value)
    record._folder = tmp_path

    def full(*unused):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("diffusers_rdaam.files.writing.check_target", full)
    with pytest.raises(InputError, match=r"No space left on device\. Make room on the disk, or"):
        record._put(Branch.CONDITIONAL, 0, buffers)

    def memory(*unused):
        raise MemoryError("of something else")

    monkeypatch.setattr("diffusers_rdaam.files.writing.check_target", memory)
    with pytest.raises(MemoryError):
        record._put(Branch.CONDITIONAL, 0, buffers)
