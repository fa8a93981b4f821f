# SPDX-License-Identifier: Apache-2.0
"""The output folder: layout, configuration, model card, and the check that it loads."""
