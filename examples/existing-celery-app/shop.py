"""An existing Celery app. It knows nothing of Jobcast: an event comes as a plain dict, to a task that a route names."""

import os
from typing import Any

from celery import Celery, Task

app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"], backend=os.environ.get("SHOP_RESULT_BACKEND"))
app.conf.accept_content = ["json"]


@app.task(bind=True, name="shop.invoice")
def invoice(self: Task, event: dict[str, Any]) -> dict[str, Any]:
    """The event may come more than once, always under the same task id; `jobcast_event_id` is what to tell it by."""
    return {
        "evaluation": event["eval_id"],
        "seconds": event["duration_seconds"],
        "event": self.request.jobcast_event_id,
        "trace": self.request.traceparent,
    }
