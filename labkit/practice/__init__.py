"""Captures that nobody recorded: traffic of a made-up network, the same for the same seed, with the truth beside it.

`evening` says what happens and what goes wrong, `core` who tells whom, `words` in which words, `cable` in which frames.
Tests hold the decoder against the truth; lesson 20 reads such a capture as one reads that of a stranger.
"""
