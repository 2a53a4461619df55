"""Publishes each fact once. The only publisher of events.

ledger     the step: decide, record, append, publish, in one Lua script   (ledger.lua)
groups     the stream's consumer groups: how far behind they are, and which are dead
trimming   keeps the streams short, and never beyond what a living group needs   (trim.lua)
pruning    restores expiries that were lost   (prune.lua)
"""
