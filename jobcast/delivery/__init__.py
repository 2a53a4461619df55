"""Hands every entry of the stream to every target that wants it, at least once, in order for each ordering key.

    stream ─route▶ queue of its key ─take▶ a process ─open▶ its targets ─▶ end, retry or dead letter ─▶ acknowledged

target     what an entry is handed to, and how a run ends
scripts    runs the Lua scripts: route, take, open, begin, beat, end, repair
store      the commands of one consumer group, as Python
arrivals   waits for new entries: one process reads, the others are woken
runs       the runs of this process, their heartbeats and their ends
engine     the loop of one process and one group
"""
