"""An existing Celery app. It imports nothing from Jobcast: a route names the task, whose argument is the event as a plain dict."""

import os
from typing import Any

from celery import Celery, Task

app = Celery("shop", broker=os.environ["SHOP_BROKER_URL"], backend=os.environ.get("SHOP_RESULT_BACKEND"))
app.conf.accept_content = ["json"]


@app.task(bind=True, name="shop.invoice")
def invoice(self: Task, event: dict[str, Any]) -> dict[str, Any]:
    """May run more than once for an event, always with the same task id and the same `jobcast_event_id`."""
    return {
        "evaluation": event["eval_id"],
        "seconds": event["duration_seconds"],
        "event": self.request.jobcast_event_id,
        "trace": self.request.traceparent,
    }
