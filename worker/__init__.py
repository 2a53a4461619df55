"""The worker: from the stream to Celery tasks, and the slow sweep.

    celery -A worker worker

finds the app in `worker/celery.py`, the only module here that reads the environment when it is imported.

The law of this room: the stream is the truth, and whatever carries a task may lose it. Handlers' tasks reach Celery inside
the process, past the broker; retries and tasks of a handler with a queue or a priority go through the broker, and routes
through the broker of the app that they lead to. An entry of the stream is acknowledged once every handler and route that
wanted it has ended, never before, and what is lost on the way is handed out again. So a handler is called at least once an
event, and must tolerate a repetition.

    celery           the app that `celery -A worker` finds
    app              makes it: Celery's settings, a task for each handler
    context          what the other modules share, so that none needs the app
    settings         what the worker adds to the settings that every process shares
    broker           URLs and options of brokers, as Celery and Kombu take them
    handlers         the modules named by HANDLERS, loaded and checked
    routes           ROUTES and ROUTES_FILE: which events go to which existing Celery app
    steps            what Celery starts and stops with the worker, and in which order
    identity         the worker's name, which one live worker has at a time
    consumer         one thread a group: reads the stream, hands out, keeps alive what is in flight
    reader           reads the streams at once, or as soon as there is something
    wakeup           waits for new entries and for other threads
    dispatcher       from an entry to its targets
    in_flight        what is to be handed out and what has been               pure
    group            the commands of a consumer group         (read, next, heartbeat, claim .lua)
    scripts          runs Lua scripts; what they share is the order within an evaluation   (ordering.lua)
    entries          one entry from its first start to its acknowledgement    (entry.lua)
    handler_target   a target that is a handler's task; what a target is
    route_target     a target that is a task of an existing app
    tasks            the Celery task around a handler
    outcome          how the parent process learns how a task ended
    transport        hands tasks to Celery's loop in this process, past the broker
    canary           whether Celery still reads its own queue
    celery_consumer  Celery's consumer, which survives every answer of its broker
    queues           the names of our Celery queues                           pure
    shutdown         how long a stop may take
    sweep            a thread that compares the cluster with what was published
    claim            which worker sweeps
    pool_metrics     metrics of the processes of a pool
    metrics · log
"""
