"""Celery's consumer, which survives every answer of its broker: it waits until the broker accepts writes, and continues
(ADR 10)."""

import threading
import warnings
from typing import Any

from billiard.common import restart_state
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.log import get_logger
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection
from kombu.common import ignore_errors
from kombu.exceptions import OperationalError
from kombu.utils.functional import retry_over_time

from worker.context import context_of

log = get_logger(__name__)
RETRY = {"interval_start": 0.05, "interval_step": 0.1, "interval_max": 0.25}
"""Celery's default is 2 seconds more each time, up to 30: so long nothing would be done after Redis is up again."""
PAUSE_SECONDS = 0.1
"""After a lost connection: a broker that answers and is lost again at once is not asked in a hot loop."""
NEVER_TOO_OFTEN = 10**9
"""Lost connections within a second, after which Celery would warn and sleep for a whole one."""


class Consumer(consumer.Consumer):
    """Differs from Celery's in which errors count as a lost broker, and in how it waits for one."""

    connection_errors: tuple[type[Exception], ...]
    channel_errors: tuple[type[Exception], ...]

    def __init__(self, *args: Any, **options: Any) -> None:
        # Other workers know nothing that we need, and asking them would take a second at every reconnect.
        super().__init__(*args, **{**options, "without_mingle": True, "without_gossip": True})
        self._broker = context_of(self.app).broker
        self._restart_state = restart_state(maxR=NEVER_TOO_OFTEN, maxT=1)
        # Kombu takes a refusal (READONLY, OOM, MISCONF, UNBLOCKED) for an error of the caller's, and wraps what it has
        # tried more than once; either would end the worker.
        self.connection_errors = (*self.connection_errors, *self.channel_errors, OperationalError)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        self._broker.mark_down(exc)
        threading.Event().wait(PAUSE_SECONDS)
        with warnings.catch_warnings():
            # About a setting whose default we have chosen, at every lost connection.
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            try:
                super().on_connection_error_after_connected(exc)
            except Exception:
                # Kombu wants to put back what was not acknowledged, over a transport that it has closed already. The
                # connection is forgotten by then, and the stream consumer hands out again what was lost with it.
                log.debug("could not close a lost connection", exc_info=True)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Handles a message: most are tasks."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_message(message: Any) -> None:
            if context_of(self.app).canary.takes(message):
                message.ack_log_error(log, self.connection_errors)
            else:
                handle(message)

        return on_message

    def call_soon_ack(self, p: Any, *args: Any, **kwargs: Any) -> Any:
        """Celery's loop calls it a turn later. The connection that the message came by may be closed by then, and Kombu's channel
        has lost what it would ask; the broker hands the message out again, and the entry's state says that it has ended."""

        def unless_closed(*more: Any) -> None:
            try:
                p(*more)
            except self.connection_errors:
                raise
            except Exception:
                log.debug("could not acknowledge a message of a lost connection", exc_info=True)

        return super().call_soon_ack(unless_closed, *args, **kwargs)  # type: ignore[misc] # the stubs lack it

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        self._broker.mark_down(exc)

    def ensure_connected(self, conn: Connection) -> Any:
        """Returns the connection once the broker accepts writes: one that only answers would refuse the next step."""

        def try_again(error: Exception, intervals: Any, retries: int) -> Any:
            # Not this connection again: the address may lead to another server by now.
            ignore_errors(self, conn.close)  # type: ignore[arg-type] # the stubs want a Connection
            self._broker.mark_down(error)
            return next(intervals)

        retry_over_time(
            self._reach,
            self.connection_errors,
            (conn,),
            errback=try_again,  # type: ignore[arg-type] # the stubs know another shape
            callback=maybe_shutdown,
            **RETRY,  # type: ignore[arg-type] # stubs
        )
        self.first_connection_attempt = False
        return conn

    def _reach(self, conn: Connection) -> None:
        conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        for queue in self.app.amqp.queues.consume_from.values():
            queue(conn.default_channel).declare()
