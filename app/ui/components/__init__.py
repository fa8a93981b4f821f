# SPDX-License-Identifier: Apache-2.0
"""Pieces of HTML as pure functions. Everything a user typed passes through html.escape here."""
