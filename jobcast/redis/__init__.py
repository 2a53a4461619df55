"""The only door to Redis.

connection   addresses, timeouts, and plain words for failures
discovery    where the primary is now, asked of sentinels or of a cluster's nodes at each connect
pipeline     one connection, many commands a round trip
batcher      commands of many tasks over it; the one place that waits while Redis is unreachable
"""
