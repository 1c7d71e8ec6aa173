"""Every aggregation by a slow loop over sites, calls and heads in float64, from its formula."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation
from diffusers_rdaam.attribution.aggregations.table import aggregations
from diffusers_rdaam.attribution.frame_mapping import FrameMapping
from diffusers_rdaam.attribution.queries import Queries, SiteQueries
from diffusers_rdaam.attribution.self_grid import SelfGrid
from diffusers_rdaam.attribution.video import VideoAttribution
from diffusers_rdaam.errors import InputError, NoAttributionError, RepeatedWordWarning

SIZE = (64, 96)
COUNTS = (1, 0, 2, 1, 1)


@pytest.fixture(scope="module")
def kept(make_kept):
    """An attribution and its record: sites of other head counts, one of them skipped at times."""
    heads = {"up_blocks.1.attentions.0.transformer_blocks.0.attn2": 4}
    sites = {
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2": (8, 12),
        "mid_block.attentions.0.transformer_blocks.0.attn2": (2, 3),
        "up_blocks.0.attentions.0.transformer_blocks.0.attn2": (4, 6),
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2": (8, 12),
    }
    first = next(iter(sites))
    return make_kept(
        sites=sites, heads={site: heads.get(site, 3) for site in sites}, counts={first: COUNTS}
    )


@pytest.fixture
def attribution(kept):
    return kept[0]


@pytest.fixture
def record(kept):
    return kept[1]


def enlarged(maps: torch.Tensor, size=SIZE) -> torch.Tensor:
    """One map ``(height, width)`` float64 at another size."""
    return F.interpolate(maps[None, None].double(), size, mode="bicubic")[0, 0]


def added(record):
    """``(site, step, head, how often, maps)`` of everything that was recorded."""
    for site, maps in record.maps.items():
        for step, of_step in enumerate(maps):
            for head, of_head in enumerate(of_step):
                count = record.counts[site][step]
                if count:
                    yield site, step, head, count, of_head


def mean_of(record, columns, *, steps=None, sites=None) -> torch.Tensor:
    """The mean over sites and calls of the mean over heads; the sum over columns."""
    total, weight = torch.zeros(SIZE, dtype=torch.float64), 0.0
    for site, step, _, count, maps in added(record):
        if (steps is None or step in steps) and (sites is None or site in sites):
            part = count / record.maps[site].shape[1]
            total += enlarged(maps[list(columns)].sum(dim=0)) * part
            weight += part
    return total / weight


def agrees(heat_map, wanted: torch.Tensor) -> None:
    assert wanted.std() > 1e-3
    torch.testing.assert_close(heat_map.values.double(), wanted, rtol=1e-4, atol=1e-5)


def test_mean_rdaam_and_information(attribution, record):
    word = attribution.word("blue eyes")
    mean = mean_of(record, word.columns)
    agrees(attribution.word("blue eyes", aggregation="mean"), mean)
    agrees(attribution.word("blue eyes", aggregation="rdaam"), mean / mean.max())
    bits = mean * (mean / mean.mean()).clamp(min=1.0).log()
    agrees(attribution.word("blue eyes", aggregation="information"), bits)


def test_rms(attribution, record):
    word = attribution.word("blue eyes")
    wanted = torch.zeros(SIZE, dtype=torch.float64)
    for column in word.columns:
        total, weight = torch.zeros(SIZE, dtype=torch.float64), 0.0
        for site, _, _, count, maps in added(record):
            part = count / record.maps[site].shape[1]
            total += enlarged(maps[column] ** 2) * part
            weight += part
        wanted += (total / weight).clamp(min=0.0).sqrt()
    agrees(attribution.word("blue eyes", aggregation="rms"), wanted)
    # Jensen: the root of the mean square is at least the mean, before enlargement and its ringing.
    assert float(wanted.mean()) > float(word.values.mean())


def test_late_half(attribution, record):
    columns = attribution.word("red").columns
    agrees(
        attribution.word("red", aggregation="late_half"), mean_of(record, columns, steps=(2, 3, 4))
    )


def test_auto(attribution, record):
    # Attention between alike positions, so that some layers' maps agree with it and some do not.
    base = attribution.word("blue eyes").values
    cells = F.interpolate(base[None, None], (8, 12), mode="area")[0, 0].flatten()
    logits = -200.0 * (cells[:, None] - cells[None, :]) ** 2
    grid = SelfGrid(logits.softmax(dim=1).T.contiguous(), 1, (8, 12), ("up.attn1",))
    whole = dataclasses.replace(attribution, self_grids=(grid,))
    attention = grid.sums.double().T
    mutual = (attention + attention.T) / (attention + attention.T).sum(dim=1, keepdim=True)
    columns = list(whole.word("blue eyes").columns)
    total, weights = torch.zeros(8, 12, dtype=torch.float64), []
    for site, maps in record.maps.items():
        late = [
            (maps[step][:, columns].sum(dim=1).mean(dim=0), record.counts[site][step])
            for step in (2, 3, 4)
        ]
        mean = sum(values * count for values, count in late) / sum(count for _, count in late)
        word = enlarged(mean, (8, 12))
        pair = torch.stack([mutual @ word.flatten(), word.flatten()])
        weights.append(max(0.0, float(torch.corrcoef(pair)[0, 1])) ** 3)
        total += word * weights[-1]
    assert max(weights) > 3 * min(weights)
    found = whole.word("blue eyes", aggregation="auto")
    agrees(found, enlarged(total / sum(weights)))


def test_auto_without_steps_and_where_no_layer_agrees(make_kept):
    attribution, _ = make_kept(("layers",))
    with pytest.raises(NoAttributionError, match=r'keep="layers", self_attention=True\)\.$'):
        attribution.word("cat", aggregation="auto")
    attribution = dataclasses.replace(attribution, self_grids=(self_grid(),))
    assert attribution.word("cat", aggregation="auto").values.std() > 1e-3
    details = tuple(
        dataclasses.replace(one, maps=torch.full_like(one.maps, 0.1))
        for one in attribution.kept.details
    )
    flat = dataclasses.replace(
        attribution, kept=dataclasses.replace(attribution.kept, details=details)
    )
    values = flat.word("cat", aggregation="auto").values
    torch.testing.assert_close(values, torch.full_like(values, 0.1))


def test_daam(attribution, record):
    columns = attribution.word("blue eyes").columns
    total, count = torch.zeros((8, 12), dtype=torch.float64), 0
    for site, maps in record.maps.items():
        if site.startswith("mid_block"):
            continue
        for head in range(maps.shape[1]):
            of_head = sum(
                maps[step, head] * record.counts[site][step] for step in range(maps.shape[0])
            )
            # The mean over a word's tokens is DAAM's last, after each was cut at 0.
            large = [enlarged(of_head[column], (8, 12)).clamp(min=0.0) for column in columns]
            total += sum(large) / len(large)
            count += 1
    agrees(attribution.word("blue eyes", aggregation="daam"), enlarged(total / count))


def test_daam_without_any_other_block(attribution):
    part = attribution.select(layers="mid_block")
    with pytest.raises(NoAttributionError, match="leaves out the middle block"):
        part.word("cat", aggregation="daam")


def test_expert_layer(attribution, record):
    site = "up_blocks.1.attentions.0.transformer_blocks.0.attn2"
    columns = attribution.word("blue eyes").columns
    maps = attribution.aggregated("expert_layer", layer="up_blocks.1", steps=2)
    wanted = mean_of(record, columns, steps=(2,), sites=(site,)) / len(columns)
    agrees(maps.word("blue eyes"), wanted)
    with pytest.raises(InputError, match=r"'transformer_blocks\.9' is one of Stable Diffusion 3"):
        attribution.word("cat", aggregation="expert_layer")
    with pytest.raises(InputError, match=r"'up_block\.1' is not one of the 4 layers"):
        attribution.aggregated("expert_layer", layer="up_block.1").word("cat")


def most_relevant(attribution, record, columns, share):
    """Heads by how often they attend to the word more than to any other; then by how much."""
    others = [w.columns for w in attribution.words if not set(w.columns) & set(columns)]
    scores = {}
    for site, maps in record.maps.items():
        for head in range(maps.shape[1]):
            wins, level = 0.0, 0.0
            for step in range(maps.shape[0]):
                means = maps[step, head].mean(dim=(1, 2))
                first, *rest = (
                    float(sum(means[c] for c in word) / len(word)) for word in (columns, *others)
                )
                wins += record.counts[site][step] * (first > max(rest))
                level += record.counts[site][step] * first
            scores[site, head] = (wins, level / sum(record.counts[site]))
    ranked = sorted(scores, key=scores.__getitem__, reverse=True)
    return ranked[: math.ceil(share * len(ranked))]


@pytest.mark.parametrize("share", [0.25, 0.6])
def test_hrv(attribution, record, share):
    columns = attribution.word("blue eyes").columns
    heads = most_relevant(attribution, record, columns, share)
    wanted = torch.zeros(SIZE, dtype=torch.float64)
    for site, head in heads:
        counts = record.counts[site]
        for step, count in enumerate(counts):
            maps = record.maps[site][step, head][list(columns)].sum(dim=0)
            wanted += enlarged(maps) * count / sum(counts) / len(heads)
    agrees(attribution.aggregated("hrv", share=share).word("blue eyes"), wanted)


def test_hrv_with_a_table_of_heads(attribution, record, types_unchecked):
    site = "mid_block.attentions.0.transformer_blocks.0.attn2"
    (column,) = attribution.word("cat").columns
    wanted = enlarged(record.maps[site][:, [0, 2], column].mean(dim=(0, 1)))
    agrees(attribution.aggregated("hrv", heads={site: [0, 2]}).word("cat"), wanted)
    for heads in ({}, {"mid": [0]}):
        with pytest.raises(InputError, match="heads= gives the heads of layers by their names"):
            attribution.aggregated("hrv", heads=heads).word("cat")
    for share in (0, 1.5, "all"):
        with pytest.raises(InputError, match="share of heads"):
            attribution.aggregated("hrv", share=share).word("cat")


def test_ovam(attribution, make_attribution):
    other = make_attribution("blue eyes", seed=5)
    given = dataclasses.replace(attribution, vocabulary={"blue eyes": other})
    wanted = torch.zeros(SIZE, dtype=torch.float64)
    for grid in other.grids:
        maps = enlarged(grid.maps[list(other.word("blue eyes").columns)].sum(dim=0))
        wanted += maps * grid.additions / sum(grid.additions for grid in other.grids)
    agrees(given.word("blue eyes", aggregation="ovam"), wanted)
    with pytest.raises(NoAttributionError, match=r"attribution_vocabulary=\['cat'\]"):
        given.word("cat", aggregation="ovam")


def self_grid(size=(8, 12), seed=0, sites=("up.attn1",), sharpness=2.0) -> SelfGrid:
    generator = torch.Generator().manual_seed(seed)
    positions = size[0] * size[1]
    logits = torch.randn(positions, positions, generator=generator) * sharpness
    return SelfGrid(logits.softmax(dim=1).T.contiguous(), 1, size, sites)


def test_refined_is_one_map(attribution):
    whole = dataclasses.replace(attribution, self_grids=(self_grid(),))
    maps = [
        whole.word("blue eyes").refined(),
        whole.refined().word("blue eyes"),
        whole.word("blue eyes", aggregation="refined"),
    ]
    assert all(torch.equal(maps[0].values, other.values) for other in maps[1:])
    for method in ("guided", "ovam"):
        one = whole.word("cat").refined(method)
        assert torch.equal(one.values, whole.refined(method).word("cat").values)
        assert torch.equal(
            one.values, whole.aggregated("refined", method=method).word("cat").values
        )


def test_an_aggregated_map_is_refined_as_a_whole(attribution):
    grid = self_grid()
    whole = dataclasses.replace(attribution, self_grids=(grid,))
    attention = grid.sums.double().T
    mutual = (attention + attention.T) / (attention + attention.T).sum(dim=1, keepdim=True)
    (recipe,) = {whole.word("blue eyes", aggregation="rms").recipe}
    match = whole.prompt.find("blue eyes")
    word = recipe.pixels(whole, match, (8, 12)).double().flatten()
    spread = mutual @ word
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    wanted = enlarged((word * spread).clamp(min=0.0).view(8, 12))
    agrees(whole.word("blue eyes", aggregation="rms").refined(), wanted)


def test_of_several_sites_that_agrees_best(attribution):
    """The positions of one site attend where the words are; those of the other anywhere."""
    maps = sum(attribution.pixels([c], size=(8, 12)) for c in attribution.word("cat").columns)
    alike = torch.exp(-((maps.flatten()[:, None] - maps.flatten()[None, :]) ** 2) * 200)
    fitting = SelfGrid((alike / alike.sum(dim=1, keepdim=True)).T.contiguous(), 1, (8, 12), ("b",))
    for grids in ((self_grid(), fitting), (fitting, self_grid())):
        several = dataclasses.replace(attribution, self_grids=grids)
        one = dataclasses.replace(attribution, self_grids=(fitting,))
        # The rule takes the mean over the words, of which all but one say nothing here.
        assert torch.equal(several["cat"].refined().values, one["cat"].refined().values)


def with_all_for_goca(attribution, reference_size=(8, 12)):
    """Self-attention of each layer of the largest grid, and queries of one layer."""
    sites = [name for name in attribution.layers if name.startswith(("down", "up_blocks.1"))]
    grids = tuple(
        self_grid(seed=i, sites=(name.replace("attn2", "attn1"),), sharpness=1.0 + 2 * i)
        for i, name in enumerate(sites)
    )
    generator = torch.Generator().manual_seed(9)
    positions = reference_size[0] * reference_size[1]
    calls = tuple(torch.randn(2, positions, 3, generator=generator) for _ in range(2))
    site = SiteQueries(sites[-1], reference_size, 2, 3, (0, 4), calls)
    return dataclasses.replace(attribution, self_grids=grids, queries=Queries((site,))), calls


def test_goca(attribution, record):
    whole, calls = with_all_for_goca(attribution)
    likeness = torch.zeros(96, 96, dtype=torch.float64)
    for call in calls:
        vectors = [torch.cat([head[i] for head in call]).double() for i in range(96)]
        for i in range(96):
            logits = torch.stack([vectors[i] @ other for other in vectors]) / 6**0.5
            likeness[i] += logits.softmax(dim=0) / 2
    weights, maps = [], []
    for grid in whole.self_grids:
        site = grid.sites[0].replace("attn1", "attn2")
        weights.append(float((likeness * grid.sums.double().T).sum()))
        counts = record.counts[site]
        mean = sum(record.maps[site][s].mean(dim=0) * c for s, c in enumerate(counts)) / sum(counts)
        maps.append(mean)
    total = sum(w * m for w, m in zip(weights, maps, strict=True)) / sum(weights)
    total /= total.sum(dim=0)
    word = whole.word("blue eyes").columns
    content = {column for one in whole.words for column in one.columns}
    score = sum(total[c] for c in word) / len(word) / sum(total[c] for c in content)
    line = torch.tensor([math.exp(-0.5 * (i / 1.1) ** 2) for i in range(-2, 3)]).double()
    line /= line.sum()
    padded = F.pad(score[None, None], (2, 2, 2, 2), mode="reflect")[0, 0]
    soft = torch.zeros(8, 12, dtype=torch.float64)
    for y in range(8):
        for x in range(12):
            soft[y, x] = line @ padded[y : y + 5, x : x + 5] @ line
    cells = ((soft - soft.min()) / (soft.max() - soft.min())).flatten()
    attention = sum(grid.sums.double().T for grid in whole.self_grids) / len(whole.self_grids)
    spread = attention @ (attention @ cells)
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    found = whole.aggregated("goca", reference="up_blocks.1").word("blue eyes")
    agrees(found, enlarged(spread.view(8, 12)))


def test_goca_needs_each_layers_self_attention(attribution):
    whole, _ = with_all_for_goca(attribution, (4, 6))
    # On another grid than the reference's the self-attention is resized.
    assert whole.aggregated("goca", reference="up_blocks.1").word("cat").values.std() > 0.01
    with pytest.raises(
        InputError, match=r"is one of Stable Diffusion 1\.5, and this denoiser does"
    ):
        whole.word("cat", aggregation="goca")
    together = dataclasses.replace(whole, self_grids=(self_grid(sites=("a", "b")),))
    with pytest.raises(NoAttributionError, match='self_attention="each"'):
        together.aggregated("goca", reference="up_blocks.1").word("cat")
    without = dataclasses.replace(whole, queries=None)
    with pytest.raises(NoAttributionError, match="needs the image's queries, which this run"):
        without.aggregated("goca")


def test_gramcol(attribution):
    grid = self_grid(sharpness=3.0)
    whole = dataclasses.replace(attribution, self_grids=(grid,))
    attention = grid.sums.double().T
    match = whole.prompt.find("blue eyes")
    word = sum(
        F.interpolate(one.maps[None, list(match.columns)].double(), (8, 12), mode="bicubic")[0]
        .sum(dim=0)
        .mul(share)
        for one, share in zip(whole.grids, whole.grid_shares, strict=True)
    )
    strongest = int(word.flatten().argmax())
    wanted = torch.tensor([float(attention[strongest] @ row) for row in attention])
    wanted = wanted.double() / wanted[strongest]
    agrees(whole.word("blue eyes", aggregation="gramcol"), enlarged(wanted.view(8, 12)))


def test_what_must_be_kept(make_kept, make_attribution):
    plain = make_attribution()
    with pytest.raises(NoAttributionError) as error:
        plain.aggregated("daam")
    assert str(error.value) == (
        "The aggregation 'daam' needs the maps of single layers and the maps of single heads, "
        'which this run did not keep. Record with RDAAMProcessor(keep=("layers", "heads")).'
    )
    steps, _ = make_kept(("steps",))
    with pytest.raises(NoAttributionError) as error:
        steps.word("cat", aggregation="rms")
    assert str(error.value) == (
        "The aggregation 'rms' needs the mean squares, which this run did not keep. Record with "
        'RDAAMProcessor(keep=("steps", "squares")).'
    )
    with pytest.raises(NoAttributionError, match=r"RDAAMProcessor\(self_attention=True\)\.$"):
        plain.word("cat", aggregation="refined")
    assert plain.word("cat", aggregation="information").text == "cat"


def test_errors(attribution, types_unchecked):
    with pytest.raises(InputError, match=r"'dam' is not an aggregation\. Did you mean 'daam'\?"):
        attribution.word("cat", aggregation="dam")
    with pytest.raises(InputError, match=r"^aggregated\('hrv', …\) has no argument 'shar'"):
        attribution.aggregated("hrv", shar=0.2)
    with pytest.raises(InputError, match="by its name or as an Aggregation; got 7"):
        attribution.aggregated(7)
    with pytest.raises(InputError, match="is an aggregation of the whole run, 'rms', and has no"):
        attribution.word("cat", aggregation="rms").over_time()


def test_the_result(make_kept):
    attribution, _ = make_kept(text="a cat and a dog")
    maps = attribution.aggregated("rms")
    assert repr(maps) == "AggregatedAttribution('rms', 5 words, 'a cat and a dog')"
    with pytest.warns(RepeatedWordWarning):
        assert maps["a"].text == "a"
    with pytest.warns(RepeatedWordWarning):
        assert maps.word("a").text == "a"
    assert [heat_map.text for heat_map in maps] == ["a", "cat", "and", "a", "dog"] and len(
        maps
    ) == 5
    assert maps.words == attribution.words and bool(maps)
    heat_map = maps["cat"]
    assert heat_map.quantity == "root mean square of the attention probability"
    # The mass is of the map's values: the aggregation is not the base quantity.
    assert heat_map.mass((0, 0, 96, 64)) == pytest.approx(float(heat_map.values.mean()), abs=1e-6)
    assert torch.equal(attribution.aggregated()["cat"].values, attribution["cat"].values)


def test_one_of_the_users(attribution):
    def maximum(record, match, size, *, factor=1.0):
        return record.pixels(match.columns, size=size) * factor

    twice = Aggregation(name="twice", formula="2 m", maps=maximum)
    assert twice.options == ("factor",)
    values = attribution.aggregated(twice, factor=2.0)["cat"].values
    assert torch.equal(values, 2 * attribution["cat"].values)
    assert torch.equal(attribution.word("cat", aggregation=twice).values, values / 2)


def test_the_table():
    table = aggregations()
    assert set(table) >= {"mean", "refined", "rms", "late_half", "information"}
    assert set(table) >= {"daam", "ovam", "rdaam", "expert_layer", "goca", "hrv", "gramcol"}
    for name, one in table.items():
        assert one.name == name and len(table) == len(set(table))
        assert one.formula and one.memory and one.reference and one.measured and one.sums_to
        assert f"{name}\n  formula: {one.formula}" in repr(table)
        assert f"<td>{name}</td>" in table._repr_html_()


def derived(whole, tmp_path):
    """Attributions made of one that has everything, by how, with what the reason has to say."""
    file = whole.save(tmp_path / "whole.safetensors")
    trimmed = whole.save(tmp_path / "trimmed.safetensors", kept=False)
    stacked = dataclasses.replace(whole, image_size=(32, 96), image=None)
    video = VideoAttribution.of_stacked(stacked, FrameMapping.each(2))
    read = VideoAttribution.load(video.save(tmp_path / "video.safetensors"))
    return {
        "file": (type(whole).load(file), "files of attributions do not hold"),
        "trimmed": (type(whole).load(trimmed), "save(path, kept=False)"),
        "mean": (type(whole).mean([whole, whole]), "the mean of several runs"),
        "frame": (video[1], "a frame of this video does not have"),
        "frame of a file": (read[0], "a frame of this video does not have"),
        "step": (whole.select(steps=0), "a selection of steps"),
        "refined": (whole.refined("product"), "a refined attribution does not have"),
    }


def test_what_is_missing_has_its_true_reason(attribution, tmp_path, types_unchecked):
    whole, _ = with_all_for_goca(attribution, (8, 12))
    options = {"goca": {"reference": "up_blocks.1"}, "expert_layer": {"layer": "up_blocks.1.*"}}
    refused = {}
    for how, (one, reason) in derived(whole, tmp_path).items():
        for name in aggregations():
            if name == "ovam":
                continue  # needs a vocabulary, and says so of itself
            try:
                assert one.aggregated(name, **options.get(name, {})).word("cat").values is not None
            except NoAttributionError as error:
                refused.setdefault(how, set()).add(name)
                # Nobody claims of a run that kept everything that it did not.
                assert "this run did not keep" not in str(error), (how, name)
                assert reason in str(error) or "do not hold" in str(error), (how, name)
                assert str(error).count(". ") >= 1
    everything = {"file", "mean", "frame", "frame of a file", "step"}
    assert {how for how, names in refused.items() if "goca" in names} >= everything
    assert refused["trimmed"] >= {"refined", "auto", "daam", "hrv", "late_half", "gramcol", "goca"}
    assert refused["refined"] >= {"auto", "daam", "hrv", "late_half", "expert_layer"}
    # The remedies are what works.
    loaded = derived(whole, tmp_path)["file"][0]
    again = loaded.with_queries(whole.queries).aggregated("goca", reference="up_blocks.1")
    assert torch.allclose(
        again.word("cat").values,
        whole.aggregated("goca", reference="up_blocks.1").word("cat").values,
        atol=1e-4,
    )
    with pytest.raises(NoAttributionError, match="single steps, which the file does not have"):
        derived(whole, tmp_path)["trimmed"][0].select(steps=0)
    with pytest.raises(NoAttributionError, match="self-attention, which the file does not have"):
        derived(whole, tmp_path)["trimmed"][0].word("cat").refined()
