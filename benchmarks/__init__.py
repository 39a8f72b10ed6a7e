"""Our speed and memory beside a peer's, in the same run. See README.md; nothing of the package imports this."""

#: The side that is ours, in every record.
OURS = "groundup"
