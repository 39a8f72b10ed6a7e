"""The parts that must be fast, as plain loops over bytes and numbers, compiled by numba (``core.compiled``).

Every kernel gives what a plain version in Python or NumPy gives (``words``, ``minhash``, ``suffix``), and the tests
hold the two against each other. Only ``core.compiled`` imports these modules, because they import numba.
"""
