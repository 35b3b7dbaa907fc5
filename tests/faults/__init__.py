"""Every promise broken on purpose: each test counts its trials and has a broken control that it must catch.

    python -m tests.faults              # everything, and the table of what was counted
    python -m tests.faults --times 10   # ten times as many trials

What needs root, strace or mounts has the marker ``faults``; the rest runs with the other tests, everywhere.
"""
