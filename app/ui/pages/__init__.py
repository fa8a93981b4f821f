# SPDX-License-Identifier: Apache-2.0
"""One file per page. A handler parses, calls a service and renders; it decides nothing."""
