"""A node of the stub lab that answers a de-registration wrongly until its padding is long enough."""

import socket
import sys

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind((sys.argv[1], 5060))
why = "Identity not registered" if len(sys.argv[2]) > 32 else "Roaming not allowed"
while True:
    request, sender = server.recvfrom(65535)
    print(request.decode().splitlines()[0], flush=True)
    if b"Expires: 0" in request:
        server.sendto(f"SIP/2.0 403 Forbidden - HSS {why}\r\n\r\n".encode(), sender)
