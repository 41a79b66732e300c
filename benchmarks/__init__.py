"""
Benchmarks: what the library takes, beside what a plain loop over aiohttp takes for the same work.

``python -m benchmarks`` runs all and prints one table. Each measured run is a process of its own against a simulator in
another process; the order within a round is shuffled, and only ratios within a round mean anything.
"""
