"""Jobcast tells the world what happens to evaluation Jobs on Kubernetes.

The shared core: what a Job means, what an event is, how it is told. No Celery here. A handler needs one name of it:

    from jobcast import on

    @on("completed")
    def score(event): ...
"""

from jobcast.handlers import on

__all__ = ["__version__", "on"]

__version__ = "0.1.0"
