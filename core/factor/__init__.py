# SPDX-License-Identifier: Apache-2.0
"""The factorisation stages: from stacked projections to a latent and its up-projections."""
