# SPDX-License-Identifier: Apache-2.0
"""Where weights come from and how they are written, tensor by tensor."""
