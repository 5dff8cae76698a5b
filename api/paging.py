"""Query parameters that every list has."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

Limit = Annotated[int, Query(ge=1, le=100, description="Rows of one page.")]
After = Annotated[str | None, Query(max_length=64, description="Id of the last row of the page before.")]
Id = Annotated[str, Path(max_length=64)]
