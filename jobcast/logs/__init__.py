"""Which logs to read, reading them, and what Redis knows of them.

plan       which logs of a Job are to be read
reader     reads containers' logs, and feeds the log store
read       the reads of one log: their turn among others, and which of them counts
excerpt    head, tail, size and hash of a log that goes by   (pure)
rotation   notices that a log has lost its beginning
index      what Redis knows of logs: bytes, places, pending uploads
"""
