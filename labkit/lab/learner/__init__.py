"""What learners write for a node: reading it, starting it, and saying in their own lines what was wrong with it."""
