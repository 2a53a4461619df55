"""Publishes each fact once. The only publisher of events.

ledger     the step: decide, record, append, publish, in one Lua script   (ledger.lua)
index      the evaluations by their last change   (index.lua)
groups     the streams' consumer groups: how far each lags, and which are dead
trimming   keeps streams and index short, but never without what a living group needs   (trim.lua)
repair     what `jobcast doctor --repair` finds and repairs   (repair.lua)
"""
