# SPDX-License-Identifier: Apache-2.0
"""The Celery application: `celery -A workers.celery_app worker`.

The database is the record, so Celery only wakes: no result backend, no retries, no revokes. Torch must
never be imported here: a process that forks after torch has computed hangs.
"""

import os
import sys

from core.errors import WorkbenchError
from core.settings import load_settings
from workers import presence
from workers.application import make_app

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
try:
    _settings = load_settings()
except WorkbenchError as error:
    # Celery imports this module: a message instead of its traceback
    sys.exit(f"error: {error}")
app = make_app(_settings)
presence.connect(presence.Presence(_settings, app))
