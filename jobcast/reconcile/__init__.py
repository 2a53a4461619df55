"""One Job: compare what the cluster says with what was published, and publish the difference.

reconciler   one Job
view         what it sees of the cluster
pods         the Pods of a Job, also those that the watch has not delivered yet
sweep        the slow driver: one list of all Jobs
"""
