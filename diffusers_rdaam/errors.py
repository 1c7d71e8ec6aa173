"""Every error and warning of the package.

::

    RDAAMError
    |-- InputError (ValueError)            an argument is wrong
    |   |-- RegionError                    a box, polygon or mask
    |   |-- WordError                      a word, occurrence or span that the prompt lacks
    |   |-- DataSetError                   a data set on disk that is not as its format says
    |   `-- AttributionFileError           a file that is not a whole, valid attribution
    |-- NotebookExtraError (ImportError)   a selection was asked for without anywidget
    |-- AppExtraError (ImportError)        the app was asked for without gradio
    |-- BatchError (RuntimeError)          a batch stopped before its end; it can go on from there
    |-- BatchExtraError (ImportError)      a batch was asked for without pyarrow or Ray
    |-- CRFExtraError (ImportError)        a dense CRF was asked for without pydensecrf
    |-- PandasExtraError (ImportError)     a table was asked for without pandas
    |-- PlotExtraError (ImportError)       a figure was asked for without matplotlib
    |-- DataSetsExtraError (ImportError)   a data set needs h5py or scipy, which is not there
    |-- GradientError (RuntimeError)       no gradient flows, or it is not finite
    `-- RecordingError (RuntimeError)      a run cannot be recorded, or was not
        |-- UnsupportedPipelineError       no family knows this pipeline's layout
        |-- AlreadyRecordingError          the denoiser is being recorded by another run
        |-- ProcessorError                 a site's processor cannot be recorded
        `-- NoAttributionError             there is none: no run yet, off, failed, not kept
    RDAAMWarning (UserWarning)
    |-- PromptTruncatedWarning             words that the encoder did not see, or only a part of
    |-- RepeatedWordWarning                a word occurs in the prompt more than once
    |-- UncheckedTextWarning               attribution_prompt= could not be compared with anything
    |-- SeveralRunsWarning                 a block has several runs; the last one is answered
    |-- IncompleteModelWarning             a model runs with other weights than its files have
    |-- BackendWarning                     the kernel that was asked for cannot run here
    |-- ImageResizedWarning                an image was stretched to a size that a pipeline takes
    |-- ReconstructionWarning              an inverted image does not come back from its noise
    `-- NotRecordedWarning                 the image is made, but not (all of) its attribution
        |-- LayoutUnknownWarning           which calls or rows carry the prompt is not known
        |-- ImageCountWarning              the run made another number of images than it recorded
        |-- RecordingFailedWarning         an exception in recording, such as out of memory
        |-- SiteMisfitWarning              a site has other rows, positions or columns than its call
        |-- PromptSwitchedWarning          another text embedding was put in during the run
        |-- DenoiserReplacedWarning        another denoiser was put in place during the run
        |-- ForeignThreadWarning           another thread called the denoiser
        |-- PartialRunWarning              fewer denoiser calls than the scheduler has steps
        |-- UnreadableDenoiserWarning      a denoiser without modules: traced, another runtime
        |-- ProcessorWarning               a site's processor was replaced, or is not known
        |-- NotFiniteWarning               NaN or infinity in attention
        |-- MaskedRowsWarning              a row of attention whose every key is masked
        |-- TextMismatchWarning            attribution_prompt= is not what the embedding was made of
        `-- ImageMismatchWarning           the maps are not those of the image, as after cropping
"""

from __future__ import annotations


class RDAAMError(Exception):
    """Base of all errors of this package."""


class InputError(RDAAMError, ValueError):
    """An argument is wrong; the text says what came, what was wanted and what to do."""


class RegionError(InputError):
    """A box, polygon or mask that is not a region of the image."""


class WordError(InputError):
    """A word, phrase, occurrence, index or span that the prompt does not have."""


class AttributionFileError(InputError):
    """A file that is truncated, corrupted, foreign, or of an unknown version."""


class AppExtraError(RDAAMError, ImportError):
    """The app was asked for, and gradio is not installed."""


class DataSetError(InputError):
    """A data set on disk that is not as its format says: a folder, image, mask or entry."""


class DataSetsExtraError(RDAAMError, ImportError):
    """A data set's format needs a library that is not installed."""


class PlotExtraError(RDAAMError, ImportError):
    """A figure was asked for, and matplotlib is not installed."""


class NotebookExtraError(RDAAMError, ImportError):
    """What is selected in a viewer was asked for, and anywidget is not installed."""


class BatchError(RDAAMError, RuntimeError):
    """A batch stopped before its end: a full disk, a cluster that went away, a model that fails.

    What was written is whole, and the same command with ``--resume`` goes on from there.
    """


class BatchExtraError(RDAAMError, ImportError):
    """A batch was asked for, and pyarrow is not installed; or Ray, where it was to run on Ray."""


class CRFExtraError(RDAAMError, ImportError):
    """A dense CRF was asked for, and pydensecrf is not installed."""


class PandasExtraError(RDAAMError, ImportError):
    """A table was asked for, and pandas is not installed."""


class GradientError(RDAAMError, RuntimeError):
    """No gradient gets through the model, or what comes out is not finite."""


class RecordingError(RDAAMError, RuntimeError):
    """A run cannot be recorded, or was not."""


class UnsupportedPipelineError(RecordingError):
    """No family knows the layout of this pipeline's denoiser calls."""


class AlreadyRecordingError(RecordingError):
    """The denoiser is already being recorded by another run, pipeline or thread."""


class ProcessorError(RecordingError):
    """An attention module has a processor that recording cannot stand in for."""


class NoAttributionError(RecordingError):
    """There is no attribution (no run yet, switched off, failed), or not of what was asked.

    Args:
        text: why, and what to do.
        warning: the class of the warning that a pipeline gives for this cause.
    """

    def __init__(self, text: str = "", *, warning: type[NotRecordedWarning] | None = None) -> None:
        super().__init__(text)
        self.warning = warning or NotRecordedWarning


class RDAAMWarning(UserWarning):
    """Base of all warnings of this package."""


class PromptTruncatedWarning(RDAAMWarning):
    """The text encoder did not see the end of the prompt.

    Words after it have no column; a word that it cut has only the columns of its beginning.
    """


class RepeatedWordWarning(RDAAMWarning):
    """A word occurs in the prompt more than once and its maps were added."""


class UncheckedTextWarning(RDAAMWarning):
    """``attribution_prompt=`` was taken without a check, because no text encoder is loaded."""


class SeveralRunsWarning(RDAAMWarning):
    """A block recorded several runs, and the attribution of the last one was asked for."""


class IncompleteModelWarning(RDAAMWarning):
    """A model runs with random numbers in place of weights, or without some that its files have."""


class BackendWarning(RDAAMWarning):
    """The kernel that was asked for cannot run here; the text says why, and which takes its place.

    What is recorded is the same.
    """


class ImageResizedWarning(RDAAMWarning):
    """An image was stretched to a size that the pipeline takes; regions are in that size's pixels.

    Nothing is said of an image that was only scaled.
    """


class ReconstructionWarning(RDAAMWarning):
    """An image does not come back from the noise that its inversion led to.

    Its attribution is that of the image that came back, which may lack parts of the one given.
    """


class NotRecordedWarning(RDAAMWarning):
    """The image is made, but its attribution is missing; the text says why."""


class LayoutUnknownWarning(NotRecordedWarning):
    """Which calls of the denoiser, or which of their rows, carry the prompt is not known."""


class ImageCountWarning(NotRecordedWarning):
    """The pipeline returned another number of images than were recorded."""


class RecordingFailedWarning(NotRecordedWarning):
    """An exception stopped recording, such as out of memory; the image was made all the same."""


class SiteMisfitWarning(NotRecordedWarning):
    """A site attended with other rows, positions or columns than its denoiser call has."""


class PromptSwitchedWarning(NotRecordedWarning):
    """Another text embedding was put in the prompt's place during the run."""


class DenoiserReplacedWarning(NotRecordedWarning):
    """Another denoiser was put in the pipeline during the run, and its calls were not recorded."""


class ForeignThreadWarning(NotRecordedWarning):
    """Another thread than the recorded run's called the denoiser."""


class PartialRunWarning(NotRecordedWarning):
    """The denoiser was called fewer times than the scheduler has steps."""


class UnreadableDenoiserWarning(NotRecordedWarning):
    """The denoiser has no attention modules to record: it is traced, or runs elsewhere."""


class ProcessorWarning(NotRecordedWarning):
    """An attention processor was replaced, or is one that cannot be recorded."""


class NotFiniteWarning(NotRecordedWarning):
    """Attention had NaN or infinity, most often because half precision overflowed."""


class MaskedRowsWarning(NotRecordedWarning):
    """In some rows of attention every key was masked, so that no column can be attended to."""


class TextMismatchWarning(NotRecordedWarning):
    """``attribution_prompt=`` is not the text that the embedding was made from."""


class ImageMismatchWarning(NotRecordedWarning):
    """The recorded maps are not maps of the image that was returned, as after a paste or crop."""
