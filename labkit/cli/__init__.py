"""The commands of `./lab`, one module an idea.

Each module has `add(commands)`, which describes its command to argparse, and a function that runs it and returns an
exit code of `labkit.cli.exits`. Nothing heavy is imported before a command needs it: `./lab --help` is at once.
"""
