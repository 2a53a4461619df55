"""The worker: from the stream to Celery tasks, and the slow sweep.

    celery -A worker worker

finds the app in `worker/celery.py`, the only module here that reads the environment when it is imported.

The law of this room: the stream is the truth and the broker a conveyor belt. An entry of the stream is acknowledged once
every handler and route that wanted it has ended, never before, and what the broker loses is handed out again from the
stream. So a handler is called at least once an event, and must bear a repetition.

    celery     the app that `celery -A worker` finds
    app        puts it together: settings, tasks, steps
    settings   what the worker adds to the settings that all share
    broker     what Celery is told of its broker
    handlers   the modules named by HANDLERS, loaded and checked
    steps      what Celery starts and stops with the worker, and in which order
    name       a worker's name, of which there is one at a time
    neighbourhood  who else works under our prefix
    bridge     one thread: reads the stream, hands out, keeps alive what is in flight
    arrivals   waits for entries and for whoever wakes it
    dispatch   from an entry to its targets
    group      the commands of a consumer group                (read.lua, turns.lua, heartbeat.lua, claim.lua)
    flights    what is to be handed out and what has been      pure
    scripts    the Lua scripts and what they share: whose turn it is   (ordering.lua)
    announce   which handlers and routes there are, told in Redis
    entries    one stream entry from start to acknowledgement  (entry.lua)
    tasks      the Celery task around a handler
    outcome    how the parent process learns how a task ended
    targets    whom an event is handed to
    conveyor   tasks into Celery's loop without the broker
    echo       whether Celery still reads its own queue
    routes     which events go to which existing Celery app
    outlets    the way there: other brokers, and the messages
    consumer   Celery's own consumer, which no answer of its broker ends
    presence   whether Redis and the broker let us work
    supervisor our threads, begun again when they fail
    grace      how long a stop may take
    sweep      a thread that polls
    claim      which worker it is that sweeps
    queues     the names of our Celery queues              pure
    http       /livez, /readyz, /metrics and /statusz
    multiprocess  what handlers count in processes of the pool
    metrics · log
"""
