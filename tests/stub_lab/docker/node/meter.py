"""A node that connects to the till, a moment late, where its configuration knows one."""

import socket
import sys
import time

known, address, port = sys.argv[1:4]
time.sleep(0.1)
client = socket.create_connection((address, int(port))) if known == "[yes]" else None
time.sleep(60)
