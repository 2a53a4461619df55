"""What every process is made of.

settings     what controller and worker share
logging      log records as JSON, or as text for people
membership   which instances share a prefix, and whether they conflict   (pure)
"""
