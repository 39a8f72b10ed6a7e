"""Watching a run: its records as a table and curves in the terminal, and as one page that opens offline.

Enters: a run directory, finished or at work. Leaves: lines on stderr, ``status.html``, or JSON.
"""
