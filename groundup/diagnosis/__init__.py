"""``groundup doctor``: is this machine fit to train on, and what is wrong with this run?

Enters: a machine; the records that a run left. Leaves: findings, each with its evidence and a remedy.
"""

from groundup.diagnosis.finding import Finding
from groundup.diagnosis.machine import examine_machine
from groundup.diagnosis.run import diagnose

__all__ = ["Finding", "diagnose", "examine_machine"]
