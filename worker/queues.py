"""The names of our Celery queues. Pure.

Never Celery's default `celery`: an existing app on the same Redis would take our tasks from it, not know them, and throw
them away.
"""


def shared_queue(prefix: str) -> str:
    """For handlers with a priority and without a queue of their own. Every worker serves it."""
    return f"{{{prefix}}}:tasks"
