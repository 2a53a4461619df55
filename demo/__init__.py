"""The demo: everything of Jobcast on this machine alone, for half a minute. No cluster, no Redis server, no root.

parts       starts and ends an embedded Valkey, devcluster, the controller and the worker
jobs        six evaluation Jobs that end in six ways
handlers    a Celery task of a user: scores what completed
screen      their life as a live table, and the summary
"""

from demo.play import main

__all__ = ["main"]
