"""One section of the page: its heading, its template, and what that shows."""

from __future__ import annotations

from dataclasses import dataclass

from rlcircuits.report.page.data import Missing

__all__ = ["Section"]


@dataclass(frozen=True)
class Section:
    """A part of a pair's page."""

    key: str
    """Name of the template, and of the anchor after the pair's."""
    title: str
    lead: str
    """What the section shows, and how to read it."""
    content: object
    """What the template shows; a :class:`~rlcircuits.report.page.data.Missing` if there is nothing."""

    @property
    def missing(self) -> str | None:
        """Return the line that says how to get what is missing; None if nothing is."""
        return self.content.how if isinstance(self.content, Missing) else None
