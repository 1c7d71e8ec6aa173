"""Every error and warning of the package.

::

    RDAAMError
    |-- InputError (ValueError)            an argument is wrong
    |   |-- RegionError                    a box, polygon or mask
    |   |-- WordError                      a word, occurrence or span that the prompt lacks
    |   `-- AttributionFileError           a file that is not a whole, valid attribution
    |-- PlotExtraError (ImportError)       a figure was asked for without matplotlib
    |-- GradientError (RuntimeError)       no gradient flows, or it is not finite
    `-- RecordingError (RuntimeError)      a run cannot be recorded, or was not
        |-- UnsupportedPipelineError       no family knows this pipeline's layout
        |-- AlreadyRecordingError          the denoiser is being recorded by another run
        |-- ProcessorError                 a site's processor cannot be recorded
        `-- NoAttributionError             there is none: no run yet, off, failed, not kept
    RDAAMWarning (UserWarning)
    |-- PromptTruncatedWarning             words behind the encoder's last position
    |-- RepeatedWordWarning                a word stands in the prompt more than once
    |-- BackendWarning                   the kernel that was asked for cannot run here
    `-- NotRecordedWarning                 the image is made, but not (all of) its attribution
"""

from __future__ import annotations


class RDAAMError(Exception):
    """Base of all errors of this package."""


class InputError(RDAAMError, ValueError):
    """An argument is wrong; the text says what came, what was wanted and what to do."""


class RegionError(InputError):
    """A box, polygon or mask that is no region of the image."""


class WordError(InputError):
    """A word, phrase, occurrence, index or span that the prompt does not have."""


class AttributionFileError(InputError):
    """A file that is truncated, corrupted, foreign, or of an unknown version."""


class PlotExtraError(RDAAMError, ImportError):
    """A figure was asked for, and matplotlib is not installed."""


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
    """There is no attribution (no run yet, switched off, failed), or not of what was asked."""


class RDAAMWarning(UserWarning):
    """Base of all warnings of this package."""


class PromptTruncatedWarning(RDAAMWarning):
    """The text encoder did not see the end of the prompt; those words have no column."""


class RepeatedWordWarning(RDAAMWarning):
    """A word stands in the prompt more than once and its maps were added."""


class BackendWarning(RDAAMWarning):
    """The kernel that was asked for cannot run here; the text says why, and which takes its place.

    What is recorded is the same.
    """


class NotRecordedWarning(RDAAMWarning):
    """The image is made, but its attribution is missing; the text says why."""
