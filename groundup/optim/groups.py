"""Parameters by what they are for, as the records of a training call them."""

#: What a name contains, and its group; the first that fits counts.
_GROUPS = (
    ("norm", "norms"),
    ("router", "routers"),
    ("embedding", "embedding"),
    ("attention.", "attention"),
    ("feed_forward.", "feed_forward"),
    ("head.", "head"),
)


def group_of(name: str) -> str:
    """embedding, attention, feed_forward, norms, head, routers, or other."""
    return next((group for part, group in _GROUPS if part in name), "other")
