"""Every error that a user can cause, as one tree.

    GroundupError                exit code 1
    ├── UsageError               exit code 2: the command line, a recipe or one of its keys
    ├── DataError                a text, a document or a conversation that cannot be used
    ├── ArtifactError            a file of a run that is missing, truncated or foreign
    ├── RunLockedError           another process works in the same run directory
    ├── StorageError             the disk is full or cannot be written
    ├── TrainingError            the loss or the gradients stopped being finite numbers
    └── LostError                exit code 75, "try again": another process of the same run is gone

The message is one line that names what is wrong, where, and the remedy. ``cli`` prints it
without a traceback. ``assert`` is for our own invariants, never for these.
"""


class GroundupError(Exception):
    """Base of every error that the command line reports in one line."""

    exit_code = 1


class UsageError(GroundupError):
    """The command line or a recipe asks for something that does not exist or cannot be."""

    exit_code = 2


class DataError(GroundupError):
    """A text, a document or a conversation cannot be used."""


class ArtifactError(GroundupError):
    """A file of a run is missing, truncated, or belongs to something else."""


class RunLockedError(GroundupError):
    """Another process is working in the same run directory."""


class StorageError(GroundupError):
    """The disk is full, or the place cannot be written."""


class TrainingError(GroundupError):
    """Training cannot go on: a loss or a gradient is not a finite number."""


class LostError(GroundupError):
    """Another process of the same run is gone."""

    exit_code = 75
