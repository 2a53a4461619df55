"""The fault run: Jobs run through their lives on a real API server while everything around Jobcast fails. Then the run compares
the published events with what happened. The same seed gives the same faults and fates.

    plan · fates · truth · verdict · report                    pure: from a seed to a schedule, from what was published to figures
    access · pods · jobs                                        writes Jobs to the API server and remembers what it wrote
    certificates                                                an authority of the run's own
    parts · valkey · redisproxy · apiproxy · reader · handlers  the processes, and the proxies between them
    faults · nodes · credentials                                each fault has a begin and an end
    world · run                                                 everything, started in order and stopped in reverse

The rule of this room: the truth never comes from Jobcast itself. Never in the image.
"""
