"""Tables of a pairs file that can be made by hand too: then what does not fit is one error of ours."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from rlcircuits.common.complaints import problem
from rlcircuits.common.errors import RLCircuitsError
from rlcircuits.common.reprs import said, short_repr

__all__ = ["Table"]


class Table(BaseModel):
    """A model that, made by calling it, raises RLCircuitsError naming the key that does not fit.

    ``model_validate`` raises pydantic's error, which knows where in a larger table the key is.
    """

    def __init__(self, **fields: Any) -> None:
        try:
            super().__init__(**fields)
        except ValidationError as error:
            kind = type(self)
            raise RLCircuitsError(f"{kind.__name__}{problem(error, kind.model_fields)}") from None

    def __repr__(self) -> str:
        return short_repr(self, *said((name, value) for name, value in self if name in self.model_fields_set))

    # So that pydantic does not come by here on its way into a nested table.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
