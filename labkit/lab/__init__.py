"""Things that run: the topology, the engines that run it, and a running lab."""
