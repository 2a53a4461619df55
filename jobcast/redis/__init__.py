"""The only door to Redis.

connection   URLs, timeouts, and explanations of errors
discovery    finds the primary: asks sentinels or the nodes of a cluster at each connect
pipeline     one connection, many commands a round trip
batcher      commands of many tasks over one pipeline; waits while Redis is unreachable
"""
