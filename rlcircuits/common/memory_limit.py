"""A memory limit for the current process, for code that might allocate without bound."""

from __future__ import annotations

__all__ = ["limit_memory"]

_DATA = 5
"""The column of /proc/self/statm with the number of data pages."""


def limit_memory(more: int) -> None:
    """Limit this process to ``more`` bytes beyond its current use; beyond them Python raises MemoryError.

    The limit is on data, not on address space, which libraries reserve without using it. Only Linux has it; elsewhere
    the call has no effect.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[_DATA])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    except (ImportError, OSError, ValueError):
        pass
