"""What tests, the fault run, the benchmarks and the demo use in place of the outside world.

    valkey       a real Redis server as a child process
    faultproxy   a TCP proxy that cuts, stalls and loses replies on demand
    ports        a free one

The rule of this room: it imports nothing from Jobcast. Neither in the wheel nor in the image.
"""
