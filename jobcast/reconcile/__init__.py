"""One Job: compare what the cluster says with what was published, and publish the difference.

reconciler   one Job
state        what is remembered of an open Job
claims       the Jobs whose logs this replica reads
view         what a reconciler sees of the cluster
pods         the Pods of a Job, also those that the watch has not brought yet
sweep        the slow driver: one list of all Jobs
"""
