"""Celery's own consumer, back within half a second after its broker was away, and saying so once."""

import warnings
from typing import Any

from celery.exceptions import CPendingDeprecationWarning
from celery.utils.log import get_logger
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection

from jobcast.connection import explain

log = get_logger(__name__)
RETRY = {"interval_start": 0.05, "interval_step": 0.1, "interval_max": 0.5}
"""Celery's default is 2 seconds more each time, up to 30: so long would nothing be done after Redis is back."""


class Consumer(consumer.Consumer):
    """Differs from Celery's in how it waits for the broker."""

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        with warnings.catch_warnings():
            # About a setting whose default we have chosen, at every loss of the broker.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def ensure_connected(self, conn: Connection) -> Any:
        told: set[str] = set()

        def tell_once(error: BaseException, interval: float) -> None:
            text = explain(error)
            if text not in told:
                told.add(text)
                log.warning("broker is away, will be tried again", extra={"broker": conn.as_uri(), "error": text})

        connected = conn.ensure_connection(tell_once, None, callback=maybe_shutdown, **RETRY)  # type: ignore[arg-type] # stubs
        self.first_connection_attempt = False
        if told:
            log.info("broker is back", extra={"broker": conn.as_uri()})
        return connected
