# SPDX-License-Identifier: Apache-2.0
"""The record of every job. Only this package and migrations/ know the database."""
