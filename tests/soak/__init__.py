"""The long randomised run: seeded clients, a misbehaving upstream, and what must hold at the end of it.

`make test` runs a few seconds of one seed, `make soak` minutes. Every client's decisions follow from the seed; how they
interleave does not, so a replay repeats the mix and not the microsecond.
"""
