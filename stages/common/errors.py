"""Typed errors. Each carries the exit code a command ends with and whether trying again may help."""

import errno


class FactoryError(Exception):
    """Base of every error a person can act on. The message is one line: what, where, what to do."""

    exit_code = 1
    transient = False


class StageError(FactoryError):
    """A stage ran and failed (exit 1)."""


class DivergedError(StageError):
    """Training became NaN or ran away twice; settings have to change."""


class DiskFullError(StageError):
    """No space left while writing. Nothing half-written stays under a final name."""

    transient = True


class BusyError(StageError):
    """Somebody else holds the lock of this work."""

    transient = True


class SettingsError(FactoryError):
    """Wrong use or settings (exit 2)."""

    exit_code = 2


class InputError(FactoryError):
    """Input cannot be used (exit 3)."""

    exit_code = 3


class ImageError(InputError):
    """A picture cannot be decoded. ``path`` names it, ``reason`` is a short code for reports."""

    def __init__(self, path: object, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path, self.reason, self.detail = path, reason, detail


class ModelFileError(InputError):
    """A model file is of the wrong kind, shape or version, or damaged."""


def from_os_error(error: OSError, where: object) -> FactoryError:
    """Turns an OSError into a FactoryError that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"{where}: no space left on the disk; free some ('stylefactory gc') and run again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StageError(f"{where}: not allowed to read or write here ({error.strerror}); change its rights")
    return StageError(f"{where}: {error.strerror or error}")
