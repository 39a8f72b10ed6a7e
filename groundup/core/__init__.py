"""What every other folder may use and what imports nothing of ours.

Errors, atomic files, seeding, progress, device choice, the run directory, configuration.
"""
