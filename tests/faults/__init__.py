"""Every promise broken on purpose: each test counts its trials and has a broken control that it must catch.

    python -m tests.faults              # everything, and the table of what was counted
    python -m tests.faults --times 10   # ten times as many trials

What needs root, strace or mounts has the marker ``faults``; the rest runs with the other tests, everywhere.

    what breaks                              tests                      with
    any system call fails, kills, interrupts test_system_calls.py       tracing.py, operations.py
    any call of ``os`` fails, everywhere     test_failing_calls.py      operations.py
    kill -9 and power cuts at random         test_crashes.py            crashes.py
    the system refuses to write              test_write_failures.py     write_failures.py
    many processes, forks                    test_processes.py          concurrent_processes.py, forks.py
    races for a cached result                test_cache_races.py        races.py
    a minute of everything at once           test_soak.py               soak.py
    cancellation, event loops                test_cancellation.py, test_loops.py, test_sqlite.py
    servers hang, die, come back             test_servers.py, test_sqlite.py
    hostile directories and values           test_hostile_*.py          sandbox.py, hostile.py, parquet.py

``mutants.py`` has the broken writers, ``fork_server.py`` the one way to a process of its own, and ``report.py`` judges
the trials and prints the table.
"""
