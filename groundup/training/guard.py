"""Which losses are not to be trusted: a spike stands out from the recent losses by a robust measure."""

from statistics import median

#: Recent losses that a spike is measured against, and how many of them there must be.
WINDOW = 64
LEAST = 24
#: A spike lies at least this share above the median, however quiet the losses were.
SHARE = 0.1
#: What makes the median absolute deviation that of a normal distribution's standard deviation.
NORMAL = 1.4826


def is_spike(loss: float, recent: list[float], limit: float) -> bool:
    """Whether ``loss`` lies more than ``limit`` deviations above the median of the ``recent`` losses."""
    if not limit or len(recent) < LEAST:
        return False
    middle = median(recent)
    deviation = NORMAL * median(abs(value - middle) for value in recent)
    return loss > middle + max(limit * deviation, SHARE * abs(middle))
