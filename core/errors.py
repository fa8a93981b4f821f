# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on: every one carries the fix."""


class WorkbenchError(Exception):
    """Something the user can change; shown as `message` with `hint`, never as a traceback."""

    reason = "error"

    def __init__(self, message: str, *, hint: str = "", field: str | None = None) -> None:
        """`field` names the JobSpec field the message belongs beside, e.g. "keep"."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.field = field

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class SpecError(WorkbenchError):
    """The request itself is wrong: an unknown choice, a value out of range."""

    reason = "invalid request"


class ModelError(WorkbenchError):
    """The model cannot be found, read, or is of a kind that cannot be converted."""

    reason = "unusable model"


class PlanError(WorkbenchError):
    """The budget cannot be met for this model."""

    reason = "impossible plan"


class TextError(WorkbenchError):
    """A calibration or evaluation text is missing, empty, binary or too short."""

    reason = "unusable text"


class OutputError(WorkbenchError):
    """The output folder exists, is not writable, or the disk is full."""

    reason = "cannot write output"


class VerificationError(WorkbenchError):
    """The exported model does not reload to what was converted."""

    reason = "verification failed"


class StateError(WorkbenchError):
    """A job cannot make this step from the state it is in."""

    reason = "wrong state"


class Cancelled(Exception):
    """Raised by `Cancel.check` when the job was asked to stop."""
