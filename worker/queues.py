"""The names of our Celery queues. Pure.

Never Celery's default `celery`: an existing app on the same Redis would take our tasks from it, not know them, and throw
them away.
"""


def shared_queue(prefix: str) -> str:
    """For tasks that are sent by hand; the stream's go to the worker's own queue."""
    return f"{{{prefix}}}:tasks"


def own_queue(prefix: str, hostname: str) -> str:
    """Of one worker alone. What it reads from the stream it hands to itself: an entry and its tasks live and die with one
    process, and the stream alone decides what is to be done again. Through a queue that workers share, a task that one of
    them had taken when it was killed would be hidden until the broker's visibility timeout."""
    return f"{shared_queue(prefix)}:{hostname}"
