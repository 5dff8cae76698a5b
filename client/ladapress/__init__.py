"""Client of ladapress, compression as a service for BERT-like encoders."""

from ladapress.client import Client
from ladapress.errors import LadapressError, Problem

__all__ = ["Client", "LadapressError", "Problem"]
