"""The fault run: Jobs are driven through their lives on a real API server while everything around Jobcast fails, and what
was published is compared with what was. Same seed, same faults and same fates.

    plan · fates · truth · verdict · report                    pure: from a seed to a schedule, from what was published to figures
    access · pods · jobs                                        the API server: Jobs are written, and what was written is kept
    parts · valkey · redisproxy · apiproxy · reader · handlers  what runs, and what stands between
    faults                                                      what goes wrong: each has a begin and an end
    world · run                                                 all of it, started in order and ended in reverse

The law of this room: nothing of what is tried is asked what the truth is. Never in the image.
"""
