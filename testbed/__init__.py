"""What tests, the fault run, the benchmarks and the demo put in place of the outside world.

    valkey       a real Redis server as a child process
    faultproxy   a TCP proxy that cuts, stalls and loses replies on demand
    ports        a free one

The law of this room: nothing of Jobcast is imported. Neither in the wheel nor in the image.
"""
