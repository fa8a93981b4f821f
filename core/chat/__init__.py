# SPDX-License-Identifier: Apache-2.0
"""Talk to a model, original or converted: one answer token by token, and the models it needs in memory."""
