"""Every promise broken on purpose: each test counts its trials and has a broken control that it must catch.

    python -m tests.faults              # everything, and the table of what was counted
    python -m tests.faults --times 10   # ten times as many trials

What needs root, strace or mounts has the marker ``faults``; the rest runs with the other tests, everywhere.

    what breaks                              tests                      with
    any system call fails, kills, interrupts test_system_calls.py       tracing.py, zygote.py, deeds.py
    any call of ``os`` fails, everywhere     test_calls.py              deeds.py
    kill -9 and power cuts at random         test_crashes.py            crashes.py
    the system refuses to write              test_refusals.py           refusals.py, sharing.py
    many processes, forks                    test_processes.py          crowd.py, forks.py
    a minute of everything at once           test_soak.py               soak.py
    cancellation, event loops                test_cancellation.py, test_loops.py, test_sqlite.py
    servers hang, die, come back             test_servers.py, test_sqlite.py
    hostile directories and values           test_hostile_*.py          opening.py, hostile.py, parquet.py

The broken writers are in ``broken.py``; ``ledger.py`` judges the trials and prints the table.
"""
