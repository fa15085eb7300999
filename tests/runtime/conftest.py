"""Labs of toys, in memory."""

from toy import in_memory

__all__ = ["in_memory"]
