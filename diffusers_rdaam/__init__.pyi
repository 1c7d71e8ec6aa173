# The public names, one line each, and where they live; __init__.py reads them from here.
# The pipeline classes are those of the stub that python -m benchmarks.write_stub writes.

from diffusers_rdaam.attention.options import QueryOptions as QueryOptions
from diffusers_rdaam.attention.options import RecordingOptions as RecordingOptions
from diffusers_rdaam.attention.processor import RDAAMProcessor as RDAAMProcessor
from diffusers_rdaam.attribution.aggregated import AggregatedAttribution as AggregatedAttribution
from diffusers_rdaam.attribution.aggregations.aggregation import Aggregation as Aggregation
from diffusers_rdaam.attribution.aggregations.table import aggregations as aggregations
from diffusers_rdaam.attribution.attribution import Attribution as Attribution
from diffusers_rdaam.attribution.comparison import AttributionComparison as AttributionComparison
from diffusers_rdaam.attribution.comparison import ComparedWord as ComparedWord
from diffusers_rdaam.attribution.comparison import compare as compare
from diffusers_rdaam.attribution.frame_mapping import FrameMapping as FrameMapping
from diffusers_rdaam.attribution.frame_timeline import FrameTimeline as FrameTimeline
from diffusers_rdaam.attribution.grid import Grid as Grid
from diffusers_rdaam.attribution.heat_map import HeatMap as HeatMap
from diffusers_rdaam.attribution.kept_maps import KeptMaps as KeptMaps
from diffusers_rdaam.attribution.kept_maps import MapStack as MapStack
from diffusers_rdaam.attribution.prompt import Prompt as Prompt
from diffusers_rdaam.attribution.prompt import Token as Token
from diffusers_rdaam.attribution.prompt import Word as Word
from diffusers_rdaam.attribution.queries import Queries as Queries
from diffusers_rdaam.attribution.queries import SiteQueries as SiteQueries
from diffusers_rdaam.attribution.region_words import RegionWords as RegionWords
from diffusers_rdaam.attribution.region_words import WordInside as WordInside
from diffusers_rdaam.attribution.region_words import WordScore as WordScore
from diffusers_rdaam.attribution.region_words import WordsInside as WordsInside
from diffusers_rdaam.attribution.self_attention.segments import Segments as Segments
from diffusers_rdaam.attribution.self_attention.self_attention import SelfAttention as SelfAttention
from diffusers_rdaam.attribution.self_grid import SelfGrid as SelfGrid
from diffusers_rdaam.attribution.steps import Steps as Steps
from diffusers_rdaam.attribution.text_vocabulary import Vocabulary as Vocabulary
from diffusers_rdaam.attribution.timeline import Timeline as Timeline
from diffusers_rdaam.attribution.video import VideoAttribution as VideoAttribution
from diffusers_rdaam.attribution.video_heat_map import VideoHeatMap as VideoHeatMap
from diffusers_rdaam.demo.loader import load_demo_pipeline as load_demo_pipeline
from diffusers_rdaam.editing.editing import inject_attention as inject_attention
from diffusers_rdaam.editing.editing import save_attention as save_attention
from diffusers_rdaam.editing.saved_attention import SavedAttention as SavedAttention
from diffusers_rdaam.errors import AlreadyRecordingError as AlreadyRecordingError
from diffusers_rdaam.errors import AppExtraError as AppExtraError
from diffusers_rdaam.errors import AttributionFileError as AttributionFileError
from diffusers_rdaam.errors import BackendWarning as BackendWarning
from diffusers_rdaam.errors import DenoiserReplacedWarning as DenoiserReplacedWarning
from diffusers_rdaam.errors import ForeignThreadWarning as ForeignThreadWarning
from diffusers_rdaam.errors import GradientError as GradientError
from diffusers_rdaam.errors import ImageCountWarning as ImageCountWarning
from diffusers_rdaam.errors import ImageMismatchWarning as ImageMismatchWarning
from diffusers_rdaam.errors import ImageResizedWarning as ImageResizedWarning
from diffusers_rdaam.errors import InputError as InputError
from diffusers_rdaam.errors import LayoutUnknownWarning as LayoutUnknownWarning
from diffusers_rdaam.errors import MaskedRowsWarning as MaskedRowsWarning
from diffusers_rdaam.errors import NoAttributionError as NoAttributionError
from diffusers_rdaam.errors import NotFiniteWarning as NotFiniteWarning
from diffusers_rdaam.errors import NotRecordedWarning as NotRecordedWarning
from diffusers_rdaam.errors import PandasExtraError as PandasExtraError
from diffusers_rdaam.errors import PartialRunWarning as PartialRunWarning
from diffusers_rdaam.errors import PlotExtraError as PlotExtraError
from diffusers_rdaam.errors import ProcessorError as ProcessorError
from diffusers_rdaam.errors import ProcessorWarning as ProcessorWarning
from diffusers_rdaam.errors import PromptSwitchedWarning as PromptSwitchedWarning
from diffusers_rdaam.errors import PromptTruncatedWarning as PromptTruncatedWarning
from diffusers_rdaam.errors import RDAAMError as RDAAMError
from diffusers_rdaam.errors import RDAAMWarning as RDAAMWarning
from diffusers_rdaam.errors import ReconstructionWarning as ReconstructionWarning
from diffusers_rdaam.errors import RecordingError as RecordingError
from diffusers_rdaam.errors import RecordingFailedWarning as RecordingFailedWarning
from diffusers_rdaam.errors import RegionError as RegionError
from diffusers_rdaam.errors import RepeatedWordWarning as RepeatedWordWarning
from diffusers_rdaam.errors import SeveralRunsWarning as SeveralRunsWarning
from diffusers_rdaam.errors import SiteMisfitWarning as SiteMisfitWarning
from diffusers_rdaam.errors import TextMismatchWarning as TextMismatchWarning
from diffusers_rdaam.errors import UncheckedTextWarning as UncheckedTextWarning
from diffusers_rdaam.errors import UnreadableDenoiserWarning as UnreadableDenoiserWarning
from diffusers_rdaam.errors import UnsupportedPipelineError as UnsupportedPipelineError
from diffusers_rdaam.errors import WordError as WordError
from diffusers_rdaam.explain.ablations.ablation import AblatedWord as AblatedWord
from diffusers_rdaam.explain.ablations.ablation import AblationWords as AblationWords
from diffusers_rdaam.explain.ablations.ablation import explain_ablation as explain_ablation
from diffusers_rdaam.explain.ablations.deletion import Deletion as Deletion
from diffusers_rdaam.explain.ablations.deletion import DeletionCurve as DeletionCurve
from diffusers_rdaam.explain.compare import Comparison as Comparison
from diffusers_rdaam.explain.compare import compare_explanations as compare_explanations
from diffusers_rdaam.explain.gradients.gradient import explain_gradient as explain_gradient
from diffusers_rdaam.explain.gradients.gradient_words import GradientWord as GradientWord
from diffusers_rdaam.explain.gradients.gradient_words import GradientWords as GradientWords
from diffusers_rdaam.explain.gradients.input_pixels import InputPixels as InputPixels
from diffusers_rdaam.explain.words import RankedWords as RankedWords
from diffusers_rdaam.geometry.region import Box as Box
from diffusers_rdaam.geometry.region import Mask as Mask
from diffusers_rdaam.geometry.region import Polygon as Polygon
from diffusers_rdaam.open_vocabulary.attribute_text import attribute_text as attribute_text
from diffusers_rdaam.open_vocabulary.attribute_text import text_maps as text_maps
from diffusers_rdaam.open_vocabulary.optimize import OptimizationStep as OptimizationStep
from diffusers_rdaam.open_vocabulary.optimize import Schedule as Schedule
from diffusers_rdaam.open_vocabulary.optimize import optimize_token as optimize_token
from diffusers_rdaam.open_vocabulary.optimized_token import OptimizedToken as OptimizedToken
from diffusers_rdaam.open_vocabulary.recipe import MapRecipe as MapRecipe
from diffusers_rdaam.pipelines.attribute_image import attribute_image as attribute_image
from diffusers_rdaam.pipelines.auto import (
    AutoRDAAMPipelineForImage2Image as AutoRDAAMPipelineForImage2Image,
)
from diffusers_rdaam.pipelines.auto import (
    AutoRDAAMPipelineForInpainting as AutoRDAAMPipelineForInpainting,
)
from diffusers_rdaam.pipelines.auto import (
    AutoRDAAMPipelineForText2Image as AutoRDAAMPipelineForText2Image,
)
from diffusers_rdaam.pipelines.callbacks import IntermediateImages as IntermediateImages
from diffusers_rdaam.pipelines.callbacks import LivePreview as LivePreview
from diffusers_rdaam.pipelines.classes import *  # noqa: F403  # the names of the tables
from diffusers_rdaam.pipelines.mixin import RDAAMPipelineMixin as RDAAMPipelineMixin
from diffusers_rdaam.pipelines.output import AttributedOutput as AttributedOutput
from diffusers_rdaam.pipelines.record_attention import Recording as Recording
from diffusers_rdaam.pipelines.record_attention import record_attention as record_attention
from diffusers_rdaam.pipelines.record_denoiser import DenoiserRecording as DenoiserRecording
from diffusers_rdaam.viewer.page import viewer_page as viewer_page

__version__: str
