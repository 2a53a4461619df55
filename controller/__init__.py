"""The controller: drives reconcile from a watch.

    reflector ──▶ store ──▶ workqueue ──▶ jobcast.reconcile.reconciler ──▶ jobcast.ledger.ledger
       (a watch each of Jobs and Pods, in each namespace)

Thin on purpose: jobcast knows what a Job means and how it is published. Never imports the worker.
"""
