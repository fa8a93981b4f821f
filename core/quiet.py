# SPDX-License-Identifier: Apache-2.0
"""Keep libraries from drawing on the terminal or into a job's log."""


def hide_progress_bars() -> None:
    """Turn off transformers' progress bars in this process: progress is reported through events."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
