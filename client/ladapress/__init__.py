"""Client of ladapress, compression as a service for BERT-like encoders."""

from ladapress.client import AsyncClient, Client
from ladapress.errors import LadapressError, Problem
from ladapress.handle import JobHandle
from ladapress.modes import Async, Sync
from ladapress.pages import Page

__all__ = ["Async", "AsyncClient", "Client", "JobHandle", "LadapressError", "Page", "Problem", "Sync"]
