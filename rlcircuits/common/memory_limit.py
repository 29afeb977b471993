"""A bound on the memory of this process, for code that may ask for any amount."""

from __future__ import annotations

__all__ = ["limit_memory"]

_DATA = 5
"""Which number of /proc/self/statm counts the pages of data that the process may write."""


def limit_memory(more: int) -> None:
    """Let this process take at most so many bytes more than it has; then Python raises MemoryError.

    What counts is data, not the address space that libraries set aside. Without effect where the system has no such
    limit: outside Linux.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[_DATA])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, OSError, ValueError):
        pass
