"""What a Job means. Pure.

model         a Job and its Pods, reduced to what Jobcast uses
decode        the API server's JSON to Jobs and Pods
observation   a Job with its Pods, and how each attempt went
status        the status of a Job, derived
facts         the events that a status calls for
progress      what is published and recorded between statuses
"""
