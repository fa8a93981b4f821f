# SPDX-License-Identifier: Apache-2.0
"""What the page and the REST API do, in the words of a user. No HTML, no HTTP, no torch."""
