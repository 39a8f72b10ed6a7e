"""The loops over characters and words that the analysis of a text consists of, compiled by numba (``core.compiled``).

Each gives what ``analysis`` computes in plain Python, and the tests hold the two against each other. Only
``core.compiled`` imports these modules, because they import numba.
"""
