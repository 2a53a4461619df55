"""Which logs to read, how they are read, and what Redis knows about them.

plan       which logs of a Job are to be read
reader     reads containers' logs and uploads them to the log store
proof      repeats the requests for one log until it is proved to be read to its end
read       the requests for one log, their slot, and what they say of its end
stamps     the times of a log's lines: taken off, and used to continue and to prove a read   (pure)
excerpt    head, tail, size and hash of a log as it is read   (pure)
rotation   detects that the kubelet rotated a log
index      what Redis knows about logs: their bytes, where they are stored, pending uploads
"""
