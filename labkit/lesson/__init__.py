"""What a lesson needs beside the lab: checks that cite the proof."""
