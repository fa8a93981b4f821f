# SPDX-License-Identifier: Apache-2.0
"""`python -m app.serve`: everything, with the settings of the environment."""

import sys

from app.serve import serve
from core.errors import WorkbenchError
from core.settings import load_settings

if __name__ == "__main__":
    try:
        sys.exit(serve(load_settings()))
    except WorkbenchError as error:
        sys.exit(f"{error.message}\n  {error.hint}" if error.hint else error.message)
