"""Follows the logs of a Job's Pods in the cluster, and completes them from the log store."""
