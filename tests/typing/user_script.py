"""What a user writes, for type checkers: read by test_user_script.py, and never run."""

import torch
from diffusers import StableDiffusionPipeline
from typing_extensions import assert_type, reveal_type

from diffusers_rdaam import (
    Attribution,
    AutoRDAAMPipelineForText2Image,
    HeatMap,
    RDAAMProcessor,
    RegionWords,
    StableDiffusionRDAAMPipeline,
    StableDiffusionXLRDAAMPipeline,
    load_demo_pipeline,
    record_attention,
)

pipe = StableDiffusionRDAAMPipeline.from_pretrained("a/model", dtype=torch.bfloat16).to("cuda")
assert_type(pipe, StableDiffusionRDAAMPipeline)
pipe.set_attn_processor(RDAAMProcessor())
output = pipe("a cat with blue eyes", num_inference_steps=28)
output.images[0]
assert_type(output.attribution, Attribution)
assert_type(output.attribution.region((100, 100, 300, 300)), RegionWords)
assert_type(output.attribution.word("cat"), HeatMap)
assert_type(output.attributions, list[Attribution] | None)
assert_type(pipe.attribution, Attribution)
output.attribution.save("cat.safetensors")
assert_type(Attribution.load("cat.safetensors"), Attribution)

large = StableDiffusionXLRDAAMPipeline.from_pipe(pipe)
assert_type(large, StableDiffusionXLRDAAMPipeline)
assert_type(load_demo_pipeline()("a red circle").attribution, Attribution)
AutoRDAAMPipelineForText2Image.from_pretrained("a/model")

stock = StableDiffusionPipeline.from_pretrained("a/model")
with record_attention(stock) as recording:
    stock("a cat")
assert_type(recording.attribution, Attribution)
assert_type(recording.attributions_of_runs, list[list[Attribution] | None])

reveal_type(output.attribution)
reveal_type(output.attribution.region((100, 100, 300, 300)))
reveal_type(recording.attribution)
