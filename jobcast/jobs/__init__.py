"""What a Job means: its model, how the API server's JSON is decoded, its status, and the facts that follow. Pure.

model         a Job and its Pods, trimmed to what somebody reads
decode        the API server's JSON to Jobs and Pods
observation   what the Pods say of how each attempt went
status        the status of a Job, derived
facts         the events that a status calls for
progress      what is published and recorded between statuses
"""
