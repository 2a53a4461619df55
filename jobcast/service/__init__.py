"""What every process is made of.

settings       what every process reads from its environment
processes      which processes there are, and what each may do       pure
logging        log records as JSON, or as text for people
lifecycle      components that start in order and stop in reverse, within one grace period
supervisor     long-running tasks that are restarted when they fail
threads        the same for threads
availability   whether Redis or a broker can be used
probes         what is answered to /livez, /readyz, /metrics and /statusz
http           two servers for it: on an event loop, and in a thread
membership     which instances share a prefix, and whether they conflict   (pure)
registration   keeps this process registered as a member
"""
