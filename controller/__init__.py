"""The controller: drives reconcile from a watch.

    reflector ──▶ store ──▶ workqueue ──▶ jobcast.reconcile ──▶ jobcast.ledger
       (a watch each of Jobs and Pods, in each namespace)

Thin on purpose: what a Job means and how it is told is jobcast's. Never imports the worker.
"""
