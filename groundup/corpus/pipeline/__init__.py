"""The pipeline: a list of steps that reads as its own diagram, run over shards by any number of processes.

``registry`` knows every step by its name; ``passes`` brings one shard through the steps; ``executor`` says where work
is done, ``cluster`` that it is on Ray, ``ranks`` what part of it is ours; ``engine`` puts them together; ``account``
counts. ``trial`` and ``report`` are for people.
"""
