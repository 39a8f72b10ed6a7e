"""The loop over the bytes of a page, compiled by numba; imported by ``groundup.core.compiled`` alone."""
