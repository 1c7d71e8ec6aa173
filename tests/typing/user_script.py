"""What a user writes, for type checkers: read by test_user_script.py, and never run."""

import torch

# What diffusers does not declare as exported, its documentation imports from here.
from diffusers import StableDiffusionPipeline  # pyright: ignore[reportPrivateImportUsage]
from typing_extensions import assert_type, reveal_type

from diffusers_rdaam import (
    Attribution,
    AutoRDAAMPipelineForText2Image,
    HeatMap,
    RDAAMProcessor,
    RegionWords,
    StableDiffusionRDAAMPipeline,
    StableDiffusionXLRDAAMPipeline,
    attribute_text,
    compare_explanations,
    explain_ablation,
    explain_gradient,
    load_demo_pipeline,
    record_attention,
    text_maps,
)

BOX = (100, 100, 300, 300)

pipe = StableDiffusionRDAAMPipeline.from_pretrained("a/model", dtype=torch.bfloat16).to("cuda")
assert_type(pipe, StableDiffusionRDAAMPipeline)
pipe.set_attn_processor(RDAAMProcessor())
output = pipe("a cat with blue eyes", num_inference_steps=28)
output.images[0]
words = output.attribution.region(BOX)
heat = output.attribution.word("cat")
assert_type(output.attribution, Attribution)
assert_type(words, RegionWords)
assert_type(heat, HeatMap)
assert_type(output.attributions, list[Attribution] | None)
assert_type(pipe.attribution, Attribution)
output.attribution.save("cat.safetensors")
loaded = Attribution.load("cat.safetensors")
assert_type(loaded, Attribution)
# A heat map that was pickled or copied has no attribution.
assert heat.attribution is not None
words_again = heat.attribution.region(BOX)
heat_again = heat.attribution.word("eyes")

large = StableDiffusionXLRDAAMPipeline.from_pipe(pipe)
assert_type(large, StableDiffusionXLRDAAMPipeline)
demo = load_demo_pipeline()
assert_type(demo("a red circle").attribution, Attribution)
chosen = AutoRDAAMPipelineForText2Image.from_pretrained("a/model", dtype=torch.bfloat16).to("cuda")
chosen.set_attn_processor(RDAAMProcessor(keep="queries"))
chosen.enable_attention_slicing()
chosen_output = chosen("a cat with blue eyes", num_inference_steps=28)
chosen_words = chosen_output.attribution.region(BOX)
chosen_again = AutoRDAAMPipelineForText2Image.from_pipe(pipe)

other = chosen.query(chosen_output.attribution, "a hat")
maps = chosen.query_maps(chosen_output.attribution, "a hat")
other_of_stock = attribute_text(chosen, chosen_output.attribution, "a hat")
maps_of_stock = text_maps(chosen, chosen_output.attribution, "a hat")
gradient = explain_gradient(pipe, "a cat with blue eyes", region=BOX)
ablations = explain_ablation(pipe, "a cat with blue eyes", regions=[BOX, BOX])
table = compare_explanations(attention=words, gradient=gradient, ablation=ablations[0])

stock = StableDiffusionPipeline.from_pretrained("a/model").to("cuda")
with record_attention(stock) as recording:
    stock("a cat")
recorded = recording.attribution
assert_type(recorded, Attribution)
assert_type(recording.attributions_of_runs, list[list[Attribution] | None])

reveal_type(pipe)
reveal_type(output)
reveal_type(words)
reveal_type(heat)
reveal_type(loaded)
reveal_type(words_again)
reveal_type(heat_again)
reveal_type(large)
reveal_type(demo)
reveal_type(chosen)
reveal_type(chosen_output)
reveal_type(chosen_words)
reveal_type(chosen_again)
reveal_type(other)
reveal_type(maps)
reveal_type(other_of_stock)
reveal_type(maps_of_stock)
reveal_type(gradient)
reveal_type(ablations)
reveal_type(table)
reveal_type(recording)
reveal_type(recorded)
