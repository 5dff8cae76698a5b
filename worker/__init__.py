"""Runs jobs: a Celery app or an embedded loop, a supervisor, and one fresh child process per job."""
