# SPDX-License-Identifier: Apache-2.0
"""The migration scripts, oldest first."""
