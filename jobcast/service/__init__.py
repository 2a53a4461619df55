"""What every process is made of.

settings       what controller and worker share
logging        log records as JSON, or as text for people
lifecycle      parts that start in order and stop in reverse, within one grace period
supervisor     long tasks that are restarted when they fail
threads        the same for threads
availability   whether Redis and the broker can be used
http           probes, metrics and status
membership     which instances share a prefix, and whether they conflict   (pure)
"""
