"""A node that ends at its first start and serves at its second."""

import os
import socket
import sys

been_here, address, port = sys.argv[1:4]
if not os.path.exists(been_here):
    open(been_here, "w").close()
    sys.exit(2)
server = socket.create_server((address, int(port)))
while True:
    server.accept()[0].close()
