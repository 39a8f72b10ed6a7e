"""The parts that must be fast, as plain loops over bytes and numbers, compiled by numba (``core.compiled``).

Every kernel gives what a plain Python version gives (``pretokenize``, ``bpe_plain``, ``trainer``), and the tests hold
the two against each other. Only ``core.compiled`` imports these modules, because they import numba.
"""
